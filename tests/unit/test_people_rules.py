"""Small rules of the people's side: marks, pace, typed numbers, retries, who may what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.discord.card_board import CardBoard
from modules.discord.checks import check_wish, weight_of
from modules.discord.courier import LONGEST_RETRY_S, backoff_s
from modules.discord.delivery import needs_search
from modules.discord.numbers import decimal_number, seed_number, whole_number
from modules.discord.pace import ChannelPace
from modules.discord.posting import nonce_for
from modules.discord.session_channels import channel_name
from modules.discord.session_marker import KEY_NAME, SessionMarker
from modules.domain.catalogue import Wish, WorkflowKind
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import JobFinishing, JobPreviewed, JobProgressed
from modules.domain.jobs import JobId, base36
from modules.domain.people import GuildId, Language, MessageId, UserId
from modules.domain.queue import Place
from modules.domain.recipes import MAX_SEED
from modules.domain.records import AuditEntry, GuildSettings, MessageKind, OutboxItem
from modules.sandbox.discord_server.rest.channels import MAX_TOPIC
from modules.utils.i18n import Phrasebook
from tests.support.builders import a_job, a_job_id
from tests.unit.test_people_views import SPEC

GUILD, ANA = GuildId(1), UserId(10)
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@dataclass(slots=True)
class Facts:
    """The `ControlStore` port over a dictionary."""

    values: dict[str, str] = field(default_factory=dict)

    async def get(self, key: str) -> str | None:
        return self.values.get(key)

    async def set(self, key: str, value: str | None) -> None:
        if value is None:
            self.values.pop(key, None)
        else:
            self.values[key] = value

    async def with_prefix(self, prefix: str) -> Mapping[str, str]:
        return {key: value for key, value in self.values.items() if key.startswith(prefix)}

    async def audit(self, entry: AuditEntry) -> None:
        raise AssertionError("nothing here is audited")

    async def audit_trail(self, limit: int = 50) -> list[AuditEntry]:
        return []


async def test_a_mark_names_its_owner_in_its_guild_only() -> None:
    marker = await SessionMarker.load(Facts())
    topic = f"Your session · {marker.mark(GUILD, ANA)} · be nice"
    assert marker.owner(topic, GUILD) == ANA
    assert marker.owner(topic, GuildId(2)) is None
    assert marker.owner(topic.replace(":10:", ":11:"), GUILD) is None
    assert marker.owner(None, GUILD) is None


@pytest.mark.parametrize("language", list(Language))
async def test_the_mark_is_found_in_a_topic_of_every_language_which_fits(language: Language) -> None:
    marker, longest = await SessionMarker.load(Facts()), UserId(10**20 - 1)
    topic = Phrasebook.load().texts(language)("session.topic", mark=marker.mark(GUILD, longest))
    assert marker.owner(topic, GUILD) == longest
    assert len(topic) <= MAX_TOPIC


async def test_the_key_survives_and_another_house_has_another() -> None:
    facts = Facts()
    first, again, other = await SessionMarker.load(facts), await SessionMarker.load(facts), await SessionMarker.load(Facts())
    assert again.owner(first.mark(GUILD, ANA), GUILD) == ANA
    assert other.owner(first.mark(GUILD, ANA), GUILD) is None
    assert len(facts.values[KEY_NAME]) == 64


@given(st.text(max_size=200))
def test_no_text_passes_for_a_mark(text: str) -> None:
    assert SessionMarker(b"key").owner(text, GUILD) is None


@given(st.lists(st.floats(min_value=0.0, max_value=0.5), max_size=60))
def test_edits_that_keep_the_pace_are_never_more_than_four_in_five_seconds(pauses: list[float]) -> None:
    pace, now, edits = ChannelPace(), 0.0, []
    for pause in pauses:
        now = max(now + pause, pace.free_at(is_news=True))
        pace.note(now)
        edits.append(now)
    assert all(sum(start <= at < start + 5.0 for at in edits) <= 4 for start in edits)


@given(st.lists(st.floats(min_value=0.0, max_value=2.0), max_size=60), st.floats(min_value=0.0, max_value=10.0))
def test_after_bare_progress_news_never_wait(pauses: list[float], pressed_after_s: float) -> None:
    pace, now = ChannelPace(), 0.0
    for pause in pauses:
        now = max(now + pause, pace.free_at(is_news=False))
        pace.note(now)
    assert pace.free_at(is_news=True) <= now + pressed_after_s


@given(st.text(max_size=60))
def test_channel_names_are_ones_that_discord_takes(name: str) -> None:
    made = channel_name(name)
    assert made.startswith("session-")
    assert len(made) <= 100
    assert not set(made) & set(" .@#:`'\"\n/\\")


@pytest.mark.parametrize("typed", ["1e9", "NaN", "inf", "0x10", "1 2", "--3", "½", "1_000"])
def test_what_is_no_plain_number_is_refused(typed: str) -> None:
    for read in (whole_number, decimal_number):
        with pytest.raises(FulletError) as refused:
            read(typed, "steps", 1, 150)
        assert refused.value.code is ErrorCode.VALUE_NOT_A_NUMBER


@pytest.mark.parametrize(("typed", "number"), [("12", 12), (" 12 ", 12), ("１２", 12), ("٣", 3), ("+7", 7), ("", None)])
def test_digits_of_any_script_are_numbers(typed: str, number: int | None) -> None:
    assert whole_number(typed, "steps", 1, 150) == number


@given(st.integers(0, MAX_SEED))
def test_every_seed_can_be_typed(seed: int) -> None:
    assert seed_number(str(seed)) == seed


def test_a_seed_beyond_comfyuis_range_is_refused_with_the_range() -> None:
    with pytest.raises(FulletError) as refused:
        seed_number(str(MAX_SEED + 1))
    assert refused.value.params == {"field": "seed", "low": 0, "high": MAX_SEED}


@given(st.integers(0, 10_000))
def test_retries_slow_down_to_five_minutes_and_no_further(tries: int) -> None:
    assert 0.8 <= backoff_s(tries) <= LONGEST_RETRY_S


@given(st.uuids(), st.sampled_from(["", "card 0", "card 12345"]))
def test_nonces_are_stable_short_and_of_one_purpose(uuid: object, purpose: str) -> None:
    job_id = JobId(uuid)  # type: ignore[arg-type] # hypothesis gives UUIDs
    assert nonce_for(job_id, purpose) == nonce_for(job_id, purpose)
    assert 1 <= len(nonce_for(job_id, purpose)) <= 25
    assert (nonce_for(job_id, purpose) == base36(job_id)) is (purpose == "")


@pytest.mark.parametrize(
    ("age", "searches"),
    [
        (None, False),
        (timedelta(0), False),
        (timedelta(seconds=90), False),
        (timedelta(minutes=3), True),
        (timedelta(hours=2), True),
        (timedelta(hours=-1), True),  # the clock was set back: nobody knows how long ago that was
    ],
)
def test_we_look_before_repeating_once_discord_no_longer_does(age: timedelta | None, searches: bool) -> None:
    first_try = None if age is None else NOW - age
    item = OutboxItem(
        job_id=a_job_id(),
        kind=MessageKind.RESULT,
        due_at=NOW,
        tries=2,
        first_try_at=first_try,
        created_at=NOW - timedelta(hours=3),
    )
    assert needs_search(item, NOW, started_at=NOW - timedelta(hours=1)) is searches


def test_an_intent_of_an_earlier_start_is_always_looked_for() -> None:
    intent = NOW - timedelta(seconds=5)
    item = OutboxItem(job_id=a_job_id(), kind=MessageKind.RESULT, due_at=NOW, tries=1, first_try_at=intent, created_at=intent)
    assert needs_search(item, NOW, started_at=NOW - timedelta(seconds=1))


@pytest.mark.parametrize(
    ("prompt", "is_blocked"), [("a BAD day", True), ("a bád day", True), ("ｂａｄ", True), ("badge", False), ("", False)]
)
def test_blocked_words_are_whole_words_in_any_dress(prompt: str, is_blocked: bool) -> None:
    settings = GuildSettings(guild_id=GUILD, blocked_words=("bad", "very ugly", ""))
    wish = Wish(kind=WorkflowKind.IMAGINE, prompt=prompt)
    if is_blocked:
        with pytest.raises(FulletError) as refused:
            check_wish(wish, SPEC, settings, None)
        assert refused.value.code is ErrorCode.PROMPT_BLOCKED
    else:
        check_wish(wish, SPEC, settings, None)


def test_the_heaviest_role_counts_and_nobody_falls_to_nothing() -> None:
    settings = GuildSettings(guild_id=GUILD, role_weights={1: 2.0, 2: 3.0, 3: 0.0})
    assert weight_of([1, 2], settings) == 3.0
    assert weight_of([3], settings) == 1.0
    assert weight_of([], settings) == 1.0
    assert weight_of([9], settings) == 1.0


def test_a_card_needs_painting_only_when_a_person_would_see_a_difference() -> None:
    board, job = CardBoard(), a_job()
    card = board.hang(job, Place(position=2, starts_at=NOW, ends_at=NOW))

    def repainted() -> bool:
        was_needed = card.needs_painting
        card.message_id, card.shown = MessageId(1), card.face
        return was_needed

    assert repainted()
    in_a_moment = NOW + timedelta(seconds=5)
    board.place_all({job.id: Place(position=2, starts_at=NOW, ends_at=in_a_moment)}, NOW - timedelta(seconds=1))
    assert not repainted()
    board.place_all({job.id: Place(position=2, starts_at=NOW, ends_at=in_a_moment)}, NOW + timedelta(seconds=6))
    assert repainted(), "what was told has passed"
    board.place_all({job.id: Place(position=1, starts_at=NOW, ends_at=NOW)}, NOW - timedelta(seconds=1))
    assert repainted()
    board.apply(JobProgressed(job_id=job.id, step=1, steps=8), now=1.0)
    assert repainted()
    board.apply(JobProgressed(job_id=job.id, step=1, steps=8), now=9.0)
    assert not repainted()


def test_news_goes_out_at_once_and_steps_and_previews_at_their_pace() -> None:
    board, job = CardBoard(), a_job()
    card = board.hang(job, None)
    board.apply(JobProgressed(job_id=job.id, step=1, steps=8), now=100.0)
    card.message_id, card.shown, card.painted_at, card.preview_painted_at = MessageId(1), card.face, 100.0, 100.0
    board.apply(JobProgressed(job_id=job.id, step=2, steps=8), now=100.1)
    assert card.due_at() == 101.5
    board.apply(JobPreviewed(job_id=job.id, picture_index=0, jpeg=b"x"), now=100.2)
    assert card.due_at() == 103.0
    board.apply(JobFinishing(job_id=job.id), now=100.3)
    assert card.due_at() < 100.3


def test_late_events_change_nothing_about_a_card_that_is_over() -> None:
    board, job = CardBoard(), a_job()
    card = board.hang(job, None)
    card.is_final = True
    face = card.face
    assert board.apply(JobProgressed(job_id=job.id, step=5, steps=8), now=1.0) is None
    board.place_all({job.id: Place(position=7, starts_at=NOW, ends_at=NOW)}, NOW)
    assert card.face is face


def test_without_a_table_administrators_have_four_shares_and_boosters_two() -> None:
    settings = GuildSettings(guild_id=GUILD)
    assert weight_of([1], settings, is_admin=True, is_booster=True) == 4.0
    assert weight_of([1], settings, is_booster=True) == 2.0
    assert weight_of([1], settings) == 1.0


def test_a_table_replaces_the_rule_and_the_guilds_own_goes_before_the_houses() -> None:
    house, own = {1: 3.0}, GuildSettings(guild_id=GUILD, role_weights={2: 5.0})
    assert weight_of([1], GuildSettings(guild_id=GUILD), house=house) == 3.0
    assert weight_of([9], GuildSettings(guild_id=GUILD), house=house, is_admin=True) == 1.0
    assert weight_of([1, 2], own, house=house) == 5.0
    assert weight_of([1], own, house=house) == 1.0
