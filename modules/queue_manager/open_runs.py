"""The attempts that are open on one server: which of them occupy its GPU, and when the next is due behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from modules.domain.jobs import JobId, ServerName
from modules.queue_manager.attempt_run import AttemptRun
from modules.queue_manager.crew import Crew


class OpenRuns:
    """Kept by one worker, in the order in which the runs were begun; each has the task that drives it."""

    def __init__(self, server: ServerName, crew: Crew) -> None:
        self._server = server
        self._crew = crew
        self._tasks: dict[AttemptRun, asyncio.Task[None]] = {}

    def add(self, run: AttemptRun, task: asyncio.Task[None]) -> None:
        """It begins; `task` drives it to its end."""
        self._tasks[run] = task

    def remove(self, run: AttemptRun) -> None:
        """It is over."""
        del self._tasks[run]

    def cancel(self) -> None:
        """Let go of all of them."""
        for task in tuple(self._tasks.values()):
            task.cancel()

    def coming_back(self) -> Sequence[asyncio.Task[None]]:
        """The tasks of those that were taken back from the server and are giving their jobs their place back."""
        return [task for run, task in self._tasks.items() if run.is_taken_back]

    @property
    def is_empty(self) -> bool:
        """Nothing is open."""
        return not self._tasks

    @property
    def newest_model(self) -> str | None:
        """The files that the last begun needs in memory."""
        return next((run.heavy_key for run in reversed(self._tasks)), None)

    def occupying(self) -> Sequence[AttemptRun]:
        """The running batch and the one ahead; not those that are off the GPU or only being looked for."""
        return [run for run in self._tasks if run.is_occupying]

    def free_in_s(self) -> float:
        """Seconds until everything that occupies the GPU should be done."""
        return sum(self._remaining_s(run) for run in self.occupying())

    def ends_in_s(self) -> dict[JobId, float]:
        """Seconds until each job should be done that is on the server to stay."""
        found: dict[JobId, float] = {}
        passed_s = 0.0
        for run in self.occupying():
            passed_s += self._remaining_s(run)
            if not run.is_taken_back:
                found |= dict.fromkeys((job.id for job in run.attempt.jobs), passed_s)
        return found

    def have_room(self, *, for_one_ahead: bool) -> bool:
        """Whether another batch may be posted now: on an idle GPU, or (`for_one_ahead`) behind one that nears its end."""
        busy = self.occupying()
        if not busy:
            return True
        return for_one_ahead and len(busy) == 1 and busy[0].is_started and self._lead_in_s(busy[0]) <= 0

    def next_look_s(self) -> float:
        """Seconds until the worker must look again by itself: at the lead, and every now and then in case a hint was lost."""
        poll_s, busy = self._crew.intervals.poll_s, self.occupying()
        if len(busy) != 1 or not busy[0].is_started:
            return poll_s
        lead_in_s = self._lead_in_s(busy[0])
        return min(poll_s, lead_in_s) if lead_in_s > 0 else poll_s

    def _lead_in_s(self, run: AttemptRun) -> float:
        """Seconds until the next batch should be posted behind the running one."""
        return self._remaining_s(run) - max(self._crew.intervals.lead_s, self._crew.rates.lead_s(self._server))

    def _remaining_s(self, run: AttemptRun) -> float:
        if run.started_monotonic is None:
            return run.expected_s
        return max(0.0, run.started_monotonic + run.expected_s - self._crew.clock.monotonic())
