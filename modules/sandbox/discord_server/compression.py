"""Transport compression of the gateway: one context per connection, flushed after every message."""

import importlib
import zlib
from collections.abc import Callable
from typing import Protocol


class Codec(Protocol):
    """Turns one gateway payload into the bytes of one WebSocket frame."""

    def encode(self, payload: bytes) -> bytes: ...


class ZlibStream:
    """`compress=zlib-stream`: every frame ends with Z_SYNC_FLUSH's 00 00 FF FF."""

    def __init__(self) -> None:
        self._context = zlib.compressobj()

    def encode(self, payload: bytes) -> bytes:
        """The compressed frame."""
        return self._context.compress(payload) + self._context.flush(zlib.Z_SYNC_FLUSH)


class ZstdStream:
    """`compress=zstd-stream`, which discord.py prefers where Python brings zstd (3.14) or `zstandard` is installed."""

    def __init__(self) -> None:
        self._compress = _zstd_block_compressor()

    def encode(self, payload: bytes) -> bytes:
        """The compressed frame."""
        return self._compress(payload)


def codec_for(name: str | None) -> Codec | None:
    """The codec a connection asked for in its address; `None` for plain text. Raises `LookupError` for an unknown one."""
    match name:
        case None | "":
            return None
        case "zlib-stream":
            return ZlibStream()
        case "zstd-stream":
            return ZstdStream()
        case _:
            raise LookupError(name)


def _zstd_block_compressor() -> Callable[[bytes], bytes]:
    try:
        module = importlib.import_module("compression.zstd")
    except ModuleNotFoundError:
        return _zstandard_block_compressor()
    stream = module.ZstdCompressor()
    return lambda payload: bytes(stream.compress(payload, mode=stream.FLUSH_BLOCK))


def _zstandard_block_compressor() -> Callable[[bytes], bytes]:
    try:
        module = importlib.import_module("zstandard")
    except ModuleNotFoundError as missing:
        raise LookupError("zstd-stream") from missing
    stream = module.ZstdCompressor().compressobj()
    return lambda payload: bytes(stream.compress(payload) + stream.flush(module.COMPRESSOBJ_FLUSH_BLOCK))
