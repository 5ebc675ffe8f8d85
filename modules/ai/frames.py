"""What a ComfyUI server says on its WebSocket: text frames, and the binary frames 1, 3 and 4.

Everything here is a hint. What cannot be read is None, never an error: a later version may say more than we know.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, Field, ValidationError

from modules.ai.wire import ExecutionFault, Reply, Text

#: Must be the first text on a socket: previews then come as event 4, with the prompt they belong to.
FEATURE_FLAGS = json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}})

# Event types of binary frames. Source: recordings; 2 is internal to ComfyUI and never on the wire.
_PREVIEW, _PROGRESS_TEXT, _PREVIEW_WITH_METADATA = 1, 3, 4
_UINT32 = struct.Struct(">I")


class ExecutionStart(Reply):
    """The worker took the prompt."""

    prompt_id: str
    timestamp: int | None = None


class ExecutionCached(Reply):
    """Nodes that need not run."""

    prompt_id: str
    nodes: tuple[str, ...] = ()


class Executing(Reply):
    """A node begins; `node` None: the prompt is over, and only now its history is sure to be there.

    The one sent right after a reconnect has no `prompt_id`.
    """

    prompt_id: str | None = None
    node: str | None = None
    display_node: str | None = None

    @property
    def is_end(self) -> bool:
        """Whether this is the last message of a prompt."""
        return self.node is None and self.prompt_id is not None


class Progress(Reply):
    """Step `value` of `max` of a node is done."""

    prompt_id: str | None = None
    node: str | None = None
    value: float = 0
    max: float = 0


class NodeProgress(Reply):
    """One node inside `progress_state`."""

    value: float = 0
    max: float = 0
    state: Text = ""
    display_node_id: str | None = None


class ProgressState(Reply):
    """All nodes that started so far. Unlike `progress` it always comes before the preview of the same step."""

    prompt_id: str
    nodes: dict[str, NodeProgress] = Field(default_factory=dict)


class Executed(Reply):
    """An output node has written its files."""

    prompt_id: str
    node: str
    display_node: str | None = None


class ExecutionSuccess(Reply):
    """Every node ran; its history follows a moment later."""

    prompt_id: str
    timestamp: int | None = None


class ExecutionError(ExecutionFault):
    """A node raised."""

    prompt_id: str
    timestamp: int | None = None


class ExecutionInterrupted(Reply):
    """Somebody stopped it."""

    prompt_id: str
    timestamp: int | None = None


class QueueCount(Reply):
    """Innermost part of `status`."""

    queue_remaining: int = 0


class StatusBody(Reply):
    """Part of `status`."""

    exec_info: QueueCount = QueueCount()


class Status(Reply):
    """Sent to every client when the queue changes; `queue_remaining` counts the running prompt."""

    status: StatusBody = StatusBody()
    sid: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """A picture as it forms. Without `prompt_id` (event 1) it is whatever runs at that moment, perhaps a stranger's."""

    image: bytes = field(repr=False)
    prompt_id: str | None = None
    node: str | None = None


TextFrame = (
    ExecutionStart
    | ExecutionCached
    | Executing
    | Progress
    | ProgressState
    | Executed
    | ExecutionSuccess
    | ExecutionError
    | ExecutionInterrupted
    | Status
)
Frame = TextFrame | Preview

_BY_TYPE: Mapping[str, type[TextFrame]] = {
    "execution_start": ExecutionStart,
    "execution_cached": ExecutionCached,
    "executing": Executing,
    "progress": Progress,
    "progress_state": ProgressState,
    "executed": Executed,
    "execution_success": ExecutionSuccess,
    "execution_error": ExecutionError,
    "execution_interrupted": ExecutionInterrupted,
    "status": Status,
}


class _Envelope(BaseModel):
    type: str
    data: dict[str, object] = Field(default_factory=dict)


class _PreviewMetadata(Reply):
    prompt_id: str | None = None
    node_id: str | None = None
    display_node_id: str | None = None


def read_text(text: str) -> TextFrame | None:
    """A text frame; None for kinds we do not follow (`feature_flags`, add-ons' own) and for anything malformed."""
    try:
        envelope = _Envelope.model_validate_json(text)
        model = _BY_TYPE.get(envelope.type)
        return None if model is None else model.model_validate(envelope.data)
    except ValidationError:
        return None


def read_binary(data: bytes) -> Preview | None:
    """A binary frame; None for progress texts, which nobody is shown, and for anything cut short."""
    if len(data) < 2 * _UINT32.size:
        return None
    kind, second = _UINT32.unpack_from(data, 0)[0], _UINT32.unpack_from(data, 4)[0]
    body = data[8:]
    if kind == _PREVIEW:  # `second` is the format (1 JPEG, 2 PNG); the decoder sees for itself
        return Preview(image=body) if body else None
    if kind == _PREVIEW_WITH_METADATA and 0 < second < len(body):  # `second` is the length of the metadata
        return _preview_with_metadata(body[:second], body[second:])
    return None


def read_progress_text(data: bytes) -> tuple[str, str] | None:
    """Binary event 3: (node id, text); None for any other frame."""
    if len(data) < 2 * _UINT32.size or _UINT32.unpack_from(data, 0)[0] != _PROGRESS_TEXT:
        return None
    length = _UINT32.unpack_from(data, 4)[0]
    if 8 + length > len(data):
        return None
    return data[8 : 8 + length].decode(errors="replace"), data[8 + length :].decode(errors="replace")


def _preview_with_metadata(metadata: bytes, image: bytes) -> Preview | None:
    try:
        about = _PreviewMetadata.model_validate_json(metadata)
    except ValidationError:
        return None
    # A preview that should say whose it is but does not is nobody's: falling back to "whatever runs" would be a guess.
    if about.prompt_id is None:
        return None
    return Preview(image=image, prompt_id=about.prompt_id, node=about.display_node_id or about.node_id)
