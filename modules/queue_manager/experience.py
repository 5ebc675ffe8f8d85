"""What one server's runs have taught: what is loaded, what fits, how fast it is, and which jobs it cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from modules.domain.jobs import JobId, WorkClass
from modules.domain.ports import ImageServer
from modules.queue_manager.attempt_run import AttemptRun
from modules.queue_manager.crew import Crew, as_waiting
from modules.queue_manager.health import LearnedCaps, Tally
from modules.queue_manager.outcomes import RunOutcome

log = structlog.get_logger(__name__)

#: Jobs remembered as not to be tried here again. All of them are told to other processes once a second, so they are few.
MAX_REFUSED = 200


@dataclass(frozen=True, slots=True)
class Refusal:
    """A job that could not be done here, and since when, by the monotonic clock."""

    since: float
    work: WorkClass


class Experience:
    """Of one server; forgotten at the end of the process, learned anew within a few batches."""

    def __init__(self, server: ImageServer, crew: Crew) -> None:
        self._server = server
        self._crew = crew
        self._caps = LearnedCaps()
        self._tally = Tally()
        self._log = log.bind(server=server.name)
        self.loaded: str | None = None
        self.refused: dict[JobId, Refusal] = {}

    @property
    def caps(self) -> Mapping[str, int]:
        """Batch sizes that memory taught, by heavy key."""
        return self._caps.known()

    @property
    def pictures_per_minute(self) -> float:
        """In the last minute."""
        return float(self._tally.last_minute(self._crew.clock.monotonic()))

    def cap(self, work: WorkClass) -> int:
        """Pictures that may share one attempt here."""
        return self._caps.limit(work.heavy_key, self._server.max_jobs(work))

    def refuses(self, job_id: JobId) -> bool:
        """Whether this very job is not to be tried here again."""
        return job_id in self.refused

    def left_to_others(self) -> frozenset[JobId]:
        """The refused jobs that another server can take, or had no time yet to come back for. The rest is tried here again."""
        just_now = self._crew.clock.monotonic() - self._crew.intervals.rehome_after_s
        return frozenset(
            job_id
            for job_id, refusal in self.refused.items()
            if refusal.since > just_now or self._crew.others_run(self._server.name, job_id, refusal.work)
        )

    def forget(self, job_id: JobId) -> None:
        """The job is over."""
        self.refused.pop(job_id, None)

    def note(self, run: AttemptRun, outcome: RunOutcome) -> None:
        """Learn from a run that is over."""
        self._note_refused(run)
        match outcome:
            case RunOutcome.CLEAN:
                self._caps.ran_clean(run.heavy_key)
                self._learn(run)
                self.loaded = run.heavy_key
            case RunOutcome.OUT_OF_MEMORY:
                self.loaded = None
                rows = len(run.attempt.slots)
                self._log.warning("out_of_memory", pictures=rows, cap=self._caps.ran_out_of_memory(run.heavy_key, rows))
            case RunOutcome.REFUSED | RunOutcome.NODE_FAILED:
                self.loaded = run.heavy_key if run.is_started else self.loaded
            case RunOutcome.RESTARTED | RunOutcome.LOST | RunOutcome.STUCK:
                self.loaded = None

    def _note_refused(self, run: AttemptRun) -> None:
        now = self._crew.clock.monotonic()
        self.refused |= {job.id: Refusal(now, job.work) for job in run.attempt.jobs if job.id in run.refused_here}
        while len(self.refused) > MAX_REFUSED:
            del self.refused[next(iter(self.refused))]

    def _learn(self, run: AttemptRun) -> None:
        worked_s = run.report.worked_s if run.report else None
        if worked_s is None:
            return
        rows = len(run.attempt.slots)
        self._tally.add(self._crew.clock.monotonic(), rows)
        self._crew.rates.learn(
            self._server.name,
            job=as_waiting(run.attempt.jobs[0]),
            rows=rows,
            worked_s=worked_s,
            was_loaded=run.found_loaded,
            loading_s=run.loading_s,
            reference_s=sum(job.work.cost_s for job in run.attempt.jobs),
        )
