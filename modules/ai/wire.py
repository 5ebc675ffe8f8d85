"""What a ComfyUI server answers over HTTP, parsed at the border.

Tolerant on purpose: unknown fields are ignored, fields that some version leaves out have defaults. Shapes and quirks are those
of the recordings in `tests/recordings/comfyui/` (ComfyUI 0.33.0). What a server *has* (`/object_info`) is read in `listing.py`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator


class UnreadableError(ValueError):
    """JSON of another shape than a ComfyUI sends."""


def _none_to_empty(value: object) -> object:
    """Some versions write `null` or `[]` where an object is due (0.3.x: `"node_errors": []`)."""
    return {} if value is None or value == [] else value


def _none_to_text(value: object) -> object:
    return "" if value is None else value


Text = Annotated[str, BeforeValidator(_none_to_text)]


class Reply(BaseModel):
    """Base of everything the server sends."""

    model_config = ConfigDict(extra="ignore", frozen=True)


# --- the server itself --------------------------------------------------------------------------------------------------


class SystemInfo(Reply):
    """`system` of `GET /system_stats`."""

    comfyui_version: Text = ""
    pytorch_version: Text = ""


class Device(Reply):
    """One of `devices`; memory in bytes."""

    name: Text = ""
    type: Text = ""
    vram_total: int = 0
    vram_free: int = 0


class SystemStats(Reply):
    """`GET /system_stats`. The presence of `system` is our proof that this is a ComfyUI."""

    system: SystemInfo
    devices: tuple[Device, ...] = ()


class UploadAnswer(Reply):
    """`POST /upload/image`: the name it really got."""

    name: str
    subfolder: Text = ""

    @property
    def reference(self) -> str:
        """As LoadImage wants it."""
        return f"{self.subfolder}/{self.name}" if self.subfolder else self.name


# --- posting ------------------------------------------------------------------------------------------------------------


class InputError(Reply):
    """One fault of one node's input."""

    type: Text = ""
    message: Text = ""
    details: Text = ""


class NodeErrors(Reply):
    """Everything wrong with one node, and the output nodes that fall with it."""

    errors: tuple[InputError, ...] = ()
    dependent_outputs: tuple[str, ...] = ()
    class_type: Text = ""


class RejectedNode(Reply):
    """`error.extra_info` of an unknown class."""

    node_id: str | None = None
    class_type: str | None = None


class RejectionCause(Reply):
    """`error` of a 400."""

    type: Text = ""
    message: Text = ""
    details: Text = ""
    extra_info: Annotated[RejectedNode, BeforeValidator(_none_to_empty)] = RejectedNode()

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        """A few refusals are a bare sentence."""
        return {"message": value} if isinstance(value, str) else value


ErrorsByNode = Annotated[dict[str, NodeErrors], BeforeValidator(_none_to_empty)]


class PromptAccepted(Reply):
    """`POST /prompt`, 200. Non-empty `node_errors`: those outputs were dropped, the rest runs."""

    prompt_id: str
    node_errors: ErrorsByNode = Field(default_factory=dict)


class PromptRejected(Reply):
    """`POST /prompt`, 400."""

    error: RejectionCause = RejectionCause()
    node_errors: ErrorsByNode = Field(default_factory=dict)


# --- where a prompt stands ----------------------------------------------------------------------------------------------


class QueueItem(Reply):
    """An entry of the queue: `[number, prompt_id, graph, extra_data, outputs, ...]`; the graph is not kept."""

    number: float
    prompt_id: str
    extra_data: dict[str, object] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: object) -> object:
        if not isinstance(value, list | tuple) or len(value) < 2:
            return value
        extra = value[3] if len(value) > 3 and isinstance(value[3], dict) else {}
        return {"number": value[0], "prompt_id": value[1], "extra_data": extra}


class QueueState(Reply):
    """`GET /queue`. `queue_pending` comes as a heap, not sorted."""

    queue_running: tuple[QueueItem, ...] = ()
    queue_pending: tuple[QueueItem, ...] = ()

    def is_running(self, prompt_id: str) -> bool:
        """Whether this prompt is the one under way."""
        return any(item.prompt_id == prompt_id for item in self.queue_running)

    def is_pending(self, prompt_id: str) -> bool:
        """Whether it waits."""
        return any(item.prompt_id == prompt_id for item in self.queue_pending)


class ExecutionFault(Reply):
    """Body of `execution_error`, on the socket and in history. Its `current_inputs` (people's prompts) are never read."""

    node_id: Text = ""
    node_type: Text = ""
    exception_type: Text = ""
    exception_message: Text = ""


class StatusMessage(Reply):
    """One `[name, data]` of `status.messages`; `timestamp` is in milliseconds."""

    name: str
    timestamp: int | None = None
    fault: ExecutionFault | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_pair(cls, value: object) -> object:
        if not isinstance(value, list | tuple) or len(value) != 2 or not isinstance(value[1], dict):
            return value
        name, data = value
        return {"name": name, "timestamp": data.get("timestamp"), "fault": data if name == "execution_error" else None}


class ExecutionStatus(Reply):
    """How a prompt ended. An interrupted one also says `error`: only its messages tell the difference."""

    status_str: Text = ""
    completed: bool = False
    messages: tuple[StatusMessage, ...] = ()

    def when(self, *names: str) -> datetime | None:
        """The server's time of the first message with one of these names."""
        stamps = (message.timestamp for message in self.messages if message.name in names)
        return instant(next(stamps, None))

    @property
    def was_interrupted(self) -> bool:
        """Whether somebody stopped it."""
        return any(message.name == "execution_interrupted" for message in self.messages)

    @property
    def fault(self) -> ExecutionFault | None:
        """Why it failed."""
        return next((message.fault for message in self.messages if message.fault is not None), None)


class HistoryEntry(Reply):
    """One value of `GET /history/{id}`; `outputs` are not read, as our files have predictable names."""

    prompt: QueueItem | None = None
    status: ExecutionStatus | None = None


class JobStatus(StrEnum):
    """`status` of `/api/jobs`."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class PostedWorkflow(Reply):
    """`workflow` of a finished job; the graph is not kept."""

    extra_data: Annotated[dict[str, object], BeforeValidator(_none_to_empty)] = Field(default_factory=dict)


class JobInfo(Reply):
    """`GET /api/jobs/{id}`; times in milliseconds."""

    id: str
    status: JobStatus
    execution_start_time: int | None = None
    execution_end_time: int | None = None
    execution_error: ExecutionFault | None = None
    execution_status: ExecutionStatus | None = None
    workflow: PostedWorkflow | None = None


class CancelAnswer(Reply):
    """`POST /api/jobs/{id}/cancel`."""

    cancelled: bool


class OldOutputs(Reply):
    """`GET /fullet/outputs` of our node pack: prompt ids, which are our attempts'."""

    names: tuple[UUID, ...]


class RemovedOutputs(Reply):
    """`POST /fullet/outputs/remove` of our node pack."""

    removed: tuple[UUID, ...]


class RemovedUploads(Reply):
    """`POST /fullet/uploads/remove` of our node pack."""

    removed: int


# --- reading ------------------------------------------------------------------------------------------------------------

ReplyT = TypeVar("ReplyT", bound=BaseModel)
_HISTORY: TypeAdapter[dict[str, HistoryEntry]] = TypeAdapter(dict[str, HistoryEntry])

FileKind = Literal["output", "input", "temp"]


def instant(milliseconds: int | None) -> datetime | None:
    """ComfyUI's timestamps as aware UTC; None for one that lies outside the calendar."""
    try:
        return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # each for another range, and OSError on some platforms
        return None


def read(model: type[ReplyT], body: object) -> ReplyT:
    """Parse a decoded JSON body. Raises UnreadableError for any other shape."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise UnreadableError from error


def read_history(body: object) -> dict[str, HistoryEntry]:
    """Parse `GET /history/{id}`; empty for unknown, pending and running prompts alike."""
    try:
        return _HISTORY.validate_python(body)
    except ValidationError as error:
        raise UnreadableError from error
