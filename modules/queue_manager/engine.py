"""The engine: what members and operators ask of the queue, and the workers that carry it out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta

import structlog

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import Event, JobAccepted, JobSettled, QueueChanged
from modules.domain.jobs import IN_FLIGHT_STATES, Attempt, Job, JobId, JobRequest, JobState, WorkClass, short_id
from modules.domain.people import UserId
from modules.domain.ports import ImageServer
from modules.domain.queue import Place
from modules.domain.records import Limits
from modules.queue_manager.crew import Crew
from modules.queue_manager.lease import LeaseWatch
from modules.queue_manager.neighbours import Neighbours
from modules.queue_manager.places import Places
from modules.queue_manager.unrunnable import Unrunnable
from modules.queue_manager.verdicts import verdicts_for_lost
from modules.queue_manager.worker import Worker

log = structlog.get_logger(__name__)

#: A process that let its lease run out for this long does not come back in time for its jobs.
ORPHANED_AFTER = timedelta(seconds=10)
ORPHANS_EVERY_S = 5.0
#: How often it is asked whether anything waits that no server can draw any more.
UNRUNNABLE_EVERY_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The answer to `submit`: implements the `Ticket` port."""

    job: Job
    place: Place
    active: int
    limit: int


class Engine:
    """Implements `Studio`. `run` supervises one worker per server until `stop`."""

    def __init__(self, crew: Crew, servers: Sequence[ImageServer], limits: Limits) -> None:
        self._crew = crew
        self._limits = limits
        self.workers = {server.name: Worker(server, crew) for server in servers}
        self.neighbours = Neighbours(crew, self.workers.values())
        self._places = Places(crew, self.neighbours)
        self._is_stopping = False
        self._stopped = asyncio.Event()

    # --- for members ------------------------------------------------------------------------------------------------

    async def check_may_ask(self, user_id: UserId) -> None:
        """Refuse whom `submit` would refuse now."""
        self._check_not_stopping()
        await self._crew.jobs.check_may_ask(user_id, self._limits)

    def _check_not_stopping(self) -> None:
        if self._is_stopping:
            raise FulletError(ErrorCode.STOPPING)

    async def submit(self, request: JobRequest) -> Accepted:
        """Store the job, then say so; the same interaction again returns the same job."""
        self._check_not_stopping()
        self._crew.classes[request.work.exact_key] = request.work
        job, is_new = await self._crew.jobs.accept(request, self._limits, sharing=self._sharing(request.work))
        if is_new:
            log.info("job_accepted", job_id=str(job.id), workflow=job.recipe.workflow, pictures=job.recipe.count)
            self._crew.events.publish(JobAccepted(job_id=job.id))
            self._arrived()
        return await self._ticket(job)

    async def _ticket(self, job: Job) -> Accepted:
        """The job is stored, so this must not fail: without a database the place is simply not known."""
        try:
            place, active = await self._places.of(job), await self._crew.jobs.active_count(job.user_id)
        except FulletError as error:
            if error.code is not ErrorCode.DATABASE_UNAVAILABLE:
                raise
            place, active = Place(position=1, starts_at=None, ends_at=None, is_moment_open=True), 1
        return Accepted(job=job, place=place, active=active, limit=self._limits.active_per_person)

    async def cancel(self, job_id: JobId, *, by_admin: bool = False) -> Job:
        """Cancel in any active state; touches nobody else's picture."""
        found = await self._crew.jobs.cancel(job_id)
        if found is None:
            job = await self._crew.jobs.job(job_id)
            raise FulletError(ErrorCode.JOB_OVER if job else ErrorCode.JOB_UNKNOWN)
        job, before = found
        self._crew.retries.is_over(job_id)
        log.info("job_cancelled", job_id=str(job_id), was=before.value)
        self._crew.events.publish(JobSettled(job_id=job_id, state=JobState.CANCELLED, by_admin=by_admin))
        self.changed()
        return job

    async def place(self, job: Job) -> Place | None:
        """Where a job stands that was just read; None when it waited no more."""
        return await self._places.of(job) if job.state is JobState.QUEUED else None

    async def places(self) -> Mapping[JobId, Place]:
        """All waiting jobs at once."""
        return await self._places.all()

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """What happens from now on."""
        return self._crew.events.subscribe()

    def _sharing(self, work: WorkClass) -> Collection[str] | None:
        """The exact keys that some server of ours could run as well as this one; None when that is all of them (or unknown)."""
        able = [worker for worker in self.workers.values() if worker.can_run(work)]
        if not able:
            return None
        sharing = [key for key, other in self._crew.classes.items() if any(worker.can_run(other) for worker in able)]
        return None if len(sharing) == len(self._crew.classes) else sharing

    # --- its life ---------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """The queue changed: let everyone look again."""
        self._places.expire()
        self._crew.events.publish(QueueChanged())
        self._crew.wake_workers()

    def _arrived(self) -> None:
        """A job came: whoever could take it now looks; a busy worker has nothing to learn from it."""
        self._places.expire()
        self._crew.events.publish(QueueChanged())
        for worker in self.workers.values():
            worker.offer()

    def switched(self) -> None:
        """Another process paused the queue or took a server out of service (or the reverse)."""
        self._crew.switches.expire()
        self.changed()

    async def run(self) -> None:
        """Drive all servers of this process; a worker's bug ends the program rather than one server in silence."""
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(self._calibrate())]
            if self.workers:
                others.append(group.create_task(self._give_up_unrunnable()))
            if not self._crew.is_alone:
                others += [group.create_task(self.neighbours.run()), group.create_task(self._adopt_orphans())]
            await self._run_workers()
            for task in others:
                task.cancel()

    async def _run_workers(self) -> None:
        async with asyncio.TaskGroup() as group:
            for worker in self.workers.values():
                group.create_task(worker.run(), name=f"worker {worker.server.name}")
            if not self.workers:
                await self._stopped.wait()

    async def _calibrate(self) -> None:
        """Compare what was told with what happened; forget what is over."""
        async with self._crew.events.subscribe() as events:
            async for event in events:
                if isinstance(event, JobSettled) and event.state is not JobState.DELIVERED:
                    self._places.settled(event.job_id, is_drawn=event.state is JobState.GENERATED)
                    self._crew.retries.is_over(event.job_id)  # also where another process made the retry
                    for worker in self.workers.values():
                        worker.forget(event.job_id)

    async def _give_up_unrunnable(self) -> None:
        """Jobs whose files left every server for good fail, instead of waiting and holding their person's slot for ever."""
        unrunnable = Unrunnable()
        while True:
            await asyncio.sleep(UNRUNNABLE_EVERY_S)
            try:
                keys = unrunnable.given_up(
                    await self._crew.waiting_classes(), tuple(self._crew.colleagues.values()), self._crew.clock.monotonic()
                )
                if keys:
                    await self._fail_waiting(keys)
            except FulletError as error:
                log.warning("unrunnable_not_looked_for", error=error.code.value)

    async def _fail_waiting(self, exact_keys: Collection[str]) -> None:
        for job in await self._crew.jobs.jobs(states={JobState.QUEUED}, limit=self._limits.queue_length, newest_first=False):
            if job.work.exact_key not in exact_keys:
                continue
            code = ErrorCode.NO_SERVER_HAS_IT if job.is_readable else ErrorCode.UNEXPECTED
            params = {} if job.is_readable else {"incident": short_id(job.id)}
            if await self._crew.jobs.settle_failed(job.id, code, params, is_waiting=True):
                log.warning("job_failed", job_id=str(job.id), error=code.value, needs=sorted(job.work.needs))
                self._crew.retries.is_over(job.id)
                self._crew.events.publish(JobSettled(job_id=job.id, state=JobState.FAILED))
        self.changed()

    async def _adopt_orphans(self) -> None:
        """Jobs on a server whose process died for good go to servers that live; its attempts stay open for its return."""
        watch = LeaseWatch(self._crew.intervals.lease_life_s)
        while True:
            await asyncio.sleep(ORPHANS_EVERY_S)
            try:
                for server, seen in watch.dead(await self._crew.jobs.leases(), self._crew.clock.monotonic()).items():
                    if await self._crew.jobs.drop_lease(server, seen):
                        log.warning("dead_lease_dropped", server=server)
                attempts = await self._crew.jobs.abandoned_attempts(self._crew.clock.now() - ORPHANED_AFTER)
                moved = sum([await self._adopt(attempt) for attempt in attempts])
            except FulletError as error:
                log.warning("orphans_not_looked_for", error=error.code.value)
                continue
            if moved:
                log.warning("orphans_requeued", jobs=moved)
                self.changed()

    async def _adopt(self, attempt: Attempt) -> int:
        able = [
            job
            for job in attempt.jobs
            if job.state in IN_FLIGHT_STATES and job.attempt_id == attempt.id and self._crew.runs_elsewhere(attempt.server, job)
        ]
        return await self._crew.settlement.carry_out(attempt.id, verdicts_for_lost(attempt, able, is_suspect=False))

    async def stop(self) -> None:
        """Accept and pick nothing more; `run` returns once the workers have let go. What runs on a GPU goes on there."""
        self._is_stopping = True
        self._stopped.set()
        async with asyncio.TaskGroup() as group:
            for worker in self.workers.values():
                group.create_task(worker.stop())
