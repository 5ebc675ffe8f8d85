"""A Discord on loopback, an empty database, the bot between them, and people who use it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.databases import migrated_template, postgres_server, postgres_url
from tests.support.front_side import Front, FrontDoor, front_door
from tests.support.person import People
from tests.support.split_roles import SPLIT_ROLES

__all__ = ["migrated_template", "postgres_server", "postgres_url"]


@pytest.fixture
def split_on(request: pytest.FixtureRequest) -> str | None:
    """The PostgreSQL of several processes; None where all are one. See `in_both_arrangements`."""
    url: str | None = request.getfixturevalue("postgres_url") if getattr(request, "param", None) == SPLIT_ROLES else None
    return url


@pytest.fixture
async def door(tmp_path: Path, split_on: str | None) -> AsyncIterator[FrontDoor]:
    """The world; at the end nothing the bot did may have been against Discord's rules."""
    async with front_door(tmp_path, split_on=split_on) as opened:
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
