"""What ComfyUI's nodes for finished pictures do here: load, scale, enlarge, save."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from modules.sandbox.comfy_server.call import Call, Evaluator, NodeFailedError, Result, Saving
from modules.sandbox.comfy_server.pictures import Loaded, Scaled, fitted
from modules.sandbox.comfy_server.stock import given_or_kept
from modules.sandbox.comfy_server.values import Images, Mask, UpscaleModel

UPSCALE_S_PER_MP = 0.25  #: per megapixel that comes out, at speed 1
#: The sizes FluxKontextImageScale chooses from (width, height), all near one megapixel.
KONTEXT_SIZES = (
    (672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184), (944, 1104), (1024, 1024),
    (1104, 944), (1184, 880), (1248, 832), (1328, 800), (1392, 752), (1456, 720), (1504, 688), (1568, 672),
)  # fmt: skip


def _open(path: Path) -> Loaded:
    try:
        return Loaded.read(path)
    except UnidentifiedImageError:
        raise NodeFailedError(f"cannot identify image file '{path}'\n", "PIL.UnidentifiedImageError") from None
    except (OSError, Image.DecompressionBombError) as problem:
        raise NodeFailedError(f"{problem}\n", type(problem).__name__) from problem


def load_image(call: Call) -> Result:
    name = call.text("image")
    path = call.storage.find(name)
    if path is None:
        raise NodeFailedError(f"[Errno 2] No such file or directory: '{name}'\n", "FileNotFoundError")
    picture = _open(path)
    if call.class_type == "LoadImageMask":
        return Result((Mask(picture, call.text("channel")),))
    return Result((Images((picture,)), Mask(picture, "alpha")))


def _all_scaled(images: Images, width: int, height: int, *, cropped: bool = False) -> Result:
    return Result((Images(tuple(Scaled(picture, width, height, cropped=cropped) for picture in images.pictures)),))


def scale_image(call: Call) -> Result:
    images = call.value("image", Images)
    first = images.pictures[0]
    width, height = given_or_kept(first.width, first.height, call.integer("width"), call.integer("height"))
    return _all_scaled(images, width, height, cropped=call.text("crop") == "center")


def scale_by(call: Call) -> Result:
    images, factor = call.value("image", Images), call.number("scale_by", 1.0)
    return _all_scaled(images, round(images.pictures[0].width * factor), round(images.pictures[0].height * factor))


def scale_to_pixels(call: Call) -> Result:
    images = call.value("image", Images)
    first, grid = images.pictures[0], max(call.integer("resolution_steps", 1), 1)
    factor = math.sqrt(call.number("megapixels", 1.0) * 1024 * 1024 / (first.width * first.height))
    width, height = (max(round(side * factor / grid), 1) * grid for side in (first.width, first.height))
    return _all_scaled(images, width, height)


def kontext_scale(call: Call) -> Result:
    images = call.value("image", Images)
    ratio = images.pictures[0].width / images.pictures[0].height
    width, height = min(KONTEXT_SIZES, key=lambda size: abs(ratio - size[0] / size[1]))
    return _all_scaled(images, width, height, cropped=True)


def image_size(call: Call) -> Result:
    images = call.value("image", Images)
    return Result((images.pictures[0].width, images.pictures[0].height, len(images.pictures)))


def upscale_with_model(call: Call) -> Result:
    images, model = call.value("image", Images), call.value("upscale_model", UpscaleModel)
    first = images.pictures[0]
    width, height = first.width * model.factor, first.height * model.factor
    seconds = UPSCALE_S_PER_MP * len(images.pictures) * width * height / 1e6
    return replace(_all_scaled(images, width, height), seconds=seconds)


def image_batch(call: Call) -> Result:
    """The second picture is rescaled to the first in silence, as the real node does."""
    first, second = call.value("image1", Images).pictures, call.value("image2", Images).pictures
    same = tuple(fitted(picture, first[0].width, first[0].height) for picture in second)
    return Result((Images((*first, *same)),))


def batch_images(call: Call) -> Result:
    """All the pictures of a growing input, `images.image0` and on; each is rescaled to the first, as the real node does."""
    names = sorted((name for name in call.inputs if name.startswith("images.")), key=lambda name: (len(name), name))
    pictures = [picture for name in names for picture in call.value(name, Images).pictures]
    return Result((Images(tuple(fitted(picture, pictures[0].width, pictures[0].height) for picture in pictures)),))


# --- outputs -----------------------------------------------------------------------------------------------------------


def save_image(call: Call) -> Result:
    pictures = call.value("images", Images).pictures
    saving = Saving(pictures, (call.text("filename_prefix", "ComfyUI"),) * len(pictures), "output")
    return Result((Images(pictures),), saving=saving)


def preview_image(call: Call) -> Result:
    pictures = call.value("images", Images).pictures
    return Result((Images(pictures),), saving=Saving(pictures, ("ComfyUI_temp",) * len(pictures), "temp"))


def save_on_websocket(call: Call) -> Result:
    return Result(saving=Saving(call.value("images", Images).pictures, (), "websocket", with_graph=False))


PICTURES: Mapping[str, Evaluator] = {
    "LoadImage": load_image,
    "LoadImageMask": load_image,
    "ImageScale": scale_image,
    "ImageScaleBy": scale_by,
    "ImageScaleToTotalPixels": scale_to_pixels,
    "FluxKontextImageScale": kontext_scale,
    "GetImageSize": image_size,
    "ImageUpscaleWithModel": upscale_with_model,
    "ImageBatch": image_batch,
    "BatchImagesNode": batch_images,
    "SaveImage": save_image,
    "PreviewImage": preview_image,
    "SaveImageWebsocket": save_on_websocket,
}
