"""What stands between a bot and ComfyUI: reverse proxies, tunnels and log-in pages, and what they answer in its place.

The pages are shortened copies of what these programs send; their statuses and content types are what a client goes by.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator, Iterator

from aiohttp import web

from modules.sandbox.comfy_server.faults import Fault, FaultKind

#: nginx refuses larger request bodies unless told otherwise. Source: nginx documentation, `client_max_body_size`, default 1m.
NGINX_BODY_LIMIT_BYTES = 1024 * 1024
#: What a tunnel answers with status 200 or 404 when the server behind it is away.
TUNNEL_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>Tunnel not found</title></head>"
    "<body><h1>ERR_NGROK_3200</h1><p>The endpoint is offline.</p></body></html>"
)
_NGINX_PAGE = (
    "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    "<hr><center>nginx/1.24.0</center>\r\n</body>\r\n</html>\r\n"
)
_BLOCK_BYTES = 4 * 1024 * 1024
_DEFAULT_HUGE_BYTES = 100 * 1024 * 1024


def nginx_page(title: str) -> str:
    """The page nginx makes for a status of its own, such as "413 Request Entity Too Large"."""
    return _NGINX_PAGE.format(title=title)


def is_too_large(fault: Fault, body_bytes: int | None) -> bool:
    """Whether a request of this `Content-Length` is over the limit of a `413` fault."""
    return body_bytes is not None and body_bytes > fault.integer("limit_bytes", NGINX_BODY_LIMIT_BYTES)


def unauthorized() -> web.Response:
    return web.Response(text="Unauthorized", status=401, headers={"WWW-Authenticate": 'Basic realm="comfyui"'})


async def answer_instead(fault: Fault, request: web.Request) -> web.StreamResponse | None:
    """The answer of a proxy; None: the request goes on to ComfyUI, only later."""
    match fault.kind:
        case FaultKind.TOO_LARGE:  # from the header alone: nginx answers before it has read the body
            return _page("413 Request Entity Too Large", 413)
        case FaultKind.FORBIDDEN:
            return _page("403 Forbidden", 403)
        case FaultKind.NOT_FOUND:
            return web.Response(status=404)  # ComfyUI's own 404 of /view has no body
        case FaultKind.LOG_IN:
            return web.Response(status=302, headers={"Location": fault.text("location", "/login?next=/")})
        case FaultKind.HTML:
            return web.Response(text=TUNNEL_PAGE, content_type="text/html", status=fault.integer("status", 200))
        case FaultKind.UNAUTHORIZED:
            return unauthorized()
        case FaultKind.SERVER_ERROR:
            return web.Response(text="Bad gateway", status=fault.integer("status", 502))
        case FaultKind.HUGE_ANSWER:
            return await _huge(fault, request)
        case _:
            await asyncio.sleep(fault.seconds(1.0))
            return None


def _page(title: str, status: int) -> web.Response:
    return web.Response(text=nginx_page(title), content_type="text/html", status=status)


# --- answers that are cut ------------------------------------------------------------------------------------------------


async def cut(fault: Fault, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """The first half of an answer. The connection then breaks; `silently: true` pretends that the half was all there was."""
    if not isinstance(response, web.Response) or not isinstance(response.body, bytes):
        return response
    half = response.body[: len(response.body) // 2]
    headers = {"Content-Type": response.headers.get("Content-Type", "application/octet-stream")}
    if fault.details.get("silently"):
        return web.Response(body=half, status=response.status, headers=headers)
    stream = web.StreamResponse(status=response.status, headers=headers)
    stream.content_length = len(response.body)
    await stream.prepare(request)
    await stream.write(half)
    if request.transport is not None:
        request.transport.close()  # what was written still goes out
    return stream


# --- answers without end -------------------------------------------------------------------------------------------------


async def _huge(fault: Fault, request: web.Request) -> web.StreamResponse:
    """`bytes` spaces, made while they are sent: nobody holds them in memory. `gzip: true` sends them packed a thousandfold."""
    size = fault.integer("bytes", _DEFAULT_HUGE_BYTES)
    kind = fault.text("content_type", "image/png" if request.path.endswith("/view") else "application/json")
    stream = web.StreamResponse(headers={"Content-Type": kind})
    if fault.details.get("gzip"):
        stream.headers["Content-Encoding"] = "gzip"
    try:
        await stream.prepare(request)
        async for block in _in_turn(gzipped_spaces(size) if fault.details.get("gzip") else _spaces(size)):
            await stream.write(block)
        await stream.write_eof()
    except ConnectionError:
        pass  # the client has seen enough
    return stream


async def _in_turn(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Others have their turn between two blocks."""
    for block in blocks:
        yield block
        await asyncio.sleep(0)


def _spaces(size: int) -> Iterator[bytes]:
    block = b" " * _BLOCK_BYTES
    for start in range(0, size, _BLOCK_BYTES):
        yield block[: size - start]


def gzipped_spaces(size: int) -> Iterator[bytes]:
    """A correct gzip member. One block is compressed once and repeated: a full flush makes its bytes independent of the rest."""
    block = b" " * _BLOCK_BYTES
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    whole, rest = divmod(size, _BLOCK_BYTES)
    checksum = 0
    yield b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
    for _ in range(whole):
        checksum = zlib.crc32(block, checksum)
        yield packed
    last = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    yield last.compress(block[:rest]) + last.flush(zlib.Z_FINISH)
    yield struct.pack("<II", zlib.crc32(block[:rest], checksum), size & 0xFFFFFFFF)
