"""Files that people send, good and bad, and what is inside those that come back."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping

from hypothesis import strategies as st
from PIL import Image

#: Bytes changed here and there: (place, value).
DAMAGE = st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), min_size=1, max_size=8)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """A picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> Image.Image:
    """A file as a picture."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def a_photo(width: int = 64, height: int = 48, noise: int = 60) -> Image.Image:
    """Noise over a gradient: compresses about as badly as a photograph."""
    grain = Image.effect_noise((width, height), noise)
    return Image.merge(
        "RGB", [grain, Image.linear_gradient("L").resize((width, height)), grain.transpose(Image.Transpose.ROTATE_180)]
    )


def damaged(data: bytes, damage: list[tuple[int, int]]) -> bytes:
    """The file with some of its bytes changed."""
    changed = bytearray(data)
    for place, value in damage:
        changed[place % len(changed)] = value
    return bytes(changed)


def a_jpeg_of_scans(side_px: int, more: int) -> bytes:
    """A valid progressive JPEG of one colour whose last scan is there `more` times over: a pass over all pixels in 31 bytes."""
    data = encoded(Image.new("RGB", (side_px, side_px), (120, 130, 140)), "JPEG", progressive=True, quality=50)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last_scan * more + data[-2:]


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
