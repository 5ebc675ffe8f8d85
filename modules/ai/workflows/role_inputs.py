"""What the inputs of nodes are called, by what people set with them, and where the value of an input is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from modules.ai.workflows.graph import Graph, Node


class Role(StrEnum):
    """What a node input is for."""

    PROMPT = "prompt"
    NEGATIVE = "negative_prompt"
    SEED = "seed"
    STEPS = "steps"
    CFG = "cfg"
    GUIDANCE = "guidance"
    SAMPLER = "sampler"
    SCHEDULER = "scheduler"
    DENOISE = "denoise"
    WIDTH = "width"
    HEIGHT = "height"
    SOURCE = "source"
    REFERENCE = "reference"
    CHECKPOINT = "checkpoint"


#: Inputs of text encoders that hold a text. Sources: ComfyUI's nodes.py and comfy_extras/nodes_flux.py, nodes_sd3.py,
#: nodes_clip_sdxl.py, nodes_hunyuan.py, nodes_hidream.py, nodes_qwen.py, nodes_lumina2.py, nodes_kandinsky5.py.
TEXT_INPUTS = (
    "text",
    "clip_l",
    "clip_g",
    "t5xxl",
    "llama",
    "text_g",
    "text_l",
    "prompt",
    "user_prompt",
    "bert",
    "mt5xl",
    "qwen25_7b",
)
#: What an encoder that gives both conditionings calls its second text (TextEncodeQwenImage21 in comfy_extras/nodes_qwen.py).
NEGATIVE_INPUTS = ("negative_prompt",)
_SEED_INPUTS = ("seed", "noise_seed")
#: The usual names of a role's input on the node that has it.
INPUT_NAMES: Mapping[Role, tuple[str, ...]] = {
    Role.PROMPT: TEXT_INPUTS,
    Role.NEGATIVE: TEXT_INPUTS,
    Role.SEED: _SEED_INPUTS,
    Role.STEPS: ("steps",),
    Role.CFG: ("cfg",),
    Role.GUIDANCE: ("guidance",),
    Role.SAMPLER: ("sampler_name",),
    Role.SCHEDULER: ("scheduler",),
    Role.DENOISE: ("denoise",),
    Role.WIDTH: ("width", "target_width"),
    Role.HEIGHT: ("height", "target_height"),
    Role.SOURCE: ("image",),
    Role.REFERENCE: ("image",),
    Role.CHECKPOINT: ("ckpt_name", "unet_name"),
}
#: Inputs through which a node passes on what it was given, by what is followed.
CONDITIONING_INPUTS = ("conditioning", "conditioning_1", "conditioning_2", "conditioning_to", "conditioning_from")
PRIMITIVE_INPUTS = ("value", "text", "string", "int", "float", "number")
#: Whatever text is behind it has no effect.
ZERO_OUT = "ConditioningZeroOut"
#: Nodes that load a picture by its name on the server.
LOAD_IMAGE = ("LoadImage", "LoadImageOutput")


class Target(NamedTuple):
    """One input that a role writes to."""

    node: str
    input: str


def usual_names(node: Node, role: Role) -> Sequence[str]:
    """The role's usual inputs; on an encoder with a text for each side, the negative side's own."""
    if role is Role.NEGATIVE:
        return [name for name in NEGATIVE_INPUTS if name in node.inputs] or INPUT_NAMES[role]
    return INPUT_NAMES[role]


def value_of_primitive(node: Node, wanted: Sequence[str]) -> str | None:
    """The input in which a node holds the one value it gives out; None where it calculates.

    `wanted` are the names of what it feeds: a seed node of a pack calls its value as samplers do.
    """
    is_seed = any(name in _SEED_INPUTS for name in wanted)
    names = dict.fromkeys((*PRIMITIVE_INPUTS, *wanted, *(_SEED_INPUTS if is_seed else ())))
    found = [name for name in names if name in node.inputs]
    is_source = is_seed and not any(True for _ in node.links())  # seed nodes have buttons and modes beside the seed
    return found[0] if len(found) == 1 and (len(node.inputs) <= 2 or is_source) else None


def literal_target(graph: Graph, node_id: str, name: str) -> Target | None:
    """Where the value of an input is written: there, or in the primitive node that feeds it; None when it is computed."""
    seen: set[str] = set()
    while node_id not in seen:
        seen.add(node_id)
        node = graph[node_id]
        if name not in node.inputs:
            return None
        link = node.link(name)
        if link is None:
            return Target(node_id, name)
        node_id = link.node
        value = value_of_primitive(graph[node_id], [name])
        if value is None:
            return None
        name = value
    return None
