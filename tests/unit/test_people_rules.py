"""Small rules of the people's side: marks, pace, typed numbers, retries, who may what."""

from __future__ import annotations

import re
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
from modules.discord.session_channels import channel_name, neutral_name
from modules.discord.session_starts import wait_before_identify_s
from modules.domain.catalogue import Wish, WorkflowKind
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import JobFinishing, JobPreviewed, JobProgressed
from modules.domain.jobs import JobId, base36
from modules.domain.people import GuildId, Language, MessageId, UserId
from modules.domain.queue import Place
from modules.domain.recipes import MAX_SEED
from modules.domain.records import GuildSettings, MessageKind, OutboxItem
from modules.sandbox.discord_server.rest.channels import MAX_TOPIC
from modules.utils.i18n import Phrasebook
from tests.support.builders import a_job, a_job_id
from tests.unit.test_people_views import SPEC

GUILD = GuildId(1)
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.mark.parametrize("language", list(Language))
def test_the_topic_of_a_session_fits_and_asks_nobody_to_leave_anything_alone(language: Language) -> None:
    topic = Phrasebook.load().texts(language)("session.topic")
    assert len(topic) <= MAX_TOPIC
    assert "fullet:" not in topic


@given(st.text(max_size=80))
def test_every_display_name_gives_a_channel_name_that_discord_takes(display_name: str) -> None:
    name = channel_name(display_name)
    assert re.fullmatch(r"session-[\w-]*[^-]", name)
    assert 1 <= len(name) <= 100
    assert name == "-".join(name.lower().split())  # as Discord writes it


@given(st.integers(min_value=1, max_value=2**63 - 1))
def test_a_neutral_name_spells_no_word_and_no_number(user_id: int) -> None:
    name = neutral_name(UserId(user_id))
    assert re.fullmatch(r"session-[b-df-hj-np-tv-z]{6}", name)
    assert name == neutral_name(UserId(user_id))


@given(
    remaining=st.integers(min_value=0, max_value=1000), reset_after_s=st.floats(min_value=0, max_value=86_400, allow_nan=False)
)
def test_starts_are_never_used_up_before_the_day_is_over(remaining: int, reset_after_s: float) -> None:
    """Whoever waits as told before each IDENTIFY has one left until the count begins anew, however often it is started."""
    left, time_left_s = remaining, reset_after_s
    while time_left_s > 0 and left > 0:
        wait_s = wait_before_identify_s(1000, left, time_left_s)
        if wait_s == 0:
            left -= 1
            continue
        if wait_s >= time_left_s:
            break
        time_left_s -= wait_s
        left -= 1
    assert left > 0 or remaining == 0 or time_left_s <= 0


def test_with_plenty_of_starts_left_nothing_waits() -> None:
    assert wait_before_identify_s(1000, 1000, 80_000.0) == 0.0
    assert wait_before_identify_s(1000, 100, 36_000.0) == 360.0
    assert wait_before_identify_s(1000, 0, 3_600.0) == 3_600.0


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
