"""What a picture server tells us: its facts, and how one attempt goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from modules.domain.errors import ErrorCode, FulletError, Param
from modules.domain.jobs import JobId, ServerName


class ServerCall(StrEnum):
    """What a server was asked."""

    STATUS = "status"  #: whether it is there: the question about its health
    NODES = "nodes"  #: what it has
    UPLOAD = "upload"  #: to keep an input picture
    POST = "post"  #: to queue a prompt
    FOLLOW = "follow"  #: where a prompt stands: jobs, queue, history
    FETCH = "fetch"  #: for a finished picture
    CONTROL = "control"  #: to cancel, delete, forget or free
    EVENTS = "events"  #: for its WebSocket


class BodyKind(StrEnum):
    """What an answer held, whatever its status said."""

    NONE = "none"  #: no answer came: nobody there, a reset, a time-out
    EMPTY = "empty"
    JSON = "json"
    TEXT = "text"
    HTML = "html"  #: a proxy, a tunnel or a log-in page spoke
    OTHER = "other"
    TRUNCATED = "truncated"  #: it ended before its end
    TOO_LARGE = "too_large"  #: more bytes than we read of such an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAnswer:
    """What came back when it was not what was asked for: data for whoever decides whose fault that is."""

    call: ServerCall
    route: str  #: as `POST /upload/image`: for the log and for administrators
    status: int | None = None  #: None: no answer came
    body: BodyKind = BodyKind.NONE
    was_sent: bool = True  #: False: no connection came about, so the server certainly knows nothing of it

    def __str__(self) -> str:
        return f"{self.route}: {self.body.value if self.status is None else self.status}"


class ServerAnswerError(FulletError):
    """A server, or what stands before it, did not do what was asked. `code` is what the answer looks like by itself."""

    def __init__(self, code: ErrorCode, answer: ServerAnswer, **params: Param) -> None:
        super().__init__(code, **params)
        self.answer = answer


class MergeCapability(StrEnum):
    """What the node pack on a server allows (merging: docs/merging.md)."""

    NONE = "none"  #: one job a prompt; a job's own pictures as chains in one prompt
    ENCODE = "encode"  #: stacked: several people's chains, one encode pass
    FULL = "full"  #: batched too: one sampler pass


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """Read when a server is met, when it is back, and on refresh."""

    name: ServerName
    version: str
    device: str
    vram_bytes: int
    capability: MergeCapability
    pack_version: str = ""
    #: Another pack registered our class name: said to the operator.
    has_wrong_pack: bool = False


class InMemory(StrEnum):
    """Which model a server has in its memory when it begins with a job, as far as we know."""

    THIS = "this"  #: the job's own
    ANOTHER = "another"  #: it makes way for the job's own, which takes seconds
    UNKNOWN = "unknown"  #: the server, or we ourselves, have only just started, or its memory was cleared

    @classmethod
    def of(cls, loaded: str | None, heavy_key: str) -> InMemory:
        """For a job that needs `heavy_key`, on a server that has `loaded`; None: nobody knows what."""
        if loaded is None:
            return cls.UNKNOWN
        return cls.THIS if loaded == heavy_key else cls.ANOTHER


class RunPhase(StrEnum):
    """Where a prompt stands on its server."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    #: Not in queue nor history: lost in a restart, deleted, or done long ago. Only its files can tell.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFailure:
    """Why an attempt failed. `slots` are the guilty ones where that is known; `detail` is for the log and admins only."""

    code: ErrorCode
    slots: frozenset[int] = frozenset()
    node: str = ""
    detail: str = field(default="", repr=False)
    #: The answer that made it fail, where it was no failure of ComfyUI's own.
    answer: ServerAnswer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """The state of a prompt, with ComfyUI's own clock where it has one."""

    phase: RunPhase
    started_at: datetime | None = None
    ended_at: datetime | None = None
    failure: RunFailure | None = None
    #: Whether it found its model in memory; None where nobody was told. No part of what the report says of the prompt.
    found_loaded: bool | None = field(default=None, compare=False)

    @property
    def worked_s(self) -> float | None:
        """Seconds between `execution_start` and the end, by the server's clock."""
        return None if self.started_at is None or self.ended_at is None else (self.ended_at - self.started_at).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted:
    """ComfyUI began with the prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgressed:
    """Step of a sampler; `job_ids` are those whose pictures this sampler draws."""

    job_ids: tuple[JobId, ...]
    step: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPreviewed:
    """A preview that shows exactly this slot's picture (JPEG, <= 512 px, <= 40 KB). Never sent when whose it is is unsure."""

    slot: int
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotSaved:
    """The output node of this slot ran: its picture can be fetched before the others are done."""

    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The last event of every run."""

    report: RunReport


RunEvent = RunStarted | RunProgressed | RunPreviewed | SlotSaved | RunEnded
