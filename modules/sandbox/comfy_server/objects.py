"""The catalogue of node classes: what `/object_info` says and what prompts are validated against.

`stock_nodes.json` is ComfyUI 0.33's own answer for the nodes our templates use, without tooltips and with the lists that
depend on the machine replaced by a marker (`"$checkpoints"`, `"$samplers"`, `"$inputs"`). Nodes of other packs and of
ours are declared here with the few helpers below, in the V1 style those packs use.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from modules.sandbox.comfy_server.models import BUILT_IN_VAES, SAMPLERS, SCHEDULERS, ModelFiles
from modules.sandbox.comfy_server.sampling import REFUSED_SAMPLER
from modules.sandbox.comfy_server.slots import MAX_SLOTS, PACK_VERSION, PROTOCOL

#: none; encoder without the batch samplers; everything; a protocol we do not speak; somebody else's node of that name.
PackState = Literal["none", "encode", "full", "newer", "wrong"]
PACK_STATES: tuple[PackState, ...] = ("none", "encode", "full", "newer", "wrong")

#: Nodes whose list of choices is what people uploaded.
LOADERS_OF_UPLOADS = frozenset({"LoadImage", "LoadImageMask"})

Description = dict[str, Any]  # one class of /object_info: JSON as the server sends it
InputSpec = list[Any]  # ["INT", {...}] or [["a", "b"], {...}]


@dataclass(frozen=True, slots=True)
class NodeClass:
    """A node class as a prompt is validated against it."""

    name: str
    description: Description

    @property
    def outputs(self) -> Sequence[str]:
        return tuple(self.description["output"])

    @property
    def is_output(self) -> bool:
        return bool(self.description["output_node"])

    def inputs(self) -> dict[str, tuple[bool, InputSpec]]:
        """Input name -> (required, specification), required ones first; hidden ones are not the prompt's business."""
        sections = self.description["input"]
        declared = {name: (True, spec) for name, spec in sections.get("required", {}).items()}
        declared |= {name: (False, spec) for name, spec in sections.get("optional", {}).items()}
        expanded: dict[str, tuple[bool, InputSpec]] = {}
        for name, (is_required, spec) in declared.items():
            expanded |= grown(name, spec) if spec[0] == GROWING else {name: (is_required, spec)}
        return expanded


#: An input that grows: one declaration stands for many inputs of a prompt, named `<input>.<name>`.
#: Source: ComfyUI's `comfy_api/latest/_io.py`, class `Autogrow`; 35 inputs of a stock 0.33 server are of this kind.
GROWING = "COMFY_AUTOGROW_V3"


def grown(name: str, spec: InputSpec) -> dict[str, tuple[bool, InputSpec]]:
    """The inputs of a prompt that one growing input stands for: the first `min` are required, the others may be left out."""
    template = spec[1]["template"]
    names = template.get("names") or [f"{template['prefix']}{index}" for index in range(template["max"])]
    section, inner = next((section, inputs) for section, inputs in template["input"].items() if inputs)
    item = next(iter(inner.values()))
    least = template.get("min", 0) if section == "required" else 0
    return {f"{name}.{part}": (index < least, item) for index, part in enumerate(names)}


# --- declaring nodes ---------------------------------------------------------------------------------------------------


def integer(default: int, low: int, high: int, **options: object) -> InputSpec:
    return ["INT", {"default": default, "min": low, "max": high, **options}]


def number(default: float, low: float, high: float, step: float) -> InputSpec:
    return ["FLOAT", {"default": default, "min": low, "max": high, "step": step}]


def text(default: str = "", *, multiline: bool = True) -> InputSpec:
    return ["STRING", {"multiline": multiline, "default": default}]


def one_of(options: str | Sequence[object], **details: object) -> InputSpec:
    return [options if isinstance(options, str) else list(options), details] if details else [options]


def link(kind: str) -> InputSpec:
    return [kind]


SEED = integer(0, 0, 2**64 - 1)


def node(
    name: str,
    module: str,
    category: str,
    required: Mapping[str, InputSpec],
    output: Sequence[str],
    *,
    optional: Mapping[str, InputSpec] | None = None,
    hidden: Mapping[str, str] | None = None,
    is_output: bool = False,
    description: str = "",
    title: str | None = None,
) -> Description:
    """One entry of `/object_info`, with the keys a V1 node class has."""
    sections: dict[str, Mapping[str, object]] = {"required": required}
    sections |= {"optional": optional} if optional else {}
    sections |= {"hidden": hidden} if hidden else {}
    return {
        "input": sections,
        "input_order": {section: list(inputs) for section, inputs in sections.items()},
        "is_input_list": False,
        "output": list(output),
        "output_is_list": [False] * len(output),
        "output_name": list(output),
        "name": name,
        "display_name": title or name,
        "description": description,
        "python_module": module,
        "category": category,
        "output_node": is_output,
        "has_intermediate_output": False,
        "search_aliases": [],
    }


_SAMPLING = {
    "steps": integer(20, 1, 10000),
    "cfg": number(8.0, 0.0, 100.0, 0.1),
    "sampler_name": one_of("$samplers"),
    "scheduler": one_of("$schedulers"),
}
_DENOISE = number(1.0, 0.0, 1.0, 0.01)


def _gguf_nodes() -> list[Description]:
    module, category = "custom_nodes.ComfyUI-GGUF", "bootleg"
    clip_types = _stock()["CLIPLoader"]["input"]["required"]["type"][0]
    dual_types = _stock()["DualCLIPLoader"]["input"]["required"]["type"][0]
    return [
        node("UnetLoaderGGUF", module, category, {"unet_name": one_of("$unet_gguf")}, ["MODEL"], title="Unet Loader (GGUF)"),
        node(
            "CLIPLoaderGGUF",
            module,
            category,
            {"clip_name": one_of("$clips_and_gguf"), "type": one_of(clip_types)},
            ["CLIP"],
            title="CLIPLoader (GGUF)",
        ),
        node(
            "DualCLIPLoaderGGUF",
            module,
            category,
            {"clip_name1": one_of("$clips_and_gguf"), "clip_name2": one_of("$clips_and_gguf"), "type": one_of(dual_types)},
            ["CLIP"],
            title="DualCLIPLoader (GGUF)",
        ),
    ]


def _more_stock_nodes() -> list[Description]:
    """Nodes of ComfyUI itself that our recordings lack (their inputs are in its public documentation)."""
    extras = "comfy_extras.nodes_"
    return [
        node(
            "ReferenceLatent",
            extras + "edit_model",
            "advanced/conditioning/edit_models",
            {"conditioning": link("CONDITIONING")},
            ["CONDITIONING"],
            optional={"latent": link("LATENT")},
        ),
        node(
            "BatchImagesNode",
            extras + "post_processing",
            "image",
            {
                "images": [
                    GROWING,
                    {"template": {"input": {"required": {"image": ["IMAGE", {}]}}, "prefix": "image", "min": 2, "max": 50}},
                ]
            },
            ["IMAGE"],
            title="Batch Images",
        ),
        node("FluxKontextImageScale", extras + "flux", "advanced/conditioning/flux", {"image": link("IMAGE")}, ["IMAGE"]),
        node("GetImageSize", extras + "images", "image", {"image": link("IMAGE")}, ["INT", "INT", "INT"], title="Get Image Size"),
        node(
            "LatentFromBatch",
            "nodes",
            "latent/batch",
            {"samples": link("LATENT"), "batch_index": integer(0, 0, 63), "length": integer(1, 1, 64)},
            ["LATENT"],
        ),
    ]


def _community_nodes() -> list[Description]:
    """The classes of the older "multisampler" workflow, present only where an operator installed them."""
    seed_and_steps = {"seed": SEED, **_SAMPLING}
    links = {"positive": link("CONDITIONING"), "negative": link("CONDITIONING"), "latent_image": link("LATENT")}
    advanced = {
        "model": link("MODEL"),
        "add_noise": one_of(["enable", "disable"]),
        "noise_seed": SEED,
        **_SAMPLING,
        **links,
        "start_at_step": integer(0, 0, 10000),
        "end_at_step": integer(10000, 0, 10000),
        "return_with_leftover_noise": one_of(["disable", "enable"]),
    }
    return [
        node(
            "CheckpointLoaderSimpleMikey",
            "custom_nodes.mikey_nodes",
            "Mikey/Loaders",
            {"ckpt_name": one_of("$checkpoints")},
            ["MODEL", "CLIP", "VAE", "STRING", "STRING"],
        ),
        node(
            "KSamplerEfficient",
            "custom_nodes.efficiency-nodes-comfyui",
            "Efficiency Nodes/Sampling",
            {"model": link("MODEL"), **seed_and_steps, **links, "denoise": _DENOISE},
            ["LATENT"],
        ),
        node(
            "KSamplerAdvancedEfficient",
            "custom_nodes.efficiency-nodes-comfyui",
            "Efficiency Nodes/Sampling",
            advanced,
            ["LATENT"],
        ),
    ]


# --- our node pack -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Pack:
    """Our pack's classes, as comfy_custom_nodes/PROTOCOL.md lists them, for one protocol number."""

    protocol: int = PROTOCOL

    def _node(self, name: str, required: Mapping[str, InputSpec], output: Sequence[str], title: str, **rest: Any) -> Description:
        about = f"FuLLet merge pack {PACK_VERSION}, protocol {self.protocol}. (stand-in)"
        return node(
            name, "custom_nodes.comfy_custom_nodes", "FuLLet/merge", required, output, description=about, title=title, **rest
        )

    def _numbered(self, name: str, socket: str, kind: str, output: str, title: str) -> Description:
        """`socket_0` required, the others optional."""
        rest = {f"{socket}_{index}": link(kind) for index in range(1, MAX_SLOTS)}
        return self._node(name, {f"{socket}_0": link(kind)}, [output], title, optional=rest)

    @property
    def _choice(self) -> InputSpec:
        return one_of([self.protocol], default=self.protocol)

    def encode_nodes(self) -> list[Description]:
        """Everything but the two nodes that sample several slots in one pass."""
        seeds = text("[1, 2]", multiline=False)
        return [
            self._node(
                "CLIPTextEncodeBatch",
                {"clip": link("CLIP"), "prompts": text('["a fox in the snow", "a lighthouse at night"]')},
                ["MERGE_COND"],
                "CLIP Text Encode (FuLLet batch)",
                optional={
                    "guidance": text("", multiline=False),
                    "cache": ["BOOLEAN", {"default": True}],
                    "protocol": self._choice,
                },
            ),
            self._numbered("FuLLetMergeConditioning", "cond", "CONDITIONING", "MERGE_COND", "Merge Conditionings (FuLLet)"),
            self._node(
                "FuLLetMergeSelect",
                {"conds": link("MERGE_COND"), "index": integer(0, 0, MAX_SLOTS - 1)},
                ["CONDITIONING"],
                "Select Slot (FuLLet)",
            ),
            self._node("FuLLetMergeNoise", {"seeds": seeds}, ["NOISE"], "Merge Noise (FuLLet)"),
            self._node("FuLLetMergeSampler", {"sampler": link("SAMPLER"), "seeds": seeds}, ["SAMPLER"], "Merge Sampler (FuLLet)"),
            self._numbered("FuLLetMergeLatents", "latent", "LATENT", "LATENT", "Merge Latents (FuLLet)"),
            self._node(
                "FuLLetMergeSaveImage",
                {
                    "images": link("IMAGE"),
                    "slots": text('[{"id": "a", "prefix": "fullet/a"}, {"id": "b", "prefix": "fullet/b"}]'),
                    "type": one_of(["output", "temp"], default="output"),
                },
                [],
                "Save Slots (FuLLet)",
                is_output=True,
            ),
        ]

    def batch_nodes(self) -> list[Description]:
        rest = {"negative": link("MERGE_COND"), "max_rows": integer(0, 0, MAX_SLOTS), "protocol": self._choice}
        return [
            self._node(
                "FuLLetMergeGuider",
                {"model": link("MODEL"), "positive": link("MERGE_COND"), "cfg": text("1.0", multiline=False)},
                ["GUIDER"],
                "Merge Guider (FuLLet)",
                optional=rest,
            ),
            self._node(
                "FuLLetMergeKSampler",
                {
                    "model": link("MODEL"),
                    "positive": link("MERGE_COND"),
                    "latent_image": link("LATENT"),
                    "seeds": text("[1, 2]", multiline=False),
                    "cfg": text("8.0", multiline=False),
                    "steps": integer(20, 1, 10_000),
                    "sampler_name": one_of("$mergeable_samplers"),
                    "scheduler": one_of("$schedulers"),
                    "denoise": _DENOISE,
                },
                ["LATENT"],
                "Merge KSampler (FuLLet)",
                optional=rest,
            ),
        ]


def _wrong_nodes() -> list[Description]:
    """Another public pack's node under the class name of ours: its output is an ordinary CONDITIONING."""
    return [
        node(
            "CLIPTextEncodeBatch",
            "custom_nodes.prompt-batcher",
            "conditioning/batch",
            {"clip": link("CLIP"), "texts": text()},
            ["CONDITIONING"],
            title="CLIP Text Encode (Batch)",
        )
    ]


_PACKS: Mapping[PackState, Callable[[], list[Description]]] = {
    "none": list,
    "encode": lambda: _Pack().encode_nodes(),
    "full": lambda: [*_Pack().encode_nodes(), *_Pack().batch_nodes()],
    "newer": lambda: [*_Pack(PROTOCOL + 1).encode_nodes(), *_Pack(PROTOCOL + 1).batch_nodes()],
    "wrong": _wrong_nodes,
}


# --- the whole ---------------------------------------------------------------------------------------------------------


@cache
def _stock() -> dict[str, Description]:
    loaded: dict[str, Description] = json.loads(Path(__file__).with_name("stock_nodes.json").read_text("utf-8"))
    return loaded


@dataclass(slots=True)
class Catalogue:
    """Every class this server has, with the lists that depend on its disk filled in at the moment of asking."""

    files: ModelFiles
    input_files: Callable[[], list[str]]
    pack: PackState = "none"
    has_community_nodes: bool = False
    hidden: frozenset[str] = frozenset()
    _known: dict[str, Description] = field(init=False)

    def __post_init__(self) -> None:
        declared = [*_more_stock_nodes(), *_gguf_nodes(), *_PACKS[self.pack]()]
        declared += _community_nodes() if self.has_community_nodes else []
        known = _stock() | {entry["name"]: entry for entry in declared}
        self._known = {name: self._filled(entry) for name, entry in known.items() if name not in self.hidden}

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def get(self, name: str) -> NodeClass | None:
        entry = self._known.get(name)
        return NodeClass(name, self._with_uploads(entry)) if entry is not None else None

    def object_info(self) -> dict[str, Description]:
        return {name: self._with_uploads(entry) for name, entry in self._known.items()}

    def _with_uploads(self, entry: Description) -> Description:
        """The list of uploaded pictures is the one that changes while the server runs."""
        if entry["name"] not in LOADERS_OF_UPLOADS:
            return entry
        current = copy.deepcopy(entry)
        current["input"]["required"]["image"][0] = self.input_files()
        return current

    def _filled(self, entry: Description) -> Description:
        filled = copy.deepcopy(entry)
        for section in ("required", "optional"):
            for spec in filled["input"].get(section, {}).values():
                if isinstance(spec[0], str) and spec[0].startswith("$"):
                    spec[0] = self._options(spec[0])
                elif spec[0] == "COMBO" and isinstance(spec[1].get("options"), str):
                    spec[1]["options"] = self._options(spec[1]["options"])
        return filled

    def _options(self, marker: str) -> list[str]:
        name = marker.removeprefix("$")
        match name:
            case "samplers":
                return list(SAMPLERS)
            case "mergeable_samplers":
                return [sampler for sampler in SAMPLERS if sampler != REFUSED_SAMPLER]
            case "schedulers":
                return list(SCHEDULERS)
            case "inputs":
                return []  # filled at the moment of asking
            case "vae":
                return [*self.files.get("vae", ()), *BUILT_IN_VAES]
            case "clips_and_gguf":
                return sorted([*self.files.get("text_encoders", ()), *self.files.get("clip_gguf", ())])
            case _:
                return list(self.files.get(name, ()))
