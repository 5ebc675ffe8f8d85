"""What a template's inputs are for, found by walking the graph back from its sampler; never by node number.

Any graph exported in API format can be read as long as it has the usual shape: one picture output, one sampler, text encoders
behind its conditioning. Where a graph has more than one of something, its manifest says which one is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from modules.ai.workflows.graph import Graph, GraphError, Link, Node, upstream
from modules.ai.workflows.masks import masks_of
from modules.ai.workflows.role_inputs import (
    CONDITIONING_INPUTS,
    INPUT_NAMES,
    LOAD_IMAGE,
    TEXT_INPUTS,
    ZERO_OUT,
    Role,
    Target,
    literal_target,
    usual_names,
    value_of_primitive,
)

#: ComfyUI's own output nodes, the best known first.
_OUTPUT_CLASSES = ("SaveImage", "SaveImageAdvanced", "PreviewImage", "SaveImageWebsocket")
#: How packs name theirs, such as "Image Save" or "SaveImageKJ".
_OUTPUT_WORDS = ("save", "image")
#: What an output node calls the pictures it is given.
_OUTPUT_INPUTS = ("images", "image")
#: Kinds of sampler nodes by the inputs that only they have.
_KSAMPLER_INPUTS = frozenset({"model", "positive", "negative", "latent_image"})
_ADVANCED_INPUTS = frozenset({"noise", "guider", "sampler", "sigmas", "latent_image"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A template's structure: the nodes the planner must know besides the role targets."""

    picture: Link  #: what the output node saves
    output: str
    sampler: str | None  #: None: nothing is sampled (an upscale)
    samplers: tuple[str, ...]
    targets: Mapping[Role, tuple[Target, ...]]
    model: Link | None  #: the diffusion model as its loader gives it
    clip: Link | None  #: the text encoder as its loader gives it
    #: Fixed sizes after the main sampler, such as a LatentUpscale before a second pass: they grow with the size that is asked.
    later_sizes: Mapping[Role, tuple[Target, ...]]
    empty_latent: str | None  #: the node that makes the empty latent; None when sampling starts from a picture

    def has(self, role: Role) -> bool:
        """Whether the template takes this value."""
        return bool(self.targets.get(role))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A manifest's own word on where a role is; exactly one of the three ways."""

    nodes: tuple[str, ...] = ()
    title: str | None = None
    class_type: str | None = None
    inputs: tuple[str, ...] = ()  #: empty: those with a usual name


def find_shape(
    graph: Graph, *, locks: Mapping[Role, Lock], sampler: str | None, output: str | None, takes_picture: bool = True
) -> Shape:
    """Walk a graph. Raises GraphError where it cannot be read without guessing.

    `takes_picture`: whether people give such a template a picture; where they do not, every `LoadImage` keeps its own.
    """
    output_node = _find_output(graph, output)
    picture = next((link for name in _OUTPUT_INPUTS if (link := graph[output_node].link(name))), None)
    if picture is None:
        raise GraphError("field_missing", output_node, "images")
    reachable = {node_id: graph[node_id] for node_id in upstream(graph, picture.node)}
    samplers = tuple(node_id for node_id, node in reachable.items() if is_sampler(node))
    main = _main_sampler(graph, samplers, sampler)
    walk = _Walk(reachable, main, takes_picture=takes_picture)
    targets = {role: _locked(graph, role, locks[role]) if role in locks else walk.targets(role) for role in Role}
    for target in (target for found in targets.values() for target in found if target.node not in reachable):
        raise GraphError("node_unused", target.node, target.input)  # a lock on something the picture does not depend on
    _refuse_shared_places(targets)
    return Shape(
        picture=picture,
        output=output_node,
        sampler=main,
        samplers=samplers,
        targets=targets,
        model=walk.model,
        clip=walk.clip(targets[Role.PROMPT]),
        later_sizes=_later_sizes(reachable, main, targets, is_said=Role.WIDTH in locks or Role.HEIGHT in locks),
        empty_latent=walk.latent if walk.latent is not None and "batch_size" in reachable[walk.latent].inputs else None,
    )


def _refuse_shared_places(targets: Mapping[Role, tuple[Target, ...]]) -> None:
    """Raise GraphError where two roles write to one place, such as one number that is both sides: the second would win, and every
    picture would have another size than asked."""
    owners: dict[Target, Role] = {}
    for role, places in targets.items():
        for place in places:
            if place in owners:
                raise GraphError("role_shared", place.node, f"{owners[place].value}, {role.value}")
            owners[place] = role


def _later_sizes(
    graph: Graph, main: str | None, targets: Mapping[Role, tuple[Target, ...]], *, is_said: bool
) -> dict[Role, tuple[Target, ...]]:
    """Both sides of every node after the main sampler that states its own; none where the manifest says where the size goes."""
    both = (Role.WIDTH, Role.HEIGHT)
    found: dict[Role, list[Target]] = {role: [] for role in both}
    before = set(upstream(graph, main)) if main is not None else set()
    if not is_said and main is not None and targets[Role.WIDTH]:
        for node_id in graph:
            sides = {role: [at for name in INPUT_NAMES[role] if (at := literal_target(graph, node_id, name))] for role in both}
            if node_id in before or not all(sides.values()):
                continue
            for role in both:
                fixed = (target for target in sides[role] if target not in targets[role] and _states_a_side(graph, target))
                found[role].extend(target for target in fixed if target not in found[role])
    return {role: tuple(sides) for role, sides in found.items()}


def _states_a_side(graph: Graph, target: Target) -> bool:
    """0 means: whatever fits the other side. Source: LatentUpscale and ImageScale in ComfyUI's nodes.py."""
    value = graph[target.node].literal(target.input)
    return isinstance(value, int | float) and value > 0


def is_sampler(node: Node) -> bool:
    """Whether a node turns noise into a latent, judged by its inputs: other packs' samplers count too."""
    return node.inputs.keys() >= _KSAMPLER_INPUTS or node.inputs.keys() >= _ADVANCED_INPUTS


def _find_output(graph: Graph, locked: str | None) -> str:
    if locked is not None:
        _need_node(graph, locked)
        return locked
    for class_type in _OUTPUT_CLASSES:
        found = [node_id for node_id, node in graph.items() if node.class_type == class_type]
        if len(found) > 1:
            raise GraphError("role_duplicate", "output", ", ".join(found))
        if found:
            return found[0]
    return _find_other_output(graph)


def _find_other_output(graph: Graph) -> str:
    """The one node of a pack that saves pictures and hands nothing on."""
    used = {link.node for node in graph.values() for _, link in node.links()}
    found = [
        node_id
        for node_id, node in graph.items()
        if node_id not in used
        and all(word in node.class_type.casefold() for word in _OUTPUT_WORDS)
        and any(node.link(name) for name in _OUTPUT_INPUTS)
    ]
    if len(found) > 1:
        raise GraphError("role_duplicate", "output", ", ".join(found))
    if not found:
        raise GraphError("role_missing", "output", "SaveImage")
    return found[0]


def planned_steps(graph: Graph) -> dict[str, int]:
    """Sampler -> the steps that it, or the scheduler behind its sigmas, names; 0 where none does."""
    return {node_id: _steps_named(graph, node_id) for node_id, node in graph.items() if is_sampler(node)}


def _steps_named(graph: Graph, sampler: str) -> int:
    named = (graph[target.node].literal(target.input) for target in _Walk(graph, sampler).targets(Role.STEPS))
    return next((steps for steps in named if isinstance(steps, int)), 0)


def _main_sampler(graph: Graph, samplers: Sequence[str], locked: str | None) -> str | None:
    if locked is not None:
        _need_node(graph, locked)
        if locked not in samplers:
            raise GraphError("role_missing", "sampler", locked)
        return locked
    if len(samplers) > 1:
        raise GraphError("role_duplicate", "sampler", ", ".join(samplers))
    return samplers[0] if samplers else None


def _need_node(graph: Graph, node_id: str) -> None:
    if node_id not in graph:
        raise GraphError("node_missing", node_id)


def _locked(graph: Graph, role: Role, lock: Lock) -> tuple[Target, ...]:
    """The targets a manifest names; every one must exist."""
    for node_id in lock.nodes:
        _need_node(graph, node_id)
    nodes = lock.nodes or tuple(
        node_id
        for node_id, node in graph.items()
        if (lock.title is not None and node.title.strip().casefold() == lock.title.strip().casefold())
        or (lock.class_type is not None and node.class_type == lock.class_type)
    )
    if not nodes:
        raise GraphError("role_missing", role.value, lock.title or lock.class_type or "")
    if not lock.nodes and len(nodes) > 1:
        raise GraphError("role_duplicate", role.value, ", ".join(nodes))
    return tuple(target for node_id in nodes for target in _inputs_of(graph, node_id, role, lock.inputs))


def _inputs_of(graph: Graph, node_id: str, role: Role, names: Sequence[str]) -> Sequence[Target]:
    """The inputs of a locked node: those that the manifest names, else the usual ones, else a primitive's only value."""
    wanted = names or usual_names(graph[node_id], role)
    found = [target for name in wanted if (target := literal_target(graph, node_id, name))]
    if not found and not names and (name := value_of_primitive(graph[node_id], wanted)):
        found = [target for target in [literal_target(graph, node_id, name)] if target]
    if not found:
        raise GraphError("field_missing", node_id, wanted[0])
    return found


class _Walk:
    """The ways back from one sampler (or, without one, from the picture)."""

    def __init__(self, graph: Graph, sampler: str | None, *, takes_picture: bool = True) -> None:
        self._graph = graph
        self._takes_picture = takes_picture
        self._sampler = sampler
        self._guider = self._behind(sampler, "guider") or sampler
        self.latent = self._origin(sampler, "latent_image", ("samples", "latent"))

    @property
    def model(self) -> Link | None:
        """The loader behind the sampler's model, past patches and LoRAs."""
        return self._last_link(self._guider, "model", ("model",))

    def clip(self, prompts: Sequence[Target]) -> Link | None:
        """The loader behind the prompt's encoder."""
        encoder = next((node_id for node_id in self._encoders("positive") if "clip" in self._graph[node_id].inputs), None)
        encoder = encoder or next((target.node for target in prompts if "clip" in self._graph[target.node].inputs), None)
        return self._last_link(encoder, "clip", ("clip",))

    def targets(self, role: Role) -> tuple[Target, ...]:
        """Where the role's value is written; empty when the graph has no such input."""
        ways: Mapping[Role, Callable[[], tuple[Target, ...]]] = {
            Role.PROMPT: lambda: self._texts("positive", role),
            Role.NEGATIVE: self._negative_texts,
            Role.SEED: lambda: self._first(role, self._sampler, self._behind(self._sampler, "noise")),
            Role.CFG: lambda: self._first(role, self._guider),
            Role.STEPS: lambda: self._first(role, self._sampler, *self._sigmas()),
            Role.SCHEDULER: lambda: self._first(role, self._sampler, *self._sigmas()),
            Role.DENOISE: lambda: self._first(role, self._sampler, *self._sigmas()),
            Role.SAMPLER: lambda: self._first(role, self._sampler, self._behind(self._sampler, "sampler")),
            Role.GUIDANCE: lambda: self._all(role, self._conditioning("positive")),
            Role.WIDTH: lambda: self._sizes(role),
            Role.HEIGHT: lambda: self._sizes(role),
            Role.SOURCE: self._pictures,
            Role.CHECKPOINT: lambda: self._first(role, self.model.node if self.model else None),
            Role.REFERENCE: tuple,  # two pictures can only be told apart by the manifest
        }
        return ways[role]()

    def _sigmas(self) -> list[str]:
        return self._chain(self._sampler, "sigmas", ("sigmas",))

    def _negative_texts(self) -> tuple[Target, ...]:
        taken = self._all(Role.PROMPT, self._encoders("positive"))
        return tuple(target for target in self._texts("negative", Role.NEGATIVE) if target not in taken)

    def _behind(self, node_id: str | None, name: str) -> str | None:
        link = self._graph[node_id].link(name) if node_id is not None else None
        return link.node if link else None

    def _chain(self, node_id: str | None, first: str, onward: Sequence[str]) -> list[str]:
        """The nodes met on the way back from `node_id` through `first` and then through `onward` inputs."""
        met: list[str] = []
        current = self._behind(node_id, first)
        while current is not None and current not in met:
            met.append(current)
            current = next((link.node for name in onward if (link := self._graph[met[-1]].link(name))), None)
        return met

    def _origin(self, node_id: str | None, first: str, onward: Sequence[str]) -> str | None:
        chain = self._chain(node_id, first, onward)
        return chain[-1] if chain else None

    def _last_link(self, node_id: str | None, first: str, onward: Sequence[str]) -> Link | None:
        """The last link of such a way: what the loader gives out."""
        if node_id is None:
            return None
        holders = [node_id, *self._chain(node_id, first, onward)]
        links = (self._graph[holder].link(name) for holder in reversed(holders) for name in (first, *onward))
        return next((link for link in links if link), None)

    def _conditioning(self, side: str) -> list[str]:
        """Every node on the way from the sampler's positive or negative input back to the text encoders."""
        start = self._graph[self._guider] if self._guider else None
        first = start and (start.link(side) or (start.link("conditioning") if side == "positive" else None))
        met: list[str] = []
        waiting = [first] if first else []
        while waiting:
            link = waiting.pop()
            if link.node in met:
                continue
            met.append(link.node)
            node = self._graph[link.node]
            if node.class_type == ZERO_OUT:
                continue
            paired = "negative" if link.output == 1 else "positive"
            names = (*CONDITIONING_INPUTS, paired) if {"positive", "negative"} <= node.inputs.keys() else CONDITIONING_INPUTS
            waiting.extend(onward for name in names if (onward := node.link(name)))
        return met

    def _encoders(self, side: str) -> list[str]:
        return [
            node_id for node_id in self._conditioning(side) if any(name in self._graph[node_id].inputs for name in TEXT_INPUTS)
        ]

    def _texts(self, side: str, role: Role) -> tuple[Target, ...]:
        encoders = self._encoders(side)
        if len(encoders) > 1:
            raise GraphError("role_duplicate", role.value, ", ".join(sorted(encoders)))
        return tuple(dict.fromkeys(target for node in encoders for target in self._texts_of(node, role)))

    def _texts_of(self, node_id: str, role: Role) -> Iterable[Target]:
        names = usual_names(self._graph[node_id], role)
        return (target for name in names if (target := literal_target(self._graph, node_id, name)))

    def _first(self, role: Role, *nodes: str | None) -> tuple[Target, ...]:
        """The role's inputs on the first of these nodes that has any."""
        return next((found for node in nodes if node is not None and (found := self._all(role, [node]))), ())

    def _all(self, role: Role, nodes: Iterable[str]) -> tuple[Target, ...]:
        found = (literal_target(self._graph, node, name) for node in nodes for name in INPUT_NAMES[role])
        return tuple(dict.fromkeys(target for target in found if target))

    def _sizes(self, role: Role) -> tuple[Target, ...]:
        """Everything before the sampler that states the picture's size; only where the latent itself follows such a value."""
        if self._sampler is None or self.latent is None:
            return ()
        both = (Role.WIDTH, Role.HEIGHT)
        nodes = [node_id for node_id in upstream(self._graph, self._sampler) if all(self._all(side, [node_id]) for side in both)]
        before_latent = upstream(self._graph, self.latent)
        return self._all(role, nodes) if any(node_id in before_latent for node_id in nodes) else ()

    def _pictures(self) -> tuple[Target, ...]:
        if not self._takes_picture:
            return ()
        loads = [node_id for node_id, node in self._graph.items() if node.class_type in LOAD_IMAGE]
        if len(loads) > 1:
            raise GraphError("role_duplicate", Role.SOURCE.value, ", ".join(loads))
        return self._all(Role.SOURCE, [*loads, *masks_of(self._graph, loads)])
