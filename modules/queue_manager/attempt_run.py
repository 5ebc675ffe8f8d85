"""One attempt on one server, from posting (or finding it again) until every job in it is settled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import JobFinishing, JobStranded
from modules.domain.jobs import Attempt, Job, JobId, JobState
from modules.domain.ports import ImageServer
from modules.domain.servers import (
    InMemory,
    RunFailure,
    RunPhase,
    RunReport,
    ServerAnswer,
    ServerAnswerError,
    ServerCall,
)
from modules.queue_manager.answer_check import is_server_away
from modules.queue_manager.attempt_monitor import AttemptMonitor
from modules.queue_manager.collector import Collector
from modules.queue_manager.outcomes import RunOutcome, outcome_of, trouble_of
from modules.queue_manager.prompt_status import UNDER_WAY, prompt_status
from modules.queue_manager.run_tools import RunTools
from modules.queue_manager.server_calls import try_call
from modules.queue_manager.verdicts import (
    Again,
    Fail,
    Verdict,
    verdict_for_incomplete,
    verdicts_for_failure,
    verdicts_for_lost,
    verdicts_for_taken_back,
    verdicts_for_unsent,
)

log = structlog.get_logger(__name__)


class AttemptRun:
    """Drives one attempt. `start` for a new one, `resume` for one found open; both return when every job is settled or LOST."""

    def __init__(
        self,
        attempt: Attempt,
        server: ImageServer,
        tools: RunTools,
        *,
        in_memory: InMemory,
        expected_s: float,
        is_suspect: bool = True,
    ) -> None:
        """`is_suspect`: whether its jobs may be the reason if the server died; not so when they were never begun."""
        self.attempt = attempt
        self.in_memory = in_memory  #: when it was posted
        self.expected_s = expected_s
        self.is_posted = False  #: the server has it or had it waiting, so it can be taken back until it begins
        self.begun_monotonic = tools.clock.monotonic()
        self.is_taken_back = False
        self.report: RunReport | None = None
        self.refused_here: set[JobId] = set()
        self.lost_by: ErrorCode | None = None  #: what said that the server is away
        self._server = server
        self._tools = tools
        self._is_suspect = is_suspect
        self.was_found = False  #: left open by an earlier life of ours, which may never have posted it
        self._collector = Collector(
            attempt, server, tools.jobs, tools.events, self._worked_s, fetch_again_s=tools.intervals.fetch_again_s
        )
        self._monitor = AttemptMonitor(attempt, server, tools, self._collector, in_memory=in_memory, expected_s=expected_s)
        self._log = log.bind(attempt=str(attempt.id), server=server.name)

    @property
    def heavy_key(self) -> str:
        """The model this attempt needs in memory."""
        return self.attempt.jobs[0].work.heavy_key

    @property
    def found_loaded(self) -> bool:
        """Whether its model was in memory. Where we did not know it before, the server's own word counts."""
        if self.in_memory is InMemory.UNKNOWN:
            return self.report is not None and self.report.found_loaded is True
        return self.in_memory is InMemory.THIS

    @property
    def loading_s(self) -> float | None:
        """Seconds before the first step, when its model was not in memory; None where the steps did not tell."""
        return None if self.found_loaded else self._monitor.loading_s

    @property
    def has_results(self) -> bool:
        """A job of it is settled, so its prompt did more than wait."""
        return self._collector.has_results

    @property
    def is_started(self) -> bool:
        """Whether the server showed a sign of working on it."""
        return self._monitor.is_started

    @property
    def started_monotonic(self) -> float | None:
        """When that was, by the monotonic clock."""
        return self._monitor.started_monotonic

    @property
    def is_occupying(self) -> bool:
        """Whether it holds the GPU; not so once the GPU is free of it, and while it is only being looked for."""
        return self._monitor.is_occupying

    async def owed(self) -> Sequence[Job]:
        """The jobs that wait for exactly this attempt: not cancelled, not settled, not gone to another."""
        return [job for job in await self._collector.in_flight() if job.attempt_id == self.attempt.id]

    # --- the ways in and out ----------------------------------------------------------------------------------------

    async def start(self) -> RunOutcome:
        """Post and follow."""
        try:
            await self._server.post(self.attempt, alone=any(job.runs_alone for job in self.attempt.jobs))
        except FulletError as error:
            return await self._not_posted(error)
        self.is_posted = True
        await self._tools.jobs.mark_submitted(self.attempt.id)
        self._log.info("batch_posted", jobs=len(self.attempt.jobs), pictures=len(self.attempt.slots))
        return await self._carry_on(RunReport(phase=RunPhase.PENDING))

    async def resume(self) -> RunOutcome:
        """An attempt left open by a crash or an outage: find out what became of it, then go on from there."""
        self.was_found = True
        try:
            report = await self._report()
            self._log.info("attempt_found", phase=report.phase.value, jobs=len(self.attempt.jobs))
            if not await self.owed():
                return await self._tidy_up(report)
        except FulletError as error:
            return await self._broken_off(error)
        # What it does not know (any more) may be done: its files are looked for, and "taken back" would forget them.
        self.is_posted = report.phase is RunPhase.PENDING
        if report.phase in UNDER_WAY:
            await self._tools.jobs.mark_submitted(self.attempt.id)
        return await self._carry_on(report)

    async def give_up(self, code: ErrorCode) -> RunOutcome:
        """Something of ours is at fault: settle what can be settled, and let go of the prompt."""
        failed = RunReport(phase=RunPhase.FAILED, failure=RunFailure(code=code))
        try:
            await self._server.cancel(self.attempt.id)
        except FulletError as error:
            self._log.info("cancel_not_passed_on", error=error.code.value)
        return await self._judge(await self._collector.in_flight(), failed)

    async def _carry_on(self, report: RunReport) -> RunOutcome:
        """From wherever the prompt stands to the end of the attempt."""
        try:
            while True:
                if report.phase is RunPhase.UNKNOWN and not self.is_taken_back:
                    report = await self._look_twice()
                if report.phase not in UNDER_WAY or report.failure is not None:
                    return await self._finish(report)
                report = await self._monitor.follow()
        except FulletError as error:
            return await self._broken_off(error)

    async def _broken_off(self, error: FulletError) -> RunOutcome:
        """The server or we ourselves cannot go on."""
        if error.code is ErrorCode.DATABASE_UNAVAILABLE:
            raise error
        self._log.warning("batch_broken_off", error=error.code.value)
        answer = error.answer if isinstance(error, ServerAnswerError) else None
        if answer is None and error.code is ErrorCode.SERVER_BROKEN and not self.is_started:
            # HTTP answers, but its worker is dead: what waits there will never run, so it must not be waited for.
            stuck = RunReport(phase=RunPhase.RUNNING, failure=RunFailure(code=ErrorCode.INTERRUPTED))
            return await self._judge(await self._collector.in_flight(), stuck)
        if await is_server_away(self._server, error):
            return await self._lost(error.code)
        return await (self.give_up(error.code) if answer is None else self._go_on_beside(answer))

    async def _report(self) -> RunReport:
        return await prompt_status(self._server, self.attempt.id, ask_again_s=self._tools.intervals.fetch_again_s)

    def _worked_s(self) -> float | None:
        """Seconds since its start; None where we did not see that."""
        if self.started_monotonic is None or self.was_found:
            return None
        return self._tools.clock.monotonic() - self.started_monotonic

    async def _go_on_beside(self, answer: ServerAnswer) -> RunOutcome:
        """The server is well, but not to be asked about this prompt: take what it drew, and let go of the prompt."""
        left = await self._collector.in_flight()
        try:
            if answer.call is not ServerCall.FETCH:
                left = await self._collector.collect(left)
        except FulletError as error:  # also where its template was changed since, so that its files cannot be named any more
            if error.code is ErrorCode.DATABASE_UNAVAILABLE:
                raise
            self._log.info("pictures_not_fetched", error=error.code.value)
        await try_call(self._server.cancel(self.attempt.id), self._log)
        failure = RunFailure(code=ErrorCode.REQUEST_REFUSED, answer=answer)
        return await self._judge(left, RunReport(phase=RunPhase.FAILED, failure=failure))

    async def _not_posted(self, error: FulletError) -> RunOutcome:
        if error.code is ErrorCode.DATABASE_UNAVAILABLE:
            raise error
        self._log.warning("batch_not_posted", error=error.code.value, **error.params)
        answer = error.answer if isinstance(error, ServerAnswerError) else None
        if await is_server_away(self._server, error):
            was_upload_sent = answer is not None and answer.call is ServerCall.UPLOAD and answer.was_sent
            if may_have_arrived(answer):
                return await self._lost(error.code)
            return await self._never_sent(error.code, was_upload_sent=was_upload_sent)
        if answer is not None and answer.call not in (ServerCall.UPLOAD, ServerCall.POST):
            return await self._go_on_beside(answer)  # it may have arrived: where it stands could not be learnt
        guilty = error.params.get("guilty")
        failure = RunFailure(
            code=error.code if answer is None else ErrorCode.REQUEST_REFUSED,
            slots=frozenset({guilty}) if isinstance(guilty, int) else frozenset[int](),
            node=str(error.params.get("node", "")),
            detail=str(error.params.get("reason", "")),
            answer=answer,
        )
        return await self._judge(await self._collector.in_flight(), RunReport(phase=RunPhase.FAILED, failure=failure))

    async def _never_sent(self, code: ErrorCode, *, was_upload_sent: bool) -> RunOutcome:
        """The server is away and certainly has no prompt of this attempt: its jobs are free for any other at once."""
        self.lost_by = code
        await self._carry_out(verdicts_for_unsent(await self.owed(), code, was_upload_sent=was_upload_sent))
        await self._tools.jobs.end_attempt(self.attempt.id, None, has_begun=False)
        return RunOutcome.LOST

    async def _lost(self, code: ErrorCode) -> RunOutcome:
        """Tell the people concerned; the attempt stays open."""
        self.lost_by = code
        for job in await self.owed():
            self._tools.events.publish(JobStranded(job_id=job.id))
        return RunOutcome.LOST

    async def _look_twice(self) -> RunReport:
        """Not in queue nor history: the files of a finished attempt still tell; else look once more, then call it lost."""
        if not await self._collector.collect(await self._collector.in_flight()):
            return RunReport(phase=RunPhase.SUCCEEDED)
        self._monitor.leave_gpu()
        await asyncio.sleep(self._tools.intervals.look_again_s)
        report = await self._report()
        self._monitor.is_occupying = True
        if report.phase is RunPhase.UNKNOWN:
            await self._server.cancel(self.attempt.id)
        return report

    # --- the end ----------------------------------------------------------------------------------------------------

    async def _finish(self, report: RunReport) -> RunOutcome:
        """Fetch what is there, then judge what is missing."""
        if self.is_taken_back and report.phase in (RunPhase.INTERRUPTED, RunPhase.UNKNOWN):
            await self._carry_out(verdicts_for_taken_back(await self.owed()))
            return await self._close(None, RunOutcome.REFUSED, has_begun=await self._has_begun(report))
        self.report = report
        if report.phase is RunPhase.RUNNING:  # a server that does not stop is not asked for pictures
            return await self._judge(await self._collector.in_flight(), report)
        self._monitor.leave_gpu_after(report)
        wanted = await self._collector.in_flight()
        for job in wanted:
            if job.attempt_id == self.attempt.id:  # not of one that an operator sent back to its place
                self._tools.events.publish(JobFinishing(job_id=job.id))
        return await self._judge(await self._collector.collect(wanted, report), report)

    async def _judge(self, left: Sequence[Job], report: RunReport) -> RunOutcome:
        """Settle those of `left` that wait for this attempt; it is over then."""
        owed = [job for job in left if job.attempt_id == self.attempt.id]
        verdicts = self._verdicts(owed, report)
        self._tell_admins(report.failure, verdicts)
        await self._carry_out(verdicts)
        return await self._close(report, outcome_of(report), has_begun=await self._has_begun(report))

    def _verdicts(self, owed: Sequence[Job], report: RunReport) -> Sequence[Verdict]:
        failed = self._collector.failed
        return [
            *(Fail(job_id=job.id, code=failed[job.id]) for job in owed if job.id in failed),
            *self._verdicts_by_report([job for job in owed if job.id not in failed], report),
        ]

    def _verdicts_by_report(self, owed: Sequence[Job], report: RunReport) -> Sequence[Verdict]:
        if report.phase is RunPhase.SUCCEEDED:
            return [verdict_for_incomplete(self.attempt, job, self._tools.history(job)) for job in owed]
        if report.phase is RunPhase.UNKNOWN:
            return verdicts_for_lost(self.attempt, owed, is_suspect=self._is_suspect or self.is_started)
        return verdicts_for_failure(self.attempt, owed, report, timeout_s=self._tools.timeout_s, history=self._tools.history)

    def _tell_admins(self, failure: RunFailure | None, verdicts: Sequence[Verdict]) -> None:
        """Into the log whatever it was; to administrators what they can mend."""
        if failure is None:
            return
        self._log.warning("batch_failed", error=failure.code.value, node=failure.node, detail=failure.detail)
        trouble = trouble_of(self._server.name, failure, verdicts)
        if trouble is not None:
            self._tools.events.publish(trouble)

    async def _carry_out(self, verdicts: Sequence[Verdict]) -> None:
        await self._tools.settlement.carry_out(self.attempt.id, verdicts)
        self.refused_here |= {one.job_id for one in verdicts if isinstance(one, Again) and one.elsewhere}

    async def _tidy_up(self, report: RunReport) -> RunOutcome:
        """Nobody waits for it here any more. What it drew may still serve a job that went to another attempt."""
        if report.phase is RunPhase.PENDING and await self._server.take_back(self.attempt.id):
            has_begun = False
        elif report.phase in UNDER_WAY:
            await self._server.cancel(self.attempt.id)
            has_begun = True
        else:
            await self._collector.collect(
                await self._collector.in_flight(), report if report.phase is RunPhase.SUCCEEDED else None
            )
            has_begun = await self._has_begun(report)
        return await self._close(None, RunOutcome.REFUSED, has_begun=has_begun)

    async def _has_begun(self, report: RunReport) -> bool:
        """Whether anything shows that the GPU worked on it. In doubt it did not: those who did not cancel pay nothing either."""
        if self.is_started or report.started_at is not None or report.phase is RunPhase.SUCCEEDED:
            return True
        return report.phase is RunPhase.UNKNOWN and await self._has_left_pictures()

    async def _has_left_pictures(self) -> bool:
        """Of a prompt that the server forgot, its files still tell. The jobs in flight were looked for before."""
        stored = await self._tools.jobs.attempt(self.attempt.id)
        here = [job for job in (stored.jobs if stored else ()) if job.attempt_id == self.attempt.id]
        if any(job.generated_at is not None for job in here):
            return True
        cancelled = {job.id for job in here if job.state is JobState.CANCELLED}
        slots = [slot.index for slot in self.attempt.slots if slot.job_id in cancelled]
        return bool(slots and await self._server.fetch(self.attempt, slots))

    async def _close(self, report: RunReport | None, outcome: RunOutcome, *, has_begun: bool) -> RunOutcome:
        await self._tools.jobs.end_attempt(self.attempt.id, report, has_begun=has_begun)
        if outcome is not RunOutcome.STUCK:
            try:
                await self._server.forget(self.attempt.id)
            except FulletError as error:
                self._log.debug("history_not_forgotten", error=error.code.value)
        return outcome


def may_have_arrived(answer: ServerAnswer | None) -> bool:
    """Whether the prompt may be on the server, after this answer (or none) to one of the requests that post it."""
    if answer is None:
        return True
    is_before = answer.call in (ServerCall.STATUS, ServerCall.NODES, ServerCall.UPLOAD)
    return not is_before and (answer.was_sent or answer.call is not ServerCall.POST)
