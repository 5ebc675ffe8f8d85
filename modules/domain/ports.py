"""Ports: what the middle and the people's side need from the adapters. `app.py` joins them.

Every method may raise `FulletError`; foreign exceptions never cross a port. Cancellation may arrive at any await:
a store has then either committed or done nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from modules.domain.catalogue import Choices, ModelSpec, TemplateProblem, Wish, WorkflowKind
from modules.domain.events import Event
from modules.domain.images import BlobId, Picture
from modules.domain.jobs import Attempt, AttemptId, Job, JobId, JobRequest, ServerName, WorkClass
from modules.domain.people import UserId
from modules.domain.queue import Place, QueueStatus
from modules.domain.recipes import ModelName, Recipe
from modules.domain.servers import RunEvent, RunReport, ServerFacts
from modules.domain.stores import BlobStore, ControlStore, Decide, JobStore, Outbox, PeopleStore, SessionStore

__all__ = [
    "BlobStore",
    "Catalogue",
    "Clock",
    "ControlStore",
    "Decide",
    "Events",
    "ImageServer",
    "JobStore",
    "Outbox",
    "PeopleStore",
    "PictureIntake",
    "SessionStore",
    "Studio",
    "StudioAdmin",
    "Thumbnails",
    "Ticket",
]


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

    async def check_may_ask(self, user_id: UserId) -> None:
        """Refuse whom `submit` would refuse now, so that nothing is read, decoded or made for them.

        Raises ACTIVE_LIMIT_REACHED, QUEUE_FULL, PERSON_BANNED, STOPPING, DATABASE_UNAVAILABLE.
        """
        ...

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

    async def place(self, job: Job) -> Place | None:
        """Where a job stands that was just read; None when it waited no more."""
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

    def model(self, called: str, kinds: Collection[WorkflowKind] = ...) -> ModelSpec:
        """The model of this name or label, in whatever case. Raises MODEL_UNKNOWN, which tells those that can do one of `kinds`
        (of all, where nothing is said)."""
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


class Thumbnails(Protocol):
    """Stored pictures as small JPEGs."""

    async def of(self, blob_id: BlobId) -> bytes | None:
        """The thumbnail of a picture, made at the first look; None when the picture is gone. Raises PICTURE_BROKEN."""
        ...


class PictureIntake(Protocol):
    """Uploads, made safe (durability.md, Security)."""

    def turn(self, user_id: UserId) -> AbstractAsyncContextManager[None]:
        """The time in which a person's file is read and taken in: one a person at once, and few together.

        Raises PICTURE_UNDER_WAY when several files of theirs wait already, PICTURES_BUSY after waiting too long.
        """
        ...

    async def take(self, data: bytes) -> BlobId:
        """Check, decode, re-encode and store an uploaded picture. Raises PICTURE_*."""
        ...

    async def read_recipe(self, data: bytes) -> str | None:
        """The recipe that we wrote into a picture's file; None for any other file. Raises PICTURE_TOO_COMPLEX, PICTURES_BUSY."""
        ...


# --- what the engine calls ----------------------------------------------------------------------------------------------


class ImageServer(Protocol):
    """One ComfyUI. Methods raise SERVER_* when it cannot be reached or is no ComfyUI; they time out by themselves.

    Where an answer came, or none, the error is a `ServerAnswerError` that says so: whose fault that is, its caller decides.
    """

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

    @property
    def is_changed(self) -> bool:
        """Whether it was reconnected to since it was last read: it may be another version by now, with other files."""
        ...

    @property
    def foreign_prompts(self) -> int:
        """Prompts in its queue that are not ours, the running one included, as it last said; 0 where nobody knows."""
        ...

    async def check(self) -> None:
        """A sign of life, cheap enough to ask of an idle server; reads everything anew where `is_changed`."""
        ...

    async def is_well(self) -> bool:
        """Whether it answers about its health now; asked when something else it said raises doubt. Never raises SERVER_*."""
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
        """The pictures of these slots by their predictable names, verified and re-encoded, asked for once.

        Missing and broken ones are left out. Raises OUTPUT_TOO_LARGE for one over our limits.
        """
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
