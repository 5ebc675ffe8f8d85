"""What all workers of one process share: the stores, the clock, what was learned, and the operator's switches."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from modules.domain.jobs import BootId, Job, JobId, ServerName, WorkClass
from modules.domain.ports import Clock, ControlStore, Events, JobStore
from modules.domain.queue import WaitingJob
from modules.queue_manager.health import RetryBudget
from modules.queue_manager.intervals import Intervals
from modules.queue_manager.rates import Calibration, LearnedRates
from modules.queue_manager.scheduler import Policy, ServerView, ends_in_s
from modules.queue_manager.settlement import Settlement

#: Keys of the switches in the ControlStore; every process of the house reads them.
PAUSED_KEY = "queue.paused"
DRAINED_PREFIX = "server.drained."
SWITCH_PREFIXES = (PAUSED_KEY, DRAINED_PREFIX)
#: Kinds of work remembered when nothing of them waits; sizes and steps make new ones all the time.
MAX_CLASSES = 500


class Colleague(Protocol):
    """A worker as the others see it."""

    @property
    def is_up(self) -> bool:
        """Takes work, as far as its server is concerned."""
        ...

    @property
    def is_away(self) -> bool:
        """Its server was asked and does not answer as a ComfyUI. One that was not asked yet is not away."""
        ...

    def view(self) -> ServerView:
        """Its server for the scheduler."""
        ...

    def taken(self) -> Mapping[JobId, float]:
        """The jobs that its server has, as far as we know, with the seconds until each should be done."""
        ...

    def can_run(self, work: WorkClass) -> bool:
        """Whether its server has what this work needs."""
        ...

    def lacks(self, work: WorkClass) -> bool | None:
        """Whether its server said that it has not what this work needs; None while it was not asked."""
        ...

    def cap(self, work: WorkClass) -> int:
        """Pictures that may share one attempt there."""
        ...

    def refuses(self, job_id: JobId) -> bool:
        """Whether this very job is not to be tried there again."""
        ...


class Switches:
    """Paused queue and drained servers, cached between two looks into the store."""

    def __init__(self, control: ControlStore, clock: Clock, *, max_age_s: float) -> None:
        self._control = control
        self._clock = clock
        self._max_age_s = max_age_s
        self._read_at = float("-inf")
        self._expiries = 0
        self.is_paused = False
        self._drained: Mapping[str, str] = {}  #: server -> since when, as text

    def is_drained(self, server: ServerName) -> bool:
        """Whether an admin took it out of service."""
        return server in self._drained

    def drained_since(self, server: ServerName) -> datetime | None:
        """When; None where it is in service, or where an earlier version did not note it."""
        with suppress(ValueError):
            return datetime.fromisoformat(self._drained.get(server, ""))
        return None

    def expire(self) -> None:
        """Another process changed one."""
        self._read_at = float("-inf")
        self._expiries += 1

    async def keep_fresh(self) -> None:
        """Read them again unless that was done just now: whoever asks at every turn of the queue asks often."""
        if self._clock.monotonic() - self._read_at >= self._max_age_s:
            await self.refresh()

    async def refresh(self) -> None:
        """Read them again."""
        asked_at, expiries = self._clock.monotonic(), self._expiries
        self.is_paused = await self._control.get(PAUSED_KEY) is not None
        drained = await self._control.with_prefix(DRAINED_PREFIX)
        self._drained = {key.removeprefix(DRAINED_PREFIX): since for key, since in drained.items()}
        if expiries == self._expiries:  # else what we read may be from before the change
            self._read_at = asked_at


@dataclass(slots=True, kw_only=True)
class Crew:
    """Shared by the engine and its workers; made by the engine."""

    jobs: JobStore
    control: ControlStore
    events: Events
    clock: Clock
    boot_id: BootId
    policy: Policy
    timeout_s: float
    #: No other process can be alive on this database, so leases of earlier boots are dead.
    is_alone: bool
    intervals: Intervals = field(default_factory=Intervals)
    rng: random.Random = field(default_factory=random.Random)
    colleagues: dict[ServerName, Colleague] = field(default_factory=dict)
    #: What wakes each worker of this process.
    wakers: list[Callable[[], None]] = field(default_factory=list)
    #: The classes of work met lately, by exact key.
    classes: dict[str, WorkClass] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration)
    switches: Switches = field(init=False)
    rates: LearnedRates = field(init=False)
    retries: RetryBudget = field(init=False)
    settlement: Settlement = field(init=False)

    def __post_init__(self) -> None:
        self.switches = Switches(self.control, self.clock, max_age_s=self.intervals.poll_s)
        self.rates = LearnedRates(can_run=self._can_run, cap=self._cap)
        self.retries = RetryBudget(self.clock.monotonic())
        self.settlement = Settlement(self.jobs, self.events, self.retries)

    def wake_workers(self) -> None:
        """The queue, a switch or a server changed: let every worker look again."""
        for wake in self.wakers:
            wake()

    async def waiting_classes(self) -> Mapping[str, WorkClass]:
        """The distinct kinds of work that wait; remembered for the rates."""
        waiting = await self.jobs.waiting_classes()
        self.classes.update(waiting)
        if len(self.classes) > MAX_CLASSES + len(waiting):
            self.classes = dict(waiting)
        return waiting

    def others(self, server: ServerName) -> list[ServerView]:
        """The other servers that are up."""
        return [one.view() for name, one in self.colleagues.items() if name != server and one.is_up]

    def runs_elsewhere(self, server: ServerName, job: Job) -> bool:
        """Whether another healthy server could take this job."""
        return self.others_run(server, job.id, job.work)

    def would_end_sooner(self, server: ServerName, jobs: Sequence[Job], here_s: float) -> bool:
        """Whether another server stands idle and would be through with these jobs of one class in less than `here_s`."""
        sample, rows = as_waiting(jobs[0]), sum(job.recipe.count for job in jobs)
        idle = (
            one.view()
            for name, one in self.colleagues.items()
            if name != server and one.is_up and one.can_run(jobs[0].work) and not any(one.refuses(job.id) for job in jobs)
        )
        return any(ends_in_s(view, sample, rows, self.rates) < here_s for view in idle if view.free_in_s <= 0)

    def failed_elsewhere(self, server: ServerName, job: Job) -> bool:
        """Whether another server could not do this job either."""
        return any(one.refuses(job.id) for name, one in self.colleagues.items() if name != server)

    def others_run(self, server: ServerName, job_id: JobId, work: WorkClass) -> bool:
        """The same, where only its id and its work are known."""
        return any(
            one.is_up and one.can_run(work) and not one.refuses(job_id) for name, one in self.colleagues.items() if name != server
        )

    def _can_run(self, server: ServerName, exact_key: str) -> bool:
        colleague, work = self.colleagues.get(server), self.classes.get(exact_key)
        return colleague is not None and work is not None and colleague.can_run(work)

    def _cap(self, server: ServerName, exact_key: str) -> int:
        colleague, work = self.colleagues.get(server), self.classes.get(exact_key)
        return 1 if colleague is None or work is None else colleague.cap(work)


def as_waiting(job: Job) -> WaitingJob:
    """A stored job as the scheduler and the rates see it."""
    return WaitingJob(
        id=job.id,
        user_id=job.user_id,
        seq=job.seq,
        exact_key=job.work.exact_key,
        heavy_key=job.work.heavy_key,
        cost_s=job.work.cost_s,
        rows=job.recipe.count,
        is_mergeable=job.work.is_mergeable,
        runs_alone=job.runs_alone,
    )
