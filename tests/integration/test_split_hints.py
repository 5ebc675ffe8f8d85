"""What several processes on one PostgreSQL tell each other: enough, and no more. Real engines, stores and relays, no servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]  # the driver ships no types
import pytest

from modules.domain.events import QueueChanged, ServerBack
from modules.domain.jobs import ServerName
from modules.domain.records import Limits
from modules.queue_manager.crew import Crew
from modules.queue_manager.engine import Engine
from modules.queue_manager.neighbours import NEWS_LIFE, STATUS_PREFIX
from modules.queue_manager.operations import Operations
from modules.queue_manager.scheduler import Policy
from modules.utils.bus import EventBus
from modules.utils.clock import SystemClock
from modules.utils.database import open_database
from modules.utils.database.listening import CHANNEL
from tests.support.builders import a_boot_id, a_request
from tests.support.databases import migrated_template, postgres_server, postgres_url
from tests.support.split_roles import Part, in_touch

__all__ = ["migrated_template", "postgres_server", "postgres_url"]

pytestmark = pytest.mark.postgres


@asynccontextmanager
async def a_process(url: str) -> AsyncIterator[tuple[Part, Engine]]:
    """Connected to the others, as `--role gateway` is."""
    clock = SystemClock()
    async with open_database(url, data_dir=Path(), clock=clock) as database:
        part = Part(database, EventBus())
        crew = Crew(
            jobs=database.jobs,
            control=database.control,
            events=part.bus,
            clock=clock,
            boot_id=a_boot_id(),
            policy=Policy(),
            timeout_s=60.0,
            is_alone=False,
        )
        engine = Engine(crew, (), Limits(active_per_person=2, queue_length=100))
        async with in_touch(part, engine, Operations(crew, engine)):
            yield part, engine


async def test_a_change_of_the_queue_is_told_once_however_many_processes_hear_it(postgres_url: str) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    listener = await asyncpg.connect(postgres_url)
    await listener.add_listener(CHANNEL, lambda *message: told.put_nowait(message[-1]))
    async with (
        a_process(postgres_url) as (one, engine),
        a_process(postgres_url) as (two, _),
        a_process(postgres_url) as (three, _),
    ):
        async with two.bus.subscribe() as heard_by_two, three.bus.subscribe() as heard_by_three:
            await engine.submit(a_request())
            async with asyncio.timeout(10):
                for heard in (heard_by_two, heard_by_three):
                    while await anext(heard) != QueueChanged():
                        pass
        for number, part in enumerate((one, two, three)):  # each says one thing more; what it told before has arrived by then
            part.bus.publish(ServerBack(server=ServerName(f"last {number}")))
        seen: list[str] = []
        async with asyncio.timeout(10):
            while sum(one.startswith("ServerBack") for one in seen) < 3:
                seen.append(_kind(await told.get()))
    await listener.close()
    assert sorted(kind for kind in seen if kind != "ServerBack") == ["JobAccepted", "queue"]


def _kind(message: str) -> str:
    _origin, topic, payload = message.split(" ", 2)
    return str(json.loads(payload)["kind"]) if topic == "event" else topic


async def test_a_server_of_another_process_that_comes_or_goes_moves_the_places_here(postgres_url: str) -> None:
    """A worker that has just started was never lost, so nobody says that its server is back; one that is killed says nothing."""
    async with a_process(postgres_url) as (part, engine), part.bus.subscribe() as heard:

        async def learned(state: str, age_s: float = 0.0) -> bool:
            await part.database.control.set(STATUS_PREFIX + "gpu-1", _news(state, SystemClock().now() - timedelta(seconds=age_s)))
            await engine.neighbours.learn()
            part.bus.publish(ServerBack(server=ServerName("the end")))
            async with asyncio.timeout(5):
                is_told = await anext(heard) == QueueChanged()
                if is_told:
                    await anext(heard)
            return is_told

        assert not await learned("starting")
        assert await learned("healthy")
        assert not await learned("healthy")
        assert await learned("healthy", age_s=NEWS_LIFE.total_seconds() + 1)
        assert await learned("healthy")
        assert await learned("away")


def _news(state: str, told_at: datetime) -> str:
    moment = told_at.isoformat()
    return json.dumps(
        {
            "name": "gpu-1",
            "state": state,
            "since": moment,
            "version": "0.33",
            "merge_protocol": "full",
            "running": [],
            "ahead": [],
            "pictures_per_minute": 0.0,
            "last_error": None,
            "learned_caps": {},
            "loaded": None,
            "free_at": moment,
            "told_at": moment,
            "caps": {},
        }
    )
