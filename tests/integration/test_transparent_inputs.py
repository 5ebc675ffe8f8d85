"""A template that reads the mask of its picture gets the picture's transparency; every other gets it flat (faults.md M22)."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from modules.ai.workflows.role_inputs import Role
from modules.ai.workflows.template import Library, Template, read_template
from modules.domain.images import BlobId, Dimensions, Picture, PictureFormat
from modules.domain.recipes import WorkflowName
from modules.domain.servers import RunPhase
from modules.sandbox.comfy_server import ComfySandbox
from tests.support.comfy_side import FLUJOS, ComfySide, a_recipe, an_attempt, comfy_side, report_in, the_library
from tests.support.graphs import ROOT
from tests.support.pictures import decoded, encoded

ApiGraph = dict[str, dict[str, Any]]
SIZE = (512, 512)
HIDDEN = (0, 90, 0)  #: what stands under the transparent part
SAID = 'model = "m"\nkind = "vary"\n[cost]\nseconds = 1.0\n'
RECORDED = ROOT / "tests" / "recordings" / "workflows"


def plain_graph() -> ApiGraph:
    graph: ApiGraph = json.loads((FLUJOS / "sdxl_vary.json").read_text("utf-8"))
    return graph


def inpainting_graph() -> ApiGraph:
    """The same, but only what is transparent is drawn anew."""
    graph = plain_graph()
    graph["13"] = {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["7", 0], "mask": ["11", 1]}}
    graph["8"]["inputs"]["latent_image"] = ["13", 0]
    return graph


def read(graph: ApiGraph, name: str = "t", said: str = SAID) -> Template:
    return read_template(WorkflowName(name), json.dumps(graph), said)


def a_cut_out() -> Picture:
    """Blue, with a transparent square at the top left under which something dark green is left."""
    image = Image.new("RGBA", SIZE, (0, 0, 200, 255))
    image.paste((*HIDDEN, 0), (0, 0, 256, 256))
    return Picture(data=encoded(image), format=PictureFormat.PNG, size=Dimensions(*SIZE))


def uploads(sandbox: ComfySandbox) -> dict[str, Image.Image]:
    return {path.name: decoded(path.read_bytes()) for path in sandbox.inputs.rglob("*") if path.is_file()}


@pytest.fixture
def library() -> Library:
    house = dict(the_library().templates)
    house[WorkflowName("inpaint")] = read(inpainting_graph(), "inpaint")
    return Library(house)


async def drawn(side: ComfySide, workflow: str, source: BlobId) -> Image.Image:
    attempt = an_attempt(a_recipe("a gate", workflow=workflow, source=source))
    assert report_in(await side.run(attempt)).phase is RunPhase.SUCCEEDED
    [picture] = (await side.ours.fetch(attempt, {0})).values()
    return Image.open(BytesIO(picture.data)).convert("RGB")


async def test_inpainting_draws_where_the_picture_is_transparent_and_nowhere_else(library: Library) -> None:
    async with ComfySandbox(time_scale=0.0) as sandbox, comfy_side(sandbox, library=library) as side:
        source = await side.blobs.put(a_cut_out())
        picture = await drawn(side, "inpaint", source)
        assert uploads(sandbox)[f"{source}.png"].mode == "RGBA"
    assert picture.getpixel((450, 450)) == (0, 0, 200)  # kept
    assert (0, 0, 200) not in {colour for _, colour in picture.crop((0, 0, 250, 250)).getcolors(250 * 250) or []}  # painted


async def test_a_template_without_a_mask_gets_a_white_ground_and_not_what_was_hidden(library: Library) -> None:
    async with ComfySandbox(time_scale=0.0) as sandbox, comfy_side(sandbox, library=library) as side:
        source = await side.blobs.put(a_cut_out())
        await drawn(side, "sdxl_vary", source)
        [(name, sent)] = uploads(sandbox).items()
    assert name == f"{source}-flat.png"
    assert (sent.mode, sent.getpixel((5, 5)), sent.getpixel((450, 450))) == ("RGB", (255, 255, 255), (0, 0, 200))


async def test_one_picture_in_both_forms_is_two_files_also_within_one_attempt(library: Library) -> None:
    async with ComfySandbox(time_scale=0.0) as sandbox, comfy_side(sandbox, library=library) as side:
        source = await side.blobs.put(a_cut_out())
        await drawn(side, "sdxl_vary", source)
        await drawn(side, "inpaint", source)
        both = an_attempt(*(a_recipe("a gate", workflow=name, source=source) for name in ("inpaint", "sdxl_vary")))
        assert report_in(await side.run(both)).phase is RunPhase.SUCCEEDED
        sent = uploads(sandbox)
    assert {name: image.mode for name, image in sent.items()} == {f"{source}.png": "RGBA", f"{source}-flat.png": "RGB"}


async def test_a_picture_without_transparency_is_sent_as_it_is_to_both(library: Library) -> None:
    opaque = Picture(data=encoded(Image.new("RGB", SIZE, "red"), "JPEG"), format=PictureFormat.JPEG, size=Dimensions(*SIZE))
    async with ComfySandbox(time_scale=0.0) as sandbox, comfy_side(sandbox, library=library) as side:
        source = await side.blobs.put(opaque)
        await drawn(side, "sdxl_vary", source)
        await drawn(side, "inpaint", source)
        [path] = (path for path in sandbox.inputs.rglob("*") if path.is_file())
        assert (path.name, path.read_bytes()) == (f"{source}.jpg", opaque.data)


# --- by the graph -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channel", "expected"), [("red", set()), ("alpha", {Role.SOURCE})])
def test_a_recorded_workflow_whose_mask_comes_from_the_same_file_gets_the_persons_picture_there_too(
    channel: str, expected: set[Role]
) -> None:
    graph: ApiGraph = json.loads((RECORDED / "sd15_inpaint.json").read_text("utf-8"))
    assert (graph["12"]["class_type"], graph["12"]["inputs"]["image"]) == ("LoadImageMask", graph["10"]["inputs"]["image"])
    graph["12"]["inputs"]["channel"] = channel
    template = read(graph)
    assert {target.node for target in template.shape.targets[Role.SOURCE]} == {"10", "12"}
    assert template.reads_transparency == expected


def test_a_recorded_workflow_without_a_mask_reads_none() -> None:
    assert not read(json.loads((RECORDED / "sd15_img2img.json").read_text("utf-8"))).reads_transparency


def test_a_mask_that_the_picture_does_not_depend_on_counts_for_nothing() -> None:
    graph = plain_graph()
    graph["20"] = {"class_type": "MaskPreview", "inputs": {"mask": ["11", 1]}}
    assert not read(graph).reads_transparency


def test_a_loader_behind_a_node_that_holds_the_name_is_found() -> None:
    graph = inpainting_graph()
    graph["20"] = {"class_type": "PrimitiveString", "inputs": {"value": "example.png"}}
    graph["11"]["inputs"]["image"] = ["20", 0]
    assert read(graph).reads_transparency == {Role.SOURCE}


def test_a_loader_of_masks_reads_it_too() -> None:
    graph = plain_graph()
    graph["14"] = {"class_type": "LoadImageMask", "inputs": {"image": "example.png", "channel": "alpha"}}
    graph["13"] = {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["7", 0], "mask": ["14", 0]}}
    graph["8"]["inputs"]["latent_image"] = ["13", 0]
    both = SAID + '[roles.source]\nnodes = ["11", "14"]\n'
    assert read(graph, said=both).reads_transparency == {Role.SOURCE}
