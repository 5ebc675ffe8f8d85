"""Templates: a graph and its manifest, checked once at start, and what of them a server lacks."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from modules.ai.listing import CHAIN_SEPARATOR, NodeClass, ServerListing
from modules.ai.node_specs import InputSpec
from modules.ai.workflows.bypass import without
from modules.ai.workflows.graph import Graph, GraphError, Node, pruned, read_graph, to_api, upstream
from modules.ai.workflows.manifest import LoraPlace, Manifest, MergeLevel, read_manifest
from modules.ai.workflows.masks import reads_mask
from modules.ai.workflows.role_inputs import PRIMITIVE_INPUTS, Role, Target
from modules.ai.workflows.roles import Shape, find_shape
from modules.ai.workflows.texts import effective_nodes, is_text, unassigned_texts
from modules.domain.catalogue import KINDS_WITH_SOURCE, TemplateProblem, WorkflowKind
from modules.domain.jobs import ServerName
from modules.domain.recipes import WorkflowName

MANIFEST_SUFFIX = ".manifest.toml"

#: Ids of our own output nodes start so; a template may not use them.
RESERVED_ID = "save_"
#: What a template of each kind must take, in the order in which the first missing one is named.
NEEDED_ROLES: Mapping[WorkflowKind, tuple[Role, ...]] = {
    WorkflowKind.IMAGINE: (Role.PROMPT, Role.SEED, Role.WIDTH, Role.HEIGHT),
    WorkflowKind.EDIT: (Role.PROMPT, Role.SEED, Role.SOURCE),
    WorkflowKind.VARY: (Role.PROMPT, Role.SEED, Role.SOURCE, Role.DENOISE),
    WorkflowKind.UPSCALE: (Role.SOURCE,),
    WorkflowKind.FORM: (
        Role.CHECKPOINT,
        Role.PROMPT,
        Role.NEGATIVE,
        Role.SEED,
        Role.STEPS,
        Role.CFG,
        Role.SAMPLER,
        Role.SCHEDULER,
        Role.WIDTH,
        Role.HEIGHT,
    ),
}
#: Model patches that carry state from step to step over the whole batch, so that one picture would change another.
#: Source: docs/merging.md; the class names are ComfyUI's, TeaCache and its kin come from node packs.
COUPLING_CLASSES = (
    "*EasyCache*",
    "*LazyCache*",
    "*TeaCache*",
    "*FBCache*",
    "*FirstBlockCache*",
    "*MagCache*",
    "APG",
    "Mahiro",
    "SelfAttentionGuidance",
)
#: Nodes that may stand between a sampler and the output without changing the picture's size.
SIZE_KEEPING_CLASSES = frozenset({"VAEDecode", "VAEDecodeTiled"})
#: Inputs that name a file on the server.
FILE_INPUTS = frozenset({"ckpt_name", "unet_name", "vae_name", "lora_name", "model_name", "control_net_name", "style_model_name"})
_CLIP_NAME = "clip_name"


def is_file_input(name: str) -> bool:
    """Whether an input names a model file (`clip_name1` ... too)."""
    return name in FILE_INPUTS or name.rstrip("1234") == _CLIP_NAME


@dataclass(frozen=True)
class Template:
    """One runnable template."""

    name: WorkflowName
    graph: Graph  #: only what the picture depends on; the output node itself is ours to write
    manifest: Manifest
    shape: Shape

    @cached_property
    def digest(self) -> str:
        """Changes whenever the graph or what the manifest says of it does."""
        said = [
            to_api(self.graph),
            list(self.shape.picture),
            self.manifest.model_dump(mode="json", include={"merge", "lora", "fallbacks"}),
        ]
        said.append({role.value: list(targets) for role, targets in self.shape.targets.items()})
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def without_reference(self) -> Graph:
        """The graph for whoever gives no reference picture; the same where the template has no place for one.

        Raises GraphError where it cannot do without: `read_template` has seen to that.
        """
        loaders = {target.node for target in self.shape.targets[Role.REFERENCE]}
        return without(self.graph, loaders, self.shape.picture) if loaders else self.graph

    @cached_property
    def merge(self) -> MergeLevel:
        """What the manifest allows, held back by what the graph contains."""
        if self.shape.sampler is None or any(_couples(node.class_type) for node in self.graph.values()):
            return MergeLevel.NEVER
        return self.manifest.merge

    @cached_property
    def lora(self) -> LoraPlace:
        """Where LoRAs go."""
        model, clip = self.shape.model, self.shape.clip
        if self.manifest.lora is not None or model is None:
            return self.manifest.lora or LoraPlace.NONE
        return LoraPlace.MODEL_AND_CLIP if clip and clip.node == model.node else LoraPlace.MODEL

    @cached_property
    def keeps_size(self) -> bool:
        """Whether the picture has exactly the size that was asked for."""
        sampler = self.shape.sampler
        after = [node for node in self.graph if node != sampler and sampler in upstream(self.graph, node)]
        return sampler is not None and all(self.graph[node].class_type in SIZE_KEEPING_CLASSES for node in after)

    def _reads_mask(self, picture: Target) -> bool:
        return reads_mask(self.graph, picture.node, is_named_before=picture.input in PRIMITIVE_INPUTS)

    def own_number(self, role: Role) -> float | None:
        """The number that the graph itself has for a role; None where it has none."""
        target = next(iter(self.shape.targets[role]), None)
        value = self.graph[target.node].literal(target.input) if target else None
        if isinstance(value, str):  # ComfyUI takes numbers that were written as text
            try:
                value = float(value)
            except ValueError:
                return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return value

    def own_text(self, role: Role) -> str:
        """The text that the graph itself has for a role; empty where it has none."""
        texts = (self.graph[target.node].literal(target.input) for target in self.shape.targets[role])
        return next((text for text in texts if isinstance(text, str) and text.strip()), "")

    def later_factor(self, role: Role, target: Target) -> float:
        """How many times as long a side of a later pass is as that of the first."""
        value, own = self.graph[target.node].literal(target.input), self.own_number(role)
        return value / own if isinstance(value, int | float) and own else 1.0

    @cached_property
    def reads_transparency(self) -> frozenset[Role]:
        """The input pictures whose transparency the graph takes as a mask, as templates for inpainting do."""
        return frozenset(
            role
            for role in (Role.SOURCE, Role.REFERENCE)
            if any(self._reads_mask(target) for target in self.shape.targets.get(role, ()))
        )

    def chain_of(self, class_type: str) -> str:
        """The classes that may stand in for this one, as a chain for `ServerListing.resolve`; itself where there are none."""
        for chain in self.manifest.fallbacks:
            if any(fnmatchcase(class_type, alternative) for alternative in chain):
                return CHAIN_SEPARATOR.join(chain)
        return class_type

    def problems_on(self, server: ServerName, listing: ServerListing) -> Iterator[TemplateProblem]:
        """Everything this server lacks for it: node classes first, then inputs, then files and words of lists."""
        for lack in sorted(dict.fromkeys(self._lacks(listing)), key=lambda lack: lack.what != "node_missing"):
            place, _, input_name = lack.field.partition(".")
            available = listing.closest(place, input_name, lack.name) if lack.what in _LISTED else ()
            yield TemplateProblem(
                workflow=self.name, server=server, what=lack.what, name=lack.name, field=lack.field, available=available
            )

    def runs_on(self, listing: ServerListing) -> bool:
        """Whether this server lacks nothing; cheaper than naming what it lacks."""
        return next(self._lacks(listing), None) is None

    def _lacks(self, listing: ServerListing) -> Iterator[_Lack]:
        for node_id, node in self.graph.items():
            chain = self.chain_of(node.class_type)
            class_name = listing.resolve(chain)
            if class_name is None:
                yield _Lack("node_missing", chain)
            else:
                yield from self._input_lacks(listing.classes[class_name], node_id, node)

    def _input_lacks(self, known: NodeClass, node_id: str, node: Node) -> Iterator[_Lack]:
        specs = known.inputs_given(node.inputs)
        if known.name == node.class_type:  # a stand-in class is fitted when the graph is built
            absent = [name for name, spec in specs.items() if spec.is_required and name not in node.inputs]
            yield from (_Lack("field_missing", f"{known.name} ({node_id})", name) for name in absent)
        for name, value in node.inputs.items():
            spec = specs.get(name)
            if spec is not None and self._is_outside(node_id, name, value, spec):
                yield _Lack("number_outside", str(value), f"{known.name}.{name}")
            if not isinstance(value, str) or spec is None:
                continue
            if spec.is_long_text and "CONDITIONING" in known.outputs and self._is_left_over(node_id, name, value):
                yield _Lack("text_unassigned", f"{known.name} ({node_id})", name)
            if not spec.accepts(value) and not self._is_ours_to_write(node_id, name, spec):
                what = "picture_missing" if spec.is_upload else "file_missing" if is_file_input(name) else "choice_missing"
                yield _Lack(what, value, f"{known.name}.{name}")

    def _is_outside(self, node_id: str, name: str, value: object, spec: InputSpec) -> bool:
        """Whether the server would refuse a number that we send as it was exported."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        is_inside = (spec.low is None or spec.low <= value) and (spec.high is None or value <= spec.high)
        return not is_inside and (node_id, name) not in self._always_written

    @cached_property
    def _always_written(self) -> frozenset[Target]:
        """Inputs that get a value of ours whatever the graph has there."""
        said = {
            Role.SEED: True,
            Role.WIDTH: self.manifest.size,
            Role.HEIGHT: self.manifest.size,
            Role.STEPS: self.manifest.steps,
            Role.CFG: self.manifest.cfg,
            Role.GUIDANCE: self.manifest.guidance,
            Role.DENOISE: self.manifest.denoise,
        }
        return frozenset(target for role, section in said.items() if section for target in self.shape.targets[role])

    def _is_ours_to_write(self, node_id: str, name: str, spec: InputSpec) -> bool:
        """Whether another name than the exported one is sent: an uploaded picture, or the model file that people choose."""
        target = (node_id, name)
        if target in self.shape.targets[Role.SOURCE] or target in self.shape.targets[Role.REFERENCE]:
            return True
        return bool(spec.options) and self.manifest.picks_checkpoint and target in self.shape.targets[Role.CHECKPOINT]

    def _is_left_over(self, node_id: str, name: str, value: str) -> bool:
        """Whether a text that reaches the picture belongs to no role; what a server calls a long text may be new to us."""
        if not is_text(value) or node_id in self.manifest.nodes.fixed_text or node_id not in self._effective:
            return False
        return not any((node_id, name) in targets for targets in self.shape.targets.values())

    @cached_property
    def _effective(self) -> frozenset[str]:
        return effective_nodes(self.graph, self.shape.picture)


class _Lack(NamedTuple):
    """Something a server lacks; see TemplateProblem."""

    what: str
    name: str
    field: str = ""


#: Problems for which it helps to see what the server has instead.
_LISTED = frozenset({"file_missing", "choice_missing"})


def read_template(name: WorkflowName, graph_text: str, manifest_text: str) -> Template:
    """Parse and check a template. Raises GraphError naming the first missing node, role or field."""
    manifest = read_manifest(manifest_text)
    graph = read_graph(graph_text)
    _check_nodes(graph, manifest)
    shape = _shape(graph, manifest)
    _check_roles(shape, manifest)
    for loose in unassigned_texts(graph, shape.picture, shape.targets, manifest.nodes.fixed_text):
        raise GraphError("text_unassigned", loose.node, loose.input)
    template = Template(name, pruned(graph, shape.picture.node), manifest, shape)
    _check_reference_is_optional(template)
    return template


def _check_nodes(graph: Graph, manifest: Manifest) -> None:
    """What the manifest counts on is there, and what is ours is free."""
    for node_id in graph:
        if node_id.startswith(RESERVED_ID):
            raise GraphError("node_id_reserved", node_id)
    for node_id in (*manifest.nodes.locked, *manifest.nodes.fixed_text):
        if node_id not in graph:
            raise GraphError("node_missing", node_id)


def _shape(graph: Graph, manifest: Manifest) -> Shape:
    locks = {role: section.lock for role, section in manifest.roles.items()}
    takes_picture = manifest.kind in KINDS_WITH_SOURCE
    if Role.SOURCE in locks and not takes_picture:
        raise GraphError("role_unused", Role.SOURCE.value, manifest.kind.value)
    nodes = manifest.nodes
    return find_shape(graph, locks=locks, sampler=nodes.sampler, output=nodes.output, takes_picture=takes_picture)


def _check_roles(shape: Shape, manifest: Manifest) -> None:
    """Everything that people of this kind of template set is there to be set."""
    if shape.sampler is None and manifest.kind is not WorkflowKind.UPSCALE:
        raise GraphError("role_missing", "sampler", "KSampler or SamplerCustomAdvanced")
    for role in NEEDED_ROLES[manifest.kind]:
        if not shape.has(role):
            raise GraphError("role_missing", role.value)
    for section, role in (
        (manifest.size, Role.WIDTH),
        (manifest.steps, Role.STEPS),
        (manifest.cfg, Role.CFG),
        (manifest.guidance, Role.GUIDANCE),
    ):
        if section is not None and not shape.has(role):
            raise GraphError("role_missing", role.value)  # people would set a number that changes nothing


def _check_reference_is_optional(template: Template) -> None:
    """People may leave the reference away: everything else must be there without it."""
    others = (target for role, targets in template.shape.targets.items() if role is not Role.REFERENCE for target in targets)
    for target in others:
        if target.node not in template.without_reference:
            raise GraphError("picture_needed", Role.REFERENCE.value, target.node)


@dataclass(frozen=True, slots=True)
class Library:
    """Every template under `flujos/`, and what is wrong with those that could not be read."""

    templates: Mapping[WorkflowName, Template]
    problems: tuple[TemplateProblem, ...] = ()


def load_library(folder: Path) -> Library:
    """Read every `<name>.json` and its `<name>.manifest.toml`; blocking, done once at start."""
    templates: dict[WorkflowName, Template] = {}
    problems: list[TemplateProblem] = []
    graphs = {path.stem for path in folder.glob("*.json")}
    manifests = {path.name.removesuffix(MANIFEST_SUFFIX) for path in folder.glob(f"*{MANIFEST_SUFFIX}")}
    for text in sorted(graphs | manifests):
        name = WorkflowName(text)
        try:
            templates[name] = read_template(name, *(_read(folder / f"{name}{ending}") for ending in (".json", MANIFEST_SUFFIX)))
        except GraphError as error:
            problems.append(TemplateProblem(workflow=name, server=None, what=error.what, name=error.name, field=error.field))
    return Library(templates, tuple(problems))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")  # editors on Windows put a byte order mark in front
    except FileNotFoundError as error:
        raise GraphError("file_missing", path.name) from error
    except (OSError, UnicodeDecodeError) as error:
        raise GraphError("file_unreadable", path.name) from error


def _couples(class_type: str) -> bool:
    return any(fnmatchcase(class_type, pattern) for pattern in COUPLING_CLASSES)
