"""A picture that follows its input: how large it becomes is known before anything is drawn, so it is limited and priced then."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modules.ai.catalogue import TemplateCatalogue
from modules.ai.workflows.following import following_sizes
from modules.ai.workflows.template import Library, Template, read_template
from modules.domain.catalogue import Wish, WorkflowKind
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import MAX_OUTPUT_PIXELS, BlobId, Dimensions
from modules.domain.jobs import WorkClass
from modules.domain.recipes import ModelName, WorkflowName
from tests.support.graphs import ROOT, a_catalogue, a_listing, the_library

CATALOGUE = a_catalogue(a_listing())
PICTURE = BlobId("picture")


def enlarging(catalogue: TemplateCatalogue = CATALOGUE, **size: int) -> WorkClass:
    wish = Wish(kind=WorkflowKind.UPSCALE, source=PICTURE, source_size=Dimensions(size["width"], size["height"]))
    return catalogue.resolve(wish)[1]


def test_upscale_pressed_again_and_again_costs_by_area_and_ends_with_a_sentence() -> None:
    """Each press makes both sides twice as long: the third of them asked a GPU for 604 megapixels at the price of one."""
    side, costs = 1024, []
    for _ in range(2):
        costs.append(enlarging(width=side, height=side).cost_s)
        side *= 2
    assert costs == [4.0, 16.0]
    with pytest.raises(FulletError) as caught:
        enlarging(width=side, height=side)
    assert caught.value.code is ErrorCode.RESULT_TOO_LARGE
    assert caught.value.params == {"megapixels": 67, "limit": MAX_OUTPUT_PIXELS // 1_000_000}


def test_a_long_and_narrow_picture_is_limited_by_its_side() -> None:
    assert enlarging(width=8000, height=500).cost_s > 4.0
    with pytest.raises(FulletError) as caught:
        enlarging(width=8400, height=200)
    assert caught.value.code is ErrorCode.RESULT_TOO_LARGE


def test_an_edit_at_a_fixed_area_costs_the_same_whatever_is_given() -> None:
    def cost(size: Dimensions | None) -> float:
        wish = Wish(kind=WorkflowKind.EDIT, prompt="a fox", source=PICTURE, source_size=size)
        return CATALOGUE.resolve(wish)[1].cost_s

    assert cost(Dimensions(6000, 8000)) == pytest.approx(cost(None), rel=0.01)
    assert cost(Dimensions(512, 512)) == cost(None)


def test_where_nobody_knows_the_size_of_the_picture_the_usual_price_counts() -> None:
    assert CATALOGUE.resolve(Wish(kind=WorkflowKind.UPSCALE, source=PICTURE))[1].cost_s == 4.0


def test_a_picture_that_is_drawn_at_an_asked_size_is_neither_limited_nor_priced_by_its_source() -> None:
    def varied(source: Dimensions) -> float:
        wish = Wish(kind=WorkflowKind.VARY, model=ModelName("sdxl"), prompt="a fox", source=PICTURE, source_size=source)
        return CATALOGUE.resolve(wish)[1].cost_s

    assert varied(Dimensions(12_000, 12_000)) == varied(Dimensions(64, 64))


# --- reading it off the graph -------------------------------------------------------------------------------------------


def chain(*nodes: tuple[str, dict[str, Any]]) -> Template:
    """An upscale template: the picture through these nodes, each of which takes the one before as `image`."""
    graph: dict[str, Any] = {"1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}}}
    graph["m"] = {"class_type": "UpscaleModelLoader", "inputs": {"model_name": "RealESRGAN_x4plus.pth"}}
    before = "1"
    for number, (class_type, inputs) in enumerate(nodes, start=2):
        graph[str(number)] = {"class_type": class_type, "inputs": {"image": [before, 0], **inputs}}
        before = str(number)
    graph["9"] = {"class_type": "SaveImage", "inputs": {"images": [before, 0]}}
    return read_template(WorkflowName("t"), json.dumps(graph), 'model = "m"\nkind = "upscale"\n[cost]\nseconds = 1.0\n')


MODEL = ("ImageUpscaleWithModel", {"upscale_model": ["m", 0]})


@pytest.mark.parametrize(
    ("template", "result", "largest"),
    [
        (chain(), (300, 200), (300, 200)),
        (chain(MODEL), (1200, 800), (1200, 800)),
        (chain(MODEL, ("ImageScaleBy", {"scale_by": 0.5})), (600, 400), (1200, 800)),
        (chain(("ImageScale", {"width": 900, "height": 0})), (900, 600), (900, 600)),
        (chain(("ImageScale", {"width": 640, "height": 640})), (640, 640), (640, 640)),
        (chain(("ImageScaleToTotalPixels", {"megapixels": 1.0})), (1254, 836), (1254, 836)),
        (chain(("SomeonesSharpener", {"strength": 2.0})), (300, 200), (300, 200)),
        (chain(("SomeonesSharpener", {"strength": 2.0}), MODEL), (1200, 800), (1200, 800)),
    ],
)
def test_the_size_of_the_result_is_read_off_the_graph(
    template: Template, result: tuple[int, int], largest: tuple[int, int]
) -> None:
    sizes = following_sizes(template, Dimensions(300, 200))
    assert sizes is not None
    assert (sizes.result, sizes.largest) == (Dimensions(*result), Dimensions(*largest))


@pytest.mark.parametrize(
    ("name", "factor"),
    [("RealESRGAN_x4plus.pth", 4), ("4x-UltraSharp.pth", 4), ("2xNomos.safetensors", 2), ("8x_NMKD.pth", 8), ("remacri.pth", 4)],
)
def test_how_much_a_model_enlarges_is_read_off_its_name(name: str, factor: int) -> None:
    template = chain(MODEL)
    graph = {**template.graph, "m": template.graph["m"].having(model_name=name)}
    sizes = following_sizes(Template(template.name, graph, template.manifest, template.shape), Dimensions(100, 100))
    assert sizes is not None
    assert sizes.result == Dimensions(100 * factor, 100 * factor)


def test_an_edit_whose_latent_follows_a_scaled_picture_has_that_size() -> None:
    sizes = following_sizes(the_library().templates[WorkflowName("flux_edit")], Dimensions(4000, 4000))
    assert sizes is not None
    assert sizes.result == Dimensions(1024, 1024)


def test_a_fixed_picture_says_nothing_of_the_result() -> None:
    recorded = ROOT / "tests" / "recordings" / "workflows" / "sd15_txt2img.json"
    said = 'model = "m"\nkind = "imagine"\n[cost]\nseconds = 1.0\n'
    template = read_template(WorkflowName("t"), recorded.read_text("utf-8"), said)
    assert following_sizes(template, Dimensions(10, 10)) is None


def test_an_intermediate_picture_counts_too() -> None:
    """Enlarged sixteenfold and made small again: the server would have to hold what is between."""
    template = chain(MODEL, MODEL, ("ImageScaleBy", {"scale_by": 0.1}))
    catalogue = a_catalogue(a_listing(), library=Library({template.name: template}))
    with pytest.raises(FulletError) as caught:
        enlarging(catalogue, width=2048, height=1024)
    assert caught.value.code is ErrorCode.RESULT_TOO_LARGE
    assert enlarging(catalogue, width=512, height=512).cost_s > 0
