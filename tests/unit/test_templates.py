"""Templates: read by role whatever their node numbers, and refused with the first thing that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modules.ai.workflows.graph import GraphError, Link, read_graph, to_api, upstream
from modules.ai.workflows.manifest import LoraPlace, MergeLevel
from modules.ai.workflows.role_inputs import Role
from modules.ai.workflows.roles import planned_steps
from modules.ai.workflows.template import Library, Template, load_library, read_template
from modules.domain.jobs import ServerName
from modules.domain.recipes import WorkflowName
from tests.support.graphs import ROOT, a_listing, the_library

RECORDED = ROOT / "tests" / "recordings" / "workflows"
HOUSE = [
    "flux_edit",
    "flux_image",
    "flux_vary",
    "multisampler",
    "sdxl_image",
    "sdxl_vary",
    "upscale",
    "z-image_imagine",
    "z-image_vary",
]

ApiGraph = dict[str, dict[str, Any]]


def manifest(kind: str = "imagine", extra: str = "") -> str:
    return f'model = "m"\nkind = "{kind}"\nmerge = "batched"\n{extra}\n[cost]\nseconds = 1.0\n'


def recorded(name: str) -> ApiGraph:
    graph: ApiGraph = json.loads((RECORDED / f"{name}.json").read_text("utf-8"))
    return graph


def read(graph: object, said: str | None = None) -> Template:
    text = graph if isinstance(graph, str) else json.dumps(graph)
    return read_template(WorkflowName("t"), text, said or manifest())


def fault(graph: object, said: str | None = None) -> tuple[str, str, str]:
    with pytest.raises(GraphError) as caught:
        read(graph, said)
    return caught.value.what, caught.value.name, caught.value.field


def targets(template: Template, role: Role) -> list[tuple[str, str]]:
    return sorted((target.node, target.input) for target in template.shape.targets[role])


# --- the house's own ----------------------------------------------------------------------------------------------------


def test_every_template_of_the_house_is_sound_and_has_a_manifest() -> None:
    library = the_library()
    assert library.problems == ()
    assert sorted(library.templates) == HOUSE


def test_a_server_with_the_files_and_nodes_can_run_every_template_of_the_house() -> None:
    listing = a_listing()
    problems = [
        problem for template in the_library().templates.values() for problem in template.problems_on(ServerName("a"), listing)
    ]
    assert problems == []


def test_the_multisampler_is_bound_to_its_seven_nodes_and_steps_and_cfg_reach_239_only() -> None:
    template = the_library().templates[WorkflowName("multisampler")]
    assert targets(template, Role.CHECKPOINT) == [("152", "ckpt_name")]
    assert targets(template, Role.PROMPT) == [("268", "text")]
    assert targets(template, Role.NEGATIVE) == [("4", "text")]
    assert targets(template, Role.STEPS) == [("239", "steps")]
    assert targets(template, Role.CFG) == [("239", "cfg")]
    for role, name in ((Role.SEED, "seed"), (Role.SAMPLER, "sampler_name"), (Role.SCHEDULER, "scheduler")):
        assert targets(template, role) == sorted((node, name) for node in ("239", "249", "52", "118"))


@pytest.mark.parametrize("lost", ["152", "268", "4", "239", "249", "52", "118"])
def test_a_multisampler_without_one_of_its_nodes_names_that_node(lost: str) -> None:
    graph: ApiGraph = json.loads((ROOT / "flujos" / "multisampler.json").read_text("utf-8"))
    renamed = json.loads(
        json.dumps({"renamed" if node == lost else node: said for node, said in graph.items()}).replace(
            f'["{lost}", ', '["renamed", '
        )
    )
    said = (ROOT / "flujos" / "multisampler.manifest.toml").read_text("utf-8")
    assert fault(renamed, said) == ("node_missing", lost, "")


@pytest.mark.parametrize(
    ("node", "field"), [("239", "steps"), ("239", "cfg"), ("268", "text"), ("152", "ckpt_name"), ("118", "seed")]
)
def test_a_multisampler_without_one_of_its_fields_names_node_and_field(node: str, field: str) -> None:
    graph: ApiGraph = json.loads((ROOT / "flujos" / "multisampler.json").read_text("utf-8"))
    del graph[node]["inputs"][field]
    said = (ROOT / "flujos" / "multisampler.manifest.toml").read_text("utf-8")
    assert fault(graph, said) == ("field_missing", node, field)


# --- anybody's ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("sd15_txt2img", "imagine", {Role.PROMPT: [("6", "text")], Role.NEGATIVE: [("7", "text")], Role.WIDTH: [("5", "width")]}),
        ("sd15_img2img", "vary", {Role.SOURCE: [("10", "image")], Role.DENOISE: [("3", "denoise")], Role.WIDTH: []}),
        ("flux_dev_txt2img", "imagine", {Role.GUIDANCE: [("26", "guidance")], Role.NEGATIVE: [], Role.SEED: [("31", "seed")]}),
        (
            "flux_dev_custom_sampler",
            "imagine",
            {
                Role.SEED: [("25", "noise_seed")],
                Role.STEPS: [("17", "steps")],
                Role.SCHEDULER: [("17", "scheduler")],
                Role.SAMPLER: [("16", "sampler_name")],
                Role.WIDTH: [("27", "width"), ("30", "width")],
                Role.CFG: [],
            },
        ),
        ("zimage_txt2img", "imagine", {Role.CHECKPOINT: [("16", "unet_name")], Role.STEPS: [("3", "steps")], Role.NEGATIVE: []}),
        ("upscale_4x", "upscale", {Role.SOURCE: [("1", "image")], Role.PROMPT: []}),
    ],
)
def test_graphs_exported_from_comfyui_are_read_by_role(name: str, kind: str, expected: dict[Role, list[tuple[str, str]]]) -> None:
    template = read(recorded(name), manifest(kind))
    assert {role: targets(template, role) for role in expected} == expected


def test_renaming_every_node_changes_nothing_but_the_names() -> None:
    graph = recorded("flux_dev_custom_sampler")
    names = {node: f"n{number}" for number, node in enumerate(sorted(graph, reverse=True))}
    renamed = {
        names[node]: {
            "class_type": said["class_type"],
            "inputs": {
                key: [names[value[0]], value[1]] if isinstance(value, list) else value for key, value in said["inputs"].items()
            },
        }
        for node, said in graph.items()
    }
    before, after = read(graph), read(renamed)
    for role in Role:
        assert targets(after, role) == sorted((names[node], name) for node, name in targets(before, role))


def test_values_fed_by_primitive_nodes_are_written_into_the_primitives() -> None:
    graph = recorded("sd15_txt2img")
    graph["50"] = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": "text"}}
    graph["51"] = {"class_type": "PrimitiveInt", "inputs": {"value": 1}}
    graph["6"]["inputs"]["text"] = ["50", 0]
    graph["3"]["inputs"]["seed"] = ["51", 0]
    template = read(graph)
    assert targets(template, Role.PROMPT) == [("50", "value")]
    assert targets(template, Role.SEED) == [("51", "value")]


def test_one_number_for_both_sides_is_a_fault_at_the_start_and_not_at_every_picture() -> None:
    graph = recorded("sd15_txt2img")
    graph["50"] = {"class_type": "PrimitiveInt", "inputs": {"value": 512}}
    graph["5"]["inputs"] |= {"width": ["50", 0], "height": ["50", 0]}
    assert fault(graph) == ("role_shared", "50", "width, height")
    graph["51"] = {"class_type": "PrimitiveInt", "inputs": {"value": 512}}
    graph["5"]["inputs"]["height"] = ["51", 0]
    assert targets(read(graph), Role.HEIGHT) == [("51", "value")]


def test_a_title_or_a_class_in_the_manifest_finds_what_walking_cannot_tell_apart() -> None:
    graph = recorded("sd15_txt2img")
    graph["20"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "always in this style", "clip": ["4", 1]}}
    graph["21"] = {"class_type": "ConditioningCombine", "inputs": {"conditioning_1": ["6", 0], "conditioning_2": ["20", 0]}}
    graph["3"]["inputs"]["positive"] = ["21", 0]
    assert fault(graph) == ("role_duplicate", "prompt", "20, 6")
    graph["6"]["_meta"] = {"title": "The Prompt"}
    template = read(graph, manifest(extra='[nodes]\nfixed_text = ["20"]\n[roles.prompt]\ntitle = "the prompt"\n'))
    assert targets(template, Role.PROMPT) == [("6", "text")]


def test_previews_and_other_branches_of_an_export_are_left_out() -> None:
    graph = recorded("sd15_txt2img")
    graph["90"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    graph["91"] = {"class_type": "ImageScaleBy", "inputs": {"image": ["8", 0], "upscale_method": "area", "scale_by": 2.0}}
    template = read(graph)
    assert set(template.graph) == set(recorded("sd15_txt2img")) - {"9"}


def test_a_lora_goes_to_model_and_encoder_where_one_file_holds_both_and_to_the_model_alone_elsewhere() -> None:
    assert read(recorded("sd15_txt2img")).lora is LoraPlace.MODEL_AND_CLIP
    assert read(recorded("zimage_txt2img")).lora is LoraPlace.MODEL
    lora = read(recorded("sd15_lora_and_embedding"))
    assert lora.shape.model == Link("4", 0)


# --- what is refused ----------------------------------------------------------------------------------------------------

Break = Callable[[ApiGraph], object]


def without(*nodes: str) -> Break:
    return lambda graph: {node: said for node, said in graph.items() if node not in nodes}


def changed(node: str, **inputs: object) -> Break:
    def change(graph: ApiGraph) -> ApiGraph:
        graph[node]["inputs"].update(inputs)
        return graph

    return change


def added(node: str, class_type: str, **inputs: object) -> Break:
    return lambda graph: graph | {node: {"class_type": class_type, "inputs": inputs}}


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (lambda _: "{ not json", ("not_json", "the file")),
        (lambda _: "[]", ("not_api_format", "the file")),
        (lambda _: {}, ("not_api_format", "the file")),
        (lambda _: {"nodes": [], "links": [], "version": 0.4}, ("not_api_format", "nodes")),
        (lambda graph: graph | {"77": {"inputs": {}}}, ("node_invalid", "77")),
        (lambda graph: graph | {"77": {"class_type": "X"}}, ("node_invalid", "77")),
        (without("4"), ("link_broken", "6")),
        (changed("6", clip=["8", 0]), ("graph_cycle", None)),
        (without("9"), ("role_missing", "output")),
        (added("99", "SaveImage", images=["8", 0]), ("role_duplicate", "output")),
        (lambda graph: without("9", "8")(graph) | {"9": {"class_type": "SaveImage", "inputs": {}}}, ("field_missing", "9")),  # type: ignore[operator]  # a dict
        (added("save_0", "PreviewImage", images=["8", 0]), ("node_id_reserved", "save_0")),
        (changed("6", text=["4", 0]), ("role_missing", "prompt")),
        (changed("5", width=["4", 0]), ("role_missing", "width")),
    ],
)
def test_a_bad_graph_is_refused_by_the_first_thing_that_is_wrong(break_it: Break, expected: tuple[str, str | None]) -> None:
    graph = break_it(recorded("sd15_txt2img"))
    what, name, _ = fault(graph)
    assert what == expected[0]
    assert expected[1] is None or name == expected[1]


def test_two_samplers_need_the_manifest_to_say_which() -> None:
    graph = recorded("sd15_txt2img")
    graph["30"] = {"class_type": "KSampler", "inputs": {**graph["3"]["inputs"], "latent_image": ["3", 0], "denoise": 0.4}}
    graph["8"]["inputs"]["samples"] = ["30", 0]
    assert fault(graph) == ("role_duplicate", "sampler", "3, 30")
    assert read(graph, manifest(extra='[nodes]\nsampler = "3"\n')).shape.sampler == "3"
    assert fault(graph, manifest(extra='[nodes]\nsampler = "31"\n')) == ("node_missing", "31", "")


def test_a_number_people_could_set_without_effect_is_refused() -> None:
    extra = "[guidance]\nlow = 1.0\nhigh = 5.0\ndefault = 3.5\n"
    assert fault(recorded("sd15_txt2img"), manifest(extra=extra)) == ("role_missing", "guidance", "")
    assert read(recorded("flux_dev_txt2img"), manifest(extra=extra)).shape.has(Role.GUIDANCE)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ("model = 1", "model"),
        (manifest(extra="colour = 3"), "colour"),
        (manifest("paint"), "kind"),
        (manifest(extra="[steps]\nlow = 5\nhigh = 9\ndefault = 1"), "steps"),
        (manifest(extra='[size]\ndefault = "1000x1001"\n'), "size"),
        (manifest(extra='[size]\ndefault = "big"\n'), "size.default"),
        (manifest(extra='[roles.prompt]\nnode = "6"\ntitle = "x"\n'), "roles.prompt"),
        ("model = [", "the file"),
    ],
)
def test_a_bad_manifest_is_refused_by_the_field(said: str, field: str) -> None:
    assert fault(recorded("sd15_txt2img"), said)[:2] == ("manifest_invalid", field)


@pytest.mark.parametrize("class_type", ["EasyCache", "LazyCache", "TeaCacheForImgGen", "ApplyFBCacheOnModel", "APG"])
def test_a_patch_that_couples_pictures_keeps_a_template_from_being_merged(class_type: str) -> None:
    graph = recorded("sd15_txt2img")
    assert read(graph).merge is MergeLevel.BATCHED
    graph["60"] = {"class_type": class_type, "inputs": {"model": ["4", 0]}}
    graph["3"]["inputs"]["model"] = ["60", 0]
    assert read(graph).merge is MergeLevel.NEVER


def test_where_nothing_is_sampled_there_is_nothing_to_share() -> None:
    assert read(recorded("upscale_4x"), manifest("upscale")).merge is MergeLevel.NEVER


def test_a_text_that_is_zeroed_is_no_negative_prompt() -> None:
    graph = recorded("flux_dev_txt2img")
    graph["34"] = {"class_type": "CLIPTextEncode", "inputs": {"text": "without effect", "clip": ["11", 0]}}
    graph["33"]["inputs"]["conditioning"] = ["34", 0]
    assert targets(read(graph), Role.NEGATIVE) == []


def test_a_reference_that_a_picture_cannot_do_without_is_refused() -> None:
    """It is optional for people, so the graph must run without it: where nothing hands on what was there before, it cannot."""
    graph = json.loads((ROOT / "flujos" / "flux_edit.json").read_text("utf-8"))
    said = (ROOT / "flujos" / "flux_edit.manifest.toml").read_text("utf-8")
    assert read(graph, said).without_reference.keys() == graph.keys() - {"13", "20", "21", "22", "23", "24"}
    on_its_own = {**graph, "11": {**graph["11"], "inputs": {**graph["11"]["inputs"], "latent_image": ["22", 0]}}}
    assert fault(on_its_own, said) == ("picture_needed", "20", "")
    the_only_words = {
        **graph,
        "18": {**graph["18"], "inputs": {**graph["18"]["inputs"], "conditioning": ["23", 0]}},
        "23": {"class_type": "TextEncodeWithPicture", "inputs": {"text": "x", "clip": ["2", 0], "image": ["20", 0]}},
        "10": {**graph["10"], "inputs": {**graph["10"]["inputs"], "positive": ["18", 0]}},
    }
    assert fault(the_only_words, said)[0] == "picture_needed"


def test_a_second_picture_without_a_word_in_the_manifest_is_refused() -> None:
    graph = json.loads((ROOT / "flujos" / "flux_edit.json").read_text("utf-8"))
    assert fault(graph, manifest("edit")) == ("role_duplicate", "source", "14, 20")


def test_a_library_reports_what_it_cannot_read_and_keeps_the_rest(tmp_path: Path) -> None:
    good = (RECORDED / "sd15_txt2img.json").read_text("utf-8")
    (tmp_path / "good.json").write_text(good, "utf-8")
    (tmp_path / "good.manifest.toml").write_text(manifest(), "utf-8")
    (tmp_path / "lonely.json").write_text(good, "utf-8")
    (tmp_path / "empty.manifest.toml").write_text(manifest(), "utf-8")
    (tmp_path / "latin.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "latin.manifest.toml").write_text(manifest(), "utf-8")
    library: Library = load_library(tmp_path)
    assert list(library.templates) == ["good"]
    assert [(problem.workflow, problem.what, problem.name) for problem in library.problems] == [
        ("empty", "file_missing", "empty.json"),
        ("latin", "file_unreadable", "latin.json"),
        ("lonely", "file_missing", "lonely.manifest.toml"),
    ]


# --- what a server lacks ------------------------------------------------------------------------------------------------


def problems(name: str, listing_of: Any) -> list[tuple[str, str, str, tuple[str, ...]]]:
    template = the_library().templates[WorkflowName(name)]
    found = template.problems_on(ServerName("gpu"), listing_of)
    return [(problem.what, problem.name, problem.field, problem.available) for problem in found]


def test_a_missing_node_class_is_named() -> None:
    assert problems("flux_image", a_listing(without=["UnetLoaderGGUF"])) == [("node_missing", "UnetLoaderGGUF", "", ())]


def test_a_missing_file_is_named_with_those_the_server_has_closest_first() -> None:
    files = ["sdxl_turbo.safetensors", "dreamshaper.safetensors", "sd_xl_base_1.0_0.9vae.safetensors"]
    found = problems("sdxl_image", a_listing({"CheckpointLoaderSimple.ckpt_name": files}))
    assert [(what, name, field) for what, name, field, _ in found] == [
        ("file_missing", "sd_xl_base_1.0.safetensors", "CheckpointLoaderSimple.ckpt_name")
    ]
    assert found[0][3][0] == "sd_xl_base_1.0_0.9vae.safetensors"
    assert set(found[0][3]) == set(files)


def test_a_word_an_old_server_does_not_know_is_named() -> None:
    listing = a_listing()
    types = listing.classes["CLIPLoader"].inputs["type"].options or ()
    old = a_listing({"CLIPLoader.type": [word for word in types if word != "lumina2"]})
    assert [(what, name, field) for what, name, field, _ in problems("z-image_imagine", old)] == [
        ("choice_missing", "lumina2", "CLIPLoader.type")
    ]


def test_an_input_that_a_newer_server_requires_is_named() -> None:
    listing = a_listing()
    spec = listing.classes["VAEDecode"].inputs["vae"]
    listing.classes["VAEDecode"].inputs["added_later"] = spec  # type: ignore[index]  # a dict underneath
    assert ("field_missing", "VAEDecode (9)", "added_later", ()) in problems("sdxl_image", listing)


def test_files_in_folders_match_whatever_slash_the_server_writes() -> None:
    assert problems("sdxl_image", a_listing({"CheckpointLoaderSimple.ckpt_name": ["xl\\sd_xl_base_1.0.safetensors"]})) != []
    spec = (
        a_listing({"CheckpointLoaderSimple.ckpt_name": ["xl\\a.safetensors"]})
        .classes["CheckpointLoaderSimple"]
        .inputs["ckpt_name"]
    )
    assert spec.match("xl/a.safetensors") == "xl\\a.safetensors"
    assert replace(spec, options=("xl/a.safetensors",)).match("xl\\a.safetensors") == "xl/a.safetensors"


@pytest.mark.parametrize("lost", [(), ("KSampler",), ("CheckpointLoaderSimple",), ("KSampler", "CheckpointLoaderSimple")])
def test_the_multisampler_needs_one_class_of_each_chain(lost: tuple[str, ...]) -> None:
    listing = a_listing(without=lost)
    assert {name for what, name, *_ in problems("multisampler", listing) if what == "node_missing"} == {
        {
            "KSampler": "KSamplerAdvancedEfficient|KSamplerEfficient|KSampler",
            "CheckpointLoaderSimple": "CheckpointLoaderSimpleMikey|CheckpointLoaderSimple|*CheckpointLoader*",
        }[name]
        for name in lost
    }


# --- graphs as values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: path.stem)
def test_reading_and_writing_a_graph_changes_nothing(path: Path) -> None:
    original = json.loads(path.read_text("utf-8"))
    for node in original.values():
        node.pop("_meta", None)
    assert to_api(read_graph(path.read_text("utf-8"))) == original


def test_everything_comes_after_what_it_needs() -> None:
    graph = read_graph((RECORDED / "flux_dev_custom_sampler.json").read_text("utf-8"))
    order = upstream(graph, "9")
    assert set(order) == set(graph)
    for node in order:
        assert all(order.index(link.node) < order.index(node) for _, link in graph[node].links())


def test_a_graph_saved_as_the_body_of_a_post_is_read_too() -> None:
    graph = recorded("sd15_txt2img")
    assert to_api(read_graph(json.dumps({"prompt": graph}))) == to_api(read_graph(json.dumps(graph)))


def test_every_sampler_of_our_templates_says_how_many_steps_it_takes() -> None:
    for template in the_library().templates.values():
        steps = planned_steps(template.graph)
        assert set(steps) == set(template.shape.samplers)
        assert all(steps.values()), template.name
    assert planned_steps(the_library().templates[WorkflowName("multisampler")].graph) == {
        "239": 25,
        "249": 14,
        "52": 12,
        "118": 10,
    }
