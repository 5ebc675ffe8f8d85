"""Pictures and their sizes, in pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType, Self

#: Name of stored bytes (an uploaded or generated picture); a lower-case UUID.
BlobId = NewType("BlobId", str)

#: Files over this are refused unread. Discord takes 10 MiB from everybody and 50 MiB with Nitro Basic or in a server of boost
#: level 2 (FACTS: files); Nitro's 500 MB would be held in memory. A phone's photo of 48 megapixels has 10 to 25 MiB.
MAX_UPLOAD_BYTES = 50 * 1024 * 1024
#: Pictures over this are refused before they are decoded: 48 and 50 megapixels are what phones take.
MAX_UPLOAD_PIXELS = 51_000_000

#: Results over this are not decoded: 8000 x 8000.
MAX_OUTPUT_PIXELS = 64_000_000
#: No side of a result is longer: WebP, in which large ones are sent, ends here. Source: libwebp, WEBP_MAX_DIMENSION.
MAX_OUTPUT_SIDE_PX = 16_383

_SIZE = re.compile(r"\s*(\d{1,6})\s*[x×X*,]\s*(\d{1,6})\s*")


@dataclass(frozen=True, slots=True, order=True)
class Dimensions:
    """Width and height of a picture, in pixels."""

    width_px: int
    height_px: int

    def __str__(self) -> str:
        return f"{self.width_px}x{self.height_px}"

    @property
    def megapixels(self) -> float:
        """Area in units of 1024 x 1024 pixels, ComfyUI's own megapixel."""
        return self.width_px * self.height_px / (1024 * 1024)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read `1024x768` (also `×`, `*` or `,` between, any script's digits); None when it is no size."""
        found = _SIZE.fullmatch(text)
        return cls(int(found[1]), int(found[2])) if found else None

    def on_grid(self, grid_px: int) -> Dimensions:
        """The nearest size whose sides are multiples of `grid_px` (at least one step each)."""
        return Dimensions(*(max(grid_px, round(side / grid_px) * grid_px) for side in (self.width_px, self.height_px)))


class PictureFormat(StrEnum):
    """The formats we read from people and write to them."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"

    @property
    def extension(self) -> str:
        """File name ending without the dot."""
        return "jpg" if self is PictureFormat.JPEG else self.value

    @property
    def media_type(self) -> str:
        """MIME type."""
        return f"image/{self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureInfo:
    """What is known of a stored picture without reading its bytes."""

    format: PictureFormat
    size: Dimensions


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Decoded once, re-encoded by us: carries nobody's metadata but what we wrote."""

    data: bytes = field(repr=False)
    format: PictureFormat
    size: Dimensions

    @property
    def bytes_count(self) -> int:
        """Length of the encoded file."""
        return len(self.data)
