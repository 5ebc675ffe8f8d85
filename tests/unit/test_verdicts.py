"""What becomes of each job when its attempt came to nothing."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.domain.errors import ErrorCode
from modules.domain.jobs import Attempt, AttemptId, Job, JobState, ServerName
from modules.domain.servers import RunFailure, RunPhase, RunReport
from modules.queue_manager.fault_attribution import History
from modules.queue_manager.verdicts import (
    MAX_FAILED_ATTEMPTS,
    Again,
    Fail,
    verdict_for_incomplete,
    verdicts_for_failure,
    verdicts_for_lost,
    verdicts_for_taken_back,
)
from tests.support.builders import FIRST_MOMENT, a_boot_id, a_job, a_recipe, a_request

GONE = RunReport(phase=RunPhase.UNKNOWN)


def jobs_of(count: int, *, pictures: int = 1, **changes: object) -> list[Job]:
    made = [a_job(a_request(recipe=a_recipe(count=pictures)), state=JobState.SUBMITTED) for _ in range(count)]
    return [replace(one, **changes) for one in made]  # type: ignore[arg-type]  # fields of Job


def attempt_of(jobs: list[Job]) -> Attempt:
    return Attempt(
        id=AttemptId(uuid4()), server=ServerName("one"), boot_id=a_boot_id(), jobs=tuple(jobs), claimed_at=FIRST_MOMENT
    )


def judged(jobs: list[Job], code: ErrorCode, *slots: int, elsewhere: bool = False) -> list[Again | Fail]:
    report = RunReport(phase=RunPhase.FAILED, failure=RunFailure(code=code, slots=frozenset(slots)))
    return verdicts_for_failure(
        attempt_of(jobs), jobs, report, timeout_s=300, history=lambda job: history_of(job, runs_elsewhere=elsewhere)
    )


def history_of(job: Job, **known: bool) -> History:
    return History(failed_attempts=job.failed_attempts, **known)


def test_the_guilty_slots_job_fails_and_the_others_keep_their_place_at_no_cost() -> None:
    jobs = jobs_of(3, pictures=2)
    verdicts = judged(jobs, ErrorCode.NODE_FAILED, 3)  # slots 2 and 3 are the second job's
    assert verdicts[1] == Fail(job_id=jobs[1].id, code=ErrorCode.NODE_FAILED)
    assert [one.counts for one in (verdicts[0], verdicts[2]) if isinstance(one, Again)] == [False, False]


def test_where_nobody_is_named_each_runs_alone_next() -> None:
    verdicts = judged(jobs_of(3), ErrorCode.NODE_FAILED)
    assert [(one.alone, one.counts) for one in verdicts if isinstance(one, Again)] == [(True, False)] * 3


@pytest.mark.parametrize("code", [ErrorCode.NODE_FAILED, ErrorCode.SERVER_REJECTED, ErrorCode.TIMED_OUT, ErrorCode.PICTURE_GONE])
def test_who_ran_alone_is_guilty(code: ErrorCode) -> None:
    [verdict] = judged(jobs_of(1), code)
    assert isinstance(verdict, Fail)
    assert verdict.code is code
    assert verdict.params == ({"limit_s": 300} if code is ErrorCode.TIMED_OUT else {})


def test_a_bug_of_ours_is_told_with_a_number_to_quote() -> None:
    [verdict] = judged(jobs_of(1), ErrorCode.UNEXPECTED)
    assert isinstance(verdict, Fail)
    assert len(str(verdict.params["incident"])) == 8


def test_too_large_a_batch_is_nobodys_failure() -> None:
    assert [one.counts for one in judged(jobs_of(4), ErrorCode.OUT_OF_MEMORY) if isinstance(one, Again)] == [False] * 4


def test_a_job_too_large_alone_has_one_more_try_with_its_pictures_one_by_one_and_another_card_if_there_is_one() -> None:
    [first] = judged(jobs_of(1, pictures=3), ErrorCode.OUT_OF_MEMORY)
    assert isinstance(first, Again)
    assert (first.alone, first.elsewhere) == (True, False)
    [second] = judged(jobs_of(1, failed_attempts=1), ErrorCode.OUT_OF_MEMORY)
    assert isinstance(second, Fail)
    [elsewhere] = judged(jobs_of(1, failed_attempts=1), ErrorCode.OUT_OF_MEMORY, elsewhere=True)
    assert isinstance(elsewhere, Again)
    assert elsewhere.elsewhere


def test_two_deaths_make_a_suspect_and_the_third_alone_convicts() -> None:
    [first] = verdicts_for_failure(attempt_of(jobs := jobs_of(1)), jobs, GONE, timeout_s=1)
    assert first == Again(job_id=jobs[0].id, reason=ErrorCode.SERVER_UNREACHABLE, server_died=True)
    second = verdicts_for_lost(attempt_of(jobs := jobs_of(2, server_deaths=1, failed_attempts=1)), jobs)
    assert all(isinstance(one, Again) and one.alone for one in second)
    [third] = verdicts_for_lost(attempt_of(jobs := jobs_of(1, server_deaths=2, failed_attempts=2)), jobs)
    assert third == Fail(job_id=jobs[0].id, code=ErrorCode.POISON)


@pytest.mark.parametrize(("state", "is_suspect"), [(JobState.SUBMITTING, True), (JobState.SUBMITTED, False)])
def test_who_had_no_part_in_a_death_is_no_suspect(state: JobState, is_suspect: bool) -> None:
    jobs = jobs_of(1, server_deaths=2, state=state)
    [verdict] = verdicts_for_lost(attempt_of(jobs), jobs, is_suspect=is_suspect)
    assert isinstance(verdict, Again)
    assert not verdict.server_died
    assert verdict.counts


def test_a_batch_taken_back_costs_nothing() -> None:
    assert [one.counts for one in verdicts_for_taken_back(jobs_of(2)) if isinstance(one, Again)] == [False, False]


def test_an_incomplete_result_is_drawn_once_more_alone_whatever_happened_before() -> None:
    for jobs in (jobs_of(2), jobs_of(1, failed_attempts=2)):
        verdict = verdict_for_incomplete(attempt_of(jobs), jobs[0], history_of(jobs[0]))
        assert isinstance(verdict, Again)
        assert verdict.alone
    jobs = jobs_of(1, failed_attempts=1, runs_alone=True)
    assert isinstance(verdict_for_incomplete(attempt_of(jobs), jobs[0], history_of(jobs[0])), Fail)


@given(
    code=st.sampled_from(sorted(ErrorCode)),
    phase=st.sampled_from([RunPhase.FAILED, RunPhase.INTERRUPTED, RunPhase.UNKNOWN, RunPhase.RUNNING]),
    count=st.integers(1, 4),
    guilty=st.frozensets(st.integers(0, 3)),
)
def test_no_job_is_tried_for_ever(code: ErrorCode, phase: RunPhase, count: int, guilty: frozenset[int]) -> None:
    """Alone, each verdict either ends the job or uses up its budget; shared, it at least ends up alone or in a smaller batch."""
    report = RunReport(phase=phase, failure=RunFailure(code=code, slots=guilty))
    alone = jobs_of(1)[0]
    for tries in range(MAX_FAILED_ATTEMPTS):
        [verdict] = verdicts_for_failure(attempt_of([alone]), [alone], report, timeout_s=1)
        if isinstance(verdict, Fail):
            break
        assert verdict.counts
        alone = replace(
            alone,
            failed_attempts=tries + 1,
            server_deaths=alone.server_deaths + verdict.server_died,
            runs_alone=alone.runs_alone or verdict.alone,
        )
    else:
        raise AssertionError("it would go on for ever")
    jobs = jobs_of(count)
    verdicts = verdicts_for_failure(attempt_of(jobs), jobs, report, timeout_s=1)
    assert [one.job_id for one in verdicts] == [job.id for job in jobs]
