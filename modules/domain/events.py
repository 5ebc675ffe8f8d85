"""What happened, for whoever shows it. Events are hints: the database is the truth, and a lost event loses nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from modules.domain.jobs import JobId, JobState, ServerName
from modules.domain.servers import InMemory


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAccepted:
    """The job is in the database."""

    job_id: JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueChanged:
    """Places may have moved: something was accepted, claimed, cancelled or requeued, or a server came or went."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted:
    """A server began with it."""

    job_id: JobId
    server: ServerName
    shared_by: int
    in_memory: InMemory  #: anything but its own model means that the first step takes longer


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgressed:
    """Sampling step `step` of `steps` is done."""

    job_id: JobId
    step: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPreviewed:
    """A preview of exactly this job's picture; a JPEG, at most 512 px and 40 KB."""

    job_id: JobId
    picture_index: int
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFinishing:
    """Sampling is over; the picture is being decoded, fetched and stored."""

    job_id: JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequeued:
    """The attempt came to nothing through no fault of the job; it keeps its place. `reason` is an ErrorCode."""

    job_id: JobId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStranded:
    """Its server went away with it. It keeps its place: the server comes back with it, or another takes it over."""

    job_id: JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettled:
    """The job reached GENERATED, DELIVERED, UNDELIVERABLE, FAILED or CANCELLED."""

    job_id: JobId
    state: JobState
    by_admin: bool = False  #: cancelled by somebody else than its person


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLost:
    """Said once when a server fails."""

    server: ServerName
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerBack:
    """Said once when it is back."""

    server: ServerName


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTrouble:
    """A server is there, yet something about it is for administrators to mend. Never shown to members."""

    server: ServerName
    reason: str  #: an ErrorCode
    status: int | None = None  #: of the answer that was no good
    route: str = ""  #: as `POST /upload/image`
    node: str = ""  #: the node that failed
    detail: str = ""  #: what ComfyUI said of it, cut short
    fails_all: bool = False  #: jobs of different people fail there one after another, so it gets little more


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePaused:
    """An admin paused the queue (or, with False, let it go on)."""

    is_paused: bool


Event = (
    JobAccepted
    | QueueChanged
    | JobStarted
    | JobProgressed
    | JobPreviewed
    | JobFinishing
    | JobRequeued
    | JobStranded
    | JobSettled
    | ServerLost
    | ServerBack
    | ServerTrouble
    | QueuePaused
)
