"""Servers that hang, die, restart or stay away cost nobody a picture; real engine and stores, virtual time."""

from __future__ import annotations

import asyncio

from modules.domain.events import ServerBack, ServerLost
from modules.domain.servers import RunPhase
from tests.support.troubles import ALONE, delivered, news_of_server
from tests.support.world import World, played


@played()
async def test_a_prompt_that_hangs_is_stopped_and_drawn_again(world: World) -> None:
    first = await world.ask(1)
    await world.until_over(first)
    job = await world.ask(1)
    world.comfy.is_hanging = True
    await world.until(lambda: any(prompt.is_cancelled for prompt in world.comfy.runs), "the cancel")
    world.comfy.is_hanging = False
    world.comfy.touch()
    await world.until_over()
    assert delivered(world, job)
    assert [prompt.phase for prompt in world.comfy.runs][1:] == [RunPhase.INTERRUPTED, RunPhase.SUCCEEDED]
    assert world.job(job).failed_attempts == 1


@played(servers=2)
async def test_a_server_that_takes_no_orders_is_left_alone_until_it_was_restarted(world: World) -> None:
    deaf, good = world.comfys
    await world.until_over(*[await world.ask(user, work=ALONE) for user in (1, 2)])
    assert len(deaf.runs) == len(good.runs) == 1
    deaf.is_deaf = True
    jobs = [await world.ask(user, work=ALONE) for user in (1, 2, 3)]
    await world.until_over()
    assert delivered(world, *jobs)
    assert [prompt.phase for prompt in deaf.runs][1:] == [RunPhase.RUNNING]
    await asyncio.sleep(600)
    assert len(deaf.runs) == 2, "it was given more work"
    deaf.restart()
    await world.until(lambda: ServerBack in news_of_server(world.life), "the server")
    assert news_of_server(world.life) == [ServerLost, ServerBack]
    more = [await world.ask(user, work=ALONE) for user in range(1, 21)]  # more than the other one alone would be quick with
    await world.until_over()
    assert delivered(world, *more)
    assert len(deaf.runs) > 2


@played(servers=2)
async def test_a_dead_worker_behind_a_healthy_http_server_costs_nobody_a_picture(world: World) -> None:
    dead, _ = world.comfys
    dead.is_dead_worker = True
    jobs = [await world.ask(user, work=ALONE) for user in (1, 2, 3)]
    await world.until_over()
    assert delivered(world, *jobs)
    assert not dead.runs
    assert news_of_server(world.life) == [ServerLost], "it flaps"
    await asyncio.sleep(300)
    assert news_of_server(world.life) == [ServerLost], "it flaps"
    dead.restart()
    await world.until(lambda: ServerBack in news_of_server(world.life), "the server")


@played(servers=2)
async def test_jobs_of_a_server_that_stays_away_go_to_others_and_a_late_result_does_no_harm(world: World) -> None:
    away, good = world.comfys
    away.picture_s, good.picture_s = 120.0, 300.0
    good.lacks = lambda _: ("file:x",)
    job = await world.ask(1, work=ALONE)
    await world.until(lambda: bool(away.runs), "the start")
    good.lacks = lambda _: ()
    away.go_away(200)
    await world.until(lambda: bool(good.runs), "the other server")
    await world.until_over()
    assert delivered(world, job)
    assert world.job(job).server == away.name, "what was drawn first counts"
    assert not world.wrongs(needless=False)
    await world.until(lambda: good.runs[0].is_cancelled, "the second prompt to be stopped")


@played()
async def test_a_restart_costs_the_running_batch_only_its_time(world: World) -> None:
    world.comfy.picture_s = 1.2  # two take little longer than the lead, so a batch is ahead before the first is saved
    jobs = [await world.ask(user) for user in range(1, 9)]
    await world.until(lambda: len(world.comfy.prompts) == 1, "the start")
    await world.until(lambda: bool(world.comfy.drawn), "the first picture")
    await world.until(lambda: len(world.comfy.prompts) == 2 and not world.comfy.runs[-1].saved, "a batch ahead")
    world.comfy.restart()
    await world.until_over()
    assert delivered(world, *jobs)
    assert not world.wrongs()
