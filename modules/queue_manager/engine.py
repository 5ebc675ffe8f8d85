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
from modules.domain.jobs import IN_FLIGHT_STATES, Attempt, Job, JobId, JobRequest, JobState, WorkClass
from modules.domain.ports import ImageServer
from modules.domain.queue import Place
from modules.domain.records import Limits
from modules.queue_manager.crew import Crew
from modules.queue_manager.forecast import Forecast, forecast
from modules.queue_manager.neighbours import Neighbours
from modules.queue_manager.worker import Worker

log = structlog.get_logger(__name__)

#: A forecast is at most this old when somebody looks at it; a new one is made when the queue changed and it is older.
FORECAST_LIFE_S = 1.0
#: A process that let its lease run out for this long does not come back in time for its jobs.
ORPHANED_AFTER = timedelta(seconds=10)
ORPHANS_EVERY_S = 5.0


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
        self._places = _Places(crew, self.neighbours)
        self._is_stopping = False
        self._stopped = asyncio.Event()

    # --- for members ------------------------------------------------------------------------------------------------

    async def submit(self, request: JobRequest) -> Accepted:
        """Store the job, then say so; the same interaction again returns the same job."""
        if self._is_stopping:
            raise FulletError(ErrorCode.STOPPING)
        self._crew.classes[request.work.exact_key] = request.work
        job, is_new = await self._crew.jobs.accept(request, self._limits, sharing=self._sharing(request.work))
        if is_new:
            log.info("job_accepted", job_id=str(job.id), workflow=job.recipe.workflow, pictures=job.recipe.count)
            self._crew.events.publish(JobAccepted(job_id=job.id))
            self.changed()
        place = await self._places.of(job)
        active = await self._crew.jobs.active_count(job.user_id)
        return Accepted(job=job, place=place, active=active, limit=self._limits.active_per_person)

    async def cancel(self, job_id: JobId) -> Job:
        """Cancel in any active state; touches nobody else's picture."""
        found = await self._crew.jobs.cancel(job_id)
        if found is None:
            job = await self._crew.jobs.job(job_id)
            raise FulletError(ErrorCode.JOB_OVER if job else ErrorCode.JOB_UNKNOWN)
        job, before = found
        log.info("job_cancelled", job_id=str(job_id), was=before.value)
        self._crew.events.publish(JobSettled(job_id=job_id, state=JobState.CANCELLED))
        self.changed()
        return job

    async def place(self, job_id: JobId) -> Place | None:
        """Where a waiting job stands; None when it waits no more."""
        job = await self._crew.jobs.job(job_id)
        return await self._places.of(job) if job is not None and job.state is JobState.QUEUED else None

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
        """The queue or a switch changed: let everyone look again."""
        self._places.expire()
        self._crew.events.publish(QueueChanged())
        for worker in self.workers.values():
            worker.wake()

    async def run(self) -> None:
        """Drive all servers of this process; a worker's bug ends the program rather than one server in silence."""
        await self._crew.switches.refresh()
        async with asyncio.TaskGroup() as group:
            others = [group.create_task(self._calibrate())]
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
        """Compare what was told with what happened."""
        async with self._crew.events.subscribe() as events:
            async for event in events:
                if isinstance(event, JobSettled) and event.state is not JobState.DELIVERED:
                    self._places.settled(event.job_id, is_drawn=event.state is JobState.GENERATED)

    async def _adopt_orphans(self) -> None:
        """Jobs on a server whose process died for good go to servers that live; its attempts stay open for its return."""
        while True:
            await asyncio.sleep(ORPHANS_EVERY_S)
            try:
                attempts = await self._crew.jobs.abandoned_attempts(self._crew.clock.now() - ORPHANED_AFTER)
                moved = [job_id for attempt in attempts for job_id in await self._adopt(attempt)]
            except FulletError as error:
                log.warning("orphans_not_looked_for", error=error.code.value)
                continue
            if moved:
                log.warning("orphans_requeued", jobs=len(moved))
                self.changed()

    async def _adopt(self, attempt: Attempt) -> Sequence[JobId]:
        able = [
            job.id for job in attempt.jobs if job.state in IN_FLIGHT_STATES and self._crew.runs_elsewhere(attempt.server, job)
        ]
        return await self._crew.jobs.requeue(attempt.id, able, ErrorCode.SERVER_UNREACHABLE) if able else ()

    async def stop(self) -> None:
        """Accept and pick nothing more; `run` returns once the workers have let go. What runs on a GPU goes on there."""
        self._is_stopping = True
        self._stopped.set()
        async with asyncio.TaskGroup() as group:
            for worker in self.workers.values():
                group.create_task(worker.stop())


class _Places:
    """Forecasts for everyone, made once for many askers and off the loop."""

    def __init__(self, crew: Crew, neighbours: Neighbours) -> None:
        self._crew = crew
        self._neighbours = neighbours
        self._lock = asyncio.Lock()
        self._made: Mapping[JobId, Place] = {}
        self._made_at = -FORECAST_LIFE_S
        self._is_expired = True
        #: What was first told: job -> (when, predicted seconds until it ends, uncalibrated).
        self._told: dict[JobId, tuple[float, float]] = {}

    def settled(self, job_id: JobId, *, is_drawn: bool) -> None:
        """A job is over; only one that was drawn says something about the forecasts."""
        told = self._told.pop(job_id, None)
        if told is not None and is_drawn:
            self._crew.calibration.add(told[1], self._crew.clock.monotonic() - told[0])

    def expire(self) -> None:
        """The queue changed."""
        self._is_expired = True

    async def of(self, job: Job) -> Place:
        """The place of one job, made after it was stored."""
        async with self._lock:
            if job.id not in self._made:
                await self._make()
        return self._made.get(job.id) or Place(position=1, starts_at=None, ends_at=None, is_paused=self._crew.switches.is_paused)

    async def all(self) -> Mapping[JobId, Place]:
        """Everyone's place, at most FORECAST_LIFE_S old."""
        async with self._lock:
            is_old = self._crew.clock.monotonic() - self._made_at >= FORECAST_LIFE_S
            if self._is_expired or is_old:
                await self._make()
        return self._made

    async def _make(self) -> None:
        self._is_expired = False
        snapshot = await self._crew.jobs.snapshot()
        await self._crew.waiting_classes()
        await self._crew.switches.refresh()
        if not self._crew.is_alone:
            await self._neighbours.learn()
        views = [one.view() for one in self._crew.colleagues.values() if one.is_up]
        found: Mapping[JobId, Forecast] = {}
        if views and not self._crew.switches.is_paused:
            found = await asyncio.to_thread(forecast, snapshot, views, self._crew.rates, self._crew.policy)
        now = self._crew.clock.monotonic()
        for job_id, one in found.items():
            self._told.setdefault(job_id, (now, one.ends_in_s))
        behind = max((one.position for one in found.values()), default=0)
        self._made = {
            job.id: self._place(found[job.id]) if job.id in found else self._unknown(behind + 1 + index)
            for index, job in enumerate(snapshot.jobs)
        }
        self._made_at = self._crew.clock.monotonic()

    def _place(self, one: Forecast) -> Place:
        now, calibration = self._crew.clock.now(), self._crew.calibration
        likely, safe = calibration.quantile(0.5), calibration.quantile(0.9)
        return Place(
            position=one.position,
            starts_at=now + timedelta(seconds=one.starts_in_s * likely),
            ends_at=now + timedelta(seconds=one.ends_in_s * likely),
            ends_by=now + timedelta(seconds=one.ends_in_s * max(likely, safe)),
        )

    def _unknown(self, position: int) -> Place:
        """No server can run it now: its place in line is all there is to say."""
        return Place(position=position, starts_at=None, ends_at=None, is_paused=self._crew.switches.is_paused)
