"""Whether one server can be used: its breaker, what it last failed of, and the prompts that still hold it."""

from __future__ import annotations

from datetime import datetime

import structlog

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import QueueChanged, ServerBack, ServerLost, ServerTrouble
from modules.domain.jobs import AttemptId
from modules.domain.people import UserId
from modules.domain.ports import ImageServer
from modules.domain.servers import RunPhase, ServerAnswerError
from modules.queue_manager.attempt_run import AttemptRun
from modules.queue_manager.crew import Crew
from modules.queue_manager.health import Breaker, BreakerState, NodeErrors
from modules.queue_manager.outcomes import RunOutcome

log = structlog.get_logger(__name__)


class Vitals:
    """Of one server. Says it once when the server fails and once when it is back."""

    def __init__(self, server: ImageServer, crew: Crew) -> None:
        self._server = server
        self._crew = crew
        self._breaker = Breaker()
        self._node_errors = NodeErrors()
        self._log = log.bind(server=server.name)
        self.state = "starting"
        self.since: datetime = crew.clock.now()
        self.last_error: str | None = None
        self._heard_at = crew.clock.monotonic()
        #: Prompts that did not stop: the server is of no use until they have left it.
        self._stuck: set[AttemptId] = set()
        #: Attempts that were never begun when their server went away: their jobs had no part in it.
        self._bystanders: set[AttemptId] = set()

    @property
    def is_usable(self) -> bool:
        """Whether work may go there: freely, or one canary at a time."""
        return self._breaker.state is not BreakerState.OPEN

    @property
    def is_proven(self) -> bool:
        """Whether it did real work since it last failed, so that it may have a second batch."""
        return self._breaker.state is BreakerState.CLOSED

    @property
    def is_failing(self) -> bool:
        """It answers, but the jobs of different people failed on it one after another: it gets one now and then, to see."""
        return self.state == "failing"

    def was_bystander(self, attempt_id: AttemptId) -> bool:
        """Whether this attempt only waited when the server went away."""
        return attempt_id in self._bystanders

    def pause_s(self) -> float:
        """Seconds until the next probe; longer each time."""
        return self._breaker.probe_in_s(self._crew.rng)

    async def probe(self) -> None:
        """Ask the server whether it can work. Notes the answer; never raises for a server that cannot."""
        try:
            facts = await self._server.refresh()
            await self._check_stuck()
        except FulletError as error:
            self._lose(error.code, error)
        else:
            self._find_well(facts.version)

    def is_check_due(self, *, is_idle: bool) -> bool:
        """Whether a server that was well should be asked again: it may have been restarted, or it said nothing for long."""
        silent_s = self._crew.clock.monotonic() - self._heard_at
        return self._server.is_changed or (is_idle and silent_s >= self._crew.intervals.heartbeat_s)

    async def check(self) -> None:
        """Ask it. Notes the answer; never raises for a server that is gone."""
        try:
            await self._server.check()
        except FulletError as error:
            self._lose(error.code, error)
        self._heard_at = self._crew.clock.monotonic()

    def note(self, run: AttemptRun, outcome: RunOutcome) -> None:
        """What the end of a run says about the server."""
        self._heard_at = self._crew.clock.monotonic()
        match outcome:
            case RunOutcome.CLEAN:
                self._note_clean()
            case RunOutcome.LOST:
                if not run.is_started:
                    self._bystanders.add(run.attempt.id)
                self._lose(run.lost_by or ErrorCode.SERVER_UNREACHABLE)
            case RunOutcome.STUCK:
                self._stuck.add(run.attempt.id)
                self._lose(ErrorCode.GPU_BROKEN)
            case RunOutcome.RESTARTED:
                # What an earlier life of ours left open may never have been posted, so that it is unknown says nothing.
                if not run.was_found and self._breaker.failed(self._crew.clock.monotonic()):
                    self._lose(ErrorCode.SERVER_BROKEN)
            case RunOutcome.NODE_FAILED:
                self._note_node_error(run)
            case RunOutcome.REFUSED | RunOutcome.OUT_OF_MEMORY:
                pass

    def _note_clean(self) -> None:
        self._breaker.succeeded()
        self._node_errors.succeeded()
        self._bystanders.clear()
        if self.is_failing:
            self._become("healthy")
            self.last_error = None
            self._log.info("server_works_again")
            self._crew.events.publish(QueueChanged())

    def _note_node_error(self, run: AttemptRun) -> None:
        if self._node_errors.failed(_suspects(run)) or self.is_failing:
            self._leave_alone(run)

    def _leave_alone(self, run: AttemptRun) -> None:
        """Its nodes fail for everybody: a full disk, say. It is not away, so nobody is told that; administrators are told."""
        self._breaker.failed(self._crew.clock.monotonic(), at_once=True)
        self.last_error = ErrorCode.NODE_FAILED.value
        if self.is_failing:
            return
        self._become("failing")
        failure = run.report.failure if run.report else None
        node, detail = (failure.node, failure.detail) if failure else ("", "")
        self._log.warning("server_failing", node=node, detail=detail)
        self._crew.events.publish(
            ServerTrouble(server=self._server.name, reason=ErrorCode.NODE_FAILED.value, node=node, detail=detail, fails_all=True)
        )
        self._crew.events.publish(QueueChanged())

    def _lose(self, code: ErrorCode, error: FulletError | None = None) -> None:
        self._breaker.failed(self._crew.clock.monotonic(), at_once=True)
        self.last_error = code.value
        if self.state == "away":
            return
        self._become("away")
        answer = str(error.answer) if isinstance(error, ServerAnswerError) else None
        self._log.warning("server_lost", error=code.value, answer=answer)
        self._crew.events.publish(ServerLost(server=self._server.name, reason=code.value))
        self._crew.events.publish(QueueChanged())

    def _find_well(self, version: str) -> None:
        self._heard_at = self._crew.clock.monotonic()
        self._breaker.probed()
        was_away = self.state == "away"
        if self.state == "healthy" or self.is_failing:  # only a picture shows that it draws again
            return
        self._become("healthy")
        self.last_error = None
        self._log.info("server_ready", version=version)
        if was_away:
            self._crew.events.publish(ServerBack(server=self._server.name))
        self._crew.events.publish(QueueChanged())

    def _become(self, state: str) -> None:
        self.state, self.since = state, self._crew.clock.now()

    async def _check_stuck(self) -> None:
        """Raises GPU_BROKEN while a prompt that did not stop is still there. One that only waits is left: once it runs, the
        server works again, and then it is stopped."""
        for attempt_id in tuple(self._stuck):
            report = await self._server.report(attempt_id)
            if report.phase is RunPhase.RUNNING:
                await self._server.cancel(attempt_id)
            if report.phase in (RunPhase.RUNNING, RunPhase.PENDING):
                raise FulletError(ErrorCode.GPU_BROKEN)
            self._stuck.discard(attempt_id)
            await self._server.forget(attempt_id)


def _suspects(run: AttemptRun) -> frozenset[UserId]:
    """Whose jobs may have made a node fail: those of the slots it named, else everybody's in the attempt."""
    failure = run.report.failure if run.report else None
    named = {slot.job_id for slot in run.attempt.slots if failure and slot.index in failure.slots}
    return frozenset(job.user_id for job in run.attempt.jobs if not named or job.id in named)
