"""One attempt on one server, from posting (or finding it again) until every job in it is settled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum, auto

import structlog

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import (
    JobFinishing,
    JobPreviewed,
    JobProgressed,
    JobRequeued,
    JobSettled,
    JobStarted,
    QueueChanged,
)
from modules.domain.jobs import IN_FLIGHT_STATES, Attempt, Job, JobId, JobState
from modules.domain.ports import Clock, Events, ImageServer, JobStore
from modules.domain.servers import (
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
from modules.queue_manager.verdicts import Again, Fail, Verdict, verdict_for_incomplete, verdicts_for_failure

log = structlog.get_logger(__name__)

#: Between the two looks at a server that does not know an attempt (any more). Source: docs/durability.md, "Recovery".
LOOK_AGAIN_S = 5.0
#: How long a cancelled prompt may take to stop before the server counts as stuck.
STOPPING_PATIENCE_S = 30.0
#: No sign of life for this long while running counts as hung, however slow the model. Source: docs/durability.md, "Faults".
SILENCE_S = 90.0

STOPPING_POLL_S = 0.5
#: A posted attempt waits behind at most one of ours; longer than this many times its own limit, and nothing runs there.
WAITING_FACTOR = 3

_SERVER_AWAY = frozenset(
    {ErrorCode.SERVER_UNREACHABLE, ErrorCode.SERVER_BROKEN, ErrorCode.SERVER_NOT_COMFYUI, ErrorCode.SERVER_UNAUTHORISED}
)


class RunOutcome(Enum):
    """How the run of an attempt ended, for the worker's breaker."""

    CLEAN = auto()  #: ComfyUI did what was asked
    REFUSED = auto()  #: the work's own fault; says nothing against the server
    OUT_OF_MEMORY = auto()
    LOST = auto()  #: the server is gone; the attempt stays open and is looked for when it is back
    RESTARTED = auto()  #: it answers, but knows nothing of the prompt any more
    STUCK = auto()  #: it does not even stop; open the breaker at once


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTools:
    """What every run needs of the crew."""

    jobs: JobStore
    events: Events
    clock: Clock
    timeout_s: float  #: for one job; an attempt gets it once per job
    runs_elsewhere: Callable[[Job], bool]


class AttemptRun:
    """Drives one attempt. `start` for a new one, `resume` for one found open; both return when every job is settled or LOST."""

    def __init__(self, attempt: Attempt, server: ImageServer, tools: RunTools, *, is_loading: bool, expected_s: float) -> None:
        self.attempt = attempt
        self.is_started = False
        self.started_monotonic: float | None = None
        self.expected_s = expected_s
        self.report: RunReport | None = None
        self.refused_here: set[JobId] = set()
        self._server = server
        self._tools = tools
        self.is_loading = is_loading
        self.is_taken_back = False
        self.is_occupying = True  #: False while it is only being looked for: the GPU may do other work meanwhile
        self._slots_saved: set[int] = set()
        self._settled: set[JobId] = set()
        self._log = log.bind(attempt=str(attempt.id), server=server.name)

    @property
    def heavy_key(self) -> str:
        """The model this attempt needs in memory."""
        return self.attempt.jobs[0].work.heavy_key

    @property
    def has_results(self) -> bool:
        """Whether a job of it is settled already, so that its prompt did more than wait."""
        return bool(self._settled)

    # --- the two ways in --------------------------------------------------------------------------------------------

    async def start(self) -> RunOutcome:
        """Post and follow."""
        try:
            await self._server.post(self.attempt, alone=any(job.runs_alone for job in self.attempt.jobs))
        except FulletError as error:
            return await self._not_posted(error)
        await self._tools.jobs.mark_submitted(self.attempt.id)
        self._log.info("batch_posted", jobs=len(self.attempt.jobs), pictures=len(self.attempt.slots))
        return await self._carry_on(RunReport(phase=RunPhase.PENDING))

    async def resume(self) -> RunOutcome:
        """An attempt left open by a crash or an outage: find out what became of it, then go on from there."""
        try:
            if not await self._in_flight():
                await self._server.cancel(self.attempt.id)
                return await self._close(None, RunOutcome.REFUSED)
            report = await self._server.report(self.attempt.id)
        except FulletError as error:
            return self._lost_or_raise(error)
        self._log.info("attempt_found", phase=report.phase.value, jobs=len(self.attempt.jobs))
        if report.phase in (RunPhase.PENDING, RunPhase.RUNNING):
            await self._tools.jobs.mark_submitted(self.attempt.id)
        return await self._carry_on(report)

    async def _carry_on(self, report: RunReport) -> RunOutcome:
        """From wherever the prompt stands to the end of the attempt."""
        try:
            while True:
                if report.phase is RunPhase.UNKNOWN and not self.is_taken_back:
                    report = await self._look_twice()
                if report.phase in (RunPhase.PENDING, RunPhase.RUNNING) and report.failure is None:
                    report = await self._follow()
                    continue
                return await self._finish(report)
        except FulletError as error:
            return self._lost_or_raise(error)

    def _lost_or_raise(self, error: FulletError) -> RunOutcome:
        if error.code not in _SERVER_AWAY:
            raise error
        self._log.warning("server_lost_during_batch", error=error.code.value)
        return RunOutcome.LOST

    async def _look_twice(self) -> RunReport:
        """Not in queue nor history: the files of a finished attempt still tell; else look once more, then call it lost."""
        if not await self._collect(await self._in_flight()):
            return RunReport(phase=RunPhase.SUCCEEDED)
        self.is_occupying = False
        await asyncio.sleep(LOOK_AGAIN_S)
        report = await self._server.report(self.attempt.id)
        self.is_occupying = True
        if report.phase is RunPhase.UNKNOWN:
            await self._server.cancel(self.attempt.id)
        return report

    async def _not_posted(self, error: FulletError) -> RunOutcome:
        self._log.warning("batch_not_posted", error=error.code.value, **error.params)
        if error.code in _SERVER_AWAY:
            return RunOutcome.LOST
        guilty = error.params.get("guilty")
        slots = frozenset({guilty}) if isinstance(guilty, int) else frozenset[int]()
        failure = RunFailure(code=error.code, slots=slots)
        return await self._finish(RunReport(phase=RunPhase.FAILED, failure=failure))

    # --- while it runs ----------------------------------------------------------------------------------------------

    async def _follow(self) -> RunReport:
        """Watch until the prompt is over, settling early what is early; a lost server raises its FulletError."""
        try:
            async with asyncio.TaskGroup() as settling:
                return await self._watch(self._tools.timeout_s * len(self.attempt.jobs), settling)
        except BaseExceptionGroup as group:
            raise _one_of(group) from group

    async def _watch(self, limit_s: float, settling: asyncio.TaskGroup) -> RunReport:
        """Follow the events; a run over its limit, or silent for too long, is stopped by its id."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAITING_FACTOR * limit_s
        async with aclosing(self._server.follow(self.attempt)) as events:
            while True:
                was_started = self.is_started
                patience = deadline - loop.time()
                if was_started:
                    patience = min(patience, max(SILENCE_S, 6 * self.expected_s))
                try:
                    async with asyncio.timeout(max(0.0, patience)):
                        event = await anext(events)
                except TimeoutError:
                    return await self._stop_overdue(is_over_limit=was_started and loop.time() >= deadline)
                if isinstance(event, RunEnded):
                    return event.report
                self._tell(event, settling)
                if self.is_started and not was_started:
                    deadline = loop.time() + limit_s

    async def _stop_overdue(self, *, is_over_limit: bool) -> RunReport:
        """Cancel by id. What does not stop, or never began, says that the server is stuck: phase RUNNING with a failure."""
        self._log.warning("batch_overdue", over_limit=is_over_limit, started=self.is_started)
        await self._server.cancel(self.attempt.id)
        failure = RunFailure(code=ErrorCode.TIMED_OUT if is_over_limit else ErrorCode.INTERRUPTED)
        stuck = RunReport(phase=RunPhase.RUNNING, failure=failure)
        try:
            async with asyncio.timeout(STOPPING_PATIENCE_S):
                report = await self._stopped()
        except TimeoutError:
            return stuck
        if report.phase is RunPhase.SUCCEEDED:
            return report
        return RunReport(phase=RunPhase.FAILED, failure=failure) if self.is_started else stuck

    async def _stopped(self) -> RunReport:
        while True:
            report = await self._server.report(self.attempt.id)
            if report.phase not in (RunPhase.PENDING, RunPhase.RUNNING):
                return report
            await asyncio.sleep(STOPPING_POLL_S)

    def _tell(self, event: RunEvent, settling: asyncio.TaskGroup) -> None:
        publish = self._tools.events.publish
        match event:
            case RunStarted():
                self.note_started()
            case RunProgressed():
                self.note_started()
                for job_id in event.job_ids:
                    if job_id not in self._settled:
                        publish(JobProgressed(job_id=job_id, step=event.step, steps=event.steps))
            case RunPreviewed():
                slot = self.attempt.slots[event.slot]
                if slot.job_id not in self._settled:
                    publish(JobPreviewed(job_id=slot.job_id, picture_index=slot.picture_index, jpeg=event.jpeg))
            case SlotSaved():
                self._slots_saved.add(event.slot)
                self._settle_early(event.slot, settling)
            case RunEnded():
                pass

    def note_started(self) -> None:
        """The first sign that the server works on it."""
        if self.is_started:
            return
        self.is_started = True
        self.started_monotonic = self._tools.clock.monotonic()
        for job in self.attempt.jobs:
            self._tools.events.publish(
                JobStarted(job_id=job.id, server=self._server.name, shared_by=len(self.attempt.jobs), is_loading=self.is_loading)
            )

    def _settle_early(self, slot_index: int, settling: asyncio.TaskGroup) -> None:
        """A job whose pictures are all saved need not wait for the others in its attempt."""
        job_id = self.attempt.slots[slot_index].job_id
        slots = {slot.index for slot in self.attempt.slots if slot.job_id == job_id}
        if len(self.attempt.jobs) > 1 and slots <= self._slots_saved and job_id not in self._settled:
            self._settled.add(job_id)
            settling.create_task(self._collect_early(job_id))

    async def _collect_early(self, job_id: JobId) -> None:
        jobs = [job for job in await self._in_flight() if job.id == job_id]
        if await self._collect(jobs):
            self._settled.discard(job_id)  # not complete after all: judged when the attempt ends

    # --- the end ----------------------------------------------------------------------------------------------------

    async def _finish(self, report: RunReport) -> RunOutcome:
        """Settle everyone who is still in the attempt."""
        self.report = report
        if self.is_taken_back:
            return await self._close(None, RunOutcome.REFUSED)
        left = await self._in_flight()
        if report.phase is not RunPhase.RUNNING:  # a server that does not stop is not asked for pictures
            left = await self._collect(left, report)
        if report.phase is RunPhase.SUCCEEDED:
            await self._carry_out([verdict_for_incomplete(self.attempt, job) for job in left])
        elif left:
            elsewhere = {job.id for job in left if self._tools.runs_elsewhere(job)}
            await self._carry_out(
                verdicts_for_failure(self.attempt, left, report, timeout_s=self._tools.timeout_s, runs_elsewhere=elsewhere)
            )
        return await self._close(report, _outcome(report))

    async def _close(self, report: RunReport | None, outcome: RunOutcome) -> RunOutcome:
        await self._tools.jobs.end_attempt(self.attempt.id, report)
        if outcome is not RunOutcome.STUCK:
            try:
                await self._server.forget(self.attempt.id)
            except FulletError as error:
                self._log.debug("history_not_forgotten", error=error.code.value)
        return outcome

    async def _in_flight(self) -> Sequence[Job]:
        """The jobs that this attempt still owes a result: not cancelled, not requeued, not settled."""
        attempt = await self._tools.jobs.attempt(self.attempt.id)
        return [] if attempt is None else [job for job in attempt.jobs if job.state in IN_FLIGHT_STATES]

    async def _collect(self, jobs: Sequence[Job], report: RunReport | None = None) -> list[Job]:
        """Fetch and store what is there; returns those of `jobs` that are still without a complete result."""
        left: list[Job] = []
        for job in jobs:
            self._tools.events.publish(JobFinishing(job_id=job.id))
            slots = [slot.index for slot in self.attempt.slots if slot.job_id == job.id]
            pictures = await self._server.fetch(self.attempt, slots)
            if set(pictures) != set(slots):
                left.append(job)
                continue
            timing = report or await self._server.report(self.attempt.id)
            done = await self._tools.jobs.settle_generated(self.attempt.id, job.id, [pictures[index] for index in slots], timing)
            if done:
                self._settled.add(job.id)
                self._tools.events.publish(JobSettled(job_id=job.id, state=JobState.GENERATED))
        return left

    async def _carry_out(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            match verdict:
                case Fail():
                    if await self._tools.jobs.settle_failed(
                        verdict.job_id, verdict.code, verdict.params, attempt_id=self.attempt.id
                    ):
                        self._log.warning("job_failed", job_id=str(verdict.job_id), error=verdict.code.value)
                        self._tools.events.publish(JobSettled(job_id=verdict.job_id, state=JobState.FAILED))
                case Again():
                    await self.send_back(verdict)
        self._tools.events.publish(QueueChanged())

    async def send_back(self, verdict: Again) -> None:
        """Return one job to its place in the queue."""
        moved = await self._tools.jobs.requeue(
            self.attempt.id,
            [verdict.job_id],
            verdict.reason,
            counts=verdict.counts,
            server_died=verdict.server_died,
            alone=verdict.alone,
        )
        if verdict.elsewhere:
            self.refused_here.add(verdict.job_id)
        if moved:
            self._log.info("job_requeued", job_id=str(verdict.job_id), reason=verdict.reason.value)
            self._tools.events.publish(JobRequeued(job_id=verdict.job_id, reason=verdict.reason.value))


def _outcome(report: RunReport) -> RunOutcome:
    if report.phase is RunPhase.RUNNING:
        return RunOutcome.STUCK
    if report.failure is not None and report.failure.code is ErrorCode.OUT_OF_MEMORY:
        return RunOutcome.OUT_OF_MEMORY
    if report.failure is not None and report.failure.code is ErrorCode.GPU_BROKEN:
        return RunOutcome.STUCK
    if report.phase is RunPhase.UNKNOWN:
        return RunOutcome.RESTARTED
    return RunOutcome.CLEAN if report.phase is RunPhase.SUCCEEDED else RunOutcome.REFUSED


def _one_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error to go on with: anything unexpected before a lost server."""
    flat = [error for error in group.exceptions if not isinstance(error, FulletError) or error.code not in _SERVER_AWAY]
    return (flat or list(group.exceptions))[0]
