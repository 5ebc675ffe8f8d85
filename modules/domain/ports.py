"""Ports: what the middle and the people's side need from the adapters. `app.py` joins them.

Every method may raise `FulletError`; foreign exceptions never cross a port. Cancellation may arrive at any await:
a store has then either committed or done nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Protocol

from modules.domain.catalogue import Choices, ModelSpec, TemplateProblem, Wish, WorkflowKind
from modules.domain.errors import ErrorCode, Param
from modules.domain.events import Event
from modules.domain.images import BlobId, Picture
from modules.domain.jobs import Attempt, AttemptId, BootId, Job, JobId, JobRequest, JobState, ServerName, WorkClass
from modules.domain.people import ChannelId, GuildId, MessageId, UserId
from modules.domain.queue import Pick, Place, QueueSnapshot, QueueStatus
from modules.domain.recipes import ModelName, Recipe
from modules.domain.records import AuditEntry, GuildSettings, Limits, MessageKind, OutboxItem, PersonSettings
from modules.domain.servers import RunEvent, RunReport, ServerFacts
from modules.domain.sessions import Session


class Clock(Protocol):
    """The time, so that tests can own it."""

    def now(self) -> datetime:
        """Aware UTC wall-clock time; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back; the zero means nothing."""
        ...


class Events(Protocol):
    """Publish and subscribe inside the house; best effort, bounded, never blocks the publisher."""

    def publish(self, event: Event) -> None:
        """Hand the event to every subscriber; a subscriber that is too slow loses its oldest previews and progress first."""
        ...

    def subscribe(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """A stream of everything published while the context is open."""
        ...


# --- what the people's side calls ---------------------------------------------------------------------------------------


class Ticket(Protocol):
    """The answer to `Studio.submit`."""

    @property
    def job(self) -> Job:
        """As stored."""
        ...

    @property
    def place(self) -> Place:
        """Where it stands now."""
        ...

    @property
    def active(self) -> int:
        """Active jobs of this person, this one included."""
        ...

    @property
    def limit(self) -> int:
        """How many they may have."""
        ...


class Studio(Protocol):
    """The engine as members use it."""

    async def submit(self, request: JobRequest) -> Ticket:
        """Store the job, then say so. The same `interaction_id` again returns the same job.

        Raises ACTIVE_LIMIT_REACHED, QUEUE_FULL, PERSON_BANNED, STOPPING, DATABASE_UNAVAILABLE.
        """
        ...

    async def cancel(self, job_id: JobId) -> Job:
        """Cancel in any active state; touches nobody else's picture. Raises JOB_UNKNOWN, JOB_OVER.

        Whether the asker may do this is checked by the caller against the stored job.
        """
        ...

    async def place(self, job_id: JobId) -> Place | None:
        """Where a waiting job stands; None when it waits no more."""
        ...

    async def places(self) -> Mapping[JobId, Place]:
        """All waiting jobs at once, for the cards; one run forward."""
        ...

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """What happens from now on."""
        ...


class StudioAdmin(Protocol):
    """The engine as operators use it. Every act leaves an audit entry."""

    async def status(self) -> QueueStatus:
        """Servers, queue, fairness."""
        ...

    async def pause(self, actor: UserId) -> None:
        """Claim nothing more; what runs goes on. Survives restarts."""
        ...

    async def resume(self, actor: UserId) -> None:
        """Go on."""
        ...

    async def drain(self, server: ServerName, actor: UserId) -> None:
        """Give this server nothing more."""
        ...

    async def enable(self, server: ServerName, actor: UserId) -> None:
        """Let it work again; also closes its breaker after the next good probe."""
        ...

    async def cancel_for(self, job_id: JobId, actor: UserId) -> Job:
        """Cancel somebody's job."""
        ...

    async def requeue(self, job_id: JobId, actor: UserId) -> Job:
        """Put a running job back at its place."""
        ...

    async def refresh(self, actor: UserId) -> Sequence[ServerFacts]:
        """Ask every server again what it has."""
        ...


class Catalogue(Protocol):
    """The models and workflows on offer."""

    def models(self, kind: WorkflowKind | None = None) -> Sequence[ModelSpec]:
        """All models (that can do `kind`), in the order of their manifests."""
        ...

    def model(self, name: ModelName) -> ModelSpec:
        """Raises MODEL_UNKNOWN."""
        ...

    def is_available(self, name: ModelName, kind: WorkflowKind) -> bool:
        """Whether some server that is up could run it now."""
        ...

    def resolve(self, wish: Wish) -> tuple[Recipe, WorkClass]:
        """Fill in defaults, choose a seed, check every limit. Raises what the first wrong field deserves."""
        ...

    def choices(self) -> Choices:
        """What the healthy servers have, for forms."""
        ...

    def problems(self) -> Sequence[TemplateProblem]:
        """What keeps templates from running, per server."""
        ...


class PictureIntake(Protocol):
    """Uploads, made safe (durability.md, Security)."""

    async def take(self, data: bytes, *, filename: str) -> BlobId:
        """Check, decode, re-encode and store an uploaded picture. Raises PICTURE_*."""
        ...


# --- what the engine calls ----------------------------------------------------------------------------------------------


class ImageServer(Protocol):
    """One ComfyUI. Methods raise SERVER_* when it cannot be reached or is no ComfyUI; they time out by themselves."""

    @property
    def name(self) -> ServerName:
        """Stable over restarts of both sides."""
        ...

    @property
    def facts(self) -> ServerFacts | None:
        """As last read; None before the first refresh."""
        ...

    def missing(self, work: WorkClass) -> tuple[str, ...]:
        """The needs of this work that the server lacks; empty when it can run it."""
        ...

    def max_jobs(self, work: WorkClass) -> int:
        """How many jobs may share one attempt here, by configuration, node pack and template; at least 1."""
        ...

    async def refresh(self) -> ServerFacts:
        """Read what it has: node classes, files, node pack, version. Also the probe of the breaker."""
        ...

    async def post(self, attempt: Attempt, *, alone: bool = False) -> None:
        """Build the workflow, upload its input pictures, submit it under the attempt's id; returns after HTTP 200.

        Raises SERVER_REJECTED (params `node`, `reason`; `guilty` = slot index where known), SERVER_UNREACHABLE and kin. A lost
        answer is looked up by id before this raises, so SERVER_UNREACHABLE means "not known to have arrived".
        `alone`: the solo form whatever the merge mode says.
        """
        ...

    def follow(self, attempt: Attempt) -> AsyncGenerator[RunEvent, None]:
        """The attempt's life until RunEnded. WebSocket events as hints, polling as the truth; survives a dropped socket.

        Raises SERVER_UNREACHABLE only after polling failed for longer than the client's patience.
        """
        ...

    async def report(self, attempt_id: AttemptId) -> RunReport:
        """Where the prompt stands, asked so that one that just finished cannot be missed."""
        ...

    async def fetch(self, attempt: Attempt, slots: Collection[int]) -> Mapping[int, Picture]:
        """The pictures of these slots by their predictable names, verified and re-encoded; missing ones are left out."""
        ...

    async def cancel(self, attempt_id: AttemptId) -> None:
        """Stop or delete exactly this prompt, never another's. Nothing to cancel is no error."""
        ...

    async def take_back(self, attempt_id: AttemptId) -> bool:
        """Remove it while it only waits; False when it already runs or is over."""
        ...

    async def forget(self, attempt_id: AttemptId) -> None:
        """Drop its history entry."""
        ...

    async def free_memory(self) -> None:
        """Ask it to unload models before the next prompt."""
        ...


Decide = Callable[[QueueSnapshot], Pick | None]


class JobStore(Protocol):
    """The queue on disk. Each method is one transaction; each change of state is a compare-and-set that says whether it won."""

    async def accept(self, request: JobRequest, limits: Limits, *, sharing: Collection[str] | None = None) -> tuple[Job, bool]:
        """Store a job as QUEUED; (job, True), or the earlier one of the same interaction and False.

        `sharing`: the exact keys that share a server with this job; who comes back from idle is lifted to the least `vt` among
        people waiting with one of them (None: any key). Raises ACTIVE_LIMIT_REACHED (limit), QUEUE_FULL, PERSON_BANNED.
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
        """Jobs by owner and state."""
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
        self, server: ServerName, boot_id: BootId, exact_keys: Collection[str], decide: Decide, *, max_people: int = 128
    ) -> Attempt | None:
        """Choose and take a batch in one exclusive transaction.

        Loads the least-served people who wait with one of these keys, calls `decide`, commits states, `vt` and the attempt.
        """
        ...

    async def attempt(self, attempt_id: AttemptId) -> Attempt | None:
        """An attempt with its jobs as they now stand, in batch order."""
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
        self, job_id: JobId, code: ErrorCode, params: Mapping[str, Param], *, attempt_id: AttemptId | None = None
    ) -> bool:
        """FAILED, refunded, with a FAILURE in the outbox; False when it was over already."""
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

    async def end_attempt(self, attempt_id: AttemptId, report: RunReport | None, form: str = "") -> None:
        """Close the attempt's row; nothing is owed for it any more."""
        ...

    async def cancel(self, job_id: JobId) -> tuple[Job, JobState] | None:
        """(job, state before) when it was active; None when unknown or over. Charge is given back only if it never ran."""
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

    async def release_lease(self, server: ServerName, boot_id: BootId) -> None:
        """Give it up, if it is ours."""
        ...

    async def set_card(self, job_id: JobId, message_id: MessageId | None) -> None:
        """Remember the message that shows this job while it waits and runs."""
        ...

    async def move_channel(self, user_id: UserId, channel_id: ChannelId) -> None:
        """The person's undelivered jobs now go to this channel (theirs was deleted and made anew)."""
        ...


class Outbox(Protocol):
    """Messages owed."""

    async def due(self, now: datetime, limit: int = 20) -> Sequence[OutboxItem]:
        """What may be tried now, oldest first."""
        ...

    async def claim_send(self, job_id: JobId, kind: MessageKind, now: datetime, hold: timedelta) -> OutboxItem | None:
        """Write the intent before the send and keep other couriers off it for `hold`; None if it is not due or done."""
        ...

    async def delivered(self, job_id: JobId, kind: MessageKind, message_id: MessageId | None) -> bool:
        """Sent; a RESULT makes the job DELIVERED. False when it was noted before."""
        ...

    async def postpone(self, job_id: JobId, kind: MessageKind, until: datetime) -> None:
        """Try again then."""
        ...

    async def undeliverable(self, job_id: JobId, kind: MessageKind) -> None:
        """Give up; a RESULT makes the job UNDELIVERABLE. The pictures are kept."""
        ...

    async def next_due(self) -> datetime | None:
        """When the next item becomes due."""
        ...


class BlobStore(Protocol):
    """Bytes of pictures."""

    async def put(self, picture: Picture) -> BlobId:
        """Keep a picture."""
        ...

    async def get(self, blob_id: BlobId) -> Picture | None:
        """None when it is gone (retention, erased)."""
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

    async def erase_job(self, job_id: JobId) -> None:
        """Delete the pictures of a job."""
        ...

    async def sweep(self, older_than: datetime) -> int:
        """Delete pictures nothing waits for; how many went."""
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
    async def save_settings(self, settings: PersonSettings) -> None: ...
    async def guild(self, guild_id: GuildId) -> GuildSettings: ...
    async def save_guild(self, settings: GuildSettings) -> None: ...
    async def recent_prompts(self, user_id: UserId, starting: str, limit: int) -> Sequence[str]:
        """The person's own distinct prompts that contain `starting`, newest first."""
        ...

    async def export(self, user_id: UserId) -> Mapping[str, object]:
        """Everything stored about a person, as JSON-ready values."""
        ...

    async def erase(self, user_id: UserId) -> None:
        """Forget a person: settings, prompts, pictures. Active jobs are cancelled by the caller first."""
        ...


class ControlStore(Protocol):
    """Small facts that every process of the house shares."""

    async def get(self, key: str) -> str | None: ...
    async def set(self, key: str, value: str | None) -> None: ...
    async def with_prefix(self, prefix: str) -> Mapping[str, str]: ...
    async def audit(self, entry: AuditEntry) -> None: ...
    async def audit_trail(self, limit: int = 50) -> Sequence[AuditEntry]: ...
