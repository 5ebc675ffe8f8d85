"""What a worker hands to each attempt that it runs: stores, clock, limits, and whom to tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from modules.domain.jobs import Job
from modules.domain.ports import Clock, Events, JobStore
from modules.queue_manager.fault_attribution import History
from modules.queue_manager.intervals import Intervals
from modules.queue_manager.settlement import Settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTools:
    """What every run needs of the crew."""

    jobs: JobStore
    events: Events
    clock: Clock
    settlement: Settlement
    intervals: Intervals
    timeout_s: float  #: for one job; an attempt gets it once per job
    history: Callable[[Job], History]
    changed: Callable[[], None]  #: it began or ended: whoever plans the next batch looks again
