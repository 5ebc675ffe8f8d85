"""Templates as people really export them: encoders with several texts, fixed pictures, seed nodes of packs, editors' traces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modules.ai.workflows.binding import bind
from modules.ai.workflows.graph import GraphError, read_graph, to_api
from modules.ai.workflows.role_inputs import Role
from modules.ai.workflows.template import Template, load_library, read_template
from modules.domain.recipes import Seed, WorkflowName
from tests.support.builders import a_recipe
from tests.support.graphs import ROOT

ApiGraph = dict[str, dict[str, Any]]
RECORDED = ROOT / "tests" / "recordings" / "workflows"
AUTHOR = "the author's words"


def manifest(kind: str = "imagine", extra: str = "") -> str:
    return f'model = "m"\nkind = "{kind}"\n{extra}\n[cost]\nseconds = 1.0\n'


def recorded(name: str = "sd15_txt2img") -> ApiGraph:
    graph: ApiGraph = json.loads((RECORDED / f"{name}.json").read_text("utf-8"))
    return graph


def read(graph: ApiGraph, said: str | None = None) -> Template:
    return read_template(WorkflowName("t"), json.dumps(graph), said or manifest())


def fault(graph: ApiGraph, said: str | None = None) -> tuple[str, str, str]:
    with pytest.raises(GraphError) as caught:
        read(graph, said)
    return caught.value.what, caught.value.name, caught.value.field


def targets(template: Template, role: Role) -> list[tuple[str, str]]:
    return sorted((target.node, target.input) for target in template.shape.targets[role])


def with_encoder(class_type: str, *texts: str, node: str = "6", **others: object) -> ApiGraph:
    """The recorded graph with another encoder in the place of the positive one."""
    graph = recorded()
    graph[node] = {"class_type": class_type, "inputs": {**dict.fromkeys(texts, AUTHOR), "clip": ["4", 1], **others}}
    return graph


# --- texts --------------------------------------------------------------------------------------------------------------


#: Source: comfy_extras/nodes_sd3.py, nodes_clip_sdxl.py, nodes_flux.py, nodes_hunyuan.py, nodes_hidream.py, nodes_lumina2.py.
@pytest.mark.parametrize(
    ("class_type", "texts"),
    [
        ("CLIPTextEncodeSD3", ("clip_l", "clip_g", "t5xxl")),
        ("CLIPTextEncodeSDXL", ("text_g", "text_l")),
        ("CLIPTextEncodeFlux", ("clip_l", "t5xxl")),
        ("CLIPTextEncodeHunyuanDiT", ("bert", "mt5xl")),
        ("CLIPTextEncodeHiDream", ("clip_l", "clip_g", "t5xxl", "llama")),
        ("CLIPTextEncodeLumina2", ("user_prompt",)),
        ("TextEncodeQwenImageEdit", ("prompt",)),
    ],
)
def test_every_text_of_an_encoder_becomes_the_persons(class_type: str, texts: tuple[str, ...]) -> None:
    template = read(with_encoder(class_type, *texts))
    assert targets(template, Role.PROMPT) == sorted(("6", text) for text in texts)
    drawn = bind(template, a_recipe("a fox", workflow="t"), seed=Seed(1), uploads={})
    assert AUTHOR not in json.dumps(to_api(drawn))


def test_the_negative_side_of_an_encoder_with_several_texts_is_filled_as_well() -> None:
    template = read(with_encoder("CLIPTextEncodeSD3", "clip_l", "clip_g", "t5xxl", node="7"))
    assert targets(template, Role.NEGATIVE) == [("7", "clip_g"), ("7", "clip_l"), ("7", "t5xxl")]
    assert targets(template, Role.PROMPT) == [("6", "text")]


def test_an_encoder_that_holds_both_prompts_gets_each_in_its_own_place() -> None:
    """Source: comfy_extras/nodes_qwen.py, TextEncodeQwenImage21: one node gives both conditionings."""
    graph = with_encoder("TextEncodeQwenImage21", "prompt", "negative_prompt")
    graph["3"]["inputs"]["negative"] = ["6", 1]
    template = read(graph)
    assert targets(template, Role.PROMPT) == [("6", "prompt")]
    assert targets(template, Role.NEGATIVE) == [("6", "negative_prompt")]


def second_pass(graph: ApiGraph) -> ApiGraph:
    """A second sampler with an encoder of its own."""
    graph["20"] = {"class_type": "CLIPTextEncode", "inputs": {"text": AUTHOR, "clip": ["4", 1]}}
    graph["30"] = {"class_type": "KSampler", "inputs": {**graph["3"]["inputs"], "latent_image": ["3", 0], "positive": ["20", 0]}}
    graph["8"]["inputs"]["samples"] = ["30", 0]
    return graph


def combined(graph: ApiGraph) -> ApiGraph:
    graph["20"] = {"class_type": "CLIPTextEncode", "inputs": {"text": AUTHOR, "clip": ["4", 1]}}
    graph["21"] = {"class_type": "ConditioningCombine", "inputs": {"conditioning_1": ["6", 0], "conditioning_2": ["20", 0]}}
    graph["3"]["inputs"]["positive"] = ["21", 0]
    return graph


def detailed(graph: ApiGraph) -> ApiGraph:
    """A node of another pack that draws faces anew, with words of its own."""
    graph["20"] = {"class_type": "CLIPTextEncode", "inputs": {"text": AUTHOR, "clip": ["4", 1]}}
    graph["40"] = {"class_type": "FaceDetailer", "inputs": {"image": ["8", 0], "model": ["4", 0], "positive": ["20", 0]}}
    graph["9"]["inputs"]["images"] = ["40", 0]
    return graph


def concatenated(graph: ApiGraph) -> ApiGraph:
    graph["50"] = {"class_type": "PrimitiveString", "inputs": {"value": "a fox"}}
    graph["20"] = {"class_type": "StringConcatenate", "inputs": {"string_a": ["50", 0], "string_b": AUTHOR, "delimiter": ", "}}
    graph["6"]["inputs"]["text"] = ["20", 0]
    return graph


PROMPT_IS_6 = '[roles.prompt]\nnode = "6"\n'


@pytest.mark.parametrize(
    ("change", "said", "loose"),
    [
        (second_pass, '[nodes]\nsampler = "3"\n{}', ("20", "text")),
        (combined, "[nodes]\n{}" + PROMPT_IS_6, ("20", "text")),
        (detailed, "[nodes]\n{}", ("20", "text")),
        (concatenated, '[nodes]\n{}[roles.prompt]\nnode = "50"\ninput = "value"\n', ("20", "string_b")),
    ],
)
def test_a_text_that_belongs_to_no_role_is_a_fault_until_the_manifest_wants_it_so(
    change: Any, said: str, loose: tuple[str, str]
) -> None:
    assert fault(change(recorded()), manifest(extra=said.format(""))) == ("text_unassigned", *loose)
    template = read(change(recorded()), manifest(extra=said.format('fixed_text = ["20"]\n')))
    drawn = bind(template, a_recipe("a fox", workflow="t"), seed=Seed(1), uploads={})
    assert AUTHOR in json.dumps(to_api(drawn))


def test_a_text_that_a_language_model_writes_has_its_own_owner_and_file_names_are_no_texts() -> None:
    """Source: comfy_extras/nodes_textgen.py: a prompt is written anew by a model before it is encoded."""
    graph = recorded()
    graph["19"] = {"class_type": "CLIPLoader", "inputs": {"clip_name": "qwen.safetensors", "type": "qwen_image", "device": "cpu"}}
    graph["20"] = {"class_type": "TextGenerate", "inputs": {"clip": ["19", 0], "prompt": AUTHOR, "sampling_mode": "on"}}
    graph["6"]["inputs"]["text"] = ["20", 0]
    assert fault(graph) == ("role_missing", "prompt", "")
    template = read(graph, manifest(extra='[roles.prompt]\nnode = "20"\n'))
    assert targets(template, Role.PROMPT) == [("20", "prompt")]


def test_one_role_may_name_several_inputs_of_a_node() -> None:
    graph = with_encoder("SomeonesEncoder", "first_words", "last_words")
    assert fault(graph) == ("role_missing", "prompt", "")
    template = read(graph, manifest(extra='[roles.prompt]\nnode = "6"\ninputs = ["first_words", "last_words"]\n'))
    assert targets(template, Role.PROMPT) == [("6", "first_words"), ("6", "last_words")]


# --- pictures -----------------------------------------------------------------------------------------------------------


def guided_by_a_picture() -> ApiGraph:
    graph = recorded()
    graph["20"] = {"class_type": "LoadImage", "inputs": {"image": "pose.png"}}
    graph["21"] = {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "pose.safetensors"}}
    inputs = {"positive": ["6", 0], "negative": ["7", 0], "control_net": ["21", 0], "image": ["20", 0], "strength": 1.0}
    graph["22"] = {"class_type": "ControlNetApplyAdvanced", "inputs": inputs}
    graph["3"]["inputs"] |= {"positive": ["22", 0], "negative": ["22", 1]}
    return graph


def test_a_fixed_picture_stays_in_a_template_that_takes_none() -> None:
    template = read(guided_by_a_picture())
    assert not template.shape.has(Role.SOURCE)
    drawn = bind(template, a_recipe("a fox", workflow="t"), seed=Seed(1), uploads={})
    assert drawn["20"].literal("image") == "pose.png"


def test_two_fixed_pictures_are_no_doubt_about_a_source_where_none_is_taken() -> None:
    graph = guided_by_a_picture()
    graph["23"] = {"class_type": "LoadImage", "inputs": {"image": "style.png"}}
    graph["24"] = {"class_type": "ApplyStyle", "inputs": {"conditioning": ["6", 0], "image": ["23", 0]}}
    graph["22"]["inputs"]["positive"] = ["24", 0]
    assert read(graph).graph["23"].literal("image") == "style.png"


def test_a_source_in_the_manifest_of_a_template_that_takes_no_picture_is_a_fault() -> None:
    assert fault(guided_by_a_picture(), manifest(extra='[roles.source]\nnode = "20"\n')) == ("role_unused", "source", "imagine")


@pytest.mark.parametrize("class_type", ["SaveImageAdvanced", "Image Save", "SaveImageKJ"])
def test_other_nodes_that_save_pictures_are_outputs_too(class_type: str) -> None:
    graph = recorded()
    graph["9"] = {"class_type": class_type, "inputs": {"images": ["8", 0], "filename_prefix": "x"}}
    assert read(graph).shape.output == "9"


# --- numbers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("class_type", "inputs", "expected"),
    [
        ("Seed (rgthree)", {"seed": 5}, ("50", "seed")),
        ("easy seed", {"seed": 5, "control_after_generate": "fixed", "control_before": "no"}, ("50", "seed")),
        ("Seed Generator", {"noise_seed": 5}, ("50", "noise_seed")),
    ],
)
def test_a_seed_from_the_seed_node_of_another_pack_is_written_there(
    class_type: str, inputs: dict[str, object], expected: tuple[str, str]
) -> None:
    graph = recorded()
    graph["50"] = {"class_type": class_type, "inputs": inputs}
    graph["3"]["inputs"]["seed"] = ["50", 0]
    assert targets(read(graph), Role.SEED) == [expected]


def test_a_role_is_locked_to_a_primitive_by_its_title_alone() -> None:
    graph = recorded()
    graph["50"] = {"class_type": "PrimitiveInt", "inputs": {"value": 5}, "_meta": {"title": "Seed of the picture"}}
    graph["3"]["inputs"]["seed"] = ["50", 0]
    template = read(graph, manifest(extra='[roles.seed]\ntitle = "Seed of the picture"\n'))
    assert targets(template, Role.SEED) == [("50", "value")]


# --- files --------------------------------------------------------------------------------------------------------------


def test_a_byte_order_mark_in_front_of_template_or_manifest_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(recorded()), "utf-8-sig")
    (tmp_path / "t.manifest.toml").write_text(manifest(), "utf-8-sig")
    library = load_library(tmp_path)
    assert library.problems == ()
    assert list(library.templates) == ["t"]


def test_the_body_of_a_post_is_read_with_whatever_was_sent_beside_the_graph() -> None:
    graph = recorded()
    for body in (
        {"prompt": graph, "client_id": "abc"},
        {"client_id": "abc", "prompt": graph, "extra_data": {"extra_pnginfo": {}}, "number": 3},
    ):
        assert to_api(read_graph(json.dumps(body))) == to_api(read_graph(json.dumps(graph)))


def test_a_node_that_is_called_prompt_is_a_node() -> None:
    graph = recorded()
    renamed = json.loads(json.dumps(graph).replace('"6"', '"prompt"'))
    assert targets(read(renamed), Role.PROMPT) == [("prompt", "text")]
