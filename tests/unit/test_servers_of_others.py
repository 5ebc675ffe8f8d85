"""What servers really say they have: growing inputs, names that are no UTF-8, backslashes, empty lists, ten thousand files."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from modules.ai.catalogue import TemplateCatalogue
from modules.ai.listing import ServerListing
from modules.ai.workflows.binding import bind, fit
from modules.ai.workflows.graph import to_api
from modules.ai.workflows.template import Library, Template, read_template
from modules.discord import drafts
from modules.discord.views.generation_form import generation_form
from modules.domain.catalogue import Wish, WorkflowKind
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import ServerName
from modules.domain.people import Language
from modules.domain.recipes import Lora, ModelName, Seed, WorkflowName
from modules.utils.i18n import Phrasebook
from tests.support.builders import a_recipe
from tests.support.graphs import ROOT, a_catalogue, a_listing, an_object_info, faults_of, the_library

RECORDED = ROOT / "tests" / "recordings" / "workflows"
GPU = ServerName("gpu")
TEXTS = Phrasebook.load(Language.ENGLISH).texts()
ApiGraph = dict[str, dict[str, Any]]


def recorded(name: str = "sd15_txt2img") -> ApiGraph:
    graph: ApiGraph = json.loads((RECORDED / f"{name}.json").read_text("utf-8"))
    for node in graph.values():
        if node["class_type"] == "CheckpointLoaderSimple":
            node["inputs"]["ckpt_name"] = "other.safetensors"
    return graph


def template_of(graph: ApiGraph, kind: str = "imagine", extra: str = "") -> Template:
    said = f'model = "m"\nkind = "{kind}"\n{extra}\n[cost]\nseconds = 1.0\n'
    return read_template(WorkflowName("t"), json.dumps(graph), said)


def problems(template: Template, info: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    found = template.problems_on(GPU, ServerListing.from_object_info(info))
    return [(problem.what, problem.name, problem.field) for problem in found]


# --- growing inputs -----------------------------------------------------------------------------------------------------


def growing(least: int, **names: object) -> dict[str, Any]:
    """A node class with a growing input as ComfyUI describes it. Source: `Autogrow` in comfy_api/latest/_io.py."""
    grown = {"template": {"input": {"required": {"image": ["IMAGE", {}]}}, "min": least, **names}}
    return {
        "input": {"required": {"conditioning": ["CONDITIONING", {}], "images": ["COMFY_AUTOGROW_V3", grown]}},
        "output": ["CONDITIONING"],
    }


def looking_at(*inputs: str) -> ApiGraph:
    """A graph whose positive conditioning looks at one fixed picture through these inputs."""
    graph = recorded()
    graph["20"] = {"class_type": "LoadImage", "inputs": {"image": "pose.png"}}
    links = {name: ["20", 0] for name in inputs}
    graph["21"] = {"class_type": "LookAtPictures", "inputs": {"conditioning": ["6", 0], **links}}
    graph["3"]["inputs"]["positive"] = ["21", 0]
    return graph


@pytest.mark.parametrize(
    ("least", "names", "given", "missing"),
    [
        (1, {"prefix": "image_", "max": 4}, ["images.image_0"], []),
        (1, {"prefix": "image_", "max": 4}, ["images.image_0", "images.image_3"], []),
        (2, {"prefix": "image_", "max": 4}, ["images.image_0"], ["images.image_1"]),
        (0, {"names": ["first", "second"]}, [], []),
        (1, {"names": ["first", "second"]}, ["images.second"], ["images.first"]),
    ],
)
def test_a_growing_input_is_what_the_graph_makes_of_it(
    least: int, names: dict[str, object], given: Sequence[str], missing: Sequence[str]
) -> None:
    info = an_object_info() | {"LookAtPictures": growing(least, **names)}
    info["LoadImage"]["input"]["required"]["image"][0] = ["pose.png"]
    found = problems(template_of(looking_at(*given)), info)
    assert found == [("field_missing", "LookAtPictures (21)", name) for name in missing]


def test_a_choice_brings_the_inputs_of_what_was_chosen() -> None:
    """Source: `DynamicCombo` in comfy_api/latest/_io.py; SaveVideo in tests/recordings uses it."""
    options = [
        {"key": "by", "inputs": {"required": {"factor": ["FLOAT", {"default": 2.0}]}}},
        {"key": "to", "inputs": {"required": {"method": [["area", "lanczos"], {}]}}},
    ]
    declared = {"image": ["IMAGE", {}], "mode": ["COMFY_DYNAMICCOMBO_V3", {"options": options}]}
    info = an_object_info() | {"Resize": {"input": {"required": declared}, "output": ["IMAGE"]}}

    def resized(**inputs: object) -> Template:
        graph = recorded()
        graph["20"] = {"class_type": "Resize", "inputs": {"image": ["8", 0], **inputs}}
        graph["9"]["inputs"]["images"] = ["20", 0]
        return template_of(graph)

    assert problems(resized(**{"mode": "by", "mode.factor": 2.0}), info) == []
    assert problems(resized(mode="by"), info) == [("field_missing", "Resize (20)", "mode.factor")]
    assert problems(resized(**{"mode": "to", "mode.method": "best"}), info) == [("choice_missing", "best", "Resize.mode.method")]
    assert problems(resized(mode="sideways"), info) == [("choice_missing", "sideways", "Resize.mode")]


# --- names --------------------------------------------------------------------------------------------------------------


def test_a_file_name_that_is_no_utf_8_is_left_out_and_the_rest_works() -> None:
    """Linux file names are bytes: Python hands them on with lone surrogates, and ComfyUI writes those into its JSON."""
    listing = a_listing({"LoraLoader.lora_name": ["ink.safetensors", "caf\udce9.safetensors"]})
    catalogue = a_catalogue(listing)
    assert "ink.safetensors" in catalogue.choices().loras
    for names in (catalogue.choices().loras, listing.options("LoraLoader", "lora_name")):
        assert "\n".join(names).encode("utf-8")
        assert not [name for name in names if name.startswith("caf")]


WINDOWS = {
    "CheckpointLoaderSimple.ckpt_name": ["xl\\base.safetensors"],
    "LoraLoader.lora_name": ["style\\oil.safetensors"],
    "LoraLoaderModelOnly.lora_name": ["style\\oil.safetensors"],
}
LINUX = {
    "CheckpointLoaderSimple.ckpt_name": ["xl/base.safetensors"],
    "LoraLoader.lora_name": ["style/oil.safetensors"],
    "LoraLoaderModelOnly.lora_name": ["style/oil.safetensors"],
}


def mixed(template_says: str) -> TemplateCatalogue:
    """A form template whose checkpoint is written so, on a fleet of a Windows and a Linux server."""
    graph = recorded()
    graph["4"]["inputs"]["ckpt_name"] = template_says
    template = template_of(graph, "form", "picks_checkpoint = true")
    return a_catalogue(a_listing(WINDOWS), a_listing(LINUX), library=Library({template.name: template}))


@pytest.mark.parametrize("says", ["xl\\base.safetensors", "xl/base.safetensors"])
def test_a_file_is_one_file_whatever_the_slash(says: str) -> None:
    catalogue = mixed(says)
    assert catalogue.choices().checkpoints == ("xl/base.safetensors",)
    assert catalogue.choices().loras == ("style/oil.safetensors",)
    asked = [None, "xl\\base.safetensors", "xl/base.safetensors"]
    work = []
    for checkpoint, lora in zip(asked, ("style/oil.safetensors", "style\\oil.safetensors", "style/oil.safetensors"), strict=True):
        wish = Wish(kind=WorkflowKind.FORM, model=ModelName("m"), prompt="a fox", checkpoint=checkpoint, loras=(Lora(name=lora),))
        made, needed = catalogue.resolve(wish)
        assert (made.checkpoint, made.loras[0].name) == ("xl/base.safetensors", "style/oil.safetensors")
        work.append((needed.exact_key, needed.heavy_key, needed.needs))
    assert len(set(work)) == 1
    assert work[0][1] == "xl/base.safetensors"


def test_a_fixed_file_of_the_template_merges_whatever_slash_two_templates_write() -> None:
    keys = set()
    for says in ("xl\\base.safetensors", "xl/base.safetensors"):
        graph = recorded()
        graph["4"]["inputs"]["ckpt_name"] = says
        template = template_of(graph)
        catalogue = a_catalogue(a_listing(LINUX), library=Library({template.name: template}))
        keys.add(catalogue.resolve(Wish(kind=WorkflowKind.IMAGINE, model=ModelName("m"), prompt="a fox"))[1].heavy_key)
    assert keys == {"xl/base.safetensors"}


@pytest.mark.parametrize("files", [WINDOWS, LINUX])
def test_each_server_is_sent_its_own_spelling(files: Mapping[str, Sequence[str]]) -> None:
    template = mixed("xl\\base.safetensors").library.templates[WorkflowName("t")]
    recipe = a_recipe(workflow="t", checkpoint="xl/base.safetensors", loras=(Lora(name="style/oil.safetensors"),))
    info = an_object_info(files)
    graph = to_api(fit(bind(template, recipe, seed=Seed(1), uploads={}), template, ServerListing.from_object_info(info)))
    assert faults_of(graph, info) == []


# --- lists that need not hold what we write -----------------------------------------------------------------------------


@pytest.mark.parametrize("image", [[[], {"image_upload": True}], [[], {}], [["cat.png"], {}], ["COMBO", {"options": []}]])
def test_a_picture_that_we_upload_is_not_looked_for_in_the_servers_list(image: list[Any]) -> None:
    info = an_object_info()
    info["LoadImage"]["input"]["required"]["image"] = image
    catalogue = a_catalogue(ServerListing.from_object_info(info))
    assert [problem for problem in catalogue.problems() if problem.field == "LoadImage.image"] == []
    assert catalogue.is_available(ModelName("flux"), WorkflowKind.EDIT)


@pytest.mark.parametrize(
    ("named", "listed", "found"),
    [
        ("pose.png", ["pose.png"], []),
        ("pose.png", [], [("picture_missing", "pose.png", "LoadImage.image")]),
        ("poses/pose.png", [], []),  # a picture in a folder is not listed, and good all the same
        ("pose.png [output]", [], []),
    ],
)
def test_a_fixed_picture_must_lie_on_the_server(named: str, listed: list[str], found: list[Any]) -> None:
    graph = looking_at("images.image_0")
    graph["20"]["inputs"]["image"] = named
    info = an_object_info() | {"LookAtPictures": growing(1, prefix="image_", max=4)}
    info["LoadImage"]["input"]["required"]["image"][0] = listed
    template = template_of(graph)
    assert problems(template, info) == found
    catalogue = a_catalogue(ServerListing.from_object_info(info), library=Library({template.name: template}))
    wish = Wish(kind=WorkflowKind.IMAGINE, model=ModelName("m"), prompt="a fox")
    if not found:
        assert catalogue.resolve(wish)[0].source is None
        return
    with pytest.raises(FulletError) as caught:
        catalogue.resolve(wish)
    assert caught.value.code is ErrorCode.MODEL_UNAVAILABLE


def test_a_long_text_of_an_encoder_we_do_not_know_is_named_once_a_server_describes_it() -> None:
    graph = recorded()
    graph["6"]["class_type"] = "SomeonesEncoder"
    graph["6"]["inputs"] |= {"style_words": "the author's words", "mode": "fast", "label": "a short label"}
    long = ["STRING", {"multiline": True}]
    inputs = {"clip": ["CLIP"], "text": long, "style_words": long, "mode": [["fast"], {}], "label": ["STRING", {}]}
    info = an_object_info() | {"SomeonesEncoder": {"input": {"required": inputs}, "output": ["CONDITIONING"]}}
    assert problems(template_of(graph), info) == [("text_unassigned", "SomeonesEncoder (6)", "style_words")]
    assert problems(template_of(graph, extra='[nodes]\nfixed_text = ["6"]'), info) == []


# --- ten thousand files -------------------------------------------------------------------------------------------------


def test_with_ten_thousand_files_a_press_of_the_form_looks_nothing_up_twice() -> None:
    """The bound is five milliseconds of the loop for all that a press takes, with the message that is shown."""
    many = [f"folder{number % 40}\\a model number {number}.safetensors" for number in range(10_000)]
    files = {place: [*a_files, *many] for place, a_files in FILES.items()}
    catalogue = a_catalogue(a_listing(files), a_listing(files, without=["UnetLoaderGGUF"]))

    def press() -> None:
        for spec in catalogue.models():
            for kind in spec.workflows:
                catalogue.is_available(spec.name, kind)
        choices = catalogue.choices()
        assert len(choices.loras) > 10_000
        draft = drafts.Draft(prompt="a fox", checkpoint=choices.checkpoints[70], loras=(choices.loras[9],))
        form = catalogue.model("multisampler")
        assert drafts.faults_of(draft, form, catalogue) == []
        generation_form(draft, form, drafts.form_models(catalogue), catalogue, TEXTS)

    press()
    spent = []
    for _ in range(5):
        began = time.thread_time()
        press()
        spent.append(time.thread_time() - began)
    assert min(spent) < 0.005


FILES = {
    "CheckpointLoaderSimple.ckpt_name": ["sd_xl_base_1.0.safetensors"],
    "LoraLoader.lora_name": ["ink.safetensors"],
    "LoraLoaderModelOnly.lora_name": ["ink.safetensors"],
}


def test_the_house_templates_are_still_sound() -> None:
    assert the_library().problems == ()
