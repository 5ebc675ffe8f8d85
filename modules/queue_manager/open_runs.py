"""The attempts that are open on one server: which of them occupy its GPU, and when the next is due behind them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from modules.domain.jobs import JobId
from modules.domain.ports import ImageServer
from modules.queue_manager.attempt_run import AttemptRun
from modules.queue_manager.crew import Crew
from modules.queue_manager.remaining import foreign_s, remaining_s

#: A batch that is alone on its server begins at once; one that has not after this long is held up by something. Somebody else's
#: prompt that is still there after this long is one, and not an answer of ours that is under way.
SEEN_AFTER_S = 1.0


class OpenRuns:
    """Kept by one worker, in the order in which the runs were begun; each has the task that drives it."""

    def __init__(self, server: ImageServer, crew: Crew) -> None:
        self._server = server
        self._crew = crew
        self._tasks: dict[AttemptRun, asyncio.Task[None]] = {}
        self._first: AttemptRun | None = None  #: of those that occupy the GPU
        self._first_since = crew.clock.monotonic()
        self._foreign_since: float | None = None  #: since when somebody else's prompts hold the GPU

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
        """Seconds until everything that occupies the GPU should be done, somebody else's prompts included."""
        return self._held_up_s() + sum(self._remaining_s(run) for run in self.occupying())

    def ends_in_s(self) -> dict[JobId, float]:
        """Seconds until each job should be done that is on the server to stay."""
        found: dict[JobId, float] = {}
        passed_s = self._held_up_s()
        for run in self.occupying():
            passed_s += self._remaining_s(run)
            if not run.is_taken_back:
                found |= dict.fromkeys((job.id for job in run.attempt.jobs), passed_s)
        return found

    def look(self) -> None:
        """Note what changed since the last look: which batch is the first, and whether somebody else holds the GPU."""
        now, busy = self._crew.clock.monotonic(), self.occupying()
        first = busy[0] if busy else None
        if first is not self._first:
            self._first, self._first_since = first, now
        if not self._server.foreign_prompts or (first is not None and first.is_started):
            self._foreign_since = None
        elif self._foreign_since is None:
            self._foreign_since = now

    @property
    def was_used_by_others(self) -> bool:
        """Whether somebody else's prompt has held the GPU for so long that it loaded what it needs."""
        return self._foreign_since is not None and self._crew.clock.monotonic() - self._foreign_since >= SEEN_AFTER_S

    def waiting(self) -> Sequence[AttemptRun]:
        """Those that wait there for something that runs, ours or somebody else's.

        Not one that nothing stands before: if that does not begin, the server's worker is dead, which is found out by it.
        """
        runs = self.occupying() if self._server.foreign_prompts else self.occupying()[1:]
        return [run for run in runs if run.is_posted and not run.is_started and not run.is_taken_back]

    def _held_up_s(self) -> float:
        """Seconds until the first batch of ours should begin: others go before it, or it should have begun long ago."""
        self.look()
        now = self._crew.clock.monotonic()
        since = now if self._foreign_since is None else self._foreign_since
        others_s = foreign_s(self._server.foreign_prompts, now - since)
        if self._first is None or self._first.is_started:
            return others_s
        return max(others_s, now - max(self._first_since, self._first.begun_monotonic) - SEEN_AFTER_S)

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
        return self._due_in_s(run) - max(self._crew.intervals.lead_s, self._crew.rates.lead_s(self._server.name))

    def _remaining_s(self, run: AttemptRun) -> float:
        return remaining_s(self._due_in_s(run))

    def _due_in_s(self, run: AttemptRun) -> float:
        """Seconds until it should be done once it has begun; negative when it is overdue."""
        if run.started_monotonic is None:
            return run.expected_s
        return run.started_monotonic + run.expected_s - self._crew.clock.monotonic()
