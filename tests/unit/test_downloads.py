"""Files at Discord's CDN: what is gone is gone, and trouble of Discord's is told as that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from modules.discord.downloads import read_url
from modules.domain.errors import ErrorCode, FulletError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def _cut(request: web.Request) -> web.StreamResponse:
    """Announces more bytes than it sends."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"half")
    assert request.transport is not None
    request.transport.abort()
    return response


def _status(status: int) -> Handler:
    async def handler(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="no")

    return handler


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (_status(403), ErrorCode.PICTURE_GONE),  # the signature of its address has expired
        (_status(404), ErrorCode.PICTURE_GONE),
        (_status(302), ErrorCode.PICTURE_GONE),  # nobody is followed elsewhere
        (_status(429), ErrorCode.DISCORD_BUSY),
        (_status(500), ErrorCode.DISCORD_BUSY),
        (_status(503), ErrorCode.DISCORD_BUSY),
        (_cut, ErrorCode.DISCORD_BUSY),
    ],
)
async def test_a_picture_that_discord_cannot_give_now_is_not_called_gone(handler: Handler, code: ErrorCode) -> None:
    app = web.Application()
    app.router.add_get("/picture.png", handler)
    async with TestServer(app) as server:
        with pytest.raises(FulletError) as refused:
            await read_url(str(server.make_url("/picture.png")), max_bytes=5_000)
    assert refused.value.code is code


async def test_a_discord_that_nobody_reaches_is_busy() -> None:
    server = TestServer(web.Application())
    await server.start_server()
    url = str(server.make_url("/picture.png"))
    await server.close()
    with pytest.raises(FulletError) as refused:
        await read_url(url, max_bytes=5_000)
    assert refused.value.code is ErrorCode.DISCORD_BUSY
