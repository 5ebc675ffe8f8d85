"""Draws what an output node saves and writes it, with the faults that spoil files."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from modules.sandbox.comfy_server.bench import Bench
from modules.sandbox.comfy_server.call import Saving
from modules.sandbox.comfy_server.faults import FaultKind, Faults, Moment
from modules.sandbox.comfy_server.storage import Storage, StoredImage, png_bytes
from modules.sandbox.comfy_server.values import Picture


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
