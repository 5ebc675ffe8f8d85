"""The queue on disk: each method is one transaction, told as a function in the module of its story."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection, bindparam, select, update

from modules.domain.errors import ErrorCode, Param
from modules.domain.images import Picture
from modules.domain.jobs import Attempt, AttemptId, BootId, Job, JobId, JobRequest, JobState, ServerName, WorkClass, short_id
from modules.domain.people import ChannelId, GuildId, MessageId, UserId
from modules.domain.ports import Clock, Decide
from modules.domain.queue import QueueSnapshot
from modules.domain.records import HeldLease, Limits
from modules.domain.servers import RunReport
from modules.utils.database import acceptance, archive, claims, leases, lookups, settling
from modules.utils.database.conditions import IS_OWED, IS_SHOWN
from modules.utils.database.engine import Engine
from modules.utils.database.tables import job, outbox

log = structlog.get_logger(__name__)

_HANG = update(job).where(job.c.id == bindparam("this_job"))


class SqlJobStore:
    """Implements the `JobStore` port.

    Whatever decides on the queue runs exclusively, and so in one order for every process. Settling a result does not: it holds
    only its own job's row while it stores megabytes.
    """

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def accept(self, request: JobRequest, limits: Limits, *, sharing: Collection[str] | None = None) -> tuple[Job, bool]:
        """Store a job as QUEUED, once per interaction."""
        return await self._engine.exclusive(acceptance.accept, request, limits, sharing, self._clock.now())

    async def check_may_ask(self, user_id: UserId, limits: Limits) -> None:
        """Refuse now whom `accept` would refuse now."""
        await self._engine.read(acceptance.check_may_ask, user_id, limits)

    async def job(self, job_id: JobId) -> Job | None:
        """One job."""
        return await self._engine.read(lookups.read_job, job_id)

    async def jobs(
        self,
        *,
        user_id: UserId | None = None,
        states: Collection[JobState] | None = None,
        before_seq: int | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> Sequence[Job]:
        """Jobs by owner and state."""
        return await self._engine.read(
            lookups.read_jobs, user_id=user_id, states=states, before_seq=before_seq, limit=limit, newest_first=newest_first
        )

    async def active_count(self, user_id: UserId) -> int:
        """Waiting and running jobs of a person."""
        return await self._engine.read(lookups.count_active, user_id)

    async def waiting_classes(self) -> Mapping[str, WorkClass]:
        """The distinct exact keys that wait, with their work."""
        return await self._engine.read(lookups.read_waiting_classes)

    async def snapshot(self, exact_keys: Collection[str] | None = None) -> QueueSnapshot:
        """The waiting jobs (of these keys), for forecasts."""
        conditions = [] if exact_keys is None else [job.c.exact_key.in_(exact_keys)]
        return await self._engine.read(claims.read_snapshot, *conditions)

    async def claim(
        self,
        server: ServerName,
        boot_id: BootId,
        exact_keys: Collection[str],
        decide: Decide,
        *,
        barred: Collection[JobId] = (),
        max_people: int = 128,
    ) -> Attempt | None:
        """Choose and take a batch in one exclusive transaction; what cannot be read is failed, and the others go on."""
        while exact_keys:
            try:
                return await self._engine.exclusive(
                    claims.claim, server, boot_id, exact_keys, decide, barred=barred, max_people=max_people, now=self._clock.now()
                )
            except claims.UnreadableJobsError as found:
                unreadable = found.job_ids
            for job_id in unreadable:
                log.error("job_unreadable", job_id=str(job_id))
                await self.settle_failed(job_id, ErrorCode.UNEXPECTED, {"incident": short_id(job_id)}, is_waiting=True)
        return None

    async def attempt(self, attempt_id: AttemptId) -> Attempt | None:
        """An attempt with its jobs as they now stand."""
        return await self._engine.read(lookups.read_attempt, attempt_id)

    async def owed_counts(self, attempt_ids: Collection[AttemptId]) -> Mapping[AttemptId, int]:
        """How many jobs still wait for each of these attempts."""
        return await self._engine.read(lookups.count_owed, attempt_ids) if attempt_ids else {}

    async def mark_submitted(self, attempt_id: AttemptId) -> None:
        """SUBMITTING -> SUBMITTED for its jobs that are still in it."""
        await self._engine.exclusive(settling.mark_submitted, attempt_id, self._clock.now())

    async def settle_generated(
        self, attempt_id: AttemptId, job_id: JobId, pictures: Sequence[Picture], report: RunReport
    ) -> bool:
        """Pictures, slot, outbox and state in one transaction; as many pictures as the recipe asks for, else ValueError."""
        return await self._engine.write(settling.settle_generated, attempt_id, job_id, pictures, report, self._clock.now())

    async def settle_failed(
        self,
        job_id: JobId,
        code: ErrorCode,
        params: Mapping[str, Param],
        *,
        attempt_id: AttemptId | None = None,
        is_waiting: bool = False,
    ) -> bool:
        """FAILED, refunded, with a FAILURE in the outbox; only in this attempt, or only while it waits, where that is said."""
        return await self._engine.exclusive(
            settling.settle_failed, job_id, code, params, attempt_id, self._clock.now(), is_waiting=is_waiting
        )

    async def requeue(
        self,
        attempt_id: AttemptId,
        job_ids: Collection[JobId],
        reason: ErrorCode,
        *,
        counts: bool = True,
        server_died: bool = False,
        alone: bool = False,
    ) -> Sequence[JobId]:
        """Back to QUEUED at their old place, refunded; those that really moved."""
        return await self._engine.exclusive(
            settling.requeue, attempt_id, job_ids, reason, counts=counts, server_died=server_died, alone=alone
        )

    async def end_attempt(
        self, attempt_id: AttemptId, report: RunReport | None, form: str = "", *, has_begun: bool = True
    ) -> None:
        """Close the attempt's row. Raises ValueError while one of its jobs is in flight."""
        await self._engine.exclusive(settling.end_attempt, attempt_id, report, form, self._clock.now(), has_begun=has_begun)

    async def cancel(self, job_id: JobId) -> tuple[Job, JobState] | None:
        """(job, state before) when it was active; refunded at once unless ComfyUI had it."""
        return await self._engine.exclusive(settling.cancel, job_id)

    async def unfinished_attempts(self, server: ServerName, *, except_boot: BootId | None = None) -> Sequence[Attempt]:
        """Open attempts of this server, oldest first."""
        return await self._engine.read(lookups.read_unfinished_attempts, server, except_boot)

    async def abandoned_attempts(self, since: datetime) -> Sequence[Attempt]:
        """Open attempts of servers that nobody has held a lease on since then, with jobs still in flight."""
        return await self._engine.read(lookups.read_abandoned_attempts, since)

    async def take_lease(self, server: ServerName, boot_id: BootId, life: timedelta, *, steal: bool = False) -> bool:
        """Own this server until `life` from now, or renew it; False while another boot's lease lives."""
        return await self._engine.exclusive(leases.take_lease, server, boot_id, life, self._clock.now(), steal=steal)

    async def leases(self) -> Mapping[ServerName, HeldLease]:
        """Every lease, alive or not."""
        return await self._engine.read(leases.read_leases)

    async def drop_lease(self, server: ServerName, seen: HeldLease) -> bool:
        """Remove this lease unless it was renewed or taken over since it was seen."""
        return await self._engine.exclusive(leases.drop_lease, server, seen)

    async def release_lease(self, server: ServerName, boot_id: BootId) -> None:
        """Give it up, if it is ours."""
        await self._engine.write(leases.release_lease, server, boot_id)

    async def archive(self, accepted_before: datetime) -> int:
        """Move jobs that are over out of the table that the queue works on; how many went."""
        return await archive.archive(self._engine, accepted_before)

    async def set_card(self, job_id: JobId, message_id: MessageId | None) -> None:
        """Remember the message that shows this job."""
        await self._engine.write(_set_card, job_id, message_id)

    async def move_channel(self, user_id: UserId, guild_id: GuildId, channel_id: ChannelId) -> None:
        """Whatever of this guild is still to be shown to this person goes to this channel."""
        await self._engine.exclusive(_move_channel, user_id, guild_id, channel_id)


def _set_card(connection: Connection, job_id: JobId, message_id: MessageId | None) -> None:
    connection.execute(_HANG, {"this_job": job_id, "card_message_id": message_id})


def _move_channel(connection: Connection, user_id: UserId, guild_id: GuildId, channel_id: ChannelId) -> None:
    """Cards stayed behind in the lost channel, so they are forgotten."""
    elsewhere = (job.c.user_id == user_id, job.c.guild_id == guild_id, job.c.channel_id != channel_id)
    owed = select(outbox.c.job_id).where(IS_OWED)
    for to_show in (IS_SHOWN, job.c.id.in_(owed)):  # each by its own index, which an OR of both would not use
        connection.execute(update(job).where(*elsewhere, to_show).values(channel_id=channel_id, card_message_id=None))
