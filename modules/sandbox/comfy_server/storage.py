"""The three folders of a server: outputs and inputs outlive it, temp does not."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

PLACES = ("output", "input", "temp")
_ANNOTATION = re.compile(r"^(?P<name>.*?) ?\[(?P<place>output|input|temp)\]$", re.S)
_COUNTER = re.compile(r"_(\d+)_?\.[^.]+$")

#: zlib level of SaveImage is 4; 1 is half the work for files a quarter larger, and nobody keeps these.
PNG_LEVEL = 1


class OutsideFolderError(Exception):
    """A path that would leave its folder."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image as `/history` and `/view` name it."""

    filename: str
    subfolder: str
    type: str

    def as_json(self) -> dict[str, str]:
        return {"filename": self.filename, "subfolder": self.subfolder, "type": self.type}


@dataclass(frozen=True, slots=True)
class Storage:
    root: Path

    def prepare(self) -> None:
        """As at start-up of the server: folders are made, temp is wiped."""
        shutil.rmtree(self.root / "temp", ignore_errors=True)
        for place in PLACES:
            (self.root / place).mkdir(parents=True, exist_ok=True)

    def folder(self, place: str, subfolder: str = "") -> Path:
        """Raises `OutsideFolderError` when the subfolder points elsewhere."""
        base = (self.root / place).resolve()
        path = (base / subfolder).resolve()
        if not path.is_relative_to(base):
            raise OutsideFolderError(subfolder)
        return path

    def input_files(self) -> list[str]:
        """Top folder only, as LoadImage lists them: every file whose name looks like a picture."""
        pictures = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"}
        return sorted(path.name for path in (self.root / "input").iterdir() if path.suffix.lower() in pictures)

    def find(self, annotated: str, default_place: str = "input") -> Path | None:
        """The file a graph means by `name`, `sub/name` or `name [temp]`; None when there is none."""
        name, place = split_annotation(annotated, default_place)
        try:
            path = self.folder(place, name)
        except OutsideFolderError:
            return None
        return path if path.is_file() else None

    def save(self, image: Image.Image, prefix: str, place: str, chunks: Mapping[str, object]) -> StoredImage:
        """Write a PNG under the next free number. Raises `OutsideFolderError` (with ComfyUI's text) or `OSError`."""
        subfolder, stem = _split_prefix(fill_prefix(prefix, *image.size))
        base = (self.root / place).resolve()
        folder = (base / subfolder).resolve()
        if not folder.is_relative_to(base):
            raise OutsideFolderError(
                "**** ERROR: Saving image outside the output folder is not allowed.\n"
                f" full_output_folder: {folder}\n         output_dir: {base}\n         commonpath: {folder.parent}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{stem}_{_next_number(folder, stem):05}_.png"
        (folder / name).write_bytes(png_bytes(image, chunks))
        return StoredImage(name, subfolder, place)

    def path_of(self, image: StoredImage) -> Path:
        return self.folder(image.type, image.subfolder) / image.filename


def split_annotation(annotated: str, default_place: str) -> tuple[str, str]:
    """`cat.png [temp]` -> (`cat.png`, `temp`)."""
    found = _ANNOTATION.match(annotated)
    return (found["name"], found["place"]) if found else (annotated, default_place)


def fill_prefix(prefix: str, width: int, height: int) -> str:
    """`%year%` and its like; `%date:..%` stays as it is, because only the browser page knows it."""
    now = time.localtime()
    values = {
        "%width%": str(width),
        "%height%": str(height),
        "%year%": str(now.tm_year),
        "%month%": f"{now.tm_mon:02}",
        "%day%": f"{now.tm_mday:02}",
        "%hour%": f"{now.tm_hour:02}",
        "%minute%": f"{now.tm_min:02}",
        "%second%": f"{now.tm_sec:02}",
    }
    for name, value in values.items():
        prefix = prefix.replace(name, value)
    return prefix


def _split_prefix(prefix: str) -> tuple[str, str]:
    """Folder and stem. An empty prefix gives the stem `.`, as on the real server."""
    if not prefix:
        return "", "."
    folder, _, stem = prefix.rpartition("/")
    if prefix.startswith("/"):
        folder = folder or "/"
    return folder, stem


def _next_number(folder: Path, stem: str) -> int:
    numbers = [
        int(found.group(1))
        for path in folder.iterdir()
        if path.name.startswith(f"{stem}_") and (found := _COUNTER.search(path.name)) and path.name[: found.start()] == stem
    ]
    return max(numbers, default=0) + 1


def png_bytes(image: Image.Image, chunks: Mapping[str, object]) -> bytes:
    """A PNG with each chunk as JSON text, as SaveImage writes the graph."""
    info = PngInfo()
    for key, value in chunks.items():
        info.add_text(key, json.dumps(value))
    buffer = BytesIO()
    image.save(buffer, "PNG", pnginfo=info, compress_level=PNG_LEVEL)
    return buffer.getvalue()
