"""PNG as chunks: prove that a file holds its picture to the last row, and write it anew with nothing else in it.

Source: PNG Specification, W3C Recommendation; the chunks stand there under their names.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

#: How every file begins.
SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: IHDR: width, height, bit depth, colour type, compression, filter and interlace method.
_HEADER = struct.Struct(">IIBBBBB")
#: 8-bit red, green, blue; the only methods there are; not interlaced.
_PLAIN_RGB = (8, 2, 0, 0, 0)
_RGB_BYTES = 3
#: Numbers of a pixel by colour type: grey, RGB, palette, grey with alpha, RGB with alpha.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PIECE_BYTES = 1024 * 1024
#: A palette, and a colour that is transparent.
_CHANGES_THE_PICTURE = frozenset({b"PLTE", b"tRNS"})
#: Writers pack at least 8 kB into each; a file of more chunks than the largest picture needs is no picture's.
_MAX_CHUNKS = 20_000
#: Filter method 0: None, Sub, Up, Average, Paeth.
_LAST_FILTER = 4
#: iTXt, behind the keyword: no compression, no language, no translated keyword; each ends with a zero.
_PLAIN_ITXT = b"\0\0\0\0\0"


def repacked(data: bytes, *, texts: Mapping[str, str]) -> bytes | None:
    """The very pixels of a plain RGB picture in a file of only the chunks a picture needs, and `texts` (keyword -> text).

    None when it is not proven to be such a file: another kind of PNG, damaged, cut short, or with something behind its pixels.
    What is proven: every chunk by its CRC, the pixels by their zlib stream that ends where it should (Adler-32 included), as many
    bytes as the header announces, and no unknown filter; nothing is left then that could keep a decoder from the last row.
    """
    try:
        header, pixels = _picture_in(data)
    except (ValueError, struct.error):
        return None
    if not _is_whole(_HEADER.unpack(header), [chunk.payload for chunk in pixels]):
        return None
    parts: list[bytes | memoryview] = [SIGNATURE, *_written(b"IHDR", header)]
    for keyword, text in texts.items():
        parts += _written(b"iTXt", keyword.encode("latin-1") + _PLAIN_ITXT + text.encode())
    parts += [chunk.whole for chunk in pixels]  # their CRCs were just proven: nothing is calculated or copied twice
    return b"".join([*parts, *_written(b"IEND", b"")])


def lacks_rows(data: bytes) -> bool:
    """Whether a PNG's pixels end before its last row; a decoder leaves those rows black and says nothing.

    Of what is interlaced, damaged or no PNG at all nothing is claimed: decoders find that out themselves.
    """
    try:
        chunks = list(_chunks(data, are_proven=False))
        header = next(chunk.payload for chunk in chunks if chunk.kind == b"IHDR")
        width, height, depth, colours, *how = _HEADER.unpack(header)
    except (ValueError, struct.error, StopIteration):
        return False
    if any(how) or colours not in _CHANNELS:
        return False
    missing: int = (1 + (width * depth * _CHANNELS[colours] + 7) // 8) * height
    stream = zlib.decompressobj()
    try:
        for chunk in (chunk for chunk in chunks if chunk.kind == b"IDAT"):
            packed: bytes | memoryview = chunk.payload
            while packed and missing > 0:
                missing -= len(stream.decompress(packed, _PIECE_BYTES))
                packed = stream.unconsumed_tail
    except zlib.error:
        return False
    return missing > 0


class _Chunk(NamedTuple):
    """One chunk of a file, as views of the file's own bytes."""

    kind: bytes
    payload: memoryview
    whole: memoryview  #: with its length, kind and CRC


def _picture_in(data: bytes) -> tuple[bytes, Sequence[_Chunk]]:
    """The one header and the packed pixels; other chunks are passed by. Raises ValueError or struct.error if it is not plain."""
    header, pixels, is_ended = b"", [], False
    for number, chunk in enumerate(_chunks(data)):
        kind = chunk.kind
        if (number == 0) != (kind == b"IHDR") or is_ended or kind in _CHANGES_THE_PICTURE or number > _MAX_CHUNKS:
            raise ValueError("not a plain file")
        if kind == b"IHDR":
            header = bytes(chunk.payload)
        elif kind == b"IDAT":
            pixels.append(chunk)
        is_ended = kind == b"IEND"
    if not is_ended or len(header) != _HEADER.size:
        raise ValueError("not a whole file")
    return header, pixels


def _chunks(data: bytes, *, are_proven: bool = True) -> Iterator[_Chunk]:
    """Each chunk in order. Raises ValueError or struct.error where the file is not what it says.

    `are_proven`: also by each chunk's CRC, which takes longer.
    """
    if not data.startswith(SIGNATURE):
        raise ValueError("not a PNG")
    view, at = memoryview(data), len(SIGNATURE)
    while at < len(data):
        [length] = struct.unpack_from(">I", data, at)
        body = view[at + 4 : at + 8 + length]
        [crc] = struct.unpack_from(">I", data, at + 8 + length)
        if are_proven and zlib.crc32(body) != crc:
            raise ValueError("a chunk is damaged")
        yield _Chunk(bytes(body[:4]), body[4:], view[at : at + 12 + length])
        at += 12 + length


def _written(kind: bytes, payload: bytes) -> Iterable[bytes]:
    return struct.pack(">I", len(payload)), kind, payload, struct.pack(">I", zlib.crc32(payload, zlib.crc32(kind)))


def _is_whole(header: tuple[int, ...], pixels: Iterable[memoryview]) -> bool:
    """All IDAT together are one zlib stream of the rows, each behind the byte of its filter."""
    width, height, *how = header
    if tuple(how) != _PLAIN_RGB or not width or not height:
        return False
    row_bytes = 1 + _RGB_BYTES * width
    stream = zlib.decompressobj()
    try:
        rows = stream.decompress(b"".join(pixels), row_bytes * height + 1)
    except zlib.error:
        return False
    is_ended = stream.eof and not stream.unused_data
    return is_ended and len(rows) == row_bytes * height and max(rows[::row_bytes]) <= _LAST_FILTER
