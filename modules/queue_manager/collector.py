"""Fetching what an attempt drew: each job's pictures as soon as all of its own are saved, whoever shares the attempt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import JobFinishing, JobSettled
from modules.domain.images import Picture
from modules.domain.jobs import IN_FLIGHT_STATES, Attempt, Job, JobId, JobState
from modules.domain.ports import Events, ImageServer, JobStore
from modules.domain.servers import BodyKind, RunPhase, RunReport, ServerAnswerError, ServerCall
from modules.queue_manager.answer_check import attribute
from modules.queue_manager.fault_attribution import Decision, History, of_answer, of_prompt

log = structlog.get_logger(__name__)


class Collector:
    """Of one attempt. The first result of a job wins, so what another attempt of it drew is no trouble."""

    def __init__(
        self,
        attempt: Attempt,
        server: ImageServer,
        jobs: JobStore,
        events: Events,
        worked_s: Callable[[], float | None],
        *,
        fetch_again_s: float,
    ) -> None:
        """`worked_s`: for how long the server has worked on it by now, as far as we saw it.

        `fetch_again_s`: seconds before a picture that is missing or cut is asked for again; doubled each time.
        """
        #: Jobs whose pictures are there and cannot be had, with the reason.
        self.failed: dict[JobId, ErrorCode] = {}
        self.has_results = False  #: a job of it is settled, so its prompt did more than wait
        self._attempt = attempt
        self._server = server
        self._jobs = jobs
        self._events = events
        self._worked_s = worked_s
        self._fetch_again_s = fetch_again_s
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
        is_drawn = report is not None and report.phase is RunPhase.SUCCEEDED
        return await self._collect_all(jobs, report, is_drawn=is_drawn)

    async def _collect_all(self, jobs: Sequence[Job], report: RunReport | None, *, is_drawn: bool) -> list[Job]:
        fetching = (self._collect_one(job, report, is_drawn=is_drawn) for job in jobs)
        outcomes = await asyncio.gather(*fetching, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [job for job, is_complete in zip(jobs, outcomes, strict=True) if not is_complete]

    async def _collect_early(self, job_id: JobId) -> None:
        """What does not come now is judged when the attempt ends."""
        self._events.publish(JobFinishing(job_id=job_id))
        try:
            job = await self._jobs.job(job_id)
            jobs = [job] if job is not None and job.state in IN_FLIGHT_STATES else []
            left = await self._collect_all(jobs, None, is_drawn=True)
        except FulletError as error:
            if error.code is ErrorCode.DATABASE_UNAVAILABLE:
                raise
            self._log.info("early_picture_not_fetched", error=error.code.value)
            self._collected.discard(job_id)
        else:
            self._collected -= {job.id for job in left}

    async def _collect_one(self, job: Job, report: RunReport | None, *, is_drawn: bool) -> bool:
        worked_s = self._worked_s()
        slots = self._slots_of(job.id)
        pictures = await self._fetch(job, slots, is_drawn=is_drawn)
        if set(pictures) != set(slots):
            return False
        timing = report or await self._timing(worked_s)
        if await self._jobs.settle_generated(self._attempt.id, job.id, [pictures[index] for index in slots], timing):
            self.has_results = True
            self._collected.add(job.id)
            self._events.publish(JobSettled(job_id=job.id, state=JobState.GENERATED))
        return True

    async def _fetch(self, job: Job, slots: Sequence[int], *, is_drawn: bool) -> Mapping[int, Picture]:
        """A job's pictures, asked for again where that may help; incomplete where it did not. Raises for a server that is away.

        `is_drawn`: the server said so, so that what is missing may only be late, or cut on its way.
        """
        pictures: dict[int, Picture] = {}
        fetches = 0
        while job.id not in self.failed:
            fetches += 1
            try:
                pictures |= await self._server.fetch(self._attempt, [index for index in slots if index not in pictures])
                if len(pictures) == len(slots):
                    break
                found = of_answer(ServerCall.FETCH, 404, BodyKind.EMPTY, is_well=True, history=History(fetches=fetches))
            except ServerAnswerError as error:
                found = await attribute(self._server, error.answer, History(fetches=fetches))
                if found.decision is Decision.SERVER_AWAY:
                    raise
                is_drawn = True  # or else it would have said that there is none
            except FulletError as error:
                if error.code is not ErrorCode.OUTPUT_TOO_LARGE:
                    raise
                found = of_prompt(error.code)
            if found.decision is Decision.JOB_FAILS:
                self.failed[job.id] = found.reason
            if found.decision is not Decision.FETCH_AGAIN or not is_drawn:
                break
            self._log.info("picture_fetched_again", job_id=str(job.id), fetches=fetches, missing=len(slots) - len(pictures))
            await asyncio.sleep(self._fetch_again_s * 2 ** (fetches - 1))
        return pictures

    async def _timing(self, worked_s: float | None) -> RunReport:
        """How long it took so far. A server that tells nothing of this prompt has drawn these pictures all the same."""
        try:
            return _as_if_ended(await self._server.report(self._attempt.id), worked_s)
        except ServerAnswerError as error:
            self._log.info("timing_not_known", answer=str(error.answer))
            return RunReport(phase=RunPhase.SUCCEEDED)

    def _slots_of(self, job_id: JobId) -> Sequence[int]:
        return [slot.index for slot in self._attempt.slots if slot.job_id == job_id]


def _as_if_ended(report: RunReport, worked_s: float | None) -> RunReport:
    """For a job that is done while the attempt goes on: its own part of it, in the server's time."""
    if report.started_at is None or report.ended_at is not None or worked_s is None:
        return report
    return replace(report, ended_at=report.started_at + timedelta(seconds=worked_s))
