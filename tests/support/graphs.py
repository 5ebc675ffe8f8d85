"""Graphs as tests see them: a server's listing, ComfyUI's own checks, and what a graph means for one slot.

The listing is what a real ComfyUI 0.33 with our node pack answered (`tests/recordings/object_info_templates.json`), plus the two
GGUF loaders in the shape their pack gives them, with the files our templates name.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from modules.ai.catalogue import TemplateCatalogue
from modules.ai.listing import Listings, ServerListing
from modules.ai.workflows.gain import MergeMode
from modules.ai.workflows.plan import InputPicture
from modules.ai.workflows.planner import Planner
from modules.ai.workflows.template import Library, load_library
from modules.domain.catalogue import Wish
from modules.domain.jobs import Attempt, AttemptId, BootId, Job, JobId, JobState, Origin, ServerName, WorkClass
from modules.domain.people import ChannelId, GuildId, InteractionId, UserId
from modules.domain.recipes import Recipe
from modules.domain.servers import MergeCapability, ServerFacts

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "recordings" / "object_info_templates.json"
SERVER = ServerName("gpu-1")

ObjectInfo = dict[str, Any]
ApiGraph = Mapping[str, Mapping[str, Any]]

#: The files the templates of this repository name, and a little more.
FILES: Mapping[str, Sequence[str]] = {
    "CheckpointLoaderSimple.ckpt_name": ["sd_xl_base_1.0.safetensors", "other.safetensors"],
    "UNETLoader.unet_name": ["z_image_turbo_bf16.safetensors"],
    "UnetLoaderGGUF.unet_name": ["flux-2-klein-4b-Q4_K_M.gguf"],
    "CLIPLoader.clip_name": ["qwen_3_4b.safetensors"],
    "CLIPLoaderGGUF.clip_name": ["Qwen3-4B-Q4_K_M.gguf"],
    "VAELoader.vae_name": ["ae.safetensors", "flux2-vae.safetensors"],
    "LoraLoader.lora_name": ["ink.safetensors", "style/clay.safetensors", "style/oil.safetensors"],
    "LoraLoaderModelOnly.lora_name": ["ink.safetensors", "style/clay.safetensors", "style/oil.safetensors"],
    "UpscaleModelLoader.model_name": ["RealESRGAN_x4plus.pth"],
}


@cache
def _recorded() -> str:
    return RECORDED.read_text("utf-8")


def an_object_info(files: Mapping[str, Sequence[str]] | None = None, *, without: Sequence[str] = ()) -> ObjectInfo:
    """`/object_info` of a server with everything our templates need, less the classes in `without`."""
    info: ObjectInfo = json.loads(_recorded())
    for name, field in (("UnetLoaderGGUF", "unet_name"), ("CLIPLoaderGGUF", "clip_name")):
        info[name] = {
            "input": {"required": {field: [[]]}},
            "output": ["CLIP" if "CLIP" in name else "MODEL"],
            "output_node": False,
        }
    info["CLIPLoaderGGUF"]["input"]["required"]["type"] = copy.deepcopy(info["CLIPLoader"]["input"]["required"]["type"])
    for place, names in {**FILES, **(files or {})}.items():
        class_name, field = place.split(".")
        spec = info[class_name]["input"]["required"][field]
        if isinstance(spec[0], list):
            spec[0] = list(names)
        else:
            spec[1]["options"] = list(names)
    return {name: entry for name, entry in info.items() if name not in without}


def a_listing(files: Mapping[str, Sequence[str]] | None = None, *, without: Sequence[str] = ()) -> ServerListing:
    return ServerListing.from_object_info(an_object_info(files, without=without))


@cache
def the_library() -> Library:
    return load_library(ROOT / "flujos")


def a_catalogue(*listings: ServerListing, library: Library | None = None) -> TemplateCatalogue:
    """A catalogue that knows these servers (none: no server was ever reached)."""
    known = Listings()
    for number, listing in enumerate(listings, start=1):
        known.update(ServerName(f"gpu-{number}"), listing)
    return TemplateCatalogue(library=library or the_library(), listings=known)


def a_planner(
    listing: ServerListing | None = None, *, mode: MergeMode = MergeMode.AUTO, library: Library | None = None
) -> Planner:
    listings = Listings()
    if listing is not None:
        listings.update(SERVER, listing)
    return Planner(library=library or the_library(), listings=listings, mode=mode)


def facts(capability: MergeCapability = MergeCapability.FULL, *, vram_gb: float = 0) -> ServerFacts:
    """Of the only server; its memory is unknown unless it is said."""
    return ServerFacts(name=SERVER, version="0.33.0", device="cpu", vram_bytes=int(vram_gb * 2**30), capability=capability)


_seq = itertools.count(1)


def a_job(recipe: Recipe, work: WorkClass) -> Job:
    number = next(_seq)
    return Job(
        id=JobId(uuid4()),
        seq=number,
        interaction_id=InteractionId(number),
        user_id=UserId(number),
        guild_id=GuildId(1),
        display_name="someone",
        language="en",
        recipe=recipe,
        work=work,
        origin=Origin.IMAGINE,
        state=JobState.SUBMITTING,
        channel_id=ChannelId(number),
        accepted_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def an_attempt(*jobs: Job) -> Attempt:
    return Attempt(
        id=AttemptId(uuid4()), server=SERVER, boot_id=BootId(UUID(int=1)), jobs=jobs, claimed_at=datetime(2026, 1, 1, tzinfo=UTC)
    )


def attempt_of(catalogue: TemplateCatalogue, *wishes: Wish) -> Attempt:
    """One job for each wish, in one attempt."""
    return an_attempt(*(a_job(*catalogue.resolve(wish)) for wish in wishes))


def uploads_of(attempt: Attempt) -> dict[InputPicture, str]:
    """A name on the server for every input picture."""
    blobs = {blob for job in attempt.jobs for blob in (job.recipe.source, job.recipe.reference) if blob is not None}
    return {InputPicture(blob): f"fullet/{blob}.png" for blob in sorted(blobs)}


def single(job: Job, index: int) -> Job:
    """The job that asks for just this picture of another job."""
    return replace(job, recipe=replace(job.recipe, count=1, seed=job.recipe.seed_of(index)))


# --- ComfyUI's checks ---------------------------------------------------------------------------------------------------


def faults_of(graph: ApiGraph, info: ObjectInfo) -> list[str]:
    """What `POST /prompt` would find wrong, in the words of its error types. Source: tests/recordings and execution.py."""
    return [fault for node_id, node in graph.items() for fault in _node_faults(graph, node_id, node, info)]


def _node_faults(graph: ApiGraph, node_id: str, node: Mapping[str, Any], info: ObjectInfo) -> Iterator[str]:
    known = info.get(node["class_type"])
    if known is None:
        yield f"{node_id}: missing_node_type {node['class_type']}"
        return
    specs = {**known["input"].get("optional", {}), **known["input"].get("required", {})}
    for name in known["input"].get("required", {}):
        if name not in node["inputs"]:
            yield f"{node_id}: required_input_missing {name}"
    for name, value in node["inputs"].items():
        if name not in specs:
            yield f"{node_id}: unknown input {name}"  # ComfyUI ignores it; we never mean it
        elif isinstance(value, list):
            yield from _link_faults(graph, node_id, name, value, specs[name], info)
        elif fault := _value_fault(name, value, specs[name]):
            yield f"{node_id}: {fault}"


def _link_faults(graph: ApiGraph, node_id: str, name: str, link: list[Any], spec: list[Any], info: ObjectInfo) -> Iterator[str]:
    source = graph.get(link[0])
    if source is None:
        yield f"{node_id}: bad_linked_input {name}"
        return
    outputs = info.get(source["class_type"], {}).get("output", [])
    given = outputs[link[1]] if link[1] < len(outputs) else "nothing"
    if given != spec[0] and spec[0] != "*":
        yield f"{node_id}: return_type_mismatch {name} ({given})"


def _value_fault(name: str, value: Any, spec: list[Any]) -> str | None:
    kind, details = spec[0], spec[1] if len(spec) > 1 else {}
    options = kind if isinstance(kind, list) else details.get("options") if kind == "COMBO" else None
    if options is not None:
        return None if value in options or details.get("image_upload") else f"value_not_in_list {name}: {value}"
    if kind in ("INT", "FLOAT"):
        if isinstance(value, bool) or not isinstance(value, int if kind == "INT" else (int, float)):
            return f"invalid_input_type {name}"
        if "min" in details and value < details["min"]:
            return f"value_smaller_than_min {name}"
        if "max" in details and value > details["max"]:
            return f"value_bigger_than_max {name}"
    if kind == "STRING" and not isinstance(value, str):
        return f"invalid_input_type {name}"
    return f"a value where a link is due {name}" if kind.isupper() and kind in ("MODEL", "CLIP", "VAE", "LATENT") else None


# --- what a graph means -------------------------------------------------------------------------------------------------

Meaning = tuple[str, tuple[tuple[str, object], ...]]


def meaning_of(graph: ApiGraph, save_node: str, row: int | None) -> Meaning:
    """What an output node's picture depends on, written out as a tree of stock nodes, without ids.

    Nodes of our pack become the stock nodes they stand for, with the values of this row; so a slot of a merged graph and the
    same recipe alone must have equal meanings.
    """
    return _Reader(graph).node(save_node, row)


class _Reader:
    def __init__(self, graph: ApiGraph) -> None:
        self._graph = graph

    def node(self, node_id: str, row: int | None) -> Meaning:
        node = self._graph[node_id]
        reader = _PACK_READERS.get(node["class_type"])
        if reader is not None:
            return reader(self, node["inputs"], row)
        inputs = dict(node["inputs"])
        if row is not None and "batch_size" in inputs:
            inputs["batch_size"] = 1  # this slot's own row
        return self.plain(node["class_type"], inputs, row)

    def plain(self, class_type: str, inputs: Mapping[str, Any], row: int | None) -> Meaning:
        inputs = {name: value for name, value in inputs.items() if name != "protocol"}
        return class_type, tuple(sorted((name, self.value(value, row)) for name, value in inputs.items()))

    def value(self, value: Any, row: int | None) -> object:
        return (self.node(value[0], row), value[1]) if isinstance(value, list) else value


def _at(values: Any, row: int | None) -> Any:
    """The row's value of a JSON list; a list of one, or a bare value, serves all."""
    read = json.loads(values)
    assert row is not None
    return read if not isinstance(read, list) else read[0] if len(read) == 1 else read[row]


def _encode(reader: _Reader, inputs: Mapping[str, Any], row: int | None) -> Meaning:
    return reader.plain("CLIPTextEncode", {"clip": inputs["clip"], "text": _at(inputs["prompts"], row)}, None)


def _select(reader: _Reader, inputs: Mapping[str, Any], row: int | None) -> Meaning:
    return reader.node(inputs["conds"][0], inputs["index"])


def _gathered(prefix: str) -> Callable[[_Reader, Mapping[str, Any], int | None], Meaning]:
    def read(reader: _Reader, inputs: Mapping[str, Any], row: int | None) -> Meaning:
        names = [name for name in inputs if name.startswith(prefix)]
        assert names == [f"{prefix}_{index}" for index in range(len(names))], "gaps"
        link = inputs[f"{prefix}_{row if len(names) > 1 else 0}"]
        return reader.node(link[0], None)

    return read


def _ksampler(reader: _Reader, inputs: Mapping[str, Any], row: int | None) -> Meaning:
    rest = {name: value for name, value in inputs.items() if name not in ("seeds", "cfg", "max_rows")}
    return reader.plain("KSampler", rest | {"seed": _at(inputs["seeds"], row), "cfg": _at(inputs["cfg"], row)}, row)


def _guider(reader: _Reader, inputs: Mapping[str, Any], row: int | None) -> Meaning:
    if "negative" not in inputs:
        assert _at(inputs["cfg"], row) == 1
        return reader.plain("BasicGuider", {"model": inputs["model"], "conditioning": inputs["positive"]}, row)
    rest = {name: inputs[name] for name in ("model", "positive", "negative")}
    return reader.plain("CFGGuider", rest | {"cfg": _at(inputs["cfg"], row)}, row)


def _noise(reader: _Reader, inputs: Mapping[str, Any], row: int | None) -> Meaning:
    return reader.plain("RandomNoise", {"noise_seed": _at(inputs["seeds"], row)}, row)


def _sampler(reader: _Reader, inputs: Mapping[str, Any], row: int | None) -> Meaning:
    return reader.node(inputs["sampler"][0], row)


def _save(reader: _Reader, inputs: Mapping[str, Any], row: int | None) -> Meaning:
    slots = json.loads(inputs["slots"])
    slot = slots[row or 0]
    return reader.plain("SaveImage", {"images": inputs["images"], "filename_prefix": slot["prefix"]}, row or 0)


_PACK_READERS: Mapping[str, Callable[[_Reader, Mapping[str, Any], int | None], Meaning]] = {
    "CLIPTextEncodeBatch": _encode,
    "FuLLetMergeSelect": _select,
    "FuLLetMergeConditioning": _gathered("cond"),
    "FuLLetMergeLatents": _gathered("latent"),
    "FuLLetMergeKSampler": _ksampler,
    "FuLLetMergeGuider": _guider,
    "FuLLetMergeNoise": _noise,
    "FuLLetMergeSampler": _sampler,
    "FuLLetMergeSaveImage": _save,
}
