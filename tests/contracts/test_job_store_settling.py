"""The JobStore's contract, on every database: generated, failed, requeued or cancelled, each once, and what is given back."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest

from modules.domain.errors import ErrorCode
from modules.domain.jobs import JobId, JobState, ServerName
from modules.domain.records import MessageKind
from modules.domain.servers import RunPhase, RunReport
from modules.utils.database import Database
from tests.support.builders import (
    FIRST_MOMENT,
    SteeredClock,
    a_person,
    a_picture,
    a_recipe,
    a_report,
    a_request,
    a_work_class,
)
from tests.support.queue_steps import (
    THE_SERVER,
    accepted,
    claimed,
    exactly,
    generated,
    next_due,
    oldest,
    pictures_for,
    submitted,
    vt_of,
)

# --- submitted, generated -----------------------------------------------------------------------------------------------


async def test_only_jobs_still_in_the_attempt_become_submitted(database: Database) -> None:
    gone, here = await accepted(database, a_request(), a_request())
    attempt = await claimed(database, oldest(2))
    await database.jobs.cancel(gone.id)
    await database.jobs.mark_submitted(attempt.id)
    await database.jobs.mark_submitted(attempt.id)
    again = await database.jobs.attempt(attempt.id)
    assert again is not None
    assert [(job.id, job.state) for job in again.jobs] == [(gone.id, JobState.CANCELLED), (here.id, JobState.SUBMITTED)]


async def test_who_shares_an_attempt_only_with_themselves_shares_it_with_nobody(database: Database) -> None:
    ana = a_person()
    first, *_ = await accepted(database, a_request(ana), a_request(ana))
    attempt = await submitted(database, oldest(2))
    assert [job.shared_by for job in attempt.jobs] == [1, 1]
    assert attempt.shared_by == 1
    await database.jobs.settle_generated(attempt.id, first.id, pictures_for(first), a_report())
    stored = await database.jobs.job(first.id)
    assert stored is not None
    assert stored.shared_by == 1


async def test_a_result_is_stored_whole(database: Database, clock: SteeredClock) -> None:
    job, _other = await accepted(database, a_request(recipe=a_recipe(count=3, seed=40)), a_request())
    attempt = await submitted(database, oldest(2))
    clock.advance(20)
    report = a_report(worked_s=6.5, started_at=FIRST_MOMENT + timedelta(seconds=5))

    assert await database.jobs.settle_generated(attempt.id, job.id, pictures_for(job), report)

    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert stored.state is JobState.GENERATED
    assert (stored.started_at, stored.worked_s, stored.waited_s) == (report.started_at, 6.5, 5.0)
    assert (stored.generated_at, stored.shared_by, stored.server) == (clock.now(), 2, THE_SERVER)
    blob_ids = await database.blobs.of_job(job.id)
    assert [await database.blobs.get(blob_id) for blob_id in blob_ids] == [a_picture(40), a_picture(41), a_picture(42)]
    assert await database.blobs.last_of(job.user_id) == blob_ids[-1]
    assert await database.jobs.active_count(job.user_id) == 0
    [owed] = await database.outbox.due(clock.now())
    assert (owed.job_id, owed.kind, owed.tries, owed.first_try_at) == (job.id, MessageKind.RESULT, 0, None)


async def test_the_first_result_wins(database: Database) -> None:
    [job] = await accepted(database)
    attempt = await submitted(database, oldest(1))
    answers = await asyncio.gather(
        *(database.jobs.settle_generated(attempt.id, job.id, [a_picture(seed)], a_report()) for seed in range(4))
    )
    assert sorted(answers) == [False, False, False, True]
    assert len(await database.blobs.of_job(job.id)) == 1
    assert len(await database.outbox.due(FIRST_MOMENT)) == 1


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_wrong_number_of_pictures_is_a_bug_and_stores_nothing(database: Database, count: int) -> None:
    [job] = await accepted(database, a_request(recipe=a_recipe(count=2)))
    attempt = await submitted(database, oldest(1))
    with pytest.raises(ValueError, match="pictures"):
        await database.jobs.settle_generated(attempt.id, job.id, [a_picture()] * count, a_report())
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert stored.state is JobState.SUBMITTED
    assert await database.blobs.of_job(job.id) == []


async def test_a_result_of_an_attempt_the_job_was_never_in_is_refused(database: Database) -> None:
    mine, yours = await accepted(database, a_request(), a_request())
    attempt = await submitted(database, exactly(mine.id))
    await submitted(database, exactly(yours.id))
    with pytest.raises(ValueError, match="never part"):
        await database.jobs.settle_generated(attempt.id, yours.id, [a_picture()], a_report())


async def test_a_late_result_of_an_earlier_attempt_counts_when_it_is_the_first(database: Database) -> None:
    [job] = await accepted(database)
    early = await submitted(database, oldest(1))
    await database.jobs.requeue(early.id, [job.id], ErrorCode.SERVER_UNREACHABLE)
    assert not await database.jobs.settle_generated(early.id, job.id, [a_picture(1)], a_report())
    late = await claimed(database, oldest(1), server=ServerName("gpu-2"))

    assert await database.jobs.settle_generated(early.id, job.id, [a_picture(1)], a_report())
    assert not await database.jobs.settle_generated(late.id, job.id, [a_picture(2)], a_report())

    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert stored.server == THE_SERVER
    await database.jobs.end_attempt(late.id, a_report())


async def test_times_that_come_after_the_pictures_are_added_at_the_end(database: Database) -> None:
    [job] = await accepted(database)
    attempt = await submitted(database, oldest(1))
    await database.jobs.settle_generated(attempt.id, job.id, [a_picture()], RunReport(phase=RunPhase.RUNNING))
    await database.jobs.end_attempt(attempt.id, a_report(worked_s=3.0), "solo")
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert (stored.started_at, stored.worked_s) == (FIRST_MOMENT, 3.0)


# --- failed, requeued, cancelled ----------------------------------------------------------------------------------------


async def test_a_failed_job_is_refunded_and_owes_a_message(database: Database) -> None:
    [job] = await accepted(database)
    attempt = await submitted(database, oldest(1))

    assert await database.jobs.settle_failed(job.id, ErrorCode.TIMED_OUT, {"limit_s": 300}, attempt_id=attempt.id)
    assert not await database.jobs.settle_failed(job.id, ErrorCode.NODE_FAILED, {})

    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert (stored.state, stored.error_code, stored.error_params) == (JobState.FAILED, "timed_out", {"limit_s": 300})
    assert await vt_of(database, job.user_id) == 0.0
    assert await database.jobs.active_count(job.user_id) == 0
    [owed] = await database.outbox.due(FIRST_MOMENT)
    assert owed.kind is MessageKind.FAILURE


async def test_a_job_can_fail_while_it_waits(database: Database) -> None:
    [job] = await accepted(database)
    assert await database.jobs.settle_failed(job.id, ErrorCode.MODEL_UNAVAILABLE, {})
    assert (await database.jobs.snapshot()).jobs == ()


async def test_an_old_attempt_cannot_fail_a_job_that_has_moved_on(database: Database) -> None:
    [job] = await accepted(database)
    old = await claimed(database, oldest(1))
    await database.jobs.requeue(old.id, [job.id], ErrorCode.INTERRUPTED)
    assert not await database.jobs.settle_failed(job.id, ErrorCode.NODE_FAILED, {}, attempt_id=old.id)
    await claimed(database, oldest(1))
    assert not await database.jobs.settle_failed(job.id, ErrorCode.NODE_FAILED, {}, attempt_id=old.id)


async def test_a_requeued_job_keeps_its_place_and_gets_its_charge_back(database: Database) -> None:
    first, second = await accepted(database, a_request(), a_request())
    attempt = await submitted(database, oldest(1))

    moved = await database.jobs.requeue(attempt.id, [first.id, second.id], ErrorCode.SERVER_UNREACHABLE, server_died=True)

    assert moved == [first.id]
    snapshot = await database.jobs.snapshot()
    assert [job.id for job in snapshot.jobs] == [first.id, second.id]
    assert snapshot.accounts[first.user_id].vt == 0.0
    stored = await database.jobs.job(first.id)
    assert stored is not None
    assert (stored.failed_attempts, stored.server_deaths, stored.server, stored.shared_by) == (1, 1, None, 1)
    assert stored.seq == first.seq


async def test_requeueing_through_no_fault_of_the_server_costs_no_attempt(database: Database) -> None:
    [job] = await accepted(database)
    attempt = await claimed(database, oldest(1))
    await database.jobs.requeue(attempt.id, [job.id], ErrorCode.INTERRUPTED, counts=False)
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert (stored.failed_attempts, stored.server_deaths) == (0, 0)


async def test_a_job_told_to_run_alone_does_so_from_then_on(database: Database) -> None:
    [job] = await accepted(database)
    for alone in (False, True, False):
        attempt = await submitted(database, oldest(1))
        await database.jobs.requeue(attempt.id, [job.id], ErrorCode.SERVER_UNREACHABLE, server_died=True, alone=alone)
    [waiting] = (await database.jobs.snapshot()).jobs
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert (waiting.runs_alone, stored.runs_alone, stored.server_deaths) == (True, True, 3)


async def test_a_refund_never_goes_below_the_floor(database: Database) -> None:
    ana, ben = a_person(), a_person()
    await accepted(database, a_request(ana, work=a_work_class(cost_s=10)))
    attempt = await claimed(database, oldest(1))  # ana stands at 10
    await accepted(database, *(a_request(ben, work=a_work_class(cost_s=6)) for _ in range(2)))
    await claimed(database, oldest(1))  # ben waits on at 6, and so does the floor
    assert (await database.jobs.snapshot()).floor == 6.0

    await database.jobs.requeue(attempt.id, [job.id for job in attempt.jobs], ErrorCode.SERVER_UNREACHABLE)

    assert await vt_of(database, ana.user_id) == 6.0


async def test_cancelling_gives_the_charge_back_at_once_only_before_comfyui_had_the_job(database: Database) -> None:
    waiting, taken, running = await accepted(database, a_request(), a_request(), a_request())
    await submitted(database, exactly(running.id))
    await claimed(database, exactly(taken.id))

    before = [await database.jobs.cancel(job.id) for job in (waiting, taken, running)]

    assert [answer and answer[1] for answer in before] == [JobState.QUEUED, JobState.SUBMITTING, JobState.SUBMITTED]
    assert [answer and answer[0].state for answer in before] == [JobState.CANCELLED] * 3
    assert [await vt_of(database, job.user_id) for job in (waiting, taken, running)] == [0.0, 0.0, 8.0]
    assert [await database.jobs.active_count(job.user_id) for job in (waiting, taken, running)] == [0, 0, 0]
    assert await next_due(database) is None


@pytest.mark.parametrize(("has_begun", "charged"), [(False, 8.0), (True, 16.0)])
async def test_who_was_cancelled_pays_exactly_if_the_attempt_began(database: Database, has_begun: bool, charged: float) -> None:
    person = a_person()
    [gone] = await accepted(database, a_request(person))
    attempt = await submitted(database, oldest(1))
    await accepted(database, a_request(person))
    beside = await submitted(database, oldest(1))
    await database.jobs.cancel(gone.id)
    assert await vt_of(database, person.user_id) == 16.0

    await asyncio.gather(*(database.jobs.end_attempt(attempt.id, None, has_begun=has_begun) for _ in range(3)))

    assert await vt_of(database, person.user_id) == charged
    assert [open_one.id for open_one in await database.jobs.unfinished_attempts(THE_SERVER)] == [beside.id]


async def test_what_was_given_back_before_is_not_given_back_at_the_end_of_the_attempt(database: Database) -> None:
    person = a_person()
    failed, requeued, early = await accepted(database, *(a_request(person) for _ in range(3)))
    attempt = await claimed(database, oldest(3))
    await accepted(database, a_request(person))
    await submitted(database, oldest(1))
    await database.jobs.cancel(early.id)  # before ComfyUI had it
    await database.jobs.mark_submitted(attempt.id)
    await database.jobs.settle_failed(failed.id, ErrorCode.NODE_FAILED, {}, attempt_id=attempt.id)
    await database.jobs.requeue(attempt.id, [requeued.id], ErrorCode.INTERRUPTED)
    await database.jobs.cancel(requeued.id)  # while it waited again
    assert await vt_of(database, person.user_id) == 8.0

    await database.jobs.end_attempt(attempt.id, None, has_begun=False)

    assert await vt_of(database, person.user_id) == 8.0


async def test_a_picture_from_an_earlier_attempt_is_paid_for_in_the_later_one_that_never_began(database: Database) -> None:
    [job] = await accepted(database)
    early = await submitted(database, oldest(1))
    await database.jobs.requeue(early.id, [job.id], ErrorCode.SERVER_UNREACHABLE)
    late = await submitted(database, oldest(1))
    await database.jobs.settle_generated(early.id, job.id, [a_picture()], a_report())

    await database.jobs.end_attempt(late.id, None, has_begun=False)

    assert await vt_of(database, job.user_id) == 8.0


async def test_what_the_end_of_an_attempt_gives_back_never_goes_below_the_floor(database: Database) -> None:
    ana, ben = a_person(), a_person()
    [gone] = await accepted(database, a_request(ana, work=a_work_class(cost_s=10)))
    attempt = await submitted(database, oldest(1))  # ana stands at 10
    await accepted(database, *(a_request(ben, work=a_work_class(cost_s=6)) for _ in range(2)))
    await claimed(database, oldest(1))  # ben waits on at 6, and so does the floor
    await database.jobs.cancel(gone.id)

    await database.jobs.end_attempt(attempt.id, None, has_begun=False)

    assert await vt_of(database, ana.user_id) == 6.0


async def test_what_is_over_or_unknown_cannot_be_cancelled(database: Database) -> None:
    [job] = await generated(database)
    assert await database.jobs.cancel(job.id) is None
    assert await database.jobs.cancel(JobId(uuid4())) is None


async def test_a_cancelled_job_drops_its_late_picture(database: Database) -> None:
    [job] = await accepted(database)
    attempt = await submitted(database, oldest(1))
    await database.jobs.cancel(job.id)
    assert not await database.jobs.settle_generated(attempt.id, job.id, [a_picture()], a_report())
    assert await database.blobs.of_job(job.id) == []
