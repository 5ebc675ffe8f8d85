"""Events inside one process, and their way to the next one."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import get_args

import pytest
from sqlalchemy import insert

from modules.domain.events import (
    Event,
    JobAccepted,
    JobPreviewed,
    JobProgressed,
    JobSettled,
    JobStarted,
    QueueChanged,
    QueuePaused,
    ServerBack,
    ServerLost,
)
from modules.domain.jobs import JobState, ServerName
from modules.domain.servers import InMemory
from modules.utils.bus import EventBus
from modules.utils.clock import SystemClock
from modules.utils.database import Database, open_database
from modules.utils.database.tables import control
from modules.utils.relay import TOPIC, EventRelay, read, written
from tests.support.builders import a_job_id
from tests.support.queue_steps import accepted, claimed, oldest


async def taken(bus: EventBus, publish: list[Event], count: int) -> list[Event]:
    async with bus.subscribe() as events, asyncio.timeout(5):
        for event in publish:
            bus.publish(event)
        return [await anext(events) for _ in range(count)]


async def test_everyone_who_listens_hears_everything_in_order() -> None:
    bus = EventBus()
    said: list[Event] = [JobAccepted(job_id=a_job_id()), QueueChanged(), QueuePaused(is_paused=True)]
    async with bus.subscribe() as other:
        assert await taken(bus, said, 3) == said
        assert [await anext(other) for _ in range(3)] == said
    bus.publish(QueueChanged())  # nobody listens any more: nothing is kept


async def test_a_slow_listener_loses_previews_and_progress_before_anything_else() -> None:
    bus, job_id = EventBus(max_backlog=3), a_job_id()
    settled, started = JobSettled(job_id=job_id, state=JobState.GENERATED), QueueChanged()
    said: list[Event] = [
        started,
        JobPreviewed(job_id=job_id, picture_index=0, jpeg=b"x"),
        JobProgressed(job_id=job_id, step=1, steps=2),
        settled,
        JobAccepted(job_id=job_id),
    ]
    assert await taken(bus, said, 3) == [started, settled, said[-1]]


async def test_without_previews_the_oldest_goes() -> None:
    bus = EventBus(max_backlog=2)
    said: list[Event] = [JobAccepted(job_id=a_job_id()) for _ in range(3)]
    assert await taken(bus, said, 2) == said[1:]


def samples() -> list[Event]:
    job_id = a_job_id()
    return [
        JobAccepted(job_id=job_id),
        QueueChanged(),
        JobStarted(job_id=job_id, server=ServerName("one"), shared_by=2, in_memory=InMemory.ANOTHER),
        JobSettled(job_id=job_id, state=JobState.FAILED),
        ServerLost(server=ServerName("one"), reason="server_unreachable"),
        ServerBack(server=ServerName("one")),
        QueuePaused(is_paused=False),
    ]


@pytest.mark.parametrize("event", samples(), ids=lambda event: type(event).__name__)
def test_an_event_survives_its_way_as_a_line_of_text(event: Event) -> None:
    assert read(written(event)) == event


def test_a_previews_bytes_do_not_travel_in_the_line() -> None:
    line = written(JobPreviewed(job_id=a_job_id(), picture_index=1, jpeg=b"\xff" * 40_000))
    assert len(line) < 200


def test_every_kind_of_event_can_travel() -> None:
    for kind in get_args(Event):
        names = {field.name for field in dataclasses.fields(kind)}
        assert read('{"kind":"%s"}' % kind.__name__) is not None or names, kind  # noqa: UP031 - braces of JSON


@pytest.mark.parametrize("line", ["", "{}", "[]", '{"kind":"FromTheFuture","x":1}', '{"kind":"JobAccepted","job_id":"no id"}'])
def test_what_a_newer_version_or_a_stranger_says_is_passed_over(line: str) -> None:
    assert read(line) is None


async def test_what_was_heard_from_elsewhere_is_published_here_and_not_said_again(tmp_path: Path) -> None:
    async with open_database(None, data_dir=tmp_path, clock=SystemClock()) as database:
        bus = EventBus()
        relay = EventRelay(bus, database)
        event, own = JobAccepted(job_id=a_job_id()), QueuePaused(is_paused=True)
        async with bus.subscribe() as events, asyncio.TaskGroup() as group, asyncio.timeout(5):
            sending = group.create_task(relay.send())
            with database.wakeups() as wakeups:
                await asyncio.sleep(0)
                await relay.heard(written(event))
                assert await anext(events) == event
                bus.publish(own)
                told = await _first_event(wakeups)
                assert told == own, "the foreign event went out again"
            sending.cancel()


async def test_a_preview_reaches_the_other_process_with_its_bytes(tmp_path: Path) -> None:
    async with open_database(None, data_dir=tmp_path, clock=SystemClock()) as database:
        here, there = EventBus(), EventBus()
        sender, hearer = EventRelay(here, database), EventRelay(there, database)
        preview = JobPreviewed(job_id=a_job_id(), picture_index=0, jpeg=b"\xff\xd8 bytes")
        async with there.subscribe() as events, asyncio.TaskGroup() as group, asyncio.timeout(5):
            sending = group.create_task(sender.send())
            with database.wakeups() as wakeups:
                await asyncio.sleep(0)
                here.publish(preview)
                async for wakeup in wakeups:
                    if wakeup.topic == TOPIC:
                        await hearer.heard(wakeup.payload)
                        break
            assert await anext(events) == preview
            here.publish(JobSettled(job_id=preview.job_id, state=JobState.GENERATED))
            await _until_forgotten(database)
            sending.cancel()


async def test_a_preview_is_forgotten_when_another_process_ends_its_job_and_a_late_one_by_the_sweep(tmp_path: Path) -> None:
    async with open_database(None, data_dir=tmp_path, clock=SystemClock()) as database:
        bus = EventBus()
        worker = EventRelay(bus, database)
        job_id, late = a_job_id(), a_job_id()
        async with asyncio.TaskGroup() as group, asyncio.timeout(5):
            sending = group.create_task(worker.send())
            await asyncio.sleep(0)
            bus.publish(JobPreviewed(job_id=job_id, picture_index=0, jpeg=b"first"))
            await _until_stored(database, {f"preview.{job_id}"})
            await worker.heard(written(JobSettled(job_id=job_id, state=JobState.CANCELLED)))
            await _until_stored(database, set())
            bus.publish(JobPreviewed(job_id=late, picture_index=0, jpeg=b"too late"))
            await _until_stored(database, {f"preview.{late}"})
            sending.cancel()
        await EventRelay(EventBus(), database).sweep_once()
        assert await database.control.keys("preview.") == []


async def test_the_sweep_leaves_the_previews_of_jobs_that_a_server_has(tmp_path: Path) -> None:
    async with open_database(None, data_dir=tmp_path, clock=SystemClock()) as database:
        [job] = await accepted(database)
        await database.control.set(f"preview.{job.id}", "Zm94")
        await database.control.set("preview.of nobody", "Zm94")
        relay = EventRelay(EventBus(), database)
        await claimed(database, oldest(1))
        await relay.sweep_once()
        assert await database.control.keys("preview.") == [f"preview.{job.id}"]


async def test_the_sweep_removes_thousands_that_an_earlier_version_left(tmp_path: Path) -> None:
    async with open_database(None, data_dir=tmp_path, clock=SystemClock()) as database:
        left = [{"key": f"preview.{number}", "value": "Zm94"} for number in range(1_201)]
        await database.engine.write(lambda connection: connection.execute(insert(control), left))
        await database.control.set("queue.paused", "1")
        await EventRelay(EventBus(), database).sweep_once()
        assert await database.control.keys("") == ["queue.paused"]


async def _first_event(wakeups: object) -> Event | None:
    async for wakeup in wakeups:  # type: ignore[attr-defined]  # a stream of wake-ups
        if wakeup.topic == TOPIC:
            return read(wakeup.payload)
    return None


async def _until_forgotten(database: Database) -> None:
    await _until_stored(database, set())


async def _until_stored(database: Database, keys: set[str]) -> None:
    while set(await database.control.keys("preview.")) != keys:  # noqa: ASYNC110 - the store has no bell for tests
        await asyncio.sleep(0.01)
