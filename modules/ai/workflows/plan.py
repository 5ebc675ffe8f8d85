"""What the workflow planner hands to the ComfyUI side: a graph, and how to read everything that comes back from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from modules.domain.images import BlobId, Dimensions
from modules.domain.jobs import Attempt, Job, WorkClass
from modules.domain.servers import ServerFacts


class InputPicture(NamedTuple):
    """A stored picture as one template takes it; the same picture may be on a server in both forms, under two names."""

    blob_id: BlobId
    #: Whether the template reads its transparency as a mask. Others get it flat: LoadImage only drops the alpha channel, and the
    #: colours that it hid come to light. Source: `LoadImage.load_image` in ComfyUI's nodes.py.
    with_transparency: bool = False


class MergeForm(StrEnum):
    """How a batch becomes one workflow (docs/merging.md)."""

    SOLO = "solo"  #: one job; its own pictures as chains of stock nodes
    STACKED = "stacked"  #: N complete sampler chains that share loaders and one text-encode pass
    BATCHED = "batched"  #: one sampler pass for all slots, through the node pack's guider


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltWorkflow:
    """One attempt as a ComfyUI graph. Slots are `Slot.index` of the attempt."""

    #: API format, ready for `POST /prompt`.
    graph: dict[str, dict[str, object]]
    form: MergeForm
    #: Node id -> the slots it serves (sampler, save, encode ...). A node that is not in here serves all of them.
    slot_of_node: Mapping[str, tuple[int, ...]]
    #: Output node id -> slots whose pictures it writes, in file order.
    save_nodes: Mapping[str, tuple[int, ...]]
    #: Slot -> predicted file name inside the output folder, subfolders included: `<prefix>/<attempt>/<slot>_00001_.png`.
    file_of_slot: Mapping[int, str]
    #: Slot -> size its picture must have; None: follows the input picture.
    expected_size: Mapping[int, Dimensions | None]
    #: Sampler node that draws several slots in one pass -> those slots by row. Which row a preview shows follows from the
    #: sampling step by the pack's rule (comfy_custom_nodes/PROTOCOL.md); any other sampler draws the one slot of `slot_of_node`.
    preview_rows: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    #: Sampler node -> the steps it is going to take; 0 where the graph does not say.
    sampler_steps: Mapping[str, int] = field(default_factory=dict)


class WorkflowPlanner(Protocol):
    """Turns attempts into graphs: no I/O; with the form given, same input, same graph."""

    def build(
        self, attempt: Attempt, facts: ServerFacts, *, uploads: Mapping[InputPicture, str], form: MergeForm | None = None
    ) -> BuiltWorkflow:
        """The graph of an attempt. `uploads`: input picture -> its name on that server, as the upload's answer gave it.

        `form`: force it; None: by merge mode, server and measured gain. Raises TEMPLATE_INVALID.
        """
        ...

    def input_pictures(self, job: Job) -> Sequence[InputPicture]:
        """The stored pictures that must be on the server before the job is drawn. Raises TEMPLATE_INVALID."""
        ...

    def max_jobs(self, work: WorkClass, facts: ServerFacts) -> int:
        """How many jobs of this class may share one attempt there; at least 1."""
        ...

    def note_run(self, attempt: Attempt, form: MergeForm, worked_s: float) -> None:
        """Learn how long a clean run took that found its model loaded; `worked_s` by the server's own clock."""
        ...
