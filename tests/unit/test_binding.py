"""A recipe's values land at their inputs, and nothing else in the graph moves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.ai.listing import ServerListing
from modules.ai.workflows.binding import bind, fit
from modules.ai.workflows.graph import Link, Node, to_api, upstream
from modules.ai.workflows.keys import work_of
from modules.ai.workflows.manifest import LoraPlace
from modules.ai.workflows.plan import InputPicture
from modules.ai.workflows.role_inputs import Role
from modules.ai.workflows.template import Template, read_template
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import BlobId, Dimensions
from modules.domain.recipes import MAX_SEED, Lora, ModelName, Recipe, Seed, WorkflowName
from tests.support.graphs import ROOT, a_listing, an_object_info, faults_of, the_library

PICTURE, BESIDE = BlobId("a"), BlobId("b")
UPLOADS = {InputPicture(PICTURE): "fullet/a.png", InputPicture(BESIDE): "fullet/b.png"}
TEMPLATES = sorted(the_library().templates)


def template(name: str) -> Template:
    return the_library().templates[WorkflowName(name)]


def a_recipe(name: str = "sdxl_image", **changes: Any) -> Recipe:
    plain = Recipe(
        workflow=WorkflowName(name),
        model=ModelName("m"),
        prompt="a fox",
        negative_prompt="blurry",
        size=Dimensions(768, 512),
        seed=Seed(11),
        steps=9,
        cfg=3.5,
        source=PICTURE,
    )
    return replace(plain, **changes)


def bound(name: str, recipe: Recipe | None = None, seed: int = 11) -> dict[str, Node]:
    return bind(template(name), recipe or a_recipe(name), seed=Seed(seed), uploads=UPLOADS)


recipes = st.builds(
    a_recipe,
    name=st.sampled_from(TEMPLATES),
    prompt=st.text(max_size=40),
    negative_prompt=st.text(max_size=40),
    size=st.builds(Dimensions, st.sampled_from([512, 768]), st.sampled_from([512, 1024])),
    steps=st.integers(1, 60),
    cfg=st.floats(1, 20),
    denoise=st.floats(0.1, 1),
    sampler=st.sampled_from([None, "euler", "dpmpp_2m"]),
    scheduler=st.sampled_from([None, "simple", "karras"]),
    reference=st.sampled_from([None, BESIDE]),
)


@settings(max_examples=150, deadline=None)
@given(recipes, st.integers(0, MAX_SEED))
def test_only_mapped_inputs_change_and_they_hold_the_recipe(recipe: Recipe, seed: int) -> None:
    house = template(recipe.workflow)
    graph = bind(house, recipe, seed=Seed(seed), uploads=UPLOADS)
    mapped = {target: role for role, found in house.shape.targets.items() for target in found}
    before = house.graph if recipe.reference else house.without_reference
    assert graph.keys() == before.keys()
    wanted: dict[Role, object] = {
        Role.PROMPT: recipe.prompt,
        Role.NEGATIVE: recipe.negative_prompt,
        Role.SEED: seed,
        Role.STEPS: recipe.steps,
        Role.CFG: recipe.cfg,
        Role.DENOISE: recipe.denoise,
        Role.SOURCE: UPLOADS[InputPicture(PICTURE)],
        Role.REFERENCE: UPLOADS[InputPicture(BESIDE)],
    }
    for node_id, node in graph.items():
        assert (node.class_type, node.inputs.keys()) == (before[node_id].class_type, before[node_id].inputs.keys())
        for name, value in node.inputs.items():
            role = mapped.get((node_id, name))  # type: ignore[call-overload]  # a Target is a tuple
            if role is None:
                assert value == before[node_id].inputs[name]
            elif role is Role.NEGATIVE and not recipe.negative_prompt:
                assert value == before[node_id].inputs[name]  # the template's own is the default
            elif role in wanted:
                assert value == wanted[role]


def test_what_a_recipe_leaves_open_stays_as_the_template_has_it() -> None:
    graph = bound("sdxl_image")
    assert graph["8"].literal("sampler_name") == "dpmpp_2m"
    assert graph["8"].literal("scheduler") == "karras"
    assert graph["1"].literal("ckpt_name") == "sd_xl_base_1.0.safetensors"


def test_the_size_reaches_latent_and_scheduler_alike() -> None:
    graph = bound("flux_image")
    assert {(node.literal("width"), node.literal("height")) for node in graph.values() if "width" in node.inputs} == {(768, 512)}


def test_an_edit_keeps_the_size_of_its_picture() -> None:
    graph = bound("flux_edit")
    assert graph["14"].literal("image") == "fullet/a.png"
    assert graph["6"].link("width") == Link("16", 0)


def test_an_edit_with_a_reference_looks_at_both_pictures_the_one_to_edit_first() -> None:
    graph = bound("flux_edit", a_recipe("flux_edit", reference=BESIDE))
    for side, encoder in (("positive", "4"), ("negative", "5")):
        looked_at = []
        link = graph["10"].link(side)
        while link is not None and graph[link.node].class_type == "ReferenceLatent":
            loads = [graph[node] for node in upstream(graph, graph[link.node].link("latent").node)]  # type: ignore[union-attr]
            looked_at += [node.literal("image") for node in loads if node.class_type == "LoadImage"]
            link = graph[link.node].link("conditioning")
        assert looked_at == ["fullet/b.png", "fullet/a.png"]  # from the guider back to the text
        assert link == Link(encoder, 0)
    assert graph["6"].link("width") == Link("16", 0)


def test_an_edit_without_a_reference_has_nothing_left_of_it() -> None:
    graph = bound("flux_edit")
    assert [node.literal("image") for node in graph.values() if node.class_type == "LoadImage"] == ["fullet/a.png"]
    assert (graph["10"].link("positive"), graph["10"].link("negative")) == (Link("18", 0), Link("19", 0))
    assert sum(node.class_type == "ReferenceLatent" for node in graph.values()) == 2


def test_a_reference_costs_more_and_shares_a_workflow_only_with_its_like() -> None:
    edit = template("flux_edit")
    plain, beside = work_of(edit, a_recipe("flux_edit")), work_of(edit, a_recipe("flux_edit", reference=BESIDE))
    other = work_of(edit, a_recipe("flux_edit", source=BESIDE, reference=BlobId("c"), prompt="else", seed=Seed(2)))
    assert beside.cost_s > plain.cost_s
    assert beside.exact_key == other.exact_key != plain.exact_key
    assert not [need for need in beside.needs if need.startswith("file:LoadImage")]


def test_an_input_picture_that_was_not_uploaded_is_an_error_and_not_the_example() -> None:
    lost = (a_recipe("flux_edit"), a_recipe("flux_edit", source=None), a_recipe("flux_edit", reference=BlobId("swept")))
    for recipe, uploads in zip(lost, ({}, {}, UPLOADS), strict=True):
        with pytest.raises(FulletError) as caught:
            bind(template("flux_edit"), recipe, seed=Seed(1), uploads=uploads)
        assert caught.value.code is ErrorCode.PICTURE_GONE


def test_an_exported_batch_of_four_becomes_one_picture_a_slot() -> None:
    text = (ROOT / "tests" / "recordings" / "workflows" / "sd15_batch4.json").read_text("utf-8")
    said = 'model = "m"\nkind = "imagine"\n[cost]\nseconds = 1.0\n'
    exported = read_template(WorkflowName("t"), text, said)
    assert exported.graph["5"].literal("batch_size") == 4
    assert bind(exported, a_recipe(), seed=Seed(1), uploads={})["5"].literal("batch_size") == 1


# --- LoRAs --------------------------------------------------------------------------------------------------------------

TWO = (Lora(name="ink.safetensors", strength=0.7), Lora(name="style/oil.safetensors", strength=-1.0))


def test_loras_are_chained_behind_the_checkpoint_for_model_and_both_prompts() -> None:
    graph = bound("sdxl_image", a_recipe(loras=TWO))
    assert graph["lora_0"] == Node(
        "LoraLoader",
        {
            "lora_name": "ink.safetensors",
            "strength_model": 0.7,
            "model": Link("1", 0),
            "strength_clip": 0.7,
            "clip": Link("1", 1),
        },
    )
    assert graph["lora_1"].link("model") == Link("lora_0", 0)
    assert graph["lora_1"].link("clip") == Link("lora_0", 1)
    assert graph["8"].link("model") == Link("lora_1", 0)
    assert graph["5"].link("clip") == graph["6"].link("clip") == Link("lora_1", 1)
    assert graph["9"].link("vae") == Link("1", 2)


def test_the_templates_own_model_patches_come_after_the_loras() -> None:
    graph = bound("z-image_imagine", a_recipe("z-image_imagine", loras=TWO))
    assert graph["lora_0"].class_type == "LoraLoaderModelOnly"
    assert graph["lora_0"].link("model") == Link("1", 0)
    assert graph["4"].link("model") == Link("lora_1", 0)
    assert graph["8"].link("model") == Link("4", 0)
    assert graph["5"].link("clip") == Link("2", 0)


def test_all_four_samplers_of_the_multisampler_use_the_lora() -> None:
    graph = bound("multisampler", a_recipe("multisampler", loras=TWO[:1]))
    assert {graph[node].link("model") for node in ("239", "249", "52", "118")} == {Link("lora_0", 0)}


def test_a_template_without_a_model_takes_no_lora() -> None:
    assert template("upscale").lora is LoraPlace.NONE
    assert bound("upscale", a_recipe("upscale", loras=TWO)).keys() == template("upscale").graph.keys()


# --- one server's words -------------------------------------------------------------------------------------------------


def fitted(name: str, listing: ServerListing) -> dict[str, Node]:
    return fit(bound(name), template(name), listing)


def test_names_are_written_as_the_server_spells_them() -> None:
    listing = a_listing({"LoraLoader.lora_name": ["style\\oil.safetensors"]})
    graph = fit(bound("sdxl_image", a_recipe(loras=TWO[1:])), template("sdxl_image"), listing)
    assert graph["lora_0"].literal("lora_name") == "style\\oil.safetensors"


def community(*, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """A server with the older packs: the class names of product's chains, with a latent that is not the first output."""
    info = an_object_info()
    sampling = dict(info["KSampler"]["input"]["required"])
    del sampling["denoise"], sampling["seed"]
    extra = {
        "noise_seed": ["INT", {"default": 0, "min": 0, "max": MAX_SEED}],
        "add_noise": [["enable", "disable"]],
        "start_at_step": ["INT", {"default": 0, "min": 0, "max": 10000}],
        "end_at_step": ["INT", {"default": 10000, "min": 0, "max": 10000}],
        "return_with_leftover_noise": [["disable", "enable"]],
        "preview_method": [["auto", "none"]],
    }
    kinds = ["MODEL", "CONDITIONING", "CONDITIONING", "LATENT", "VAE", "IMAGE"]
    info["KSamplerAdvancedEfficient"] = {"input": {"required": sampling | extra}, "output": kinds}
    info["KSamplerEfficient"] = {"input": info["KSampler"]["input"], "output": kinds}
    loader = {"ckpt_name": info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"]}
    info["CheckpointLoaderSimpleMikey"] = {"input": {"required": loader}, "output": ["STRING", "MODEL", "CLIP", "VAE"]}
    info["OtherCheckpointLoader"] = {"input": {"required": loader}, "output": ["MODEL", "CLIP", "VAE"]}
    return {name: entry for name, entry in info.items() if name not in without}


CHECKPOINTS = ["CheckpointLoaderSimpleMikey", "CheckpointLoaderSimple", "OtherCheckpointLoader"]
SAMPLERS = ["KSamplerAdvancedEfficient", "KSamplerEfficient", "KSampler"]


@pytest.mark.parametrize("lost", range(3))
def test_the_multisampler_takes_the_first_class_of_each_chain_that_is_there(lost: int) -> None:
    info = community(without=(*CHECKPOINTS[:lost], *SAMPLERS[:lost]))
    graph = fitted("multisampler", ServerListing.from_object_info(info))
    assert graph["152"].class_type == CHECKPOINTS[lost]
    assert {graph[node].class_type for node in ("239", "249", "52", "118")} == {SAMPLERS[lost]}
    assert faults_of(to_api(graph), info) == []


def test_a_stand_in_sampler_runs_the_same_steps_from_the_same_noise() -> None:
    graph = fitted("multisampler", ServerListing.from_object_info(community()))
    first, second = graph["239"].inputs, graph["249"].inputs
    assert (first["noise_seed"], first["steps"], first["start_at_step"], first["cfg"]) == (11, 9, 0, 3.5)
    # KSampler at denoise 0.5 runs the last 14 of 28 steps
    assert (second["steps"], second["start_at_step"], second["end_at_step"]) == (28, 14, 10_000)
    assert graph["240"].link("samples") == Link("239", 3)


def test_templates_without_a_chain_are_never_changed_to_another_class() -> None:
    graph = fitted("sdxl_image", ServerListing.from_object_info(community(without=("KSampler",))))
    assert graph["8"].class_type == "KSampler"


# --- what the scheduler learns ------------------------------------------------------------------------------------------


def test_the_needs_of_a_job_are_its_classes_files_and_words_and_never_its_texts() -> None:
    recipe = a_recipe(prompt="a secret fox", loras=TWO, sampler="euler")
    needs = work_of(template("sdxl_image"), recipe).needs
    assert "secret" not in json.dumps(sorted(needs))
    assert needs >= {
        "class:CheckpointLoaderSimple",
        "class:LoraLoader",
        "class:SaveImage",
        "file:CheckpointLoaderSimple.ckpt_name=sd_xl_base_1.0.safetensors",
        "file:LoraLoader.lora_name=style/oil.safetensors",
        "choice:KSampler.sampler_name=euler",
    }
    assert a_listing().missing(needs) == ()
    assert a_listing({"LoraLoader.lora_name": ["ink.safetensors"]}).missing(needs) == (
        "file:LoraLoader.lora_name=style/oil.safetensors",
    )
    assert a_listing(without=["LoraLoader"]).missing(needs) == ("class:LoraLoader",)


def test_the_heavy_key_names_the_files_that_cost_seconds_and_no_lora() -> None:
    plain, with_lora = (work_of(template("flux_image"), a_recipe("flux_image", loras=loras)).heavy_key for loras in ((), TWO))
    assert plain == with_lora == "Qwen3-4B-Q4_K_M.gguf+flux-2-klein-4b-Q4_K_M.gguf+flux2-vae.safetensors"
    assert work_of(template("flux_edit"), a_recipe("flux_edit")).heavy_key == plain


def test_the_cost_grows_with_area_steps_and_pictures() -> None:
    def cost(**changes: Any) -> float:
        base = a_recipe(size=Dimensions(1024, 1024), steps=25, cfg=7.0)
        return work_of(template("sdxl_image"), replace(base, **changes)).cost_s

    assert cost() == 6.0
    assert cost(count=3) == 18.0
    assert cost(steps=50) == 12.0
    assert cost(size=Dimensions(512, 512)) == 1.5
    assert cost(cfg=1.0) == 3.0
