"""What flows along the links of a graph here: descriptions of the work instead of tensors.

A real server passes weights, embeddings and latents; the stand-in passes small frozen values that remember where they
came from. A row of a latent is a `Picture` that is not drawn until somebody saves it, so every picture depends on
exactly the inputs of its own row and on nothing else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Protocol

from PIL import Image

from modules.sandbox.comfy_server.models import Family


class Picture(Protocol):
    """A picture that can be drawn when it is needed; `fingerprint` is equal exactly when the pixels are."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    def render(self) -> Image.Image:
        """An RGB image of `width` x `height` pixels. Slow: call it off the event loop."""
        ...


def fingerprint_of(*parts: object) -> str:
    """A stable digest of plain values; pictures take part with their own fingerprint."""
    text = "\x1f".join(part if isinstance(part, str) else repr(part) for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Weights:
    """A MODEL: the file, what it was patched with, and the family that decides speed and picture."""

    file: str
    family: Family
    loras: tuple[tuple[str, float], ...] = ()
    patches: tuple[str, ...] = ()

    def with_lora(self, name: str, strength: float) -> Weights:
        return replace(self, loras=(*self.loras, (name, strength)))

    def patched(self, patch: str) -> Weights:
        return replace(self, patches=(*self.patches, patch))


@dataclass(frozen=True, slots=True)
class TextEncoder:
    """A CLIP: its files and what changes its output."""

    files: tuple[str, ...]
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Vae:
    file: str
    channels: int


@dataclass(frozen=True, slots=True)
class UpscaleModel:
    file: str
    factor: int


@dataclass(frozen=True, slots=True)
class ControlNet:
    file: str


@dataclass(frozen=True, slots=True)
class Conditioning:
    """A CONDITIONING: the words and everything that was attached to them."""

    text: str
    guidance: float | None = None
    references: tuple[Picture, ...] = ()
    controls: tuple[str, ...] = ()
    encoder: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SlotConditionings:
    """A MERGE_COND of our node pack: one conditioning per person's slot."""

    slots: tuple[Conditioning, ...]


@dataclass(frozen=True, slots=True)
class Latent:
    """A LATENT: rows of one size. A row is None while empty, else the picture it decodes to."""

    width: int
    height: int
    rows: tuple[Picture | None, ...]
    channels: int | None = None  #: None: an empty latent, which fits every model
    masks: tuple[Mask | None, ...] = ()  #: one for all rows, one for each, or none

    def row_mask(self, index: int) -> Mask | None:
        if not self.masks:
            return None
        return self.masks[index] if len(self.masks) > 1 else self.masks[0]


@dataclass(frozen=True, slots=True)
class Images:
    """An IMAGE: a batch of pictures of one size."""

    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Mask:
    """A MASK: one channel of a picture."""

    source: Picture
    channel: str

    @property
    def fingerprint(self) -> str:
        return fingerprint_of("mask", self.source.fingerprint, self.channel)


@dataclass(frozen=True, slots=True)
class Noise:
    """A NOISE: one seed for the whole batch (`RandomNoise`), or one per slot (our pack)."""

    seeds: tuple[int, ...]
    per_slot: bool = False


@dataclass(frozen=True, slots=True)
class SamplerChoice:
    """A SAMPLER; `seeds` when the pack gave every slot its own stream of noise."""

    name: str
    seeds: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Sigmas:
    """A SIGMAS: how many steps, on which curve."""

    schedule: str
    steps: int
    denoise: float = 1.0


@dataclass(frozen=True, slots=True)
class GuiderSlot:
    positive: Conditioning
    negative: Conditioning | None
    cfg: float


@dataclass(frozen=True, slots=True)
class Guider:
    """A GUIDER: one slot for all rows (stock), or one per row (our pack)."""

    weights: Weights
    slots: tuple[GuiderSlot, ...]
    merged: bool = False
    max_rows: int = 0  #: most rows in one pass of the model; 0: all
