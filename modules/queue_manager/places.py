"""Everyone's place: forecasts made once for many askers, off the loop, and compared with what then happened."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from modules.domain.jobs import Job, JobId
from modules.domain.queue import Place
from modules.queue_manager.crew import Crew, as_waiting
from modules.queue_manager.forecast import Forecast, forecast, run_s
from modules.queue_manager.neighbours import Neighbours
from modules.queue_manager.promises import Promises

#: A forecast is at most this old when somebody looks at it; a new one is made when the queue changed and it is older.
FORECAST_LIFE_S = 1.0
#: Whoever comes within this time after a forecast waits for the next one together; a crowd shares ten a second.
SHARED_FOR_S = 0.1


class Places:
    """Forecasts for everyone, made once for many askers and off the loop."""

    def __init__(self, crew: Crew, neighbours: Neighbours) -> None:
        self._crew = crew
        self._neighbours = neighbours
        self._lock = asyncio.Lock()
        self._made: Mapping[JobId, Place] = {}
        self._made_at = -FORECAST_LIFE_S
        self._looked_at = float("-inf")  #: when the queue was read for it
        self._is_expired = True
        self._promises = Promises()
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
        """The place of one job, made after it was stored. What a later look at the queue does not find waits no more."""
        asked_at = self._crew.clock.monotonic()
        async with self._lock:
            if job.id not in self._made and self._looked_at <= asked_at:
                await asyncio.sleep(self._made_at + SHARED_FOR_S - self._crew.clock.monotonic())
                await self._make()
        made = self._made.get(job.id)
        return self._begun(job) if made is None or job.id in self._taken() else made

    async def all(self) -> Mapping[JobId, Place]:
        """Everyone's place, at most FORECAST_LIFE_S old."""
        async with self._lock:
            is_old = self._crew.clock.monotonic() - self._made_at >= FORECAST_LIFE_S
            if self._is_expired or is_old:
                await self._make()
        return self._made

    async def _make(self) -> None:
        self._is_expired = False
        self._looked_at = self._crew.clock.monotonic()
        snapshot = await self._crew.jobs.snapshot()
        await self._crew.waiting_classes()
        await self._crew.switches.keep_fresh()
        if not self._crew.is_alone:
            await self._neighbours.learn()
        taken = self._taken()  # since we read the queue, too: whoever is with a server does not wait behind themselves
        snapshot = replace(snapshot, jobs=tuple(job for job in snapshot.jobs if job.id not in taken))
        views = [one.view() for one in self._crew.colleagues.values() if one.is_up]
        found: Mapping[JobId, Forecast] = {}
        if views and not self._crew.switches.is_paused:
            found = await asyncio.to_thread(forecast, snapshot, views, self._crew.rates, self._crew.policy)
        now = self._crew.clock.monotonic()
        for job_id, one in found.items():
            self._told.setdefault(job_id, (now, one.ends_in_s))
        likely = self._crew.calibration.quantile(0.5)
        scaled = {
            job_id: replace(one, starts_in_s=one.starts_in_s * likely, ends_in_s=one.ends_in_s * likely)
            for job_id, one in found.items()
        }
        told = self._promises.kept(scaled, now=now, in_flight=len(taken), servers=[view.name for view in views])
        behind = max((one.position for one in found.values()), default=0)
        self._made = {
            job.id: self._place(told[job.id], found[job.id]) if job.id in found else self._unknown(behind + 1 + index)
            for index, job in enumerate(snapshot.jobs)
        }
        self._made_at = self._crew.clock.monotonic()

    def _taken(self) -> Mapping[JobId, float]:
        return {job_id: left_s for one in self._crew.colleagues.values() for job_id, left_s in one.taken().items()}

    def _place(self, likely: Forecast, expected: Forecast) -> Place:
        """`likely`: as it is told; `expected`: as it was computed, from which the safe moment follows."""
        now, safe = self._crew.clock.now(), self._crew.calibration.quantile(0.9)
        return Place(
            position=likely.position,
            starts_at=now + timedelta(seconds=likely.starts_in_s),
            ends_at=now + timedelta(seconds=likely.ends_in_s),
            ends_by=now + timedelta(seconds=max(likely.ends_in_s, expected.ends_in_s * safe)),
        )

    def _begun(self, job: Job) -> Place:
        """It waits no more: a server took it in the moment between its acceptance and our look. Which one says how long."""
        taken_s = self._taken().get(job.id)
        ends_in_s = self._least_s(job) if taken_s is None else taken_s
        if ends_in_s is None:
            return self._unknown(1)
        self._told.setdefault(job.id, (self._crew.clock.monotonic(), ends_in_s))
        likely_s = ends_in_s * self._crew.calibration.quantile(0.5)
        expected = Forecast(position=1, starts_in_s=0.0, ends_in_s=ends_in_s)
        return self._place(replace(expected, ends_in_s=likely_s), expected)

    def _least_s(self, job: Job) -> float | None:
        """For a job that another process took and has not told of yet: where it would be done first."""
        rates, waiting = self._crew.rates, as_waiting(job)
        able = [one.view() for one in self._crew.colleagues.values() if one.is_up and one.can_run(job.work)]
        return min((one.free_in_s + run_s(one, [waiting], rates) for one in able), default=None)

    def _unknown(self, position: int) -> Place:
        """No server can run it now: its place in line is all there is to say, and whether all of them are away."""
        return Place(
            position=position,
            starts_at=None,
            ends_at=None,
            is_paused=self._crew.switches.is_paused,
            is_moment_open=not all(one.is_away for one in self._crew.colleagues.values()),
        )
