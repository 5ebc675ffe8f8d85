"""A recipe's values in a template: JSON values at mapped inputs, a chain of LoRAs behind the loader, nothing else touched."""

from __future__ import annotations

from collections.abc import Mapping

from modules.ai.listing import NodeClass, ServerListing
from modules.ai.workflows.graph import Graph, Link, Node, Value, consumers, with_input
from modules.ai.workflows.manifest import LoraPlace
from modules.ai.workflows.plan import InputPicture
from modules.ai.workflows.role_inputs import Role
from modules.ai.workflows.template import Template
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import Dimensions
from modules.domain.recipes import Recipe, Seed

#: Outputs of LoraLoader: the model, then the text encoder.
_LORA_MODEL, _LORA_CLIP = 0, 1
#: Sides of a latent are multiples of this. Source: LatentUpscale in ComfyUI's nodes.py.
_LATER_GRID_PX = 8


def bind(template: Template, recipe: Recipe, *, seed: Seed, uploads: Mapping[InputPicture, str]) -> dict[str, Node]:
    """The template's graph for one picture of a recipe. `uploads`: input picture -> its name on the server.

    Without a reference picture, the nodes that would look at it are bypassed. Raises PICTURE_GONE when an input picture was not
    uploaded.
    """
    graph = dict(template.graph if recipe.reference is not None else template.without_reference)
    for role, value in _values(template, recipe, seed, uploads).items():
        for target in template.shape.targets[role]:
            with_input(graph, target.node, target.input, value)
    if recipe.size is not None:
        _grow_later_sizes(graph, template, recipe.size)
    if template.shape.empty_latent is not None:
        with_input(graph, template.shape.empty_latent, "batch_size", 1)  # how many pictures is the recipe's business
    if recipe.loras and template.lora is not LoraPlace.NONE:
        _insert_loras(graph, template, recipe)
    return graph


def _values(template: Template, recipe: Recipe, seed: Seed, uploads: Mapping[InputPicture, str]) -> dict[Role, Value]:
    """What each role gets; roles the recipe leaves open keep the template's own value.

    So do numbers that the manifest does not name and nobody changed: several nodes may have several of them.
    """
    size, manifest = recipe.size, template.manifest
    pictures = input_pictures(template, recipe)
    values: dict[Role, Value | None] = {
        Role.PROMPT: recipe.prompt,
        Role.NEGATIVE: recipe.negative_prompt or None,
        Role.SEED: int(seed),
        Role.STEPS: recipe.steps if manifest.steps or recipe.steps != template.own_number(Role.STEPS) else None,
        Role.CFG: recipe.cfg if manifest.cfg or recipe.cfg != template.own_number(Role.CFG) else None,
        Role.GUIDANCE: recipe.guidance,
        Role.SAMPLER: recipe.sampler,
        Role.SCHEDULER: recipe.scheduler,
        Role.DENOISE: recipe.denoise if manifest.denoise or recipe.denoise != template.own_number(Role.DENOISE) else None,
        Role.WIDTH: size.width_px if size else None,
        Role.HEIGHT: size.height_px if size else None,
        Role.SOURCE: _uploaded(pictures.get(Role.SOURCE), uploads) if template.shape.has(Role.SOURCE) else None,
        Role.REFERENCE: _uploaded(pictures.get(Role.REFERENCE), uploads) if recipe.reference is not None else None,
        Role.CHECKPOINT: recipe.checkpoint,
    }
    return {role: value for role, value in values.items() if value is not None and template.shape.has(role)}


def _grow_later_sizes(graph: dict[str, Node], template: Template, size: Dimensions) -> None:
    """A fixed size after the first pass keeps its proportion to it."""
    for role, asked_px in ((Role.WIDTH, size.width_px), (Role.HEIGHT, size.height_px)):
        if asked_px != template.own_number(role):
            for target in template.shape.later_sizes[role]:
                side_px = round(asked_px * template.later_factor(role, target) / _LATER_GRID_PX) * _LATER_GRID_PX
                with_input(graph, target.node, target.input, max(_LATER_GRID_PX, side_px))


def input_pictures(template: Template, recipe: Recipe) -> dict[Role, InputPicture]:
    """The stored pictures of a recipe, each as the template takes it."""
    given = {Role.SOURCE: recipe.source, Role.REFERENCE: recipe.reference}
    return {role: InputPicture(blob, role in template.reads_transparency) for role, blob in given.items() if blob is not None}


def _uploaded(picture: InputPicture | None, uploads: Mapping[InputPicture, str]) -> str:
    if picture is None or picture not in uploads:
        raise FulletError(ErrorCode.PICTURE_GONE)
    return uploads[picture]


def _insert_loras(graph: dict[str, Node], template: Template, recipe: Recipe) -> None:
    """Put one loader per LoRA right behind the model's loader, so that the template's own patches still come after them."""
    model, clip = template.shape.model, template.shape.clip
    if model is None:
        return
    both = template.lora is LoraPlace.MODEL_AND_CLIP and clip is not None
    model_users, clip_users = list(consumers(graph, model)), list(consumers(graph, clip)) if clip and both else []
    for number, lora in enumerate(recipe.loras):
        node_id = free_id(graph, f"lora_{number}")
        inputs: dict[str, Value] = {"lora_name": lora.name, "strength_model": lora.strength, "model": model}
        if both and clip is not None:
            graph[node_id] = Node("LoraLoader", inputs | {"strength_clip": lora.strength, "clip": clip})
            clip = Link(node_id, _LORA_CLIP)
        else:
            graph[node_id] = Node("LoraLoaderModelOnly", inputs)
        model = Link(node_id, _LORA_MODEL)
    for user, name in model_users:
        with_input(graph, user, name, model)
    for user, name in clip_users:
        with_input(graph, user, name, clip)


def free_id(graph: Graph, wanted: str) -> str:
    """`wanted`, or with a suffix where the graph has such a node already."""
    suffix, candidate = 1, wanted
    while candidate in graph:
        suffix += 1
        candidate = f"{wanted}_{suffix}"
    return candidate


# --- fitting a graph to one server --------------------------------------------------------------------------------------


def fit(graph: Graph, template: Template, listing: ServerListing) -> dict[str, Node]:
    """The same graph in one server's words: stand-in classes where the manifest has a chain, names as that server spells them.

    What the server lacks is left as it is: the server then refuses it by name, and the catalogue has reported it long before.
    """
    stand_ins = {
        node_id: listing.classes[name]
        for node_id, node in graph.items()
        if (name := listing.resolve(template.chain_of(node.class_type)))
    }
    moved: dict[Link, Link] = {}
    for node_id, known in stand_ins.items():
        if known.name != graph[node_id].class_type:
            moved |= _moved_outputs(node_id, _outputs_of(graph[node_id].class_type, listing), known)
    fitted = {node_id: _as(node, stand_ins[node_id]) if node_id in stand_ins else node for node_id, node in graph.items()}
    return {node_id: node.relinked(lambda link: moved.get(link, link)) for node_id, node in fitted.items()}


def _as(node: Node, known: NodeClass) -> Node:
    """The node as a server's class, with names as that server spells them."""
    node = node if known.name == node.class_type else _stand_in(node, known)
    specs = known.inputs_given(node.inputs)
    spelt = {
        name: spelling
        for name, value in node.inputs.items()
        if isinstance(value, str) and (spec := specs.get(name)) and (spelling := spec.match(value))
    }
    return node.having(**spelt)


#: Outputs of the stock classes a chain may start from, for servers that have only the stand-in.
_STOCK_OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "CheckpointLoaderSimple": ("MODEL", "CLIP", "VAE"),
    "KSampler": ("LATENT",),
}


def _outputs_of(class_type: str, listing: ServerListing) -> tuple[str, ...]:
    known = listing.classes.get(class_type)
    return known.outputs if known else _STOCK_OUTPUTS.get(class_type, ())


def _moved_outputs(node_id: str, kinds: tuple[str, ...], known: NodeClass) -> dict[Link, Link]:
    """Where each output of the replaced class is on the stand-in: the first output of the same kind."""
    return {
        Link(node_id, index): Link(node_id, known.outputs.index(kind))
        for index, kind in enumerate(kinds)
        if kind in known.outputs
    }


def _stand_in(node: Node, known: NodeClass) -> Node:
    """The node as the other class: inputs by the same or the equivalent name, required ones it lacks by their defaults."""
    inputs = dict(node.inputs)
    if "denoise" in inputs and "denoise" not in known.inputs and "start_at_step" in known.inputs:
        inputs |= _as_advanced(inputs)
    if "seed" in inputs and "noise_seed" in known.inputs:
        inputs["noise_seed"] = inputs.pop("seed")
    specs = known.inputs_given(inputs)
    kept = {name: value for name, value in inputs.items() if name in specs}
    for name, spec in specs.items():
        if spec.is_required and name not in kept:
            default = spec.default if spec.default is not None else next(iter(spec.options or ()), None)
            if default is not None:
                kept[name] = default
    return Node(known.name, kept, node.title)


def _as_advanced(inputs: Mapping[str, Value]) -> dict[str, Value]:
    """`denoise` as the advanced samplers say it. KSampler runs the last `steps` of `steps / denoise`: the same, spelt out.

    Source: `KSampler.set_steps` in comfy/samplers.py.
    """
    steps, denoise = inputs.get("steps"), inputs.get("denoise")
    total = int(steps / denoise) if isinstance(steps, int) and isinstance(denoise, float | int) and 0 < denoise < 1 else steps
    start = total - steps if isinstance(total, int) and isinstance(steps, int) else 0
    return {
        "steps": total,
        "start_at_step": start,
        "end_at_step": 10_000,
        "add_noise": "enable",
        "return_with_leftover_noise": "disable",
    }
