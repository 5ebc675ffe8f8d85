"""What operators do to the queue: look, pause, drain, cancel, requeue. Every act leaves an audit entry."""

from __future__ import annotations

from collections.abc import Sequence

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import JobRequeued, QueuePaused
from modules.domain.jobs import IN_FLIGHT_STATES, Job, JobId, JobState, ServerName
from modules.domain.people import UserId
from modules.domain.queue import QueueStatus
from modules.domain.records import AuditEntry
from modules.domain.servers import ServerFacts
from modules.queue_manager.crew import DRAINED_PREFIX, PAUSED_KEY, Crew
from modules.queue_manager.engine import Engine

#: Set to the moment at which an admin last asked for a refresh; its change wakes every process.
REFRESH_KEY = "fleet.refresh"


class Operations:
    """Implements `StudioAdmin` over an engine."""

    def __init__(self, crew: Crew, engine: Engine) -> None:
        self._crew = crew
        self._engine = engine

    async def status(self) -> QueueStatus:
        """Servers, queue, fairness."""
        await self._crew.switches.refresh()
        oldest = await self._crew.jobs.jobs(states={JobState.QUEUED}, limit=1, newest_first=False)
        running = await self._crew.jobs.jobs(states=IN_FLIGHT_STATES, limit=10_000)
        snapshot = await self._crew.jobs.snapshot()
        now = self._crew.clock.now()
        levels = [account.vt for account in snapshot.accounts.values()]
        told = self._engine.neighbours.statuses  # also of servers that we only stand by for
        names = {status.name for status in told}
        return QueueStatus(
            servers=(*(worker.status() for name, worker in self._engine.workers.items() if name not in names), *told),
            waiting=len(snapshot.jobs),
            running=len(running),
            longest_wait_s=max(((now - job.accepted_at).total_seconds() for job in oldest), default=0.0),
            is_paused=self._crew.switches.is_paused,
            fairness_spread_s=max(levels) - min(levels) if levels else 0.0,
        )

    async def pause(self, actor: UserId) -> None:
        """Claim nothing more; what runs goes on. Survives restarts."""
        await self._crew.control.set(PAUSED_KEY, "1")
        await self._done(actor, "queue_paused")
        self._crew.events.publish(QueuePaused(is_paused=True))

    async def resume(self, actor: UserId) -> None:
        """Go on."""
        await self._crew.control.set(PAUSED_KEY, None)
        await self._done(actor, "queue_resumed")
        self._crew.events.publish(QueuePaused(is_paused=False))

    async def drain(self, server: ServerName, actor: UserId) -> None:
        """Give this server nothing more."""
        self._known(server)
        await self._crew.control.set(DRAINED_PREFIX + server, self._crew.clock.now().isoformat())
        await self._done(actor, "server_drained", server)

    async def enable(self, server: ServerName, actor: UserId) -> None:
        """Let it work again; one that is away is asked at once."""
        self._known(server)
        await self._crew.control.set(DRAINED_PREFIX + server, None)
        if server in self._engine.workers:
            self._engine.workers[server].probe_now()
        await self._done(actor, "server_enabled", server)

    async def cancel_for(self, job_id: JobId, actor: UserId) -> Job:
        """Cancel somebody's job."""
        job = await self._engine.cancel(job_id, by_admin=True)
        await self._done(actor, "job_cancelled", str(job_id))
        return job

    async def requeue(self, job_id: JobId, actor: UserId) -> Job:
        """Put a running job back at its place; a prompt in which nobody is left is stopped."""
        job = await self._crew.jobs.job(job_id)
        if job is None:
            raise FulletError(ErrorCode.JOB_UNKNOWN)
        if job.state not in IN_FLIGHT_STATES or job.attempt_id is None:
            raise FulletError(ErrorCode.JOB_OVER)
        if not await self._crew.jobs.requeue(job.attempt_id, [job_id], ErrorCode.INTERRUPTED, counts=False):
            raise FulletError(ErrorCode.JOB_OVER)
        self._crew.events.publish(JobRequeued(job_id=job_id, reason=ErrorCode.INTERRUPTED.value))
        await self._done(actor, "job_requeued", str(job_id))
        return await self._crew.jobs.job(job_id) or job

    async def refresh(self, actor: UserId) -> Sequence[ServerFacts]:
        """Ask every server again what it has; servers that are away are left out. Other processes do so for theirs."""
        await self._crew.control.set(REFRESH_KEY, str(self._crew.clock.now()))
        facts = await self.refresh_own()
        await self._done(actor, "servers_refreshed")
        return facts

    async def refresh_own(self) -> Sequence[ServerFacts]:
        """Ask the servers of this process; those that are away need not wait for their next probe."""
        facts = []
        for worker in self._engine.workers.values():
            worker.probe_now()
            try:
                facts.append(await worker.server.refresh())
            except FulletError:
                continue  # its worker notices by itself and says so once
        return facts

    def _known(self, server: ServerName) -> None:
        if server not in self._crew.colleagues:
            raise FulletError(ErrorCode.CHOICE_UNKNOWN, field="server", value=server)

    async def _done(self, actor: UserId, act: str, subject: str = "") -> None:
        await self._crew.control.audit(AuditEntry(at=self._crew.clock.now(), actor_id=actor, act=act, subject=subject))
        await self._crew.switches.refresh()
        self._engine.changed()
