"""What becomes of each job when its attempt ended. Pure: the run acts on the answer.

Whose fault it was is decided in `fault_attribution.py`; here that becomes one verdict for each job of the attempt: who runs
alone next, what counts, and when a job has used up its attempts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from modules.domain.errors import ErrorCode, Param
from modules.domain.jobs import Attempt, Job, JobId, JobState
from modules.domain.servers import RunFailure, RunPhase, RunReport
from modules.queue_manager.fault_attribution import Attribution, Decision, History, of_answer, of_prompt

#: Attempts lost for reasons of ours before we give up on a job. Source: docs/durability.md, "Retry budget".
MAX_FAILED_ATTEMPTS = 5
#: In flight at this many server deaths: runs alone once more, and at the next death fails as poison.
POISON_DEATHS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """The job is over; the person is told, the charge given back."""

    job_id: JobId
    code: ErrorCode
    params: dict[str, Param] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Back to its place in the queue."""

    job_id: JobId
    reason: ErrorCode
    counts: bool = True
    server_died: bool = False
    alone: bool = False
    #: This server will not be given the job again.
    elsewhere: bool = False


Verdict = Fail | Again
JobHistory = Callable[[Job], History]


def _by_itself(job: Job) -> History:
    """Of a job whose other servers nobody knows."""
    return History(failed_attempts=job.failed_attempts)


def verdicts_for_failure(
    attempt: Attempt, jobs: Sequence[Job], report: RunReport, *, timeout_s: float, history: JobHistory = _by_itself
) -> list[Verdict]:
    """Judge the jobs that are still in the attempt after it failed, was interrupted, timed out or vanished (UNKNOWN)."""
    if report.phase is RunPhase.UNKNOWN:
        return verdicts_for_lost(attempt, jobs)
    failure = report.failure or RunFailure(code=ErrorCode.INTERRUPTED)
    match failure.code:
        case ErrorCode.OUT_OF_MEMORY:
            return [_after_oom(attempt, job, history(job)) for job in jobs]
        case ErrorCode.GPU_BROKEN:
            return verdicts_for_lost(attempt, jobs, reason=failure.code)
        case ErrorCode.INTERRUPTED:
            return [_again_or_used_up(job, failure.code) for job in jobs]
        case ErrorCode.TIMED_OUT:
            return _isolate(attempt, jobs, failure, {"limit_s": int(timeout_s)}, history)
        case ErrorCode.UNEXPECTED:
            return _isolate(attempt, jobs, failure, {"incident": attempt.id.hex[:8]}, history)
        case _:
            return _isolate(attempt, jobs, failure, {}, history)


def verdicts_for_lost(
    attempt: Attempt, jobs: Sequence[Job], *, reason: ErrorCode = ErrorCode.SERVER_UNREACHABLE, is_suspect: bool = True
) -> list[Verdict]:
    """Their server died or was given up. `is_suspect`: they may have been the reason; not so when they never began to run."""
    return [_lost(job, reason, is_shared=len(attempt.jobs) > 1, is_suspect=is_suspect) for job in jobs]


def verdicts_for_taken_back(jobs: Sequence[Job]) -> list[Verdict]:
    """We took the batch back before it began: nobody's fault, nothing to count."""
    return [Again(job_id=job.id, reason=ErrorCode.INTERRUPTED, counts=False) for job in jobs]


def verdicts_for_unsent(jobs: Sequence[Job], reason: ErrorCode, *, was_upload_sent: bool = False) -> list[Verdict]:
    """The server certainly has no prompt of them, so nothing is waited for. Nothing counts either where nothing was sent.

    `was_upload_sent`: it went away under one of their input pictures, which may be the reason, so the attempt counts.
    """
    if was_upload_sent:
        return [_again_or_used_up(job, reason) for job in jobs]
    return [Again(job_id=job.id, reason=reason, counts=False) for job in jobs]


def verdict_for_incomplete(attempt: Attempt, job: Job, history: History) -> Verdict:
    """The server said success, yet a picture of this job is missing or broken, however often it was fetched.

    It is drawn once more, alone; a template that loses pictures even then will do so again.
    """
    if len(attempt.jobs) > 1 or not job.runs_alone:
        return _again_or_used_up(job, ErrorCode.RESULT_INCOMPLETE, alone=True)
    return _as_decided(job, of_prompt(ErrorCode.RESULT_INCOMPLETE, history), {}, alone=True)


def _after_oom(attempt: Attempt, job: Job, history: History) -> Verdict:
    if len(attempt.jobs) > 1:  # the learned cap is halved, so the next batch is smaller
        return Again(job_id=job.id, reason=ErrorCode.OUT_OF_MEMORY, counts=False)
    is_first = job.failed_attempts == 0  # once more, its own pictures one after the other
    return _as_decided(job, of_prompt(ErrorCode.OUT_OF_MEMORY, history), {}, alone=is_first and job.recipe.count > 1)


def _isolate(
    attempt: Attempt, jobs: Sequence[Job], failure: RunFailure, params: dict[str, Param], history: JobHistory
) -> list[Verdict]:
    """What the guilty job's fault leads to; where the guilty is not known, each runs alone next, so that it is known then."""
    is_shared = len(attempt.jobs) > 1
    guilty = {slot.job_id for slot in attempt.slots if slot.index in failure.slots}
    if not is_shared:
        guilty = {attempt.jobs[0].id}
    if not guilty:
        return [Again(job_id=job.id, reason=failure.code, counts=False, alone=True) for job in jobs]
    return [
        _as_decided(job, _whose_fault(failure, history(job)), params, alone=is_shared)
        if job.id in guilty
        else Again(job_id=job.id, reason=failure.code, counts=False)
        for job in jobs
    ]


def _whose_fault(failure: RunFailure, history: History) -> Attribution:
    """An answer is only judged here when its server was well afterwards; else the attempt is lost."""
    if failure.answer is None:
        return of_prompt(failure.code, history)
    return of_answer(failure.answer.call, failure.answer.status, failure.answer.body, is_well=True, history=history)


def _as_decided(job: Job, found: Attribution, params: dict[str, Param], *, alone: bool = False) -> Verdict:
    match found.decision:
        case Decision.JOB_FAILS:
            return Fail(job_id=job.id, code=found.reason, params=params)
        case Decision.TRY_ELSEWHERE:
            return _again_or_used_up(job, found.reason, alone=alone, elsewhere=True)
        case Decision.TRY_HERE | Decision.FETCH_AGAIN | Decision.SERVER_AWAY:
            return _again_or_used_up(job, found.reason, alone=alone)


def _lost(job: Job, reason: ErrorCode, *, is_shared: bool, is_suspect: bool) -> Verdict:
    """The server died under it. One death is bad luck; at two it is suspected and isolated; a third, alone, convicts it.

    A job that ComfyUI never confirmed, or never began, had no part in it; the attempt still counts, so nothing goes on for ever.
    """
    if job.state is JobState.SUBMITTING or not is_suspect:
        return _again_or_used_up(job, reason)
    deaths = job.server_deaths + 1
    if deaths > POISON_DEATHS and not is_shared:
        return Fail(job_id=job.id, code=ErrorCode.POISON)
    return _again_or_used_up(job, reason, server_died=True, alone=deaths >= POISON_DEATHS)


def _again_or_used_up(
    job: Job, reason: ErrorCode, *, server_died: bool = False, alone: bool = False, elsewhere: bool = False
) -> Verdict:
    if job.failed_attempts + 1 >= MAX_FAILED_ATTEMPTS:
        return Fail(job_id=job.id, code=ErrorCode.ATTEMPTS_USED_UP)
    return Again(job_id=job.id, reason=reason, server_died=server_died, alone=alone, elsewhere=elsewhere)
