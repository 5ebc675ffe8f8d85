"""Follows one attempt on its server until its prompt is over: tells its progress, and stops it when it is overdue or silent."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import structlog

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import JobPreviewed, JobProgressed, JobStarted
from modules.domain.jobs import Attempt
from modules.domain.ports import ImageServer
from modules.domain.servers import (
    InMemory,
    RunEnded,
    RunEvent,
    RunFailure,
    RunPhase,
    RunPreviewed,
    RunProgressed,
    RunReport,
    RunStarted,
    SlotSaved,
)
from modules.queue_manager.answer_check import SERVER_AWAY
from modules.queue_manager.collector import Collector
from modules.queue_manager.first_steps import FirstSteps
from modules.queue_manager.prompt_status import UNDER_WAY, prompt_status
from modules.queue_manager.run_tools import RunTools

log = structlog.get_logger(__name__)

#: A posted attempt waits behind at most one of ours; longer than this many times its own limit, and nothing runs there.
WAITING_FACTOR = 3
#: Silent for this many times what the attempt should take counts as hung.
SILENCE_FACTOR = 6


class AttemptMonitor:
    """Of one attempt, which it may follow several times over; what it saw once stays known."""

    def __init__(
        self,
        attempt: Attempt,
        server: ImageServer,
        tools: RunTools,
        collector: Collector,
        *,
        in_memory: InMemory,
        expected_s: float,
    ) -> None:
        """`in_memory`: what the server had loaded when the attempt was posted. `expected_s`: seconds that it should take."""
        self.started_monotonic: float | None = None
        self.is_occupying = True  #: False once the GPU is free of it, and while it is only being looked for
        self._attempt = attempt
        self._server = server
        self._tools = tools
        self._collector = collector
        self._in_memory = in_memory
        self._expected_s = expected_s
        self._first_steps = FirstSteps()
        self._has_sampled = False
        self._log = log.bind(attempt=str(attempt.id), server=server.name)

    @property
    def is_started(self) -> bool:
        """Whether the server showed a sign of working on it."""
        return self.started_monotonic is not None

    @property
    def loading_s(self) -> float | None:
        """Seconds between its start and its first step that went into loading; None where the steps did not tell."""
        return self._first_steps.loading_s

    async def follow(self) -> RunReport:
        """Watch until the prompt is over, settling early what is early; a lost server raises its FulletError."""
        try:
            async with asyncio.TaskGroup() as settling:
                return await self._watch(self._tools.timeout_s * len(self._attempt.jobs), settling)
        except BaseExceptionGroup as group:
            raise _one_of(group) from group

    def leave_gpu(self) -> None:
        """The next batch may take the GPU: this one is off it, or is only being looked for."""
        self.is_occupying = False
        self._tools.changed()

    def leave_gpu_after(self, report: RunReport) -> None:
        """The pictures still travel, but the next batch need not wait for that. After a failure it does: it may teach us."""
        if report.phase is RunPhase.SUCCEEDED:
            self.leave_gpu()

    async def _watch(self, limit_s: float, settling: asyncio.TaskGroup) -> RunReport:
        """Follow the events; a run over its limit, or silent for too long, is stopped by its id."""
        loop = asyncio.get_running_loop()
        deadline, is_behind_others = loop.time() + WAITING_FACTOR * limit_s, bool(self._server.foreign_prompts)
        async with aclosing(self._server.follow(self._attempt)) as events:
            while True:
                was_started = self.is_started
                patience = deadline - loop.time()
                if was_started:
                    patience = min(patience, self._silence_s(limit_s))
                try:
                    async with asyncio.timeout(max(0.0, patience)):
                        event = await anext(events)
                except TimeoutError:
                    if not was_started and (is_behind_others or self._server.foreign_prompts):
                        return RunReport(phase=RunPhase.PENDING)  # others hold the server, which is no fault of it: go on
                    return await self._stop_overdue(is_over_limit=was_started and loop.time() >= deadline)
                if isinstance(event, RunEnded):
                    self.leave_gpu_after(event.report)
                    return event.report
                self._tell(event, settling)
                if self.is_started and not was_started:
                    deadline = loop.time() + limit_s

    def _silence_s(self, limit_s: float) -> float:
        """How long nothing may be heard. A model that is read from a slow disk is silent for minutes: the limit bounds that."""
        if self._in_memory is not InMemory.THIS and not self._has_sampled:
            return limit_s
        return max(self._tools.intervals.silence_s, SILENCE_FACTOR * self._expected_s)

    async def _stop_overdue(self, *, is_over_limit: bool) -> RunReport:
        """Cancel by id. What does not stop, or never began, says that the server is stuck: phase RUNNING with a failure."""
        self._log.warning("batch_overdue", over_limit=is_over_limit, started=self.is_started)
        await self._server.cancel(self._attempt.id)
        failure = RunFailure(code=ErrorCode.TIMED_OUT if is_over_limit else ErrorCode.INTERRUPTED)
        stuck = RunReport(phase=RunPhase.RUNNING, failure=RunFailure(code=ErrorCode.INTERRUPTED))  # not the job's fault
        try:
            async with asyncio.timeout(self._tools.intervals.stopping_s):
                report = await self._stopped()
        except TimeoutError:
            return stuck
        if report.phase is RunPhase.SUCCEEDED:
            return report
        return RunReport(phase=RunPhase.FAILED, failure=failure) if self.is_started else stuck

    async def _stopped(self) -> RunReport:
        intervals = self._tools.intervals
        while True:
            report = await prompt_status(self._server, self._attempt.id, ask_again_s=intervals.fetch_again_s)
            if report.phase not in UNDER_WAY:
                return report
            await asyncio.sleep(intervals.stopping_poll_s)

    def _tell(self, event: RunEvent, settling: asyncio.TaskGroup) -> None:
        publish = self._tools.events.publish
        match event:
            case RunStarted():
                self._note_started()
            case RunProgressed():
                self._note_started()
                self._has_sampled = True
                self._first_steps.note(self.started_monotonic or 0.0, self._tools.clock.monotonic(), event.step)
                for job_id in event.job_ids:
                    if not self._collector.has(job_id):
                        publish(JobProgressed(job_id=job_id, step=event.step, steps=event.steps))
            case RunPreviewed():
                slot = self._attempt.slots[event.slot]
                if not self._collector.has(slot.job_id):
                    publish(JobPreviewed(job_id=slot.job_id, picture_index=slot.picture_index, jpeg=event.jpeg))
            case SlotSaved():
                self._collector.note_saved(event.slot, settling)
            case RunEnded():
                pass

    def _note_started(self) -> None:
        """The first sign that the server works on it."""
        if self.is_started:
            return
        self.started_monotonic = self._tools.clock.monotonic()
        for job in self._attempt.jobs:
            self._tools.events.publish(
                JobStarted(job_id=job.id, server=self._server.name, shared_by=self._attempt.shared_by, in_memory=self._in_memory)
            )
        self._tools.changed()


def _one_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to go on with: anything unexpected before a lost server."""
    flat = [error for error in group.exceptions if not isinstance(error, FulletError) or error.code not in SERVER_AWAY]
    return (flat or list(group.exceptions))[0]
