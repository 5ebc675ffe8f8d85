"""What the stand-in draws: the same for the same request, different for any difference, and true to size and origin."""

from __future__ import annotations

import copy
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from modules.sandbox.comfy_server.drawing import unfinished
from modules.sandbox.comfy_server.palettes import Kind, kind_for, palette_for
from modules.sandbox.comfy_server.pictures import Painting
from tests.support.comfy import Comfy, Graph, changed, comfy, png, saved
from tests.support.merge_graphs import Common, Job, solo

SDXL = solo(Job(prompt="a red fox in the snow", negative="blurry", seed=7, cfg=6.0), Common(size=(256, 192)))


def painting(**changes: Any) -> Painting:
    plain: dict[str, Any] = {
        "prompt": "a quiet lake", "negative": "", "seed": 1, "draw": 0, "model": "m.safetensors", "loras": (),
        "width": 320, "height": 256,
        "steps": 4, "cfg": 1.0, "guidance": None, "denoise": 1.0, "start": None, "references": (), "details": (),
    }  # fmt: skip
    return Painting(**{**plain, **changes})


async def picture(server: Comfy, graph: Graph, node_id: str | None = None) -> Image.Image:
    entry, _ = await server.run(graph)
    assert entry["status"]["status_str"] == "success", entry["status"]
    return Image.open(BytesIO(await server.image(saved(entry, node_id)[0]))).convert("RGB")


@pytest.mark.parametrize(
    ("node_id", "inputs"),
    [
        ("positive", {"text": "a red fox in the Snow"}),
        ("negative", {"text": "blurry, text"}),
        ("sample", {"seed": 8}),
        ("sample", {"steps": 4}),
        ("sample", {"cfg": 6.5}),
        ("sample", {"sampler_name": "heun"}),
        ("sample", {"scheduler": "normal"}),
        ("ckpt", {"ckpt_name": "juggernautXL_ragnarok.safetensors"}),
        ("latent", {"width": 264}),
    ],
)
async def test_equal_requests_give_equal_bytes_and_any_difference_shows(node_id: str, inputs: dict[str, Any]) -> None:
    async with comfy() as one, comfy() as other:
        first, again = await picture(one, SDXL), await picture(other, SDXL)
        different = await picture(other, changed(SDXL, node_id, **inputs))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != different.tobytes()


async def test_a_lora_and_its_strength_show() -> None:
    async with comfy() as server:
        graph = changed(SDXL, "sample", model=["lora", 0])
        lora = {
            "model": ["ckpt", 0],
            "clip": ["ckpt", 1],
            "lora_name": "pixel_art_xl.safetensors",
            "strength_model": 0.8,
            "strength_clip": 1.0,
        }
        graph["lora"] = {"class_type": "LoraLoader", "inputs": lora}
        plain, with_lora = await picture(server, SDXL), await picture(server, graph)
        weaker = await picture(server, changed(graph, "lora", strength_model=0.5))
    assert len({plain.tobytes(), with_lora.tobytes(), weaker.tobytes()}) == 3


@pytest.mark.parametrize("size", [(256, 256), (512, 288), (288, 512), (64, 64), (1216, 832)])
def test_a_picture_has_exactly_its_size(size: tuple[int, int]) -> None:
    assert painting(width=size[0], height=size[1]).render().size == size


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_scene_is_drawn_and_is_no_plain_area(kind: Kind) -> None:
    words = {
        Kind.MOUNTAINS: "mountain", Kind.LAKE: "lago", Kind.DUNES: "desert", Kind.FOREST: "bosque", Kind.SEA: "a ship at sea",
        Kind.CITY: "ciudad", Kind.SPACE: "a distant galaxy",
    }  # fmt: skip
    assert kind_for(words[kind]) is kind
    scene = painting(prompt=words[kind]).scene(320, 256)
    assert max(ImageStat.Stat(scene).stddev) > 12
    assert len(scene.getcolors(320 * 256) or []) > 500


def test_words_decide_the_colours_in_both_languages() -> None:
    assert palette_for("a city at sunset") == palette_for("una ciudad al atardecer")
    assert palette_for("snow") != palette_for("neon")


@pytest.mark.parametrize(
    "prompt", ["", "\n\t", "x" * 5000, "emoji 🦊 漢字 \u202e", "\ud800 half a character", '{"json": ["quoted"]}']
)
def test_any_prompt_can_be_written_under_the_picture(prompt: str) -> None:
    assert painting(prompt=prompt).render().size == (320, 256)


def grey_values(image: Image.Image) -> list[float]:
    return [float(value) for value in image.convert("L").resize((24, 24), Image.Resampling.BOX).tobytes()]


def likeness(one: Image.Image, other: Image.Image) -> float:
    """Correlation of the brightness of two pictures: 1 is the same composition, 0 none in common."""
    a, b = grey_values(one), grey_values(other)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    spread = (sum((x - mean_a) ** 2 for x in a) * sum((y - mean_b) ** 2 for y in b)) ** 0.5
    return float(covariance / spread)


def edit_graph(prompt: str, image: str) -> Graph:
    graph = solo(Job(prompt=prompt, cfg=1.0), Common(family="flux2", steps=4))
    graph["load"] = {"class_type": "LoadImage", "inputs": {"image": image}}
    scale = {"image": ["load", 0], "upscale_method": "lanczos", "megapixels": 0.1, "resolution_steps": 16}
    graph["scale"] = {"class_type": "ImageScaleToTotalPixels", "inputs": scale}
    graph["size"] = {"class_type": "GetImageSize", "inputs": {"image": ["scale", 0]}}
    graph["encode"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["scale", 0], "vae": ["vae", 0]}}
    for side in ("positive", "negative"):
        graph[f"ref_{side}"] = {"class_type": "ReferenceLatent", "inputs": {"conditioning": [side, 0], "latent": ["encode", 0]}}
        graph["guider"]["inputs"][side] = [f"ref_{side}", 0]
    for node in ("latent", "sigmas"):
        graph[node]["inputs"] |= {"width": ["size", 0], "height": ["size", 1]}
    return graph


async def test_an_edit_looks_like_the_picture_it_started_from_in_other_colours() -> None:
    reference = painting(prompt="a lake at dawn").scene(512, 384)
    stranger = painting(seed=9).scene(512, 384)
    async with comfy() as server:
        for name, image in (("a.png", reference), ("b.png", stranger)):
            buffer = BytesIO()
            image.save(buffer, "PNG")
            await server.upload(name, buffer.getvalue())
        edited = await picture(server, edit_graph("make it autumn", "a.png"))
        other_words = await picture(server, edit_graph("make it neon", "a.png"))
        other_source = await picture(server, edit_graph("make it autumn", "b.png"))
    upper = (0, 0, edited.width, edited.height * 3 // 4)  # the caption covers the rest
    small = reference.resize(edited.size)
    assert abs(edited.width / edited.height - 4 / 3) < 0.1
    assert likeness(edited.crop(upper), small.crop(upper)) > 0.75
    assert max(ImageStat.Stat(ImageChops.difference(edited, small)).mean) > 15
    assert len({edited.tobytes(), other_words.tobytes(), other_source.tobytes()}) == 3
    inset = (10, 10, 40, 30)  # within the small copy of the original in the upper left corner
    original, shown = (ImageStat.Stat(image.crop(inset)).mean for image in (reference.resize((64, 48)), edited))
    assert max(abs(a - b) for a, b in zip(original, shown, strict=True)) < 40


async def test_an_overwritten_upload_is_read_again() -> None:
    async with comfy() as server:
        await server.upload("a.png", png(colour=(10, 20, 30)))
        first = await picture(server, edit_graph("snow", "a.png"))
        await server.upload("a.png", png(colour=(200, 180, 20)), overwrite="true")
        second = await picture(server, edit_graph("snow", "a.png"))
    assert first.tobytes() != second.tobytes()


@pytest.mark.parametrize(("model", "factor"), [("4x-UltraSharp.pth", 4), ("RealESRGAN_x2plus.pth", 2)])
async def test_an_upscaler_really_gives_that_many_pixels(model: str, factor: int) -> None:
    graph: Graph = {
        "load": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "model": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": model}},
        "up": {"class_type": "ImageUpscaleWithModel", "inputs": {"upscale_model": ["model", 0], "image": ["load", 0]}},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["up", 0], "filename_prefix": "up"}},
    }
    async with comfy() as server:
        await server.upload("a.png", png(200, 120))
        assert (await picture(server, graph)).size == (200 * factor, 120 * factor)


async def test_a_low_denoise_stays_closer_to_the_picture_than_a_high_one() -> None:
    source = painting(prompt="forest", seed=3).scene(256, 192)
    buffer = BytesIO()
    source.save(buffer, "PNG")
    graph = changed(SDXL, "sample", latent_image=["encode", 0], denoise=0.3)
    graph["load"] = {"class_type": "LoadImage", "inputs": {"image": "a.png"}}
    graph["encode"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["load", 0], "vae": ["ckpt", 2]}}
    async with comfy() as server:
        await server.upload("a.png", buffer.getvalue())
        near, far = await picture(server, graph), await picture(server, changed(graph, "sample", denoise=0.9))
    upper = (0, 0, 256, 130)
    distance = [sum(ImageStat.Stat(ImageChops.difference(image.crop(upper), source.crop(upper))).mean) for image in (near, far)]
    assert distance[0] < distance[1]


async def test_inpainting_changes_only_what_the_mask_names() -> None:
    source = Image.new("RGBA", (256, 192), (90, 140, 60, 255))
    source.paste((0, 0, 0, 0), (128, 0, 256, 192))  # transparent is what LoadImage's mask selects
    buffer = BytesIO()
    source.save(buffer, "PNG")
    graph = copy.deepcopy(SDXL)
    graph["load"] = {"class_type": "LoadImage", "inputs": {"image": "a.png"}}
    graph["encode"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["load", 0], "vae": ["ckpt", 2]}}
    graph["masked"] = {"class_type": "SetLatentNoiseMask", "inputs": {"samples": ["encode", 0], "mask": ["load", 1]}}
    graph = changed(graph, "sample", latent_image=["masked", 0])
    async with comfy() as server:
        await server.upload("a.png", buffer.getvalue())
        result = await picture(server, graph)
    assert result.crop((0, 0, 120, 192)).getcolors() == [(120 * 192, (90, 140, 60))]
    assert len(result.crop((136, 0, 256, 192)).getcolors(10**6) or []) > 50


def test_a_preview_clears_up_with_every_step() -> None:
    final = painting().scene(320, 256)
    distances = [
        sum(ImageStat.Stat(ImageChops.difference(final, unfinished(final, step / 8, "salt"))).mean) for step in range(1, 9)
    ]
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 30
    assert distances[-1] == 0
