"""The one reader of HTTP answers: never more than a given number of bytes, counted after they were unpacked.

aiohttp's own reader unpacks whatever comes: an answer of 1.3 MB may become 1.3 GB. Here a session is opened with
`auto_decompress=False`, and packed bytes are unpacked piece by piece, each piece bounded.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import aiohttp

#: What we can unpack. Source: RFC 9110, 8.4.1; `x-gzip` is another name of gzip.
ACCEPTED_ENCODINGS = "gzip, deflate"
_GZIP_NAMES = frozenset({"gzip", "x-gzip"})
_CHUNK_BYTES = 256 * 1024


class BodyTooLargeError(Exception):
    """The answer has more bytes than we are willing to hold."""


class BodyTruncatedError(Exception):
    """The answer ended in the middle, or cannot be unpacked."""


async def read_body(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """The whole body, unpacked.

    Raises `BodyTooLargeError` as soon as it is known, `BodyTruncatedError` for one that is cut, and what aiohttp raises when the
    connection breaks.
    """
    unpacker = _unpacker(response.headers.get("Content-Encoding", "identity").strip().lower())
    if unpacker is None and (response.content_length or 0) > max_bytes:
        raise BodyTooLargeError
    pieces: list[bytes] = []
    length = 0
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        for piece in (chunk,) if unpacker is None else unpacker.pieces(chunk):
            length += len(piece)
            if length > max_bytes:
                raise BodyTooLargeError
            pieces.append(piece)
    if unpacker is not None and not unpacker.is_complete:
        raise BodyTruncatedError
    return b"".join(pieces)


class _Unpacker:
    """Unpacks gzip or zlib streams, several one after the other if need be, in pieces of bounded size."""

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self._packed = zlib.decompressobj(window_bits)
        self._has_begun = False

    @property
    def is_complete(self) -> bool:
        """Whether the stream has come to its own end; an answer without a byte is complete, too."""
        return self._packed.eof or not self._has_begun

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """What a chunk unpacks to. Raises `BodyTruncatedError` for what is no such stream."""
        try:
            while chunk:
                if self._packed.eof:
                    self._packed = zlib.decompressobj(self._window_bits)
                self._has_begun = True
                yield self._packed.decompress(chunk, _CHUNK_BYTES)
                chunk = self._packed.unconsumed_tail or self._packed.unused_data
        except zlib.error as error:
            raise BodyTruncatedError from error


def _unpacker(encoding: str) -> _Unpacker | None:
    """None for an answer that is not packed. Raises `BodyTruncatedError` for a packing we did not ask for."""
    if encoding in ("", "identity"):
        return None
    if encoding in _GZIP_NAMES:
        return _Unpacker(zlib.MAX_WBITS | 16)
    if encoding == "deflate":
        return _Unpacker(zlib.MAX_WBITS)
    raise BodyTruncatedError
