"""Fetching what an attempt drew: each job's pictures as soon as all of its own are saved, whoever shares the attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import JobFinishing, JobSettled
from modules.domain.jobs import IN_FLIGHT_STATES, Attempt, Job, JobId, JobState
from modules.domain.ports import Events, ImageServer, JobStore
from modules.domain.servers import RunReport

log = structlog.get_logger(__name__)


class Collector:
    """Of one attempt. The first result of a job wins, so what another attempt of it drew is no trouble."""

    def __init__(
        self, attempt: Attempt, server: ImageServer, jobs: JobStore, events: Events, worked_s: Callable[[], float | None]
    ) -> None:
        """`worked_s`: for how long the server has worked on it by now, as far as we saw it."""
        self.has_results = False  #: a job of it is settled, so its prompt did more than wait
        self._attempt = attempt
        self._server = server
        self._jobs = jobs
        self._events = events
        self._worked_s = worked_s
        self._slots_saved: set[int] = set()
        self._collected: set[JobId] = set()
        self._log = log.bind(attempt=str(attempt.id), server=server.name)

    def has(self, job_id: JobId) -> bool:
        """Its pictures are here or on their way: nothing is to be said of its progress any more."""
        return job_id in self._collected

    async def in_flight(self) -> Sequence[Job]:
        """The jobs of this attempt that still lack a result, here or in another attempt."""
        attempt = await self._jobs.attempt(self._attempt.id)
        return [] if attempt is None else [job for job in attempt.jobs if job.state in IN_FLIGHT_STATES]

    def note_saved(self, slot_index: int, fetching: asyncio.TaskGroup) -> None:
        """A job whose pictures are all saved need not wait for the others in its attempt."""
        self._slots_saved.add(slot_index)
        job_id = self._attempt.slots[slot_index].job_id
        is_shared = len(self._attempt.jobs) > 1
        if is_shared and self._slots_saved.issuperset(self._slots_of(job_id)) and job_id not in self._collected:
            self._collected.add(job_id)
            fetching.create_task(self._collect_early(job_id))

    async def collect(self, jobs: Sequence[Job], report: RunReport | None = None) -> list[Job]:
        """Fetch and store what is there, all at once; returns those of `jobs` that are still without a complete result."""
        outcomes = await asyncio.gather(*(self._collect_one(job, report) for job in jobs), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [job for job, is_complete in zip(jobs, outcomes, strict=True) if not is_complete]

    async def _collect_early(self, job_id: JobId) -> None:
        """What does not come now is judged when the attempt ends."""
        self._events.publish(JobFinishing(job_id=job_id))
        try:
            job = await self._jobs.job(job_id)
            left = await self.collect([job] if job is not None and job.state in IN_FLIGHT_STATES else [])
        except FulletError as error:
            if error.code is ErrorCode.DATABASE_UNAVAILABLE:
                raise
            self._log.info("early_picture_not_fetched", error=error.code.value)
            self._collected.discard(job_id)
        else:
            self._collected -= {job.id for job in left}

    async def _collect_one(self, job: Job, report: RunReport | None) -> bool:
        worked_s = self._worked_s()
        slots = self._slots_of(job.id)
        pictures = await self._server.fetch(self._attempt, slots)
        if set(pictures) != set(slots):
            return False
        timing = report or _as_if_ended(await self._server.report(self._attempt.id), worked_s)
        if await self._jobs.settle_generated(self._attempt.id, job.id, [pictures[index] for index in slots], timing):
            self.has_results = True
            self._collected.add(job.id)
            self._events.publish(JobSettled(job_id=job.id, state=JobState.GENERATED))
        return True

    def _slots_of(self, job_id: JobId) -> Sequence[int]:
        return [slot.index for slot in self._attempt.slots if slot.job_id == job_id]


def _as_if_ended(report: RunReport, worked_s: float | None) -> RunReport:
    """For a job that is done while the attempt goes on: its own part of it, in the server's time."""
    if report.started_at is None or report.ended_at is not None or worked_s is None:
        return report
    return replace(report, ended_at=report.started_at + timedelta(seconds=worked_s))
