"""A Discord on loopback, an empty database, the bot between them, and people who use it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.front_side import Front, FrontDoor, front_door
from tests.support.person import People


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[FrontDoor]:
    """The world; at the end nothing the bot did may have been against Discord's rules."""
    async with front_door(tmp_path) as opened:
        yield opened
        assert opened.against_the_rules() == []


@pytest.fixture
async def front(door: FrontDoor) -> AsyncIterator[Front]:
    """The bot, ready."""
    async with door.open() as opened:
        yield opened


@pytest.fixture
async def people(door: FrontDoor) -> AsyncIterator[People]:
    """Clients of the people of the community."""
    async with People(door.sandbox.page_url) as everybody:
        yield everybody
