"""The Outbox's contract: a message owed is claimed by one courier at a time, sent once, and never forgotten."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from modules.domain.errors import ErrorCode
from modules.domain.jobs import JobState
from modules.domain.people import MessageId
from modules.domain.records import MessageKind
from modules.utils.database import Database
from tests.support.builders import FIRST_MOMENT, SteeredClock, a_job_id, a_picture, a_report, a_request
from tests.support.queue_integrity import broken_rules
from tests.support.queue_steps import accepted, generated, next_due

HOLD = timedelta(minutes=2)
RESULT, FAILURE = MessageKind.RESULT, MessageKind.FAILURE


async def test_the_intent_is_written_before_the_send_and_keeps_others_off(database: Database, clock: SteeredClock) -> None:
    [job] = await generated(database)

    intent = await database.outbox.claim_send(job.id, RESULT, clock.now(), HOLD)

    assert intent is not None
    assert (intent.tries, intent.first_try_at, intent.due_at) == (1, FIRST_MOMENT, FIRST_MOMENT + HOLD)
    assert await database.outbox.claim_send(job.id, RESULT, clock.now(), HOLD) is None
    assert await database.outbox.due(clock.now()) == []
    assert await next_due(database) == FIRST_MOMENT + HOLD


async def test_after_a_crash_the_next_courier_sees_that_a_message_may_exist(database: Database, clock: SteeredClock) -> None:
    [job] = await generated(database)
    await database.outbox.claim_send(job.id, RESULT, clock.now(), HOLD)
    clock.advance(HOLD.total_seconds())

    again = await database.outbox.claim_send(job.id, RESULT, clock.now(), HOLD)

    assert again is not None
    assert (again.tries, again.first_try_at) == (2, FIRST_MOMENT)


async def test_of_many_couriers_one_sends(database: Database, clock: SteeredClock) -> None:
    [job] = await generated(database)
    intents = await asyncio.gather(*(database.outbox.claim_send(job.id, RESULT, clock.now(), HOLD) for _ in range(8)))
    assert len([intent for intent in intents if intent]) == 1


async def test_a_delivered_result_settles_the_job_for_good(database: Database, clock: SteeredClock) -> None:
    [job] = await generated(database)
    await database.outbox.claim_send(job.id, RESULT, clock.now(), HOLD)

    assert await database.outbox.delivered(job.id, RESULT, MessageId(99))
    assert not await database.outbox.delivered(job.id, RESULT, MessageId(100))

    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert (stored.state, stored.result_message_id) == (JobState.DELIVERED, 99)
    clock.advance(3600)
    assert await database.outbox.claim_send(job.id, RESULT, clock.now(), HOLD) is None
    assert await next_due(database) is None


async def test_bad_news_leave_the_job_failed(database: Database) -> None:
    [job] = await accepted(database)
    await database.jobs.settle_failed(job.id, ErrorCode.NODE_FAILED, {})
    assert await database.outbox.delivered(job.id, FAILURE, None)
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert (stored.state, stored.result_message_id) == (JobState.FAILED, None)


async def test_the_oldest_debt_comes_first_and_waits_for_its_moment(database: Database, clock: SteeredClock) -> None:
    [first] = await generated(database)
    clock.advance(1)
    [second] = await generated(database)
    clock.advance(1)
    [third] = await generated(database)
    await database.outbox.postpone(first.id, RESULT, clock.now() + timedelta(seconds=30))

    assert [item.job_id for item in await database.outbox.due(clock.now())] == [second.id, third.id]
    assert [item.job_id for item in await database.outbox.due(clock.now(), limit=1)] == [second.id]
    clock.advance(30)
    assert [item.job_id for item in await database.outbox.due(clock.now())] == [second.id, third.id, first.id]


async def test_what_cannot_be_delivered_keeps_its_pictures_and_can_be_sent_again(database: Database, clock: SteeredClock) -> None:
    [job] = await generated(database)

    await database.outbox.undeliverable(job.id, RESULT)

    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert stored.state is JobState.UNDELIVERABLE
    assert len(await database.blobs.of_job(job.id)) == 1
    assert await next_due(database) is None

    assert await database.outbox.send_again(job.id)
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert stored.state is JobState.GENERATED
    assert await broken_rules(database) == []
    assert await database.outbox.claim_send(job.id, RESULT, clock.now(), HOLD) is not None
    assert await database.outbox.delivered(job.id, RESULT, MessageId(5))
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert stored.state is JobState.DELIVERED


async def test_sent_again_it_has_all_its_time_and_what_may_have_arrived_is_still_looked_for(
    database: Database, clock: SteeredClock
) -> None:
    [job] = await generated(database)
    for _ in range(3):
        await database.outbox.claim_send(job.id, RESULT, clock.now(), HOLD)
        clock.advance(HOLD.total_seconds())
    await database.outbox.undeliverable(job.id, RESULT)
    clock.advance(48 * 3600)

    assert await database.outbox.send_again(job.id)

    [item] = await database.outbox.due(clock.now())
    assert (item.tries, item.created_at, item.first_try_at) == (0, clock.now(), FIRST_MOMENT)


async def test_released_everything_owed_is_due_whether_it_was_held_or_waited(database: Database, clock: SteeredClock) -> None:
    [held], [waiting], [sent] = await generated(database), await generated(database), await generated(database)
    await database.outbox.claim_send(held.id, RESULT, clock.now(), HOLD)
    await database.outbox.postpone(waiting.id, RESULT, clock.now() + timedelta(hours=1))
    await database.outbox.claim_send(sent.id, RESULT, clock.now(), HOLD)
    await database.outbox.delivered(sent.id, RESULT, MessageId(5))

    await database.outbox.release(clock.now())

    assert {item.job_id for item in await database.outbox.due(clock.now())} == {held.id, waiting.id}
    again = await database.outbox.claim_send(held.id, RESULT, clock.now(), HOLD)
    assert again is not None
    assert (again.tries, again.first_try_at) == (1, FIRST_MOMENT)


async def test_of_many_presses_one_sends_again_and_none_while_it_is_owed_or_sent(database: Database) -> None:
    [job] = await generated(database)
    assert not await database.outbox.send_again(job.id)
    await database.outbox.undeliverable(job.id, RESULT)

    won = await asyncio.gather(*(database.outbox.send_again(job.id) for _ in range(8)))

    assert won.count(True) == 1
    assert not await database.outbox.send_again(job.id)
    await database.outbox.delivered(job.id, RESULT, MessageId(5))
    assert not await database.outbox.send_again(job.id)
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert stored.state is JobState.DELIVERED
    assert await broken_rules(database) == []


async def test_a_late_result_of_an_undeliverable_job_is_dropped(database: Database) -> None:
    """The way back to "generated" is for what could not be delivered, not for a second set of pictures."""
    [job] = await generated(database)
    await database.outbox.undeliverable(job.id, RESULT)
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert stored.attempt_id is not None
    assert not await database.jobs.settle_generated(stored.attempt_id, job.id, [a_picture(9)], a_report())
    assert len(await database.blobs.of_job(job.id)) == 1


async def test_only_results_that_are_still_known_can_be_sent_again(database: Database) -> None:
    [failed] = await accepted(database)
    await database.jobs.settle_failed(failed.id, ErrorCode.NODE_FAILED, {})
    await database.outbox.undeliverable(failed.id, FAILURE)
    assert not await database.outbox.send_again(failed.id)
    assert not await database.outbox.send_again(a_job_id())
    assert await next_due(database) is None


async def test_what_was_given_up_is_not_taken_up_again_by_a_late_postponement(database: Database, clock: SteeredClock) -> None:
    [job] = await generated(database)
    await database.outbox.undeliverable(job.id, RESULT)
    await database.outbox.postpone(job.id, RESULT, clock.now())
    assert await next_due(database) is None


async def test_giving_up_after_it_was_sent_changes_nothing(database: Database) -> None:
    [job] = await generated(database)
    await database.outbox.delivered(job.id, RESULT, MessageId(5))
    await database.outbox.undeliverable(job.id, RESULT)
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert stored.state is JobState.DELIVERED


async def test_postponing_what_was_sent_does_not_send_it_again(database: Database, clock: SteeredClock) -> None:
    [job] = await generated(database)
    await database.outbox.delivered(job.id, RESULT, MessageId(5))
    await database.outbox.postpone(job.id, RESULT, clock.now())
    assert await database.outbox.due(clock.now()) == []


async def test_a_clock_set_back_delays_a_message_by_minutes_and_never_by_as_much_as_it_went_back(
    database: Database, clock: SteeredClock
) -> None:
    [job] = await generated(database, a_request())
    clock.jump(-300)
    assert await database.outbox.due(clock.now()) == []
    assert await database.outbox.claim_send(job.id, RESULT, clock.now(), HOLD) is None
    assert await next_due(database) == FIRST_MOMENT
    clock.jump(-3600)
    assert [item.job_id for item in await database.outbox.due(clock.now())] == [job.id]
    assert await database.outbox.claim_send(job.id, RESULT, clock.now(), HOLD) is not None


async def test_nothing_is_put_off_for_longer_than_a_clock_set_back_may_delay_it(database: Database, clock: SteeredClock) -> None:
    [job] = await generated(database, a_request())
    await database.outbox.postpone(job.id, RESULT, clock.now() + timedelta(hours=5))
    assert await database.outbox.due(clock.now()) == []
    clock.advance(600)
    assert [item.job_id for item in await database.outbox.due(clock.now())] == [job.id]


async def test_nothing_is_owed_for_an_unknown_job(database: Database, clock: SteeredClock) -> None:
    unknown = a_job_id()
    assert await database.outbox.claim_send(unknown, RESULT, clock.now(), HOLD) is None
    assert not await database.outbox.delivered(unknown, RESULT, MessageId(1))
    await database.outbox.undeliverable(unknown, RESULT)
    await database.outbox.postpone(unknown, RESULT, clock.now())
    assert await next_due(database) is None


async def test_one_look_finds_what_may_be_tried_and_when_the_next_may_be(database: Database, clock: SteeredClock) -> None:
    assert await database.outbox.look(clock.now()) == ([], None)
    first, second = await generated(database, a_request(), a_request())
    assert await database.outbox.claim_send(first.id, RESULT, clock.now(), HOLD)

    due, later = await database.outbox.look(clock.now())

    assert [item.job_id for item in due] == [second.id]
    assert later == FIRST_MOMENT + HOLD
    clock.advance(HOLD.total_seconds())
    due, later = await database.outbox.look(clock.now())
    assert {item.job_id for item in due} == {first.id, second.id}
    assert later is None
