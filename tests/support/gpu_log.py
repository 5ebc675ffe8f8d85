"""What a stand-in GPU was asked to draw, read from its own files: ComfyUI writes the whole graph into every picture.

Pictures of merged runs are saved by our node pack, which leaves the graph out: it holds everybody's words.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from modules.sandbox.comfy_server import ComfySandbox


@dataclass(frozen=True, slots=True)
class Drawing:
    """One file on a GPU's disk and the graph it came from."""

    path: Path
    graph: Mapping[str, Mapping[str, object]]

    @property
    def classes(self) -> set[str]:
        """The node classes of the graph."""
        return {str(node["class_type"]) for node in self.graph.values()}

    def inputs(self, name: str) -> list[object]:
        """The literal values of every input of this name."""
        values = [node["inputs"].get(name) for node in self.graph.values() if isinstance(node["inputs"], dict)]
        return [value for value in values if value is not None and not isinstance(value, list)]

    def says(self, text: str) -> bool:
        """Whether some text of the graph contains this."""
        return text in json.dumps(self.graph, ensure_ascii=False)


async def drawings(gpu: ComfySandbox, text: str = "") -> Sequence[Drawing]:
    """Everything drawn so far (with this text in its graph), oldest file first."""
    return await asyncio.to_thread(_drawings, gpu, text)


async def the_drawing(gpu: ComfySandbox, text: str) -> Drawing:
    """The only run with this text."""
    found = {str(drawing.graph): drawing for drawing in await drawings(gpu, text)}
    assert len(found) == 1, f"{len(found)} runs with {text!r}"
    return next(iter(found.values()))


def _drawings(gpu: ComfySandbox, text: str) -> list[Drawing]:
    paths = sorted(gpu.outputs.rglob("*.png"), key=lambda path: path.stat().st_mtime_ns)
    found = [Drawing(path, json.loads(graph)) for path in paths if (graph := _graph_of(path))]
    return [drawing for drawing in found if drawing.says(text)]


def _graph_of(path: Path) -> str:
    with Image.open(path) as image:
        image.load()
        return str(image.info.get("prompt", ""))
