"""Store ports: what must survive a restart, as the engine and the people's side need it kept.

Every method is one transaction and may raise DATABASE_UNAVAILABLE; a cancelled caller finds it either committed or not begun.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from modules.domain.errors import ErrorCode, Param
from modules.domain.images import BlobId, Picture, PictureInfo
from modules.domain.jobs import Attempt, AttemptId, BootId, Job, JobId, JobRequest, JobState, ServerName, WorkClass
from modules.domain.people import ChannelId, GuildId, MessageId, UserId
from modules.domain.queue import Pick, QueueSnapshot
from modules.domain.records import AuditEntry, DiskRoom, GuildSettings, HeldLease, Limits, MessageKind, OutboxItem, PersonSettings
from modules.domain.servers import RunReport
from modules.domain.sessions import Session

T = TypeVar("T")

Decide = Callable[[QueueSnapshot], Pick | None]
#: Runs inside a transaction: pure and quick.
Change = Callable[[T], T]


class JobStore(Protocol):
    """The queue on disk. Each method is one transaction; each change of state is a compare-and-set that says whether it won."""

    async def accept(self, request: JobRequest, limits: Limits, *, sharing: Collection[str] | None = None) -> tuple[Job, bool]:
        """Store a job as QUEUED; (job, True), or the earlier one of the same interaction and False.

        `sharing`: the exact keys that share a server with this job; who comes back from idle is lifted to the least `vt` among
        people waiting with one of them (None: any key). Raises ACTIVE_LIMIT_REACHED (limit), QUEUE_FULL, PERSON_BANNED.
        """
        ...

    async def check_may_ask(self, user_id: UserId, limits: Limits) -> None:
        """Refuse whom `accept` would refuse now: before anything is read or made for them. `accept` has the last word.

        Raises ACTIVE_LIMIT_REACHED (limit), QUEUE_FULL, PERSON_BANNED.
        """
        ...

    async def job(self, job_id: JobId) -> Job | None:
        """One job."""
        ...

    async def jobs(
        self,
        *,
        user_id: UserId | None = None,
        states: Collection[JobState] | None = None,
        before_seq: int | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> Sequence[Job]:
        """Jobs by owner and state. Without a `user_id`: only those that are not archived."""
        ...

    async def active_count(self, user_id: UserId) -> int:
        """Waiting and running jobs of a person."""
        ...

    async def waiting_classes(self) -> Mapping[str, WorkClass]:
        """The distinct exact keys that wait, with their work."""
        ...

    async def snapshot(self, exact_keys: Collection[str] | None = None) -> QueueSnapshot:
        """The waiting jobs (of these keys), for forecasts."""
        ...

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
        """Choose and take a batch in one exclusive transaction.

        Loads the least-served people who wait with one of these keys, but for the `barred` jobs, calls `decide`, commits states,
        `vt` and the attempt.
        """
        ...

    async def attempt(self, attempt_id: AttemptId) -> Attempt | None:
        """An attempt with its jobs as they now stand, in batch order."""
        ...

    async def owed_counts(self, attempt_ids: Collection[AttemptId]) -> Mapping[AttemptId, int]:
        """How many jobs still wait for each of these attempts: not cancelled, not settled, not gone to another."""
        ...

    async def mark_submitted(self, attempt_id: AttemptId) -> None:
        """SUBMITTING -> SUBMITTED for its jobs that are still in it."""
        ...

    async def settle_generated(
        self, attempt_id: AttemptId, job_id: JobId, pictures: Sequence[Picture], report: RunReport
    ) -> bool:
        """Store the pictures, free the person's slot, put the result into the outbox; False when another result was first."""
        ...

    async def settle_failed(
        self,
        job_id: JobId,
        code: ErrorCode,
        params: Mapping[str, Param],
        *,
        attempt_id: AttemptId | None = None,
        is_waiting: bool = False,
    ) -> bool:
        """FAILED, refunded, with a FAILURE in the outbox; False when it was over already.

        `attempt_id`: only while it is in this attempt. `is_waiting`: only while it waits.
        """
        ...

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
        """Back to QUEUED at their old place, charge given back (never below the floor); those that really moved.

        `counts`: the attempt counts against the budget of infrastructure attempts. `server_died`: it counts towards poison.
        `alone`: from now on the job runs in an attempt of its own (`WaitingJob.runs_alone`).
        """
        ...

    async def end_attempt(
        self, attempt_id: AttemptId, report: RunReport | None, form: str = "", *, has_begun: bool = True
    ) -> None:
        """Close the attempt's row; nothing is owed for it any more.

        `has_begun`: whether the GPU worked on it. If not, whatever was cancelled in it never ran, and its charge is given back.
        """
        ...

    async def cancel(self, job_id: JobId) -> tuple[Job, JobState] | None:
        """(job, state before) when it was active; None when unknown or over.

        The charge is given back at once before SUBMITTED; from then on the GPU may still begin, so `end_attempt` decides.
        """
        ...

    async def unfinished_attempts(self, server: ServerName, *, except_boot: BootId | None = None) -> Sequence[Attempt]:
        """Attempts of this server that are open and, with `except_boot`, belong to another start of the program."""
        ...

    async def abandoned_attempts(self, since: datetime) -> Sequence[Attempt]:
        """Open attempts of servers that nobody has held a lease on since then, with jobs still in flight."""
        ...

    async def take_lease(self, server: ServerName, boot_id: BootId, life: timedelta, *, steal: bool = False) -> bool:
        """Own this server until `life` from now, or renew it; False while another boot's lease lives.

        `steal`: take it even then; only for a caller who knows that no other process of the house lives.
        """
        ...

    async def leases(self) -> Mapping[ServerName, HeldLease]:
        """Every lease, alive or not."""
        ...

    async def drop_lease(self, server: ServerName, seen: HeldLease) -> bool:
        """Remove this lease unless it was renewed or taken over since it was seen; whether it was removed."""
        ...

    async def release_lease(self, server: ServerName, boot_id: BootId) -> None:
        """Give it up, if it is ours."""
        ...

    async def archive(self, accepted_before: datetime) -> int:
        """Move jobs that are over out of the table that the queue works on, in many short transactions; how many went.

        `job` and, with a `user_id`, `jobs` find them as before. What is owed, can be sent again, or was in an attempt that is
        still open stays.
        """
        ...

    async def set_card(self, job_id: JobId, message_id: MessageId | None) -> None:
        """Remember the message that shows this job while it waits and runs."""
        ...

    async def move_channel(self, user_id: UserId, guild_id: GuildId, channel_id: ChannelId) -> None:
        """The person's undelivered jobs of this guild now go to this channel (theirs was deleted and made anew)."""
        ...


class Outbox(Protocol):
    """Messages owed."""

    async def due(self, now: datetime, limit: int = 20) -> Sequence[OutboxItem]:
        """What may be tried now, oldest first."""
        ...

    async def look(self, now: datetime, limit: int = 20) -> tuple[Sequence[OutboxItem], datetime | None]:
        """The same, and when the next becomes due of what may not be tried yet; None when nothing else is owed."""
        ...

    async def claim_send(self, job_id: JobId, kind: MessageKind, now: datetime, hold: timedelta) -> OutboxItem | None:
        """Write the intent before the send and keep other couriers off it for `hold`; None if it is not due or done."""
        ...

    async def delivered(self, job_id: JobId, kind: MessageKind, message_id: MessageId | None) -> bool:
        """Sent; a RESULT makes the job DELIVERED. False when it was noted before."""
        ...

    async def postpone(self, job_id: JobId, kind: MessageKind, until: datetime) -> None:
        """Try again then, in ten minutes at the latest; nothing changes for what is not owed."""
        ...

    async def release(self, now: datetime) -> None:
        """Everything owed is due now and untried, whoever held it: for a caller who knows that no other courier lives."""
        ...

    async def undeliverable(self, job_id: JobId, kind: MessageKind) -> None:
        """Give up; a RESULT makes the job UNDELIVERABLE. The pictures are kept."""
        ...

    async def send_again(self, job_id: JobId) -> bool:
        """Owe a RESULT once more that had been given up: UNDELIVERABLE -> GENERATED; False for any other, also a moment later."""
        ...


class BlobStore(Protocol):
    """Bytes of pictures."""

    async def put(self, picture: Picture) -> BlobId:
        """Keep a picture."""
        ...

    async def get(self, blob_id: BlobId) -> Picture | None:
        """None when it is gone (retention, erased)."""
        ...

    async def info(self, blob_id: BlobId) -> PictureInfo | None:
        """Its format and size without its bytes, which may be tens of MiB; None when it is gone."""
        ...

    async def of_job(self, job_id: JobId) -> Sequence[BlobId]:
        """The result pictures of a job in order; empty when they are gone."""
        ...

    async def last_of(self, user_id: UserId) -> BlobId | None:
        """The last picture of a person's session: uploaded there or delivered there."""
        ...

    async def remember_last(self, user_id: UserId, blob_id: BlobId) -> None:
        """Note an upload as the last picture. Delivered results are noted by `settle_generated`."""
        ...

    async def reference_of(self, user_id: UserId, since: datetime) -> BlobId | None:
        """The picture a person's next edit is to look at as well, if it was kept since then."""
        ...

    async def keep_reference(self, user_id: UserId, blob_id: BlobId) -> None:
        """Note it, in place of an earlier one. Raises PICTURE_GONE."""
        ...

    async def drop_reference(self, user_id: UserId, blob_id: BlobId | None = None) -> None:
        """It was used, or is not wanted any more; with `blob_id` only if it is still that one."""
        ...

    async def erase_job(self, job_id: JobId) -> None:
        """Delete the pictures of a job, and forget where they were posted."""
        ...

    async def sweep(self, older_than: datetime, *, keep_bytes: int | None = None) -> int:
        """Delete pictures nothing waits for, oldest first; how many went.

        Over their days are those made before `older_than`, but for each person's last picture. With `keep_bytes` the oldest go
        as well, last pictures too, until all together take no more; results still to be delivered and what an active job starts
        from stay and come on top.
        """
        ...

    async def room(self) -> DiskRoom | None:
        """The disk that pictures are kept on; None where it is another machine's."""
        ...


class SessionStore(Protocol):
    """Private channels by person."""

    async def get(self, guild_id: GuildId, user_id: UserId) -> Session | None: ...
    async def by_channel(self, channel_id: ChannelId) -> Session | None: ...
    async def save(self, session: Session) -> None: ...
    async def touch(self, channel_id: ChannelId, at: datetime) -> None: ...
    async def remove(self, channel_id: ChannelId) -> None: ...
    async def all(self, guild_id: GuildId) -> Sequence[Session]: ...
    async def idle(self, guild_id: GuildId, since: datetime) -> Sequence[Session]:
        """Sessions without activity since then and without an active or undelivered job, longest idle first."""
        ...


class PeopleStore(Protocol):
    """What we remember of people and guilds."""

    async def settings(self, user_id: UserId) -> PersonSettings: ...
    async def change_settings(self, user_id: UserId, change: Change[PersonSettings]) -> PersonSettings:
        """Read, change and keep a person's settings in one exclusive transaction; as they are afterwards.

        Nobody else changes them meanwhile, so two changes at once both count. What `change` raises undoes everything.
        """
        ...

    async def guild(self, guild_id: GuildId) -> GuildSettings: ...
    async def change_guild(self, guild_id: GuildId, change: Change[GuildSettings]) -> tuple[GuildSettings, GuildSettings]:
        """The same for a guild: its settings before and after."""
        ...

    async def recent_prompts(self, user_id: UserId, starting: str, limit: int) -> Sequence[str]:
        """The person's own distinct prompts that contain `starting`, newest first."""
        ...

    def export(self, user_id: UserId) -> AsyncIterator[tuple[str, Sequence[Mapping[str, object]]]]:
        """Everything stored about a person, as JSON-ready rows by the name of what they tell of.

        In pages, so that nobody's past has to fit into memory: a name may come again. Jobs oldest first.
        """
        ...

    async def erase(self, user_id: UserId) -> None:
        """Forget a person: settings, prompts, pictures. Active jobs are cancelled by the caller first.

        Several transactions. After the first nothing of the person is shown, sent or exported any more; what it notes lets
        `finish_erasures` delete the rest, should the program end before.
        """
        ...

    async def finish_erasures(self) -> int:
        """Go on with those that a stop or a kill has interrupted; how many people that were."""
        ...


class ControlStore(Protocol):
    """Small facts that every process of the house shares."""

    async def get(self, key: str) -> str | None: ...
    async def set(self, key: str, value: str | None) -> None: ...
    async def set_if(self, key: str, expected: str | None, value: str | None) -> bool:
        """Compare and set: False, and nothing changed, when the value is another one by now."""
        ...

    async def with_prefix(self, prefix: str) -> Mapping[str, str]: ...
    async def audit(self, entry: AuditEntry) -> None: ...
    async def audit_trail(self, limit: int = 50) -> Sequence[AuditEntry]: ...
