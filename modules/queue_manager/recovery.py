"""Decides what becomes of attempts that a crash or an outage left open.

An attempt is gone on with (`AttemptRun.resume` looks for it on its server) or ended; the jobs of a lost server go to others.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from modules.domain.errors import ErrorCode
from modules.domain.jobs import IN_FLIGHT_STATES, Attempt, AttemptId, ServerName, short_id
from modules.queue_manager.crew import Crew
from modules.queue_manager.verdicts import Fail, verdicts_for_lost

log = structlog.get_logger(__name__)


async def prepare_to_resume(attempt: Attempt, crew: Crew) -> bool:
    """Returns whether to go on with an attempt found open; one whose jobs are gone from the database is ended instead.

    Of jobs whose stored form cannot be read nothing can be found again, so they fail; those that share the attempt go on.
    """
    fails = [
        Fail(job_id=job.id, code=ErrorCode.UNEXPECTED, params={"incident": short_id(job.id)})
        for job in attempt.jobs
        if not job.is_readable
    ]
    for fail in fails:
        log.error("job_unreadable", server=attempt.server, job_id=str(fail.job_id), attempt=str(attempt.id))
    await crew.settlement.carry_out(attempt.id, fails)
    if not attempt.jobs:
        await crew.jobs.end_attempt(attempt.id, None, has_begun=False)
    return bool(attempt.jobs)


async def move_to_other_servers(server: ServerName, crew: Crew, was_bystander: Callable[[AttemptId], bool]) -> None:
    """Give the jobs of this lost server to those that can run them; the attempt stays open and is cleaned up later.

    `was_bystander`: whether an attempt only waited when the server went away, so that its jobs are not the reason.
    """
    moved = 0
    for attempt in await crew.jobs.unfinished_attempts(server):
        able = [
            job
            for job in attempt.jobs
            if job.state in IN_FLIGHT_STATES and job.attempt_id == attempt.id and crew.runs_elsewhere(server, job)
        ]
        verdicts = verdicts_for_lost(attempt, able, is_suspect=not was_bystander(attempt.id))
        moved += await crew.settlement.carry_out(attempt.id, verdicts)
    if moved:
        log.warning("jobs_rehomed", server=server, jobs=moved)
        crew.wake_workers()
