"""The JobStore's contract, on every database: attempts and leases that outlive their process, and looking at the queue."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from modules.domain.errors import ErrorCode
from modules.domain.jobs import AttemptId, JobState, ServerName
from modules.domain.people import ChannelId, GuildId, MessageId
from modules.domain.servers import RunFailure, RunPhase, RunReport
from modules.utils.database import Database
from tests.support.builders import (
    SteeredClock,
    a_boot_id,
    a_person,
    a_picture,
    a_recipe,
    a_report,
    a_request,
    a_work_class,
)
from tests.support.queue_steps import (
    THE_BOOT,
    THE_SERVER,
    accepted,
    claimed,
    exactly,
    generated,
    oldest,
    submitted,
)

# --- attempts -----------------------------------------------------------------------------------------------------------


async def test_an_attempt_ends_only_after_its_jobs(database: Database) -> None:
    [job] = await accepted(database)
    attempt = await submitted(database, oldest(1))
    with pytest.raises(ValueError, match="after the last"):
        await database.jobs.end_attempt(attempt.id, None)
    assert [open_one.id for open_one in await database.jobs.unfinished_attempts(THE_SERVER)] == [attempt.id]

    await database.jobs.settle_failed(job.id, ErrorCode.NODE_FAILED, {})
    failure = RunFailure(code=ErrorCode.NODE_FAILED, slots=frozenset({0}), node="KSampler")
    await database.jobs.end_attempt(attempt.id, RunReport(phase=RunPhase.FAILED, failure=failure), "stacked")

    assert await database.jobs.unfinished_attempts(THE_SERVER) == []


async def test_unfinished_attempts_are_found_by_server_and_by_earlier_starts(database: Database, clock: SteeredClock) -> None:
    old_boot, new_boot, elsewhere = a_boot_id(), a_boot_id(), ServerName("gpu-2")
    await accepted(database, *(a_request() for _ in range(3)))
    first = await claimed(database, oldest(1), boot_id=old_boot)
    clock.advance(1)
    second = await claimed(database, oldest(1), boot_id=new_boot)
    third = await claimed(database, oldest(1), server=elsewhere, boot_id=old_boot)

    assert await database.jobs.unfinished_attempts(THE_SERVER) == [first, second]
    assert await database.jobs.unfinished_attempts(THE_SERVER, except_boot=new_boot) == [first]
    assert await database.jobs.unfinished_attempts(elsewhere) == [third]
    assert await database.jobs.attempt(AttemptId(uuid4())) is None


async def test_what_an_attempt_still_owes_is_counted_without_the_cancelled_the_settled_and_those_that_left(
    database: Database,
) -> None:
    jobs = await accepted(database, *(a_request() for _ in range(5)))
    shared = await submitted(database, exactly(*(job.id for job in jobs[:4])))
    alone = await claimed(database, exactly(jobs[4].id))
    unknown = AttemptId(uuid4())
    assert await database.jobs.owed_counts([shared.id, alone.id, unknown]) == {shared.id: 4, alone.id: 1, unknown: 0}

    await database.jobs.cancel(jobs[0].id)
    await database.jobs.settle_generated(shared.id, jobs[1].id, [a_picture()], a_report())
    await database.jobs.requeue(shared.id, [jobs[2].id], ErrorCode.INTERRUPTED)
    assert await database.jobs.owed_counts([shared.id, alone.id]) == {shared.id: 1, alone.id: 1}

    again = await claimed(database, exactly(jobs[2].id))
    assert await database.jobs.owed_counts([shared.id, again.id]) == {shared.id: 1, again.id: 1}
    assert await database.jobs.owed_counts([]) == {}


async def test_attempts_of_servers_nobody_drives_any_more_are_found(database: Database, clock: SteeredClock) -> None:
    life, driven, left = timedelta(seconds=30), ServerName("driven"), ServerName("left")
    await accepted(database, *(a_request() for _ in range(3)))
    for server in (driven, left):
        await database.jobs.take_lease(server, THE_BOOT, life)
        await claimed(database, oldest(1), server=server)
    done = await claimed(database, oldest(1), server=left)
    await database.jobs.cancel(done.jobs[0].id)
    clock.advance(20)
    await database.jobs.take_lease(driven, THE_BOOT, life)
    clock.advance(20)

    abandoned = await database.jobs.abandoned_attempts(clock.now())

    assert [attempt.server for attempt in abandoned] == [left]
    assert [job.state for attempt in abandoned for job in attempt.jobs] == [JobState.SUBMITTING]
    assert await database.jobs.abandoned_attempts(clock.now() - timedelta(seconds=15)) == []


async def test_the_order_of_a_batch_survives_everything_that_happens_to_its_jobs(database: Database) -> None:
    jobs = await accepted(database, *(a_request(recipe=a_recipe(count=count)) for count in (2, 1, 3)))
    attempt = await submitted(database, exactly(*(job.id for job in reversed(jobs))))
    await database.jobs.cancel(jobs[1].id)
    await database.jobs.requeue(attempt.id, [jobs[0].id], ErrorCode.NODE_FAILED)
    await database.people.erase(jobs[1].user_id)

    again = await database.jobs.attempt(attempt.id)

    assert again is not None
    assert again.slots == attempt.slots
    assert again.jobs[1].recipe.prompt == ""


# --- leases -------------------------------------------------------------------------------------------------------------


async def test_a_lease_is_one_boots_until_it_runs_out(database: Database, clock: SteeredClock) -> None:
    mine, yours = a_boot_id(), a_boot_id()
    life = timedelta(seconds=30)
    assert await database.jobs.take_lease(THE_SERVER, mine, life)
    assert not await database.jobs.take_lease(THE_SERVER, yours, life)
    clock.advance(20)
    assert await database.jobs.take_lease(THE_SERVER, mine, life)
    clock.advance(29)
    assert not await database.jobs.take_lease(THE_SERVER, yours, life)
    clock.advance(1)
    assert await database.jobs.take_lease(THE_SERVER, yours, life)
    assert not await database.jobs.take_lease(THE_SERVER, mine, life)


async def test_a_released_lease_is_free_and_only_its_holder_releases_it(database: Database) -> None:
    mine, yours = a_boot_id(), a_boot_id()
    life = timedelta(seconds=30)
    await database.jobs.take_lease(THE_SERVER, mine, life)
    await database.jobs.release_lease(THE_SERVER, yours)
    assert not await database.jobs.take_lease(THE_SERVER, yours, life)
    await database.jobs.release_lease(THE_SERVER, mine)
    assert await database.jobs.take_lease(THE_SERVER, yours, life)


async def test_a_living_lease_can_be_taken_by_who_knows_its_holder_is_dead(database: Database) -> None:
    dead, mine = a_boot_id(), a_boot_id()
    life = timedelta(seconds=30)
    await database.jobs.take_lease(THE_SERVER, dead, life)
    assert await database.jobs.take_lease(THE_SERVER, mine, life, steal=True)
    assert not await database.jobs.take_lease(THE_SERVER, dead, life)


async def test_of_many_who_want_a_server_one_gets_it(database: Database) -> None:
    answers = await asyncio.gather(*(database.jobs.take_lease(THE_SERVER, a_boot_id(), timedelta(seconds=30)) for _ in range(8)))
    assert answers.count(True) == 1


async def test_whose_lease_was_stolen_claims_nothing_more_but_what_it_drew_still_counts(
    database: Database, clock: SteeredClock
) -> None:
    robbed, thief = a_boot_id(), a_boot_id()
    first, _second = await accepted(database, a_request(), a_request())
    await database.jobs.take_lease(THE_SERVER, robbed, timedelta(seconds=30))
    attempt = await claimed(database, oldest(1), boot_id=robbed)
    clock.advance(31)
    assert await database.jobs.take_lease(THE_SERVER, thief, timedelta(seconds=30))

    keys = await database.jobs.waiting_classes()
    assert await database.jobs.claim(THE_SERVER, robbed, keys, oldest(1)) is None
    assert await database.jobs.settle_generated(attempt.id, first.id, [a_picture()], a_report())
    assert await database.jobs.requeue(attempt.id, [first.id], ErrorCode.INTERRUPTED) == []
    assert await database.jobs.claim(THE_SERVER, thief, keys, oldest(1)) is not None


# --- looking ------------------------------------------------------------------------------------------------------------


async def test_jobs_are_found_by_owner_and_state_page_by_page(database: Database) -> None:
    ana = a_person()
    jobs = await accepted(database, *(a_request(ana) for _ in range(5)), a_request())
    await database.jobs.cancel(jobs[1].id)

    mine = await database.jobs.jobs(user_id=ana.user_id, limit=3)
    rest = await database.jobs.jobs(user_id=ana.user_id, limit=3, before_seq=mine[-1].seq)
    waiting = await database.jobs.jobs(states={JobState.QUEUED}, newest_first=False)

    assert [job.id for job in [*mine, *rest]] == [job.id for job in reversed(jobs[:5])]
    assert [job.id for job in waiting] == [jobs[0].id, *(job.id for job in jobs[2:])]
    assert await database.jobs.jobs(states=set()) == []


async def test_the_classes_that_wait_are_told_once_each(database: Database) -> None:
    flux, edit = a_work_class("flux"), a_work_class("edit", needs=frozenset({"class:LoadImage"}), is_mergeable=False)
    await accepted(database, a_request(work=flux), a_request(work=flux), a_request(work=edit))
    assert await database.jobs.waiting_classes() == {"flux": flux, "edit": edit}
    await claimed(database, oldest(2))
    assert await database.jobs.waiting_classes() == {"edit": edit}


async def test_a_snapshot_can_be_of_some_keys(database: Database) -> None:
    await accepted(database, a_request(work=a_work_class("a")), a_request(work=a_work_class("b")))
    assert [job.exact_key for job in (await database.jobs.snapshot(["b"])).jobs] == ["b"]
    assert len((await database.jobs.snapshot()).jobs) == 2
    assert (await database.jobs.snapshot([])).jobs == ()


async def test_a_card_is_remembered_and_forgotten_with_its_channel(database: Database) -> None:
    person = a_person()
    waiting, over = await accepted(database, a_request(person), a_request(person))
    await database.jobs.cancel(over.id)
    await database.jobs.set_card(waiting.id, MessageId(77))
    card = await database.jobs.job(waiting.id)
    assert card is not None
    assert card.card_message_id == 77

    await database.jobs.move_channel(person.user_id, person.guild_id, ChannelId(5))

    moved, stayed = await database.jobs.job(waiting.id), await database.jobs.job(over.id)
    assert moved is not None
    assert stayed is not None
    assert (moved.channel_id, moved.card_message_id) == (5, None)
    assert stayed.channel_id == over.channel_id


async def test_what_is_owed_in_another_guild_stays_with_its_channel(database: Database) -> None:
    person = a_person()
    elsewhere = replace(person, guild_id=GuildId(person.guild_id + 1))
    here, there = await accepted(database, a_request(person), a_request(elsewhere))
    await database.jobs.set_card(there.id, MessageId(77))
    await database.jobs.move_channel(person.user_id, person.guild_id, ChannelId(5))
    moved, stayed = await database.jobs.job(here.id), await database.jobs.job(there.id)
    assert moved is not None
    assert stayed is not None
    assert (moved.channel_id, stayed.channel_id, stayed.card_message_id) == (5, there.channel_id, 77)


async def test_results_and_bad_news_still_owed_move_to_the_new_channel(database: Database) -> None:
    person, other = a_person(), a_person()
    drawn, _ = await generated(database, a_request(person), a_request(other))
    [failed] = await accepted(database, a_request(person))
    await database.jobs.settle_failed(failed.id, ErrorCode.NODE_FAILED, {})
    await database.jobs.move_channel(person.user_id, person.guild_id, ChannelId(5))
    mine = await database.jobs.jobs(user_id=person.user_id)
    assert {job.id: job.channel_id for job in mine} == {drawn.id: 5, failed.id: 5}
    [theirs] = await database.jobs.jobs(user_id=other.user_id)
    assert theirs.channel_id != 5
