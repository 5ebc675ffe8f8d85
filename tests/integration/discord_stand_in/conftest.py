"""The stand-in with people and a real bot; whatever a test did, Discord's official description was kept to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from modules.sandbox.discord_server import DiscordSandbox
from tests.support.discord_side import RealBot, real_bot
from tests.support.http_face import HttpFace
from tests.support.person import People


@pytest.fixture
async def sandbox() -> AsyncIterator[DiscordSandbox]:
    async with DiscordSandbox() as sandbox:
        yield sandbox


@pytest.fixture
async def people(sandbox: DiscordSandbox) -> AsyncIterator[People]:
    async with People(sandbox.page_url) as people:
        yield people


@pytest.fixture
async def face(sandbox: DiscordSandbox) -> AsyncIterator[HttpFace]:
    """Every test ends with the official description satisfied: by the bot's requests and by the stand-in's replies."""
    async with aiohttp.ClientSession() as session:
        face = HttpFace(sandbox, session)
        yield face
        assert await face.wrong("request", "reply") == []


@pytest.fixture
async def bot(sandbox: DiscordSandbox, face: HttpFace) -> AsyncIterator[RealBot]:
    async with real_bot(sandbox) as bot:
        yield bot
