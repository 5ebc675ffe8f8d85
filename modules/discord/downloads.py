"""Reads files from Discord's CDN, never more of one than the caller allows."""

from __future__ import annotations

import asyncio

import aiohttp

from modules.domain.errors import ErrorCode, FulletError

#: Reading one file, from the connection to its last byte.
DOWNLOAD_TIMEOUT_S = 20.0
_CHUNK_BYTES = 64 * 1024
_MIB = 1024 * 1024


async def read_url(url: str, *, max_bytes: int) -> bytes:
    """The bytes behind an address. It follows no redirect: the caller has checked this address and no other.

    Raises PICTURE_GONE where the file is no longer there, DISCORD_BUSY where Discord cannot give it now, and PICTURE_TOO_LARGE as
    soon as more than `max_bytes` came.
    """
    try:
        async with (
            asyncio.timeout(DOWNLOAD_TIMEOUT_S),
            aiohttp.ClientSession() as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status == 429 or response.status >= 500:
                raise FulletError(ErrorCode.DISCORD_BUSY, wait_s="")
            if response.status != 200:
                raise FulletError(ErrorCode.PICTURE_GONE)
            return await _bounded(response, max_bytes)
    except (aiohttp.ClientError, OSError) as error:
        raise FulletError(ErrorCode.DISCORD_BUSY, wait_s="") from error


async def _bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    read = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        read += chunk
        if len(read) > max_bytes:
            raise FulletError(ErrorCode.PICTURE_TOO_LARGE, limit_mib=max_bytes // _MIB)
    return bytes(read)
