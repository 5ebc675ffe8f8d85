"""Jobs: one accepted wish of one person, its states, and the attempts to fulfil it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType
from uuid import UUID

from modules.domain.errors import Param
from modules.domain.people import ChannelId, GuildId, InteractionId, MessageId, Person, UserId
from modules.domain.recipes import Recipe, Seed

JobId = NewType("JobId", UUID)
#: Also ComfyUI's `prompt_id`: chosen by us before anything is sent, so that after a crash we know what to look for.
AttemptId = NewType("AttemptId", UUID)
#: Stable, short and free of keys: made from the URL's host and port (see `ai/fleet.py`).
ServerName = NewType("ServerName", str)
#: One per start of a process; leases and attempts carry it.
BootId = NewType("BootId", UUID)

_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


class JobState(StrEnum):
    """Where a job stands. Source of the machine: docs/architecture.md, "What becomes of a job"."""

    QUEUED = "queued"
    SUBMITTING = "submitting"  #: claimed by a server; ComfyUI may or may not know it
    SUBMITTED = "submitted"  #: ComfyUI said 200
    GENERATED = "generated"  #: pictures verified and stored; the person's slot is free
    DELIVERED = "delivered"
    UNDELIVERABLE = "undeliverable"  #: channel and DM gone; the pictures are kept and can be sent again
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_active(self) -> bool:
        """Counts against the person's limit: waiting and running."""
        return self in ACTIVE_STATES

    @property
    def is_over(self) -> bool:
        """Nothing more will be drawn for it."""
        return not self.is_active

    def may_become(self, later: JobState) -> bool:
        """Whether the step is legal; the stores refuse every other."""
        return later in LEGAL_STEPS[self]


ACTIVE_STATES = frozenset({JobState.QUEUED, JobState.SUBMITTING, JobState.SUBMITTED})
IN_FLIGHT_STATES = frozenset({JobState.SUBMITTING, JobState.SUBMITTED})
LEGAL_STEPS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.SUBMITTING, JobState.CANCELLED, JobState.FAILED}),
    JobState.SUBMITTING: frozenset(
        {JobState.SUBMITTED, JobState.QUEUED, JobState.GENERATED, JobState.CANCELLED, JobState.FAILED}
    ),
    JobState.SUBMITTED: frozenset({JobState.QUEUED, JobState.GENERATED, JobState.CANCELLED, JobState.FAILED}),
    JobState.GENERATED: frozenset({JobState.DELIVERED, JobState.UNDELIVERABLE}),
    JobState.DELIVERED: frozenset(),
    JobState.UNDELIVERABLE: frozenset({JobState.DELIVERED, JobState.GENERATED}),  # "send again": owed once more
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


class Origin(StrEnum):
    """Which control made the job; shown in history, counted in metrics."""

    IMAGINE = "imagine"
    EDIT = "edit"
    FORM = "form"
    AGAIN = "again"
    VARY = "vary"
    UPSCALE = "upscale"
    REMIX = "remix"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkClass:
    """What the scheduler knows of a job's work; fixed when it is accepted.

    `exact_key` is everything that must be equal inside one merged workflow; `heavy_key` names the model files that cost
    seconds to switch; `needs` are the node classes and files a server must have, as `class:NAME` and `file:FIELD=NAME`.
    """

    exact_key: str
    heavy_key: str
    needs: frozenset[str]
    #: Whether several people's jobs of this class may share one workflow.
    is_mergeable: bool
    #: Reference GPU-seconds of the whole job (all its pictures) when it runs alone on a warm server of speed 1.
    cost_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What one person asked for; never changes once accepted. `interaction_id` makes accepting idempotent."""

    interaction_id: InteractionId
    person: Person
    recipe: Recipe
    work: WorkClass
    origin: Origin
    #: Where its card and result go: the person's session channel.
    channel_id: ChannelId
    #: The job this one was made from (again, vary, edit of a result ...).
    parent_id: JobId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An accepted job as stored."""

    id: JobId
    #: Order of acceptance over the whole queue; a requeued job keeps it, and so its place.
    seq: int
    interaction_id: InteractionId
    user_id: UserId
    guild_id: GuildId
    display_name: str
    language: str
    recipe: Recipe
    work: WorkClass
    origin: Origin
    state: JobState
    channel_id: ChannelId
    parent_id: JobId | None = None
    #: Attempts that ended for reasons of ours (server lost, out of memory ...), not counting the one under way.
    failed_attempts: int = 0
    #: Of these, those in which the server died: two make a poison suspect, which then runs alone once.
    server_deaths: int = 0
    #: Never merged with others' jobs again (a poison suspect, or a batch of it failed without naming the guilty one).
    runs_alone: bool = False
    accepted_at: datetime
    started_at: datetime | None = None  #: ComfyUI's own `execution_start` of the attempt that worked
    generated_at: datetime | None = None
    #: GPU-seconds of the whole attempt it was part of, by ComfyUI's own clock.
    worked_s: float | None = None
    #: People whose jobs shared the attempt, its own included.
    shared_by: int = 1
    server: ServerName | None = None
    #: The attempt it is in, or that it came from; None while it waits.
    attempt_id: AttemptId | None = None
    error_code: str | None = None
    error_params: dict[str, Param] | None = None
    card_message_id: MessageId | None = None
    result_message_id: MessageId | None = None
    #: False: what is stored of its recipe or its needs cannot be read, so it cannot be drawn.
    is_readable: bool = True

    @property
    def is_erased(self) -> bool:
        """Its person had everything erased; what is left serves fairness and the count of jobs."""
        return not self.display_name

    @property
    def waited_s(self) -> float | None:
        """Seconds from acceptance to the start of the drawing that worked."""
        return None if self.started_at is None else max(0.0, (self.started_at - self.accepted_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One picture inside an attempt. `index` counts over the whole attempt, `picture_index` within its job."""

    index: int
    job_id: JobId
    picture_index: int
    seed: Seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One prompt on one server: the jobs in batch order. Written down before anything is sent."""

    id: AttemptId
    server: ServerName
    boot_id: BootId
    jobs: tuple[Job, ...]
    claimed_at: datetime

    @property
    def shared_by(self) -> int:
        """How many people's jobs are in it."""
        return len({job.user_id for job in self.jobs})

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Every picture of every job, in batch order; the index decides node ids and file names, so it never changes."""
        pairs = [(job, index) for job in self.jobs for index in range(job.recipe.count)]
        return tuple(
            Slot(index=at, job_id=job.id, picture_index=index, seed=job.recipe.seed_of(index))
            for at, (job, index) in enumerate(pairs)
        )


def base36(job_id: JobId) -> str:
    """The job's id in at most 25 characters: Discord's nonce, and the part of buttons' custom ids."""
    number, digits = job_id.int, ""
    while number:
        number, rest = divmod(number, 36)
        digits = _BASE36[rest] + digits
    return digits or "0"


def from_base36(text: str) -> JobId | None:
    """The inverse of `base36`; None for anything that is no such id (a stale or forged button)."""
    if not 1 <= len(text) <= 25 or any(digit not in _BASE36 for digit in text):
        return None
    number = int(text, 36)
    return JobId(UUID(int=number)) if number < 2**128 else None


def short_id(job_id: JobId) -> str:
    """Eight characters for people, logs and file names; also the marker by which a sent result is found again."""
    return job_id.hex[:8]
