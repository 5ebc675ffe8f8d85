"""Draws what an output node saves and writes it, with the faults that spoil files."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Mapping
from functools import lru_cache

from PIL import Image, ImageChops

from modules.sandbox.comfy_server.bench import Bench
from modules.sandbox.comfy_server.call import Saving
from modules.sandbox.comfy_server.faults import FaultKind, Faults, Moment
from modules.sandbox.comfy_server.storage import Storage, StoredImage, png_bytes
from modules.sandbox.comfy_server.values import Picture

#: How many values the noise has; with 3 a megapixel packs to about 1.2 MB.
GRAIN_LEVELS = 3


def with_grain(image: Image.Image) -> Image.Image:
    """The picture with noise in its lowest bits, which no packing makes smaller; the same noise for every picture of a size."""
    return ImageChops.add(image.convert("RGB"), _grain(image.size))


@lru_cache(maxsize=4)
def _grain(size: tuple[int, int]) -> Image.Image:
    noise = random.Random(0).randbytes(3 * size[0] * size[1])
    return Image.frombytes("RGB", size, noise).point([value % GRAIN_LEVELS for value in range(256)] * 3)


def picture_as_png(picture: Picture) -> bytes:
    return png_bytes(picture.render(), {})


def write_pictures(saving: Saving, chunks: Mapping[str, object], bench: Bench, moment: Moment) -> list[StoredImage]:
    """Files in the order of the pictures; `chunks` go into each as text.

    Raises `OutsideFolderError` or `OSError`. Slow: call it off the event loop.
    """
    faults = bench.faults
    if faults.strike([FaultKind.DISK_FULL], moment):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    images = [picture.render() for picture in saving.pictures]
    if bench.settings.has_grain:
        images = [with_grain(image) for image in images]
    if faults.strike([FaultKind.WRONG_SIZE], moment):
        images = [image.resize((max(1, image.width // 2), max(1, image.height // 2))) for image in images]
    if faults.strike([FaultKind.FEWER_IMAGES], moment):
        images = images[:-1]
    stored: list[StoredImage] = []
    for image, prefix in zip(images, saving.prefixes, strict=False):
        tagged = f"{prefix}_{bench.temp_tag}" if prefix == "ComfyUI_temp" else prefix
        stored.append(bench.storage.save(image, tagged, saving.to, chunks))
    for file in stored:
        _spoil(file, bench.storage, faults, moment)
    return stored


def _spoil(file: StoredImage, storage: Storage, faults: Faults, moment: Moment) -> None:
    path = storage.path_of(file)
    if faults.strike([FaultKind.TRUNCATE_OUTPUT], moment):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    if faults.strike([FaultKind.MISSING_OUTPUT], moment):
        path.unlink()
