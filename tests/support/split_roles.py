"""The people's side as several processes on one PostgreSQL: what `--role gateway`, `--role worker` and `--role courier` are.

Each part has connections, an event bus and a relay of its own, as a process has; they share nothing but the database. All of
them live in this process, so that a test can steer them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from modules.composition import Refreshing, Woken, relay_wakeups
from modules.domain.ports import Clock
from modules.utils.bus import EventBus
from modules.utils.database import Database, open_database
from modules.utils.relay import EventRelay

SPLIT_ROLES = "split roles"
#: For a module or a test of the people's side: as one process on a file, and as gateway, worker and courier on a PostgreSQL.
in_both_arrangements = pytest.mark.parametrize(
    "split_on", ["one process", pytest.param(SPLIT_ROLES, marks=pytest.mark.postgres)], indirect=True
)


@dataclass(frozen=True, slots=True)
class Part:
    """What one process has of its own."""

    database: Database
    bus: EventBus


class NobodyWoken:
    """A courier has no queue to look at and no servers, nor has the steered GPU."""

    def changed(self) -> None:
        """The queue changed."""

    def switched(self) -> None:
        """It was paused."""

    async def refresh_own(self) -> None:
        """It was asked what it has."""


@asynccontextmanager
async def a_part(url: str, clock: Clock, folder: Path) -> AsyncIterator[Part]:
    """A process that tells the others what happens in it and hears what happens in them."""
    async with open_database(url, data_dir=folder, clock=clock) as database:
        part = Part(database, EventBus())
        async with in_touch(part, NobodyWoken(), NobodyWoken()):
            yield part


@asynccontextmanager
async def in_touch(part: Part, engine: Woken, operations: Refreshing) -> AsyncIterator[None]:
    """Carries events and hints between this part and the others, as the program does."""
    relay = EventRelay(part.bus, part.database)
    carrying: tuple[Coroutine[object, object, None], ...] = (
        relay.send(),
        relay_wakeups(part.database, relay, engine, operations),
        relay.sweep(),
    )
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in carrying]
        await asyncio.sleep(0)  # both listen before anything is said
        yield
        for task in tasks:
            task.cancel()
