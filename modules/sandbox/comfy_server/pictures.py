"""The kinds of `Picture` a graph can make: painted, loaded, scaled, masked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

from modules.sandbox.comfy_server.caption import inset, write_caption
from modules.sandbox.comfy_server.drawing import paint, regrade
from modules.sandbox.comfy_server.values import Mask, Picture, fingerprint_of

#: The longest side of a sketch: what ComfyUI scales previews to.
PREVIEW_PX = 512


@dataclass(frozen=True, kw_only=True)
class Painting:
    """A sampled row: equal inputs give equal pixels, and every input counts."""

    prompt: str
    negative: str
    seed: int
    draw: int  #: which draw of the seed's noise: 0 alone or in a slot of our pack, the row's number in an ordinary batch
    model: str
    loras: tuple[tuple[str, float], ...]
    width: int
    height: int
    steps: int
    cfg: float
    guidance: float | None
    denoise: float
    start: Picture | None
    references: tuple[Picture, ...]
    details: tuple[str, ...]  #: sampler, schedule, patches, encoder ...

    @cached_property
    def fingerprint(self) -> str:
        plain = {
            name: getattr(self, name) for name in (field.name for field in fields(self)) if name not in ("start", "references")
        }
        start = self.start.fingerprint if self.start is not None else ""
        return fingerprint_of("painting", *plain.values(), start, *(picture.fingerprint for picture in self.references))

    def scene(self, width: int, height: int) -> Image.Image:
        """The picture without its caption, at any size."""
        based_on = self.references[0] if self.references else self.start
        if based_on is None:
            return paint(self.fingerprint, self.prompt, (width, height))
        original = ImageOps.fit(based_on.render(), (width, height), Image.Resampling.BILINEAR)
        return regrade(original, self.fingerprint, self.prompt, 1.0 if self.references else self.denoise)

    def render(self) -> Image.Image:
        image = self.scene(self.width, self.height)
        if self.references:
            inset(image, [reference.render() for reference in self.references])
        write_caption(image, self.prompt, self._facts())
        return image

    def _facts(self) -> list[str]:
        facts = [f"seed {self.seed}" + (f" #{self.draw + 1}" if self.draw else ""), self.model.rsplit(".", 1)[0]]
        facts += [f"{self.width}×{self.height}", f"{self.steps} steps", f"cfg {self.cfg:g}"]
        facts += [f"+ {name.rsplit('.', 1)[0]} {strength:g}" for name, strength in self.loras]
        facts += [f"not: {self.negative}"] if self.negative else []
        return [*facts, f"no. {self.fingerprint[:6]}"]


@dataclass(frozen=True)
class Loaded:
    """A file a node has read; the bytes stay as they were then, whatever happens to the file."""

    content: bytes
    width: int
    height: int

    @classmethod
    def read(cls, path: Path) -> Loaded:
        """Raises `PIL.UnidentifiedImageError` or `OSError`."""
        content = path.read_bytes()
        with Image.open(BytesIO(content)) as image:
            image.load()
            width, height = ImageOps.exif_transpose(image).size
        return cls(content, width, height)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of("file", hashlib.sha256(self.content).hexdigest())

    def render(self) -> Image.Image:
        with Image.open(BytesIO(self.content)) as image:
            return ImageOps.exif_transpose(image).convert("RGB")

    def channel(self, name: str) -> Image.Image:
        """One channel as a mask; LoadImage's mask is the inverse of alpha, and black without one."""
        with Image.open(BytesIO(self.content)) as image:
            upright = ImageOps.exif_transpose(image)
            if name == "alpha":
                has_alpha = "A" in upright.getbands()
                return ImageOps.invert(upright.getchannel("A")) if has_alpha else Image.new("L", upright.size, 0)
            return upright.convert("RGB").getchannel("RGB"[("red", "green", "blue").index(name)])


@dataclass(frozen=True)
class Scaled:
    """Another picture at another size; cropped to the new proportions, or stretched."""

    source: Picture
    width: int
    height: int
    cropped: bool = False

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of("scaled", self.source.fingerprint, self.width, self.height, self.cropped)

    def render(self) -> Image.Image:
        image, size = self.source.render(), (self.width, self.height)
        return (
            ImageOps.fit(image, size, Image.Resampling.LANCZOS) if self.cropped else image.resize(size, Image.Resampling.LANCZOS)
        )


@dataclass(frozen=True)
class Masked:
    """A picture where the mask is white, the original elsewhere."""

    painted: Picture
    original: Picture
    mask: Mask

    @property
    def width(self) -> int:
        return self.painted.width

    @property
    def height(self) -> int:
        return self.painted.height

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of("masked", self.painted.fingerprint, self.original.fingerprint, self.mask.fingerprint)

    def render(self) -> Image.Image:
        size = (self.width, self.height)
        source = self.mask.source
        white = source.channel(self.mask.channel) if isinstance(source, Loaded) else source.render().convert("L")
        return Image.composite(self.painted.render(), self.original.render().resize(size), white.resize(size))


@dataclass(frozen=True)
class Grey:
    """What an empty latent decodes to."""

    width: int
    height: int

    @property
    def fingerprint(self) -> str:
        return fingerprint_of("grey", self.width, self.height)

    def render(self) -> Image.Image:
        return Image.new("RGB", (self.width, self.height), (127, 127, 127))


def fitted(picture: Picture | None, width: int, height: int) -> Picture:
    """The picture itself when it has that size already."""
    if picture is None:
        return Grey(width, height)
    return picture if (picture.width, picture.height) == (width, height) else Scaled(picture, width, height)


def sketch(picture: Picture) -> Image.Image:
    """The picture small and without words, for previews."""
    factor = min(1.0, PREVIEW_PX / max(picture.width, picture.height))
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.scene(*size) if isinstance(picture, Painting) else picture.render().resize(size)
