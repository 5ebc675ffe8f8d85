"""Files that people send, good and bad, and what is inside those that come back."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping

from PIL import Image


def a_picture(color: str = "teal", size: tuple[int, int] = (320, 240), form: str = "PNG", **options: object) -> bytes:
    """One colour, encoded."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, form, **options)
    return buffer.getvalue()


def an_animation(colors: tuple[str, ...] = ("red", "blue"), form: str = "WEBP") -> bytes:
    """One frame a colour."""
    frames = [Image.new("RGB", (128, 96), color) for color in colors]
    buffer = io.BytesIO()
    frames[0].save(buffer, form, save_all=True, append_images=frames[1:], duration=100)
    return buffer.getvalue()


def a_bomb(side_px: int = 30_000) -> bytes:
    """A PNG of a few hundred bytes that says it has 900 megapixels."""
    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(1000))) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pixels(data: bytes) -> tuple[tuple[int, int], bytes]:
    """Size and pixels of a picture, whatever its file."""
    with Image.open(io.BytesIO(data)) as image:
        return image.size, image.convert("RGB").tobytes()


def middle_color(data: bytes) -> tuple[int, int, int]:
    """The pixel in the middle."""
    with Image.open(io.BytesIO(data)) as image:
        color = image.convert("RGB").getpixel((image.width // 2, image.height // 2))
    assert isinstance(color, tuple)
    return color[0], color[1], color[2]


def kind_of(data: bytes) -> str:
    """The format by the bytes themselves: `PNG`, `JPEG`, `WEBP`."""
    with Image.open(io.BytesIO(data)) as image:
        return str(image.format)


def texts_in(data: bytes) -> Mapping[str, str]:
    """The text chunks of a picture."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return {str(name): value for name, value in image.info.items() if isinstance(value, str)}
