"""Places: a crowd shares forecasts, and everybody still learns their place."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from modules.domain.jobs import JobState
from modules.domain.queue import QueueSnapshot
from modules.domain.records import Limits
from modules.queue_manager.places import SHARED_FOR_S, Places
from tests.support.builders import a_person, a_request
from tests.support.world import World, played

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


async def _ask_after(world: World, user: int, seconds: float) -> None:
    await asyncio.sleep(seconds)
    await world.ask(user)
