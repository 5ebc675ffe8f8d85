"""The GPU never waits while work does: starts at once, one batch ahead, rare probes; real engine and stores, virtual time."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from modules.domain.events import ServerBack, ServerLost
from modules.domain.servers import RunPhase
from tests.support.builders import a_person, a_request
from tests.support.troubles import ADMIN, delivered, news_of_server
from tests.support.world import World, played


@played()
async def test_an_idle_server_starts_at_once(world: World) -> None:
    for _ in range(3):
        asked_at = world.clock.now()
        await world.until_over(await world.ask(1))
        began = world.comfy.runs[-1].started_at
        assert began is not None
        assert (began - asked_at).total_seconds() < 0.01
        await asyncio.sleep(60)


@played()
async def test_a_job_taken_before_its_place_was_told_is_told_to_begin_and_not_that_no_gpu_is_there(world: World) -> None:
    world.comfy.picture_s = 60.0
    request = a_request(a_person(1))
    first = await world.life.engine.submit(request)
    await world.until(lambda: bool(world.comfy.runs), "the start")
    await asyncio.sleep(5)
    assert await world.life.engine.places() == {}
    again = await world.life.engine.submit(request)
    assert again.job.id == first.job.id
    assert again.place.position == 1
    assert again.place.starts_at == world.clock.now()
    assert again.place.ends_at is not None
    assert again.place.ends_at > world.clock.now()


@played()
async def test_the_gpu_never_waits_while_work_does_and_never_has_more_than_one_batch_ahead(world: World) -> None:
    most_waiting = 0

    async def watch() -> None:
        nonlocal most_waiting
        while True:
            phases = [prompt.phase for prompt in world.comfy.prompts.values()]
            most_waiting = max(most_waiting, phases.count(RunPhase.PENDING) if RunPhase.RUNNING in phases else 0)
            await asyncio.sleep(0.05)

    watching = asyncio.get_running_loop().create_task(watch())
    for user in range(1, 41):
        await world.ask(user)
    await world.until_over()
    watching.cancel()
    runs = world.comfy.runs
    gaps = [(then.started_at - one.ended_at).total_seconds() for one, then in itertools.pairwise(runs[1:])]  # type: ignore[operator]
    assert max(gaps) < 0.01, "the GPU stood still"
    assert most_waiting == 1


@played()
async def test_the_first_batch_after_a_failure_is_a_canary(world: World) -> None:
    world.comfy.go_away(30)
    jobs = [await world.ask(user) for user in range(1, 9)]
    await world.until(lambda: bool(world.comfy.prompts))
    while world.comfy.runs == [] or world.comfy.runs[0].phase is RunPhase.RUNNING:
        assert len(world.comfy.prompts) <= 1, "a second batch before the server proved itself"
        await asyncio.sleep(0.1)
    await world.until(lambda: len(world.comfy.prompts) == 2, "a batch ahead")
    await world.until_over()
    assert delivered(world, *jobs)


@played()
async def test_a_server_that_is_away_is_probed_ever_more_rarely_however_busy_the_queue_is(world: World) -> None:
    world.comfy.go_away(600)
    for user in range(1, 61):
        await world.ask(user)
        await asyncio.sleep(10)
    probes = world.acts.names.count("comfy refresh")
    assert 7 <= probes <= 14
    await world.until_over()
    assert news_of_server(world.life) == [ServerLost, ServerBack]


@played()
async def test_an_idle_server_that_goes_away_is_missed_before_anybody_needs_it(world: World) -> None:
    await world.until_over(await world.ask(1))
    await asyncio.sleep(60)
    assert news_of_server(world.life) == []
    went_at = world.clock.monotonic()
    world.comfy.go_away(300)
    await world.until(lambda: news_of_server(world.life) == [ServerLost], "the loss")
    assert world.clock.monotonic() - went_at < 40
    await world.until(lambda: news_of_server(world.life) == [ServerLost, ServerBack], "the return")
    job = await world.ask(1)
    await world.until_over(job)
    assert delivered(world, job)


@played()
async def test_a_server_restarted_under_our_eyes_is_read_anew_before_it_gets_more_work(world: World) -> None:
    await world.until_over(await world.ask(1))
    seen = len(world.acts.names)
    world.comfy.restart()
    await world.until_over(await world.ask(1))
    since = world.acts.names[seen:]
    assert since.count("comfy refresh") == 1
    assert since.index("comfy refresh") < since.index("comfy post")


@played()
async def test_who_is_done_before_the_others_of_the_prompt_is_told_how_long_their_own_part_took(world: World) -> None:
    world.comfy.picture_s = 10.0
    await world.life.operations.pause(ADMIN)
    early, late = [await world.ask(user) for user in (1, 2)]
    await world.life.operations.resume(ADMIN)
    await world.until(lambda: delivered(world, early), "the first of the two")
    told_s = world.job(early).worked_s
    assert told_s is not None
    await world.until_over()
    assert world.job(late).worked_s == pytest.approx(told_s + world.comfy.picture_s, abs=0.5)
    assert world.job(early).worked_s == told_s
