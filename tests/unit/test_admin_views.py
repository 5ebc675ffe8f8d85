"""What administrators are shown: within Discord's limits however many servers there are and whatever they are called."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from discord import ui
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.discord.views.admin_cards import audit_card, queue_overview, status_card, words_card
from modules.discord.views.layout import MAX_TEXT_CHARS, Accent, card, chars
from modules.domain.catalogue import TemplateProblem
from modules.domain.jobs import JobId, ServerName
from modules.domain.people import Language, UserId
from modules.domain.queue import QueueStatus, ServerStatus
from modules.domain.recipes import WorkflowName
from modules.domain.records import AuditEntry, DiskRoom
from modules.utils.i18n import Phrasebook, Texts
from tests.support.builders import a_job, a_job_id

PHRASES = Phrasebook.load()
LANGUAGES = [PHRASES.texts(language) for language in Language]
NOW = datetime(2026, 1, 5, tzinfo=UTC)
#: Every character of it is escaped.
LONG = "_*~|`<>" * 20


def a_server(name: str, state: str = "healthy", *, model: str = LONG, jobs: int = 3) -> ServerStatus:
    return ServerStatus(
        name=ServerName(name),
        state=state,
        since=NOW,
        version=LONG,
        merge_protocol="encode",
        loaded=model,
        running=tuple(JobId(a_job_id()) for _ in range(jobs)),
        pictures_per_minute=123.4,
        last_error="server_unreachable",
    )


def a_status(*servers: ServerStatus) -> QueueStatus:
    return QueueStatus(servers=servers, waiting=99_999, running=500, longest_wait_s=99_999.0, is_paused=True)


def problems(count: int) -> list[TemplateProblem]:
    one = TemplateProblem(
        workflow=WorkflowName(LONG), server=ServerName(LONG), what="file_missing", name=LONG, available=(LONG,) * 5
    )
    return [one] * count


def words_of(view: ui.LayoutView) -> str:
    return "\n".join(piece.content for piece in view.walk_children() if isinstance(piece, ui.TextDisplay))


def length_of(view: ui.LayoutView) -> int:
    return sum(chars(piece.content) for piece in view.walk_children() if isinstance(piece, ui.TextDisplay))


@pytest.mark.parametrize("texts", LANGUAGES, ids=lambda texts: texts.language)
def test_twelve_servers_with_long_names_are_all_in_the_status(texts: Texts) -> None:
    servers = [a_server(f"comfy-of-the-{number:02}-room.gpu.example.org:8188", model="sd_xl_base_1.0") for number in range(12)]
    view = status_card(a_status(*servers), problems(0), "1.2.3", texts)
    assert length_of(view) <= MAX_TEXT_CHARS
    said = words_of(view)
    assert all(f"the-{number:02}-room" in said.replace("\\", "") for number in range(12))


@pytest.mark.parametrize("texts", LANGUAGES, ids=lambda texts: texts.language)
def test_a_disk_that_gets_short_of_room_is_told_in_the_status(texts: Texts) -> None:
    short, roomy = DiskRoom(free_bytes=400_000_000, used_bytes=1), DiskRoom(free_bytes=2**40, used_bytes=1)
    said = words_of(status_card(a_status(a_server("one")), problems(0), "1.2.3", texts, short))
    assert "0.4 GB" in said.replace(",", ".")
    assert "KEEP_PICTURES_GB" in said
    assert "KEEP_PICTURES_GB" not in words_of(status_card(a_status(a_server("one")), problems(0), "1.2.3", texts, roomy))


@pytest.mark.parametrize("texts", LANGUAGES, ids=lambda texts: texts.language)
def test_of_servers_that_are_too_many_those_in_trouble_are_told_of_in_full(texts: Texts) -> None:
    servers = [a_server(f"{'long-name-' * 6}{number:02}") for number in range(12)]
    servers[10] = a_server("broken", "away", model="the broken one's model")
    view = status_card(a_status(*servers), problems(6), "1.2.3", texts)
    assert length_of(view) <= MAX_TEXT_CHARS
    assert "the broken one's model" in words_of(view).replace("\\", "")


@given(st.integers(0, 200), st.integers(0, 30), st.text(max_size=80))
@settings(deadline=None, max_examples=60)
def test_the_status_fits_however_many_servers_and_problems_there_are(servers: int, faults: int, name: str) -> None:
    for texts in LANGUAGES:
        view = status_card(a_status(*(a_server(f"{name}{at}{LONG}") for at in range(servers))), problems(faults), LONG, texts)
        assert length_of(view) <= MAX_TEXT_CHARS
        assert len(list(view.walk_children())) <= 40
        if servers:
            assert not words_of(view).endswith("…") or faults  # counted, not cut off in the middle; a long name may be


def test_acts_jobs_and_words_fit_too() -> None:
    acts = [AuditEntry(at=NOW, actor_id=UserId(2**63), act=act, subject=LONG) for act in ("word_add", "of another version") * 10]
    for texts in LANGUAGES:
        for view in (
            audit_card(acts, texts),
            queue_overview([a_job()] * 15, a_status(), texts),
            words_card([LONG[:60]] * 500, "words.txt", texts)[0],
        ):
            assert length_of(view) <= MAX_TEXT_CHARS


def test_a_card_that_would_be_too_long_loses_its_last_lines_and_nothing_else() -> None:
    lines = [f"line {number} {'x' * 40}" for number in range(200)]
    view = card(Accent.GREY, "### a title", "\n".join(lines), "the end")
    said = words_of(view)
    assert MAX_TEXT_CHARS - 100 < length_of(view) <= MAX_TEXT_CHARS
    assert said.startswith("### a title\nline 0")
    assert said.endswith("…\nthe end")


def test_emoji_count_as_two_characters() -> None:
    assert length_of(card(Accent.GREY, "🦊" * 2_500)) <= MAX_TEXT_CHARS
