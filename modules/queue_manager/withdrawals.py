"""Takes batches back from a server that has not begun them: some of their people left, another server is sooner, or we stop."""

from __future__ import annotations

import structlog

from modules.domain.ports import ImageServer
from modules.queue_manager.attempt_run import AttemptRun
from modules.queue_manager.crew import Crew
from modules.queue_manager.open_runs import OpenRuns
from modules.queue_manager.server_calls import try_call

log = structlog.get_logger(__name__)

#: Seconds that must be gained by giving a batch that waits here to an idle server; less is not worth the way.
HAND_OVER_GAIN_S = 2.0


class Withdrawals:
    """Of one server. Only takes batches off it: the run of each then gives its jobs their place back."""

    def __init__(self, server: ImageServer, crew: Crew, runs: OpenRuns) -> None:
        self._server = server
        self._crew = crew
        self._runs = runs
        self._log = log.bind(server=server.name)

    async def withdraw_cancelled(self) -> None:
        """A batch in which nobody is left is stopped; one that only waits is taken back when somebody left it."""
        whole = [run for run in self._runs.occupying() if not run.has_results]
        owed = await self._crew.jobs.owed_counts([run.attempt.id for run in whole])
        for run in whole:
            left = owed[run.attempt.id]
            if not left and not run.has_results:
                await try_call(self._server.cancel(run.attempt.id), self._log)
            elif left < len(run.attempt.jobs) and not run.has_results:
                await self._withdraw(run)

    async def hand_over(self) -> None:
        """A batch that only waits here is taken back where a server that stands idle would be through with it sooner."""
        if self._crew.switches.is_paused:
            return
        ends_in_s = self._runs.ends_in_s()
        for run in self._runs.waiting():
            here_s = max(ends_in_s.get(job.id, 0.0) for job in run.attempt.jobs)
            if self._crew.would_end_sooner(self._server.name, run.attempt.jobs, here_s - HAND_OVER_GAIN_S):
                self._log.info("batch_handed_over", attempt=str(run.attempt.id), jobs=len(run.attempt.jobs))
                await self._withdraw(run)

    async def withdraw_waiting(self) -> None:
        """All that only waits there is taken back; what runs is left to run."""
        for run in self._runs.occupying():
            await self._withdraw(run)

    async def _withdraw(self, run: AttemptRun) -> None:
        """Remove a batch that ComfyUI has not begun; the run then gives its jobs their place back."""
        if run.is_started or not run.is_posted or run.is_taken_back:
            return
        run.is_taken_back = True  # said first: its disappearance must not look like a lost server
        run.is_taken_back = await try_call(self._server.take_back(run.attempt.id), self._log) is not False
