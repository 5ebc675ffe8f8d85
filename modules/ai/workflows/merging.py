"""Several slots in one workflow: as chains of stock nodes, as chains with one encode pass, or as one sampler pass.

The node pack's names and rules are those of comfy_custom_nodes/PROTOCOL.md, version 1. Whatever the form, every slot keeps its
own seed, prompt and file, so its picture is the one it would have had alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modules.ai.workflows.assembly import Assembly
from modules.ai.workflows.graph import Graph, Link, Node, to_api, upstream
from modules.ai.workflows.keys import SAVE_CLASS
from modules.ai.workflows.plan import BuiltWorkflow, MergeForm
from modules.ai.workflows.role_inputs import literal_target
from modules.ai.workflows.roles import is_sampler, planned_steps
from modules.ai.workflows.template import RESERVED_ID, SIZE_KEEPING_CLASSES
from modules.domain.images import Dimensions
from modules.domain.recipes import Seed

#: The protocol these graphs are written in; a server whose pack speaks another refuses them before queueing.
PROTOCOL = 1
#: Longest list of the protocol. Source: comfy_custom_nodes/PROTOCOL.md.
MAX_SLOTS = 16
#: Samplers that choose their steps by looking at the whole batch: one person's picture would depend on another's.
UNBATCHABLE_SAMPLERS = frozenset({"dpm_adaptive"})

#: Stock guiders the pack's guider can take the place of, and their name for the positive.
_GUIDER_POSITIVES = {"CFGGuider": "positive", "BasicGuider": "conditioning"}
_TEXT_ENCODE = "CLIPTextEncode"
_PER_SLOT_KSAMPLER_INPUTS = frozenset({"positive", "negative", "latent_image", "seed", "cfg"})


class CannotBatchError(Exception):
    """These chains have no common sampler pass; they can still be stacked. The text is for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One slot's own graph, bound and fitted to the server, up to the picture it saves."""

    slot: int
    seed: Seed
    graph: Graph
    picture: Link
    sampler: str | None
    prefix: str  #: folder and start of the file name, below the server's output folder
    size: Dimensions | None

    @property
    def file(self) -> str:
        """ComfyUI appends a counter to the prefix; the prefix is used only once, so the counter is 1."""
        return f"{self.prefix}_00001_.png"


def chained(chains: Sequence[Chain], form: MergeForm, *, has_pack: bool) -> BuiltWorkflow:
    """Complete chains side by side, sharing what is equal. With the pack: one encode pass, and no metadata in the files."""
    assembly = Assembly()
    save_nodes: dict[str, tuple[int, ...]] = {}
    for chain in chains:
        names = assembly.add_chain(chain.graph, chain.picture.node, chain.slot)
        images = Link(names[chain.picture.node], chain.picture.output)
        save = _merge_save([chain], images) if has_pack else Node(SAVE_CLASS, {"images": images, "filename_prefix": chain.prefix})
        node_id = assembly.add_node(f"{RESERVED_ID}{chain.slot}", save, [chain.slot]).node
        save_nodes[node_id] = (chain.slot,)
    if has_pack:
        _share_encoding(assembly)
    shared = {node_id: slots for node_id, slots in _slots(assembly).items() if len(slots) > 1}
    samplers = {node_id: slots for node_id, slots in shared.items() if is_sampler(assembly.graph[node_id])}
    return _built(assembly, chains, form, save_nodes, samplers)


def batched(chains: Sequence[Chain], *, max_rows: int = 0) -> BuiltWorkflow:
    """One sampler pass for all slots. Raises CannotBatchError when the chains differ in what a pass has only once.

    `max_rows`: pictures that go through the model at the same time at most; 0 leaves it to the node pack.
    """
    if len(chains) > MAX_SLOTS:
        raise CannotBatchError(f"{len(chains)} slots, the protocol has {MAX_SLOTS}")
    _refuse_more_than_one_pass(chains[0])
    assembly = Assembly()
    names = [assembly.add_chain(chain.graph, chain.picture.node, chain.slot) for chain in chains]
    samplers = [_sampler_name(chain, mine) for chain, mine in zip(chains, names, strict=True)]
    slots = [chain.slot for chain in chains]
    match assembly.graph[samplers[0]].class_type:
        case "KSampler":
            _merge_ksamplers(assembly, chains, samplers, max_rows)
        case "SamplerCustomAdvanced":
            _merge_custom_samplers(assembly, chains, samplers, max_rows)
        case other:
            raise CannotBatchError(f"sampler class {other}")
    images = Link(names[0][chains[0].picture.node], chains[0].picture.output)
    save = assembly.add_node(f"{RESERVED_ID}all", _merge_save(chains, images), slots).node
    assembly.keep_only(save)
    _share_encoding(assembly)
    for node_id in assembly.graph:
        if samplers[0] in upstream(assembly.graph, node_id):
            assembly.slots[node_id] = set(slots)
    return _built(assembly, chains, MergeForm.BATCHED, {save: tuple(slots)}, {samplers[0]: tuple(slots)})


# --- one sampler for all ------------------------------------------------------------------------------------------------


def _refuse_more_than_one_pass(chain: Chain) -> None:
    """One sampler, and nothing but decoding after it: other nodes may treat a batch as one thing (a video, a grid)."""
    nodes = upstream(chain.graph, chain.picture.node)
    if sum(is_sampler(chain.graph[node]) for node in nodes) != 1:
        raise CannotBatchError("not exactly one sampler")
    after = [node for node in nodes if node != chain.sampler and chain.sampler in upstream(chain.graph, node)]
    if any(chain.graph[node].class_type not in SIZE_KEEPING_CLASSES for node in after):
        raise CannotBatchError("more than decoding after the sampler")


def _sampler_name(chain: Chain, names: Mapping[str, str]) -> str:
    if chain.sampler is None:
        raise CannotBatchError("no sampler")
    return names[chain.sampler]


def _merge_ksamplers(assembly: Assembly, chains: Sequence[Chain], samplers: Sequence[str], max_rows: int) -> None:
    nodes = [assembly.graph[name] for name in samplers]
    common = _common(nodes, _PER_SLOT_KSAMPLER_INPUTS)
    _refuse_sampler(common.get("sampler_name"))
    slots = [chain.slot for chain in chains]
    assembly.graph[samplers[0]] = Node(
        "FuLLetMergeKSampler",
        {
            **common,
            "positive": _gather(assembly, [_link(node, "positive") for node in nodes], "positive", slots),
            "negative": _gather(assembly, [_link(node, "negative") for node in nodes], "negative", slots, may_be_one=True),
            "latent_image": _latents(assembly, [_link(node, "latent_image") for node in nodes], chains),
            "seeds": _seeds(chains),
            "cfg": _cfg(assembly.graph, samplers),
            "max_rows": max_rows,
            "protocol": PROTOCOL,
        },
    )


def _merge_custom_samplers(assembly: Assembly, chains: Sequence[Chain], samplers: Sequence[str], max_rows: int) -> None:
    graph, slots = assembly.graph, [chain.slot for chain in chains]
    nodes = [graph[name] for name in samplers]
    common = _common(nodes, frozenset({"noise", "guider", "latent_image"}))
    chosen = common["sampler"]
    if not isinstance(chosen, Link):
        raise CannotBatchError("sampler is no link")
    _refuse_sampler(graph[chosen.node].literal("sampler_name"))
    if any(graph[_link(node, "noise").node].class_type != "RandomNoise" for node in nodes):
        raise CannotBatchError("noise is not RandomNoise")
    seeds = _seeds(chains)
    graph[samplers[0]] = nodes[0].having(
        noise=assembly.add_node("merge_noise", Node("FuLLetMergeNoise", {"seeds": seeds}), slots),
        sampler=assembly.add_node("merge_sampler", Node("FuLLetMergeSampler", {"sampler": chosen, "seeds": seeds}), slots),
        guider=_merge_guiders(assembly, [_link(node, "guider").node for node in nodes], slots, max_rows),
        latent_image=_latents(assembly, [_link(node, "latent_image") for node in nodes], chains),
    )


def _merge_guiders(assembly: Assembly, guiders: Sequence[str], slots: Sequence[int], max_rows: int) -> Link:
    nodes = [assembly.graph[name] for name in guiders]
    kind = nodes[0].class_type
    if kind not in _GUIDER_POSITIVES:
        raise CannotBatchError(f"guider class {kind}")
    positive = _GUIDER_POSITIVES[kind]
    common = _common(nodes, frozenset({positive, "negative", "cfg"}))
    inputs: dict[str, object] = {**common, "max_rows": max_rows, "protocol": PROTOCOL}
    inputs["positive"] = _gather(assembly, [_link(node, positive) for node in nodes], "positive", slots)
    if kind == "CFGGuider":
        inputs["negative"] = _gather(assembly, [_link(node, "negative") for node in nodes], "negative", slots, may_be_one=True)
    inputs["cfg"] = _cfg(assembly.graph, guiders) if kind == "CFGGuider" else "1.0"
    return assembly.add_node("merge_guider", Node("FuLLetMergeGuider", inputs), slots)


def _common(nodes: Sequence[Node], per_slot: frozenset[str]) -> dict[str, object]:
    """What all nodes have alike besides the inputs each slot has for itself."""
    first = {name: value for name, value in nodes[0].inputs.items() if name not in per_slot}
    for node in nodes[1:]:
        if node.class_type != nodes[0].class_type:
            raise CannotBatchError(f"{nodes[0].class_type} and {node.class_type}")
        if {name: value for name, value in node.inputs.items() if name not in per_slot} != first:
            raise CannotBatchError(f"{node.class_type} settings differ")
    return first


def _refuse_sampler(name: object) -> None:
    if name in UNBATCHABLE_SAMPLERS:
        raise CannotBatchError(f"sampler {name}")


def _link(node: Node, name: str) -> Link:
    link = node.link(name)
    if link is None:
        raise CannotBatchError(f"{node.class_type}.{name} is no link")
    return link


def _seeds(chains: Sequence[Chain]) -> str:
    return json.dumps([int(chain.seed) for chain in chains])


def _cfg(graph: Graph, nodes: Sequence[str]) -> str:
    values: list[float] = []
    for node_id in nodes:
        target = literal_target(graph, node_id, "cfg")
        value = graph[target.node].literal(target.input) if target else None
        if not isinstance(value, int | float):
            raise CannotBatchError("cfg is computed")
        values.append(float(value))
    return json.dumps(values)


def _gather(assembly: Assembly, links: Sequence[Link], name: str, slots: Sequence[int], *, may_be_one: bool = False) -> Link:
    """The slots' conditionings as one list. Texts go straight into one encode pass; anything else keeps its own nodes.

    `may_be_one`: a list of one serves all slots.
    """
    links = links[:1] if may_be_one and len(set(links)) == 1 else links
    encoders = [assembly.graph[link.node] for link in links]
    clip = encoders[0].link("clip")
    if all(_is_text_encoder(node) and node.link("clip") == clip for node in encoders):
        batch = assembly.add_node(f"encode_{name}", _encode(clip, encoders), slots)
        for index, link in enumerate(links):  # whoever else took the stock encoder's answer takes the same row
            assembly.graph[link.node] = _select(batch, index)
        return batch
    conditionings: dict[str, object] = {f"cond_{index}": link for index, link in enumerate(links)}
    return assembly.add_node(f"gather_{name}", Node("FuLLetMergeConditioning", conditionings), slots)


def _latents(assembly: Assembly, links: Sequence[Link], chains: Sequence[Chain]) -> Link:
    """One latent with a row per slot: the common empty one made longer, or everybody's own gathered."""
    first, slots = assembly.graph[links[0].node], [chain.slot for chain in chains]
    if len({chain.size for chain in chains}) > 1:
        raise CannotBatchError("sizes differ")
    if first.literal("batch_size") == 1:
        if len(set(links)) > 1:
            raise CannotBatchError("empty latents differ")
        return assembly.add_node("empty_latents", first.having(batch_size=len(slots)), slots)
    latents: dict[str, object] = {f"latent_{index}": link for index, link in enumerate(links)}
    return assembly.add_node("gather_latents", Node("FuLLetMergeLatents", latents), slots)


# --- shared parts -------------------------------------------------------------------------------------------------------


def _share_encoding(assembly: Assembly) -> None:
    """Replace the stock text encoders of one CLIP by one encode pass and a selector in each one's place."""
    by_clip: dict[object, list[str]] = {}
    for node_id, node in assembly.graph.items():
        if _is_text_encoder(node):
            by_clip.setdefault(node.inputs["clip"], []).append(node_id)
    for clip, encoders in by_clip.items():
        for start in range(0, len(encoders), MAX_SLOTS):
            _encode_together(assembly, clip, encoders[start : start + MAX_SLOTS])


def _encode_together(assembly: Assembly, clip: object, encoders: Sequence[str]) -> None:
    if len(encoders) < 2:
        return
    served = set().union(*(assembly.slots[name] for name in encoders))
    batch = assembly.add_node("encode", _encode(clip, [assembly.graph[name] for name in encoders]), served)
    for index, name in enumerate(encoders):
        assembly.graph[name] = _select(batch, index)


def _encode(clip: object, encoders: Sequence[Node]) -> Node:
    prompts = _json([node.literal("text") for node in encoders])
    return Node("CLIPTextEncodeBatch", {"clip": clip, "prompts": prompts, "protocol": PROTOCOL})


def _select(batch: Link, index: int) -> Node:
    return Node("FuLLetMergeSelect", {"conds": batch, "index": index})


def _is_text_encoder(node: Node) -> bool:
    return node.class_type == _TEXT_ENCODE and isinstance(node.literal("text"), str) and node.link("clip") is not None


def _merge_save(chains: Sequence[Chain], images: Link) -> Node:
    slots = [{"id": str(chain.slot), "prefix": chain.prefix} for chain in chains]
    return Node("FuLLetMergeSaveImage", {"images": images, "slots": _json(slots), "type": "output"})


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _slots(assembly: Assembly) -> dict[str, tuple[int, ...]]:
    return {node_id: tuple(sorted(slots)) for node_id, slots in assembly.slots.items()}


def _built(
    assembly: Assembly,
    chains: Sequence[Chain],
    form: MergeForm,
    save_nodes: Mapping[str, tuple[int, ...]],
    preview_rows: Mapping[str, tuple[int, ...]],
) -> BuiltWorkflow:
    return BuiltWorkflow(
        graph=to_api(assembly.graph),
        form=form,
        slot_of_node=_slots(assembly),
        save_nodes=save_nodes,
        file_of_slot={chain.slot: chain.file for chain in chains},
        expected_size={chain.slot: chain.size for chain in chains},
        preview_rows=preview_rows,
        sampler_steps=planned_steps(assembly.graph),
    )
