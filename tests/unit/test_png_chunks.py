"""A plain PNG is written anew around its own pixels, and only when every one of them is proven to be there."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from modules.domain.errors import ErrorCode, FulletError
from modules.utils.images import finish_output
from modules.utils.png_chunks import SIGNATURE, lacks_rows, repacked
from modules.utils.upload_images import sanitise_upload

WIDTH, HEIGHT = 24, 10


def chunk(kind: bytes, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def rows(height: int = HEIGHT, *, filtered: int = 0) -> bytes:
    return bytes([filtered, *range(3 * WIDTH)]) * height


def a_file(
    *,
    packed: bytes | None = None,
    header: tuple[int, ...] = (WIDTH, HEIGHT, 8, 2, 0, 0, 0),
    before: bytes = b"",
    between: bytes = b"",
    end: bytes | None = None,
) -> bytes:
    """A PNG of our own making: right unless told otherwise."""
    pixels = zlib.compress(rows()) if packed is None else packed
    middle = len(pixels) // 2
    parts = [chunk(b"IDAT", pixels[:middle]), between, chunk(b"IDAT", pixels[middle:])]
    return b"".join(
        [SIGNATURE, chunk(b"IHDR", struct.pack(">IIBBBBB", *header)), before, *parts, chunk(b"IEND") if end is None else end]
    )


def drawn(mode: str = "RGB", **options: object) -> bytes:
    """As another program writes it."""
    buffer = BytesIO()
    Image.effect_noise((WIDTH, HEIGHT), 60).convert(mode).save(buffer, "PNG", **options)
    return buffer.getvalue()


def kinds_of(data: bytes) -> list[bytes]:
    found, at = [], len(SIGNATURE)
    while at < len(data):
        [length] = struct.unpack_from(">I", data, at)
        found.append(data[at + 4 : at + 8])
        at += 12 + length
    return found


def test_the_packed_pixels_stay_and_everything_else_goes() -> None:
    graph = PngImagePlugin.PngInfo()
    graph.add_text("prompt", '{"3": "everybody\'s words"}')
    before = drawn(pnginfo=graph, dpi=(72, 72))
    after = repacked(before, texts={"fullet": "{}"})
    assert after is not None
    assert kinds_of(after) == [b"IHDR", b"iTXt", b"IDAT", b"IEND"]
    assert before[before.index(b"IDAT") : before.index(b"IEND")] == after[after.index(b"IDAT") : after.index(b"IEND")]
    with Image.open(BytesIO(after)) as image:
        assert (image.size, image.info) == ((WIDTH, HEIGHT), {"fullet": "{}"})


def test_a_text_is_read_back_as_it_was_whatever_its_letters() -> None:
    words = "un faro ñ 灯台 \N{FOX FACE}"
    after = repacked(a_file(), texts={"fullet": words})
    assert after is not None
    with Image.open(BytesIO(after)) as image:
        assert image.info["fullet"] == words


@pytest.mark.parametrize("mode", ["RGBA", "L", "LA", "P", "1", "I;16"])
def test_another_kind_of_picture_is_left_to_others(mode: str) -> None:
    assert repacked(drawn(mode), texts={}) is None


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff\xd8\xff\xe0 a JPEG", id="another format"),
        pytest.param(SIGNATURE, id="a signature alone"),
        pytest.param(SIGNATURE + chunk(b"IEND"), id="no header"),
        pytest.param(SIGNATURE + chunk(b"IHDR", b"short") + chunk(b"IEND"), id="half a header"),
        pytest.param(a_file(header=(WIDTH, HEIGHT, 8, 2, 0, 0, 1)), id="interlaced"),
        pytest.param(a_file(header=(WIDTH, 0, 8, 2, 0, 0, 0)), id="no rows"),
        pytest.param(a_file(before=chunk(b"tRNS", b"\0" * 6)), id="a colour that is transparent"),
        pytest.param(a_file(before=chunk(b"PLTE", b"\0" * 6)), id="a palette"),
        pytest.param(a_file(before=chunk(b"IHDR", struct.pack(">IIBBBBB", 3, 3, 8, 2, 0, 0, 0))), id="a second header"),
        pytest.param(a_file(before=chunk(b"tEXt", b"a\0b"), end=chunk(b"IEND") * 2), id="a second end"),
        pytest.param(a_file(before=chunk(b"tEXt", b"a\0b") * 20_001), id="more chunks than any picture needs"),
        pytest.param(chunk(b"tEXt", b"a\0b").join([SIGNATURE, a_file()[8:]]), id="something before the header"),
        pytest.param(a_file(end=b""), id="no end"),
        pytest.param(a_file(end=chunk(b"IEND") + b"a page behind the picture"), id="more behind the end"),
        pytest.param(a_file(packed=zlib.compress(rows(HEIGHT - 1))), id="a row too few"),
        pytest.param(a_file(packed=zlib.compress(rows(HEIGHT + 1))), id="a row too many"),
        pytest.param(a_file(packed=zlib.compress(rows(filtered=5))), id="a filter nobody knows"),
        pytest.param(a_file(packed=zlib.compress(rows()) + b"hidden"), id="more behind the pixels"),
        pytest.param(a_file(packed=zlib.compress(rows())[:-2]), id="pixels cut short"),
        pytest.param(a_file(packed=zlib.compress(rows())[:-4] + b"\0\0\0\0"), id="a wrong checksum of the pixels"),
        pytest.param(a_file(packed=b"no zlib stream at all"), id="not packed"),
    ],
)
def test_what_is_not_proven_is_left_to_others(data: bytes) -> None:
    assert repacked(data, texts={}) is None


def test_a_bomb_is_unpacked_no_further_than_its_header_says() -> None:
    bomb = zlib.compress(bytes(200_000_000), 9)
    assert repacked(a_file(packed=bomb), texts={}) is None


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=3), st.integers(0, 400))
def test_whatever_happened_to_a_file_what_comes_out_holds_every_pixel(damage: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(a_file(between=chunk(b"tEXt", b"prompt\0words")))
    for at, value in damage:
        data[at % len(data)] = value
    after = repacked(bytes(data[: len(data) - cut]), texts={})
    if after is None:
        assert damage or cut
        return
    assert set(kinds_of(after)) == {b"IHDR", b"IDAT", b"IEND"}
    with Image.open(BytesIO(after)) as image:
        assert image.tobytes() == b"".join(rows(1)[1:] for _ in range(HEIGHT))


@pytest.mark.parametrize("read", [finish_output, sanitise_upload], ids=["a server's", "a person's"])
@pytest.mark.parametrize("missing", [1, 2, HEIGHT])
def test_a_file_that_ends_well_before_its_last_row_is_broken_and_not_black_there(read: object, missing: int) -> None:
    """Pillow leaves rows that are not there black, as long as what is there ends as a stream should."""
    data = a_file(packed=zlib.compress(rows(HEIGHT - missing)))
    with pytest.raises(FulletError) as caught:
        read(data)  # type: ignore[operator]  # one of two functions
    assert caught.value.code is ErrorCode.PICTURE_BROKEN


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_whole_pictures_of_every_kind_lack_nothing(mode: str) -> None:
    for size in ((1, 1), (9, 5), (64, 3)):
        file = BytesIO()
        Image.new(mode, size).save(file, "PNG")
        assert not lacks_rows(file.getvalue())
        assert not lacks_rows(file.getvalue()[:40])
    assert not lacks_rows(b"no picture")
