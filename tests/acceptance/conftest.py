"""Fixtures of the acceptance tests.

Starting the program takes seconds, so a module has one house, and each test meets it with people who are new to it. The module's
`house_options()` says what its house is like. Tests that break the program build a house of their own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.discord_server import DiscordSandbox
from modules.sandbox.discord_server.demo import demo_world
from tests.support.databases import migrated_template, postgres_server, postgres_url
from tests.support.person import Person
from tests.support.program import HouseOptions, WholeHouse, lawful_house

__all__ = ["migrated_template", "postgres_server", "postgres_url"]

GUESTS = 40


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests that share a house or a browser run in one process (`pytest --dist loadgroup`), the others where there is room."""
    if {"house", "stage"} & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WholeHouse]:
    """The module's house; at its end everything it did must have been lawful."""
    options: HouseOptions = getattr(request.module, "house_options", HouseOptions)()
    options.setdefault("discord", DiscordSandbox(world=demo_world(guests=GUESTS)))
    if "gpus" not in options:
        options["gpus"] = [ComfySandbox(name="gpu-1", time_scale=0.02)]
    async with lawful_house(tmp_path_factory.mktemp("house"), **options) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def guest(house: WholeHouse) -> Person:
    """Somebody new, who speaks English."""
    return await house.newcomer()


@pytest_asyncio.fixture(loop_scope="module")
async def another(house: WholeHouse) -> Person:
    """Somebody else new."""
    return await house.newcomer()
