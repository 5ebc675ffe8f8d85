"""Carries verdicts out: each is one compare-and-set in the store, and is told only when it won."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from modules.domain.events import JobRequeued, JobSettled, QueueChanged
from modules.domain.jobs import AttemptId, JobState
from modules.domain.ports import Events, JobStore
from modules.queue_manager.health import RetryBudget
from modules.queue_manager.verdicts import Again, Fail, Verdict

log = structlog.get_logger(__name__)


class Settlement:
    """Ends jobs or returns them to their place, for whoever drives their attempt."""

    def __init__(self, jobs: JobStore, events: Events, retries: RetryBudget) -> None:
        self._jobs = jobs
        self._events = events
        self._retries = retries

    async def carry_out(self, attempt_id: AttemptId, verdicts: Sequence[Verdict]) -> int:
        """Returns how many of the jobs were still in this attempt. A job that left it meanwhile is left alone."""
        won = 0
        for verdict in verdicts:
            match verdict:
                case Fail():
                    won += await self._fail(attempt_id, verdict)
                case Again():
                    won += await self._send_back(attempt_id, verdict)
        if verdicts:
            self._events.publish(QueueChanged())
        return won

    async def _fail(self, attempt_id: AttemptId, verdict: Fail) -> bool:
        if not await self._jobs.settle_failed(verdict.job_id, verdict.code, verdict.params, attempt_id=attempt_id):
            return False
        self._retries.is_over(verdict.job_id)
        log.warning("job_failed", job_id=str(verdict.job_id), error=verdict.code.value)
        self._events.publish(JobSettled(job_id=verdict.job_id, state=JobState.FAILED))
        return True

    async def _send_back(self, attempt_id: AttemptId, verdict: Again) -> bool:
        moved = await self._jobs.requeue(
            attempt_id,
            [verdict.job_id],
            verdict.reason,
            counts=verdict.counts,
            server_died=verdict.server_died,
            alone=verdict.alone,
        )
        if not moved:
            return False
        if verdict.counts:
            self._retries.is_owed(verdict.job_id)
        log.info("job_requeued", job_id=str(verdict.job_id), reason=verdict.reason.value)
        self._events.publish(JobRequeued(job_id=verdict.job_id, reason=verdict.reason.value))
        return True
