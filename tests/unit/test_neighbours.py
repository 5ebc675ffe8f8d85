"""Servers that another process drives: told as text, seen like our own."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from modules.domain.queue import QueueSnapshot
from modules.queue_manager.neighbours import NEWS_LIFE, STATUS_PREFIX, Neighbours
from tests.support.builders import a_work_class
from tests.support.world import World, played


async def after_news(world: World) -> tuple[Neighbours, Neighbours]:
    """The neighbours of a worker's process that has told, and of a gateway's that has listened."""
    teller = world.life
    gateway = world.begin(servers=[])
    await world.until(lambda: bool(gateway.engine.neighbours.statuses), "the news")
    return teller.engine.neighbours, gateway.engine.neighbours


@played(is_alone=False)
async def test_a_gateway_sees_what_a_worker_tells(world: World) -> None:
    job = await world.ask(1, work=a_work_class("flux/1"))
    await world.until_over(job)
    _, heard = await after_news(world)
    crew = world.life.crew
    [status] = heard.statuses
    assert (status.name, status.state, status.loaded) == (world.comfy.name, "healthy", "flux")
    colleague = crew.colleagues[world.comfy.name]
    assert colleague.is_up
    assert colleague.can_run(a_work_class("flux/1"))
    assert colleague.cap(a_work_class("flux/1")) == world.comfy.batch
    assert not colleague.can_run(a_work_class("never met"))
    assert colleague.view().loaded == "flux"


@played(is_alone=False)
async def test_a_gateway_tells_places_although_it_drives_no_server(world: World) -> None:
    await world.until_over(await world.ask(1))
    await after_news(world)
    world.comfy.picture_s = 60.0
    for user in (1, 2, 3):
        job = await world.ask(user)
    place = await world.life.engine.place(world.job(job))
    assert place is not None
    assert place.starts_at is not None
    assert place.ends_at is not None
    assert place.starts_at >= world.clock.now()


@played(is_alone=False)
async def test_a_gateway_knows_when_what_a_worker_has_taken_should_be_done(world: World) -> None:
    for _ in range(2):
        await world.until_over(await world.ask(1))
    teller = world.life
    await after_news(world)
    world.comfy.picture_s = 60.0
    job = await world.ask(1)
    await world.until(lambda: bool(teller.crew.colleagues[world.comfy.name].taken()), "the claim")
    await world.until(lambda: list(world.life.crew.colleagues[world.comfy.name].taken()) == [job], "the news")
    [left_s] = teller.crew.colleagues[world.comfy.name].taken().values()
    assert world.life.crew.colleagues[world.comfy.name].taken()[job] == pytest.approx(left_s, abs=2.0)
    world.kill(teller)
    await world.until(lambda: not world.life.crew.colleagues[world.comfy.name].taken(), "the news to grow old")


@played(is_alone=False)
async def test_old_news_are_no_news(world: World) -> None:
    teller = world.life
    await after_news(world)
    gateway = world.life
    world.kill(teller)
    await world.until(lambda: not gateway.crew.colleagues[world.comfy.name].is_up, "the news to grow old")
    assert gateway.engine.neighbours.statuses == ()


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"name": "x", "state": "healthy"}), '{"name": 5}'])
def test_news_that_nobody_understands_are_passed_over(text: str) -> None:
    @played(is_alone=False)
    async def play(world: World) -> None:
        await world.life.database.control.set(STATUS_PREFIX + "strange", text)
        _, heard = await after_news(world)
        assert [status.name for status in heard.statuses] == [world.comfy.name]
        assert isinstance(await world.life.database.jobs.snapshot(), QueueSnapshot)

    play()


def test_news_live_long_enough_for_a_slow_database_and_short_enough_for_a_dead_process() -> None:
    assert timedelta(seconds=3) < NEWS_LIFE < timedelta(seconds=15)
