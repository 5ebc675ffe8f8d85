"""The pictures that form step by step while a sampler runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO

from PIL import Image

from modules.sandbox.comfy_server.drawing import unfinished
from modules.sandbox.comfy_server.pictures import sketch
from modules.sandbox.comfy_server.values import Picture

JPEG_QUALITY = 90


@dataclass(slots=True)
class Previews:
    """Previews of one sampler pass. With several pictures each step shows another: `(step - 1) mod N`, our pack's rule."""

    shown: Sequence[Picture]
    salt: str
    _sketches: dict[int, Image.Image] = field(default_factory=dict)

    def jpeg(self, step: int, steps: int) -> bytes:
        """The frame after `step` of `steps`, at most 512 px. Slow: call it off the event loop."""
        index = (step - 1) % len(self.shown)
        if index not in self._sketches:
            self._sketches[index] = sketch(self.shown[index])
        buffer = BytesIO()
        unfinished(self._sketches[index], step / steps, f"{self.salt}{step}").save(buffer, "JPEG", quality=JPEG_QUALITY)
        return buffer.getvalue()
