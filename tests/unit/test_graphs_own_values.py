"""What a manifest does not name stays as the graph has it, and how far a number may go is what the servers say of the node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from modules.ai.catalogue import TemplateCatalogue
from modules.ai.listing import ServerListing
from modules.ai.workflows.binding import bind
from modules.ai.workflows.graph import Node
from modules.ai.workflows.template import Library, Template, read_template
from modules.domain.catalogue import Detail, Wish, WorkflowKind
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import Dimensions
from modules.domain.jobs import ServerName
from modules.domain.recipes import MAX_SEED, ModelName, Recipe, Seed, WorkflowName
from tests.support.graphs import ROOT, a_catalogue, an_object_info

RECORDED = ROOT / "tests" / "recordings" / "workflows"
ApiGraph = dict[str, dict[str, Any]]
SIZE = '[size]\ndefault = "512x512"\ngrid = 8\nmin_side = 256\nmax_side = 2048\nmax_megapixels = 4.0\n'


def recorded(name: str = "sd15_txt2img") -> ApiGraph:
    graph: ApiGraph = json.loads((RECORDED / f"{name}.json").read_text("utf-8"))
    for node in graph.values():
        if node["class_type"] == "CheckpointLoaderSimple":
            node["inputs"]["ckpt_name"] = "other.safetensors"
    return graph


def template_of(graph: ApiGraph, kind: str = "imagine", extra: str = "") -> Template:
    return read_template(WorkflowName("t"), json.dumps(graph), f'model = "m"\nkind = "{kind}"\n{extra}\n[cost]\nseconds = 2.0\n')


def catalogue_of(template: Template, info: Mapping[str, Any] | None = None) -> TemplateCatalogue:
    """A catalogue of this template; `info` None: before any server was reached."""
    listings = [] if info is None else [ServerListing.from_object_info(info)]
    return a_catalogue(*listings, library=Library({template.name: template}))


def resolved(template: Template, info: Mapping[str, Any] | None = None, **changes: Any) -> Recipe:
    wish = Wish(**{"kind": WorkflowKind.IMAGINE, "model": ModelName("m"), "prompt": "a fox", **changes})
    return catalogue_of(template, info).resolve(wish)[0]


def refusal(template: Template, info: Mapping[str, Any] | None = None, **changes: Any) -> tuple[ErrorCode, dict[str, Any]]:
    with pytest.raises(FulletError) as caught:
        resolved(template, info, **changes)
    return caught.value.code, dict(caught.value.params)


def drawn(template: Template, recipe: Recipe) -> dict[str, Node]:
    return bind(template, recipe, seed=recipe.seed, uploads={})


# --- numbers ------------------------------------------------------------------------------------------------------------


def test_steps_cfg_and_denoise_without_a_section_stay_as_the_graph_has_them() -> None:
    graph = recorded()
    graph["3"]["inputs"] |= {"steps": 33, "cfg": 6.5, "denoise": 0.93}
    template = template_of(graph)
    recipe = resolved(template, an_object_info())
    assert (recipe.steps, recipe.cfg, recipe.denoise) == (33, 6.5, 0.93)
    node = drawn(template, recipe)["3"]
    assert (node.literal("steps"), node.literal("cfg"), node.literal("denoise")) == (33, 6.5, 0.93)


def test_a_person_may_set_them_all_the_same_as_far_as_the_servers_node_allows() -> None:
    graph = recorded()
    graph["3"]["inputs"] |= {"steps": 33, "cfg": 6.5}
    template = template_of(graph)
    info = an_object_info()
    info["KSampler"]["input"]["required"]["steps"][1] |= {"min": 4, "max": 40}
    recipe = resolved(template, info, steps=40, cfg=2.0)
    node = drawn(template, recipe)["3"]
    assert (node.literal("steps"), node.literal("cfg")) == (40, 2.0)
    assert refusal(template, info, steps=41) == (ErrorCode.VALUE_OUT_OF_RANGE, {"field": "steps", "low": 4, "high": 40})
    spec = catalogue_of(template, info).model("m")
    assert (spec.steps.low, spec.steps.high, spec.steps.default) == (4, 40, 33)
    assert spec.cfg.default == 6.5
    assert Detail.STEPS in spec.takes[WorkflowKind.IMAGINE]


def test_what_the_servers_say_of_a_model_counts_as_soon_as_they_are_met() -> None:
    template = template_of(recorded())
    catalogue = catalogue_of(template)
    before = catalogue.model("m").steps
    info = an_object_info()
    info["KSampler"]["input"]["required"]["steps"][1] |= {"min": 2, "max": 50}
    catalogue.listings.update(ServerName("met"), ServerListing.from_object_info(info))
    assert (before.low, before.high) == (1, 150)
    assert (catalogue.model("m").steps.low, catalogue.model("m").steps.high) == (2, 50)


def test_a_manifest_never_allows_more_than_the_servers_node() -> None:
    template = template_of(recorded(), extra="[cfg]\nlow = 0.0\nhigh = 200.0\ndefault = 7.0\n")
    assert refusal(template, an_object_info(), cfg=150.0) == (
        ErrorCode.VALUE_OUT_OF_RANGE,
        {"field": "cfg", "low": 0, "high": 100},
    )


def test_samplers_of_other_steps_are_left_as_they_are_where_nobody_asked() -> None:
    graph = recorded()
    graph["3"]["inputs"]["steps"] = 20
    graph["30"] = {"class_type": "KSampler", "inputs": {**graph["3"]["inputs"], "steps": 8, "latent_image": ["3", 0]}}
    graph["8"]["inputs"]["samples"] = ["30", 0]
    template = template_of(graph, extra='[nodes]\nsampler = "3"\n[roles.steps]\nnodes = ["3", "30"]\n')
    made = drawn(template, resolved(template, an_object_info()))
    assert (made["3"].literal("steps"), made["30"].literal("steps")) == (20, 8)


def test_a_denoise_without_a_section_is_not_set_where_no_picture_is_given() -> None:
    """A recipe of another kind may carry one: half of the noise of an empty latent draws a grey picture."""
    assert resolved(template_of(recorded()), an_object_info(), denoise=0.3).denoise == 1.0


def test_the_cost_is_by_the_graphs_own_steps_where_the_manifest_names_none() -> None:
    graph = recorded()
    graph["3"]["inputs"] |= {"steps": 20, "cfg": 7.0}
    catalogue = catalogue_of(template_of(graph, extra=SIZE), an_object_info())
    plain = Wish(kind=WorkflowKind.IMAGINE, model=ModelName("m"), prompt="a fox")
    assert catalogue.resolve(plain)[1].cost_s == 2.0
    assert catalogue.resolve(replace(plain, steps=40))[1].cost_s == 4.0
    assert catalogue.resolve(replace(plain, cfg=1.0))[1].cost_s == 1.0


# --- texts --------------------------------------------------------------------------------------------------------------


def test_the_templates_own_negative_prompt_counts_where_a_person_types_none() -> None:
    graph = recorded()
    graph["7"]["inputs"]["text"] = "blurry, watermark"
    template = template_of(graph)
    for typed, sent in (("", "blurry, watermark"), ("  \n", "blurry, watermark"), ("people", "people")):
        recipe = resolved(template, an_object_info(), negative_prompt=typed)
        assert drawn(template, recipe)["7"].literal("text") == sent
        assert drawn(template, recipe)["6"].literal("text") == "a fox"


# --- seeds --------------------------------------------------------------------------------------------------------------


def seeded_by_a_primitive() -> ApiGraph:
    graph = recorded()
    graph["50"] = {"class_type": "PrimitiveInt", "inputs": {"value": 5}}
    graph["3"]["inputs"]["seed"] = ["50", 0]
    return graph


def test_a_seed_may_be_as_large_as_the_node_that_holds_it_takes() -> None:
    """PrimitiveInt ends at 2**63 - 1, samplers at 2**64 - 1. Source: tests/recordings/comfyui/http/object_info_selected.json."""
    most = 2**63 - 1
    info = an_object_info()
    assert info["PrimitiveInt"]["input"]["required"]["value"][1]["max"] == most
    template = template_of(seeded_by_a_primitive())
    assert resolved(template, info, seed=Seed(most)).seed == most
    assert refusal(template, info, seed=Seed(most + 1)) == (
        ErrorCode.VALUE_OUT_OF_RANGE,
        {"field": "seed", "low": 0, "high": most},
    )
    assert resolved(template_of(recorded()), info, seed=Seed(MAX_SEED)).seed == MAX_SEED


def test_several_pictures_need_as_many_seeds_below_that() -> None:
    template, info = template_of(seeded_by_a_primitive()), an_object_info()
    assert refusal(template, info, seed=Seed(2**63 - 2), count=3)[1]["high"] == 2**63 - 3
    assert resolved(template, info, seed=Seed(2**63 - 3), count=3).seed_of(2) == 2**63 - 1
    assert (
        resolved(template_of(recorded()), info, seed=Seed(MAX_SEED), count=3).seed_of(1) == 0
    )  # ComfyUI's whole range goes round


# --- sizes --------------------------------------------------------------------------------------------------------------


def in_two_passes(**upscale: object) -> ApiGraph:
    """A first pass of 512 x 512, enlarged to a fixed size for a second one."""
    graph = recorded()
    graph["5"]["inputs"] |= {"width": 512, "height": 512}
    inputs = {"samples": ["3", 0], "upscale_method": "bicubic", "width": 1024, "height": 1024, "crop": "disabled", **upscale}
    graph["20"] = {"class_type": "LatentUpscale", "inputs": inputs}
    graph["30"] = {"class_type": "KSampler", "inputs": {**graph["3"]["inputs"], "latent_image": ["20", 0], "denoise": 0.5}}
    graph["8"]["inputs"]["samples"] = ["30", 0]
    return graph


def two_pass_info() -> dict[str, Any]:
    info = an_object_info()
    recorded_info = json.loads((ROOT / "tests/recordings/comfyui/http/object_info_selected.json").read_text("utf-8"))
    info["LatentUpscale"] = recorded_info["LatentUpscale"]
    return info


FIRST = '[nodes]\nsampler = "3"\n'


@pytest.mark.parametrize(("asked", "second"), [("512x512", (1024, 1024)), ("768x512", (1536, 1024)), ("1024x768", (2048, 1536))])
def test_a_fixed_size_of_a_later_pass_grows_with_the_size_that_is_asked(asked: str, second: tuple[int, int]) -> None:
    template = template_of(in_two_passes(), extra=FIRST + SIZE)
    made = drawn(template, resolved(template, two_pass_info(), size=asked))
    assert str(Dimensions(int(str(made["5"].literal("width"))), int(str(made["5"].literal("height"))))) == asked
    assert (made["20"].literal("width"), made["20"].literal("height")) == second


def test_a_later_pass_that_keeps_the_proportions_itself_is_left_so() -> None:
    """LatentUpscale reads a side of 0 as: whatever fits the other. Source: ComfyUI's nodes.py."""
    template = template_of(in_two_passes(height=0), extra=FIRST + SIZE)
    made = drawn(template, resolved(template, two_pass_info(), size="768x512"))
    assert (made["20"].literal("width"), made["20"].literal("height")) == (1536, 0)


def test_where_the_manifest_says_where_the_size_goes_it_goes_nowhere_else() -> None:
    extra = FIRST + SIZE + '[roles.width]\nnode = "5"\n[roles.height]\nnode = "5"\n'
    template = template_of(in_two_passes(), extra=extra)
    made = drawn(template, resolved(template, two_pass_info(), size="768x512"))
    assert (made["5"].literal("width"), made["20"].literal("width")) == (768, 1024)


def test_a_size_is_refused_when_a_later_pass_would_go_beyond_what_its_node_takes() -> None:
    info = two_pass_info()
    for side in ("width", "height"):
        info["LatentUpscale"]["input"]["required"][side][1]["max"] = 2048
    template = template_of(in_two_passes(), extra=FIRST + SIZE)
    assert resolved(template, info, size="1024x1024").size == Dimensions(1024, 1024)
    assert refusal(template, info, size="1032x512") == (
        ErrorCode.SIZE_OUT_OF_RANGE,
        {"min_px": 256, "max_px": 1024, "max_megapixels": 4.0},
    )
    assert catalogue_of(template, info).model("m").max_side_px == 1024


def test_a_number_of_the_graph_that_the_servers_node_refuses_is_told_at_the_start() -> None:
    graph = recorded()
    graph["3"]["inputs"]["cfg"] = 250.0
    problems = catalogue_of(template_of(graph), an_object_info()).problems()
    assert [(problem.what, problem.name, problem.field) for problem in problems] == [("number_outside", "250.0", "KSampler.cfg")]
