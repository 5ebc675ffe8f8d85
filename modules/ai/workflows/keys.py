"""What the scheduler must know of a recipe's work: which jobs may share a workflow, which files it loads, what it costs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from modules.ai.node_specs import canonical
from modules.ai.workflows.binding import bind, input_pictures
from modules.ai.workflows.following import following_sizes
from modules.ai.workflows.graph import Graph, Node, to_api, with_input
from modules.ai.workflows.manifest import Family, MergeLevel
from modules.ai.workflows.plan import InputPicture
from modules.ai.workflows.role_inputs import LOAD_IMAGE, Role
from modules.ai.workflows.template import Template, is_file_input
from modules.domain.images import Dimensions
from modules.domain.jobs import WorkClass
from modules.domain.recipes import Recipe, Seed

#: Longest conditioning (in tokens) that these families give one common shape. Longer prompts are exact too, but make a group of
#: their own inside the pass, so jobs of another length would gain nothing from them. Source: docs/merging.md.
TOKENS_OF_ONE_SHAPE: Mapping[Family, int] = {Family.FLUX1: 256, Family.FLUX2: 512}
#: Bytes of text a token stands for, at the least; real text has about 4. A guess too short only costs a little speed.
_BYTES_PER_TOKEN = 3
#: Words of lists that differ from version to version, so a server may lack them.
_CHOICE_INPUTS = frozenset({"sampler_name", "scheduler", "type"})
#: The node that writes our pictures; every server has it.
SAVE_CLASS = "SaveImage"
#: Stands for any input picture where only its being there matters.
_ANY_PICTURE = "picture"
#: No picture is free, however small: loading, decoding and saving take their time, and fairness needs a price.
_LEAST_COST_S = 0.1
#: Beside the picture itself and the one to edit, a third set of tokens goes through every step.
_WITH_REFERENCE = 1.5
#: What the manifest's figure is for, where a picture follows its input.
_ONE_MEGAPIXEL = Dimensions(1024, 1024)


def work_of(template: Template, recipe: Recipe, source_size: Dimensions | None = None) -> WorkClass:
    """The recipe's work, from the graph it will become. `source_size`: of the input picture, where that is known."""
    uploads = dict.fromkeys(input_pictures(template, recipe).values(), _ANY_PICTURE)
    graph = _with_one_spelling(bind(template, recipe, seed=recipe.seed, uploads=uploads))
    return WorkClass(
        exact_key=exact_key(template, recipe, uploads),
        heavy_key=heavy_key(graph),
        needs=frozenset(_needs(template, graph)),
        is_mergeable=template.merge is not MergeLevel.NEVER,
        cost_s=round(cost_s(template, recipe, source_size), 3),
    )


def exact_key(template: Template, recipe: Recipe, uploads: Mapping[InputPicture, str]) -> str:
    """Equal for two recipes exactly when they may share one sampler pass.

    The key is the graph itself with everything blanked that may differ from slot to slot: prompt, negative, seed, guidance, the
    input picture, and cfg as long as both are 1 or both are not (at 1 the negative is not evaluated at all).
    """
    one = replace(recipe, prompt="", negative_prompt="", seed=Seed(0), guidance=None, cfg=1.0 if recipe.cfg == 1 else 2.0)
    graph = to_api(_with_one_spelling(bind(template, one, seed=one.seed, uploads=dict.fromkeys(uploads, _ANY_PICTURE))))
    said = [template.digest, graph, _length_class(template, recipe)]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def _with_one_spelling(graph: Graph) -> dict[str, Node]:
    """The graph with its files named alike, whatever slashes a template or a person wrote; servers get their own spelling."""
    spelt = dict(graph)
    for node_id, node in graph.items():
        for name, value in node.inputs.items():
            if isinstance(value, str) and is_file_input(name) and canonical(value) != value:
                with_input(spelt, node_id, name, canonical(value))
    return spelt


def heavy_key(graph: Graph) -> str:
    """The model files that cost seconds to switch, as operators read them; LoRAs are light and left out."""
    names = {
        value
        for node in graph.values()
        for name, value in node.inputs.items()
        if is_file_input(name) and name != "lora_name" and isinstance(value, str)
    }
    return "+".join(sorted(names))


def cost_s(template: Template, recipe: Recipe, source_size: Dimensions | None = None) -> float:
    """Reference GPU-seconds of all its pictures: the manifest's figure, by area and steps. Guidance evaluates the model twice."""
    manifest = template.manifest
    if recipe.size is not None and manifest.size is not None:
        area = recipe.size.megapixels / manifest.size.default.megapixels
    else:
        area = _following_area(template, source_size)
    usual_steps = manifest.steps.default if manifest.steps else template.own_number(Role.STEPS)
    steps = recipe.steps / usual_steps if usual_steps else 1.0
    usual_cfg = manifest.cfg.default if manifest.cfg else template.own_number(Role.CFG)
    passes = (1.0 if recipe.cfg == 1 else 2.0) / (1.0 if usual_cfg == 1 else 2.0) if usual_cfg is not None else 1.0
    looks = _WITH_REFERENCE if recipe.reference is not None else 1.0
    return max(_LEAST_COST_S, manifest.cost.seconds * area * steps * passes * looks) * recipe.count


def _following_area(template: Template, source_size: Dimensions | None) -> float:
    """How many times as large a picture that follows its input becomes as one of a picture of one megapixel."""
    if source_size is None:
        return 1.0
    sizes, usual = following_sizes(template, source_size), following_sizes(template, _ONE_MEGAPIXEL)
    return sizes.result.megapixels / usual.result.megapixels if sizes and usual else 1.0


def _needs(template: Template, graph: Graph) -> Iterator[str]:
    pictures = {target.node for role in (Role.SOURCE, Role.REFERENCE) for target in template.shape.targets[role]}
    yield f"class:{SAVE_CLASS}"
    for node_id, node in graph.items():
        chain = template.chain_of(node.class_type)
        yield f"class:{chain}"
        for name, value in node.inputs.items():
            if not isinstance(value, str) or node_id in pictures:
                continue
            if is_file_input(name) or (name == "image" and node.class_type in LOAD_IMAGE):
                yield f"file:{chain}.{name}={value}"
            elif name in _CHOICE_INPUTS:
                yield f"choice:{chain}.{name}={value}"


def _length_class(template: Template, recipe: Recipe) -> int:
    limit = TOKENS_OF_ONE_SHAPE.get(template.manifest.family)
    texts = (recipe.prompt, recipe.negative_prompt or template.own_text(Role.NEGATIVE))
    tokens = max(len(text.encode()) for text in texts) / _BYTES_PER_TOKEN
    return max(1, math.ceil(tokens / limit)) if limit else 1
