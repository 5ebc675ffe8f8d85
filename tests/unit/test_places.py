"""Places: a crowd shares forecasts, and everybody still learns their place."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime

import pytest

from modules.domain.jobs import JobState
from modules.domain.people import UserId
from modules.domain.queue import QueueSnapshot
from modules.domain.records import Limits
from modules.domain.servers import RunPhase
from modules.queue_manager.places import SHARED_FOR_S, Places
from modules.queue_manager.rates import FIRST_SWITCH_S
from tests.support.builders import a_person, a_request, a_work_class
from tests.support.world import World, played
from tests.support.world.comfy import PICTURE_S

CROWD = 40


class CountedSnapshots:
    """How often the whole queue is read."""

    def __init__(self, world: World) -> None:
        self.count = 0
        self._jobs = world.life.database.jobs
        self._read = self._jobs.snapshot
        self._jobs.snapshot = self._counted  # type: ignore[method-assign]

    async def _counted(self, exact_keys: Collection[str] | None = None) -> QueueSnapshot:
        self.count += 1
        return await self._read(exact_keys)


@played()
async def test_a_crowd_that_asks_at_once_shares_a_few_forecasts_and_everybody_has_a_place(world: World) -> None:
    await world.until_over(await world.ask(1))
    snapshots, began = CountedSnapshots(world), world.clock.monotonic()
    await asyncio.gather(*(_ask_after(world, user, user * 0.5 / CROWD) for user in range(2, 2 + CROWD)))
    lasted_s = world.clock.monotonic() - began
    assert snapshots.count <= lasted_s / SHARED_FOR_S + 1 < CROWD
    assert set(await world.life.engine.places()) == {job.id for job in world.jobs() if job.state is JobState.QUEUED}


@played()
async def test_the_first_who_asks_does_not_wait_for_company(world: World) -> None:
    await world.until_over(await world.ask(1))
    began = world.clock.monotonic()
    await world.ask(2)
    assert world.clock.monotonic() - began < SHARED_FOR_S / 2


@played(batch=CROWD)
async def test_a_crowd_that_is_drawn_at_once_does_not_wait_for_one_forecast_each(world: World) -> None:
    """A job that a server took between its acceptance and our look stands in no forecast."""
    await world.until_over(await world.ask(1))
    crew, jobs = world.life.crew, world.life.database.jobs
    waiting = [
        await jobs.accept(a_request(a_person(user)), Limits(active_per_person=1, queue_length=CROWD)) for user in range(2, CROWD)
    ]
    await world.until(lambda: all(job.state is not JobState.QUEUED for job in world.jobs()), "one batch of them all")
    snapshots, began = CountedSnapshots(world), world.clock.monotonic()
    places = Places(crew, world.life.engine.neighbours)
    told = await asyncio.gather(*(places.of(job) for job, _ in waiting))
    assert {place.position for place in told} == {1}
    assert snapshots.count <= 2
    assert world.clock.monotonic() - began <= 2 * SHARED_FOR_S


# --- promised to the first who asks --------------------------------------------------------------------------------------


@played()
async def test_who_is_drawn_at_once_is_told_of_the_loading_too(world: World) -> None:
    """Nothing is known yet: 10 s to load and 2 s to draw are the guess."""
    await until_up(world)
    assert await told_s(world, 1) == pytest.approx(FIRST_SWITCH_S + 2.0, abs=0.1)


@played()
async def test_who_is_drawn_at_once_by_a_warm_server_is_told_of_drawing_alone(world: World) -> None:
    for _ in range(2):
        await world.until_over(await world.ask(1))
    assert await told_s(world, 1) == pytest.approx(PICTURE_S, abs=0.1)


@played(servers=2)
async def test_the_server_that_took_it_decides_and_not_the_faster_one(world: World) -> None:
    """The fast one is busy for a minute, so the slow one takes it."""
    fast, slow = world.comfys
    slow.picture_s = 6.0
    fast.lacks = lambda _: ("file:x",)
    for _ in range(2):
        await world.until_over(await world.ask(1))
    fast.lacks, slow.lacks = slow.lacks, fast.lacks
    for _ in range(2):
        await world.until_over(await world.ask(1))
    fast.picture_s, slow.lacks = 60.0, lambda _: ()
    await world.ask(1)
    await world.until(lambda: fast.runs[-1].phase is RunPhase.RUNNING, "the fast one to be busy")
    assert await told_s(world, 2) == pytest.approx(6.0, abs=0.1)
    assert slow.runs[-1].attempt.jobs[0].user_id == 2


@played(batch=4)
async def test_who_shares_a_batch_is_told_when_the_batch_ends(world: World) -> None:
    for _ in range(2):
        await world.until_over(await world.ask(1))
    await world.life.operations.pause(UserId(9))
    jobs = [world.job(await world.ask(user)) for user in (2, 3, 4)]
    await world.life.operations.resume(UserId(9))
    await world.until(lambda: len(world.comfy.runs) == 3, "one batch of them all")
    passed_s = (world.clock.now() - _started(world)).total_seconds()
    places = [await Places(world.life.crew, world.life.engine.neighbours).of(job) for job in jobs]
    for place in places:
        assert place.ends_at is not None
        assert (place.ends_at - world.clock.now()).total_seconds() == pytest.approx(3 * PICTURE_S - passed_s, abs=0.2)


@played()
async def test_what_was_promised_to_those_drawn_at_once_is_compared_with_what_came(world: World) -> None:
    """A server that grew three times as slow is known for it, although nobody ever waits."""
    for _ in range(2):
        await world.until_over(await world.ask(1))
    crew = world.life.crew
    before = len(crew.calibration)
    await world.until_over(await world.ask(1))
    assert len(crew.calibration) == before + 1


async def until_up(world: World) -> None:
    await world.until(lambda: all(worker.is_up for worker in world.life.engine.workers.values()), "the servers")


async def told_s(world: World, user: int) -> float:
    """Ask, and see what the answer promises, in seconds from now."""
    asked = await world.life.engine.submit(a_request(a_person(user), work=a_work_class(cost_s=2.0)))
    assert asked.place.ends_at is not None
    return (asked.place.ends_at - world.clock.now()).total_seconds()


def _started(world: World) -> datetime:
    started_at = world.comfy.runs[-1].started_at
    assert started_at is not None
    return started_at


async def _ask_after(world: World, user: int, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await world.ask(user)
