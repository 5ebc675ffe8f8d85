"""What becomes of each job when its attempt ended. Pure: the run acts on the answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from modules.domain.errors import ErrorCode, Param
from modules.domain.jobs import Attempt, Job, JobId, JobState
from modules.domain.servers import RunFailure, RunPhase, RunReport

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


def verdicts_for_failure(
    attempt: Attempt, jobs: Sequence[Job], report: RunReport, *, timeout_s: float, runs_elsewhere: Collection[JobId] = ()
) -> list[Verdict]:
    """Judge the jobs that are still in the attempt after it failed, was interrupted, timed out or vanished (UNKNOWN).

    `runs_elsewhere`: those that another healthy server could take.
    """
    if report.phase is RunPhase.UNKNOWN:
        return verdicts_for_lost(attempt, jobs)
    failure = report.failure or RunFailure(code=ErrorCode.INTERRUPTED)
    match failure.code:
        case ErrorCode.OUT_OF_MEMORY:
            return [_after_oom(attempt, job, elsewhere=job.id in runs_elsewhere) for job in jobs]
        case ErrorCode.GPU_BROKEN:
            return verdicts_for_lost(attempt, jobs, reason=failure.code)
        case ErrorCode.INTERRUPTED:
            return [_again_or_used_up(job, failure.code) for job in jobs]
        case ErrorCode.TIMED_OUT:
            return _isolate(attempt, jobs, failure, {"limit_s": int(timeout_s)})
        case ErrorCode.UNEXPECTED:
            return _isolate(attempt, jobs, failure, {"incident": attempt.id.hex[:8]})
        case _:
            return _isolate(attempt, jobs, failure, {})


def verdicts_for_lost(
    attempt: Attempt, jobs: Sequence[Job], *, reason: ErrorCode = ErrorCode.SERVER_UNREACHABLE, is_suspect: bool = True
) -> list[Verdict]:
    """Their server died or was given up. `is_suspect`: they may have been the reason; not so when they never began to run."""
    return [_lost(job, reason, is_shared=len(attempt.jobs) > 1, is_suspect=is_suspect) for job in jobs]


def verdicts_for_taken_back(jobs: Sequence[Job]) -> list[Verdict]:
    """We took the batch back before it began: nobody's fault, nothing to count."""
    return [Again(job_id=job.id, reason=ErrorCode.INTERRUPTED, counts=False) for job in jobs]


def verdict_for_incomplete(attempt: Attempt, job: Job) -> Verdict:
    """The server said success, yet a picture of this job is missing, broken or of the wrong size.

    It is drawn once more, alone; a template that loses pictures even then will do so again.
    """
    was_alone = len(attempt.jobs) == 1 and job.runs_alone
    if was_alone and job.failed_attempts > 0:
        return Fail(job_id=job.id, code=ErrorCode.RESULT_INCOMPLETE)
    return _again_or_used_up(job, ErrorCode.RESULT_INCOMPLETE, alone=True)


def _after_oom(attempt: Attempt, job: Job, *, elsewhere: bool) -> Verdict:
    if len(attempt.jobs) > 1:  # the learned cap is halved, so the next batch is smaller
        return Again(job_id=job.id, reason=ErrorCode.OUT_OF_MEMORY, counts=False)
    if job.failed_attempts == 0:  # once more on a freed card, its own pictures one after the other
        return Again(job_id=job.id, reason=ErrorCode.OUT_OF_MEMORY, alone=job.recipe.count > 1, elsewhere=elsewhere)
    if elsewhere:
        return _again_or_used_up(job, ErrorCode.OUT_OF_MEMORY, elsewhere=True)
    return Fail(job_id=job.id, code=ErrorCode.OUT_OF_MEMORY)


def _isolate(attempt: Attempt, jobs: Sequence[Job], failure: RunFailure, params: dict[str, Param]) -> list[Verdict]:
    """The guilty job fails; where it is not known, each runs alone next, so that only the guilty one fails then."""
    guilty = {slot.job_id for slot in attempt.slots if slot.index in failure.slots}
    if len(attempt.jobs) == 1:
        guilty = {attempt.jobs[0].id}
    if guilty:
        return [
            Fail(job_id=job.id, code=failure.code, params=params)
            if job.id in guilty
            else Again(job_id=job.id, reason=failure.code, counts=False)
            for job in jobs
        ]
    return [Again(job_id=job.id, reason=failure.code, counts=False, alone=True) for job in jobs]


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
