"""No job waits beside an idle GPU that could draw it; real engine and stores, virtual time. The bound: docs/scheduling.md."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from modules.domain.errors import ErrorCode
from modules.domain.events import ServerLost
from modules.domain.jobs import JobState, WorkClass
from modules.domain.servers import RunPhase
from modules.sandbox.comfy_server import ComfySandbox
from tests.support.builders import a_work_class
from tests.support.comfy_side import an_attempt, comfy_side
from tests.support.troubles import delivered, fails_of, news_of_server
from tests.support.world import World, played
from tests.support.world.comfy import LOAD_S, PICTURE_S

#: Two models; jobs of either are never merged.
FLUX = a_work_class("flux/large", heavy_key="flux", cost_s=PICTURE_S, is_mergeable=False)
SDXL = a_work_class("sdxl/small", heavy_key="sdxl", cost_s=PICTURE_S, is_mergeable=False)
HUGE = "huge"


@played(servers=2)
async def test_a_job_that_the_server_with_its_model_refuses_is_drawn_by_the_other_while_the_first_goes_on(world: World) -> None:
    small, large = world.comfys
    small.lacks, large.lacks = lacking("sdxl"), lacking("flux")
    large.picture_s = 30.0
    for _ in range(2):  # each has a model in memory, and it is known how long the second takes
        await world.until_over(*[await world.ask(1, work=work) for work in (FLUX, SDXL)])
    long = await world.ask(1, work=SDXL)
    await world.until(lambda: large.runs[-1].phase is RunPhase.RUNNING, "the large one to be busy")
    small.lacks = large.lacks = lambda _: ()
    small.misfortune = fails_of(HUGE, ErrorCode.OUT_OF_MEMORY)
    huge = await world.ask(2, work=FLUX, prompt=HUGE)
    await world.until(lambda: small.runs[-1].phase is RunPhase.FAILED, "the refusal")
    await world.until_over(await world.ask(3, work=FLUX))  # the small one has the model again
    await world.until_over(long)
    idle_since = world.clock.monotonic()
    large.picture_s = PICTURE_S
    await world.until(lambda: world.job(huge).state is not JobState.QUEUED, "the idle one to take it")
    assert world.clock.monotonic() - idle_since <= 1.0
    await world.until_over(huge)
    assert delivered(world, huge)
    assert world.job(huge).server == large.name


def lacking(heavy_key: str) -> Callable[[WorkClass], tuple[str, ...]]:
    return lambda work: ("file:x",) if work.heavy_key == heavy_key else ()


async def both_warm(world: World) -> None:
    """Each server has drawn FLUX twice, so its times are known and it has the model in memory."""
    first, second = world.comfys
    for busy, other in ((first, second), (second, first)):
        other.lacks = lacking("flux")
        for _ in range(2):
            await world.until_over(await world.ask(1, work=FLUX))
        other.lacks = lambda _: ()
        assert busy.runs


@played(servers=2)
async def test_what_was_posted_behind_a_batch_that_overruns_is_drawn_by_the_server_that_falls_idle(world: World) -> None:
    overdue, other = world.comfys
    await both_warm(world)
    overdue.picture_s, other.picture_s = 600.0, 12.0
    running = [await world.ask(user, work=FLUX) for user in (1, 2)]
    await world.until(lambda: all(comfy.runs[-1].phase is RunPhase.RUNNING for comfy in world.comfys), "both to be busy")
    other.picture_s = PICTURE_S  # from the next one on
    waits = await world.ask(3, work=FLUX)
    await world.until(lambda: len(overdue.prompts) == 2, "one to be posted ahead")
    await world.until(lambda: delivered(world, running[1]), "the other to be idle")
    idle_since = world.clock.monotonic()
    await world.until(lambda: delivered(world, waits), "the one that waited behind the overdue batch")
    assert world.job(waits).server == other.name
    assert world.clock.monotonic() - idle_since <= 2 * PICTURE_S + 2.0
    assert world.job(waits).failed_attempts == 0


@played(servers=2)
async def test_jobs_do_not_wait_for_somebody_elses_prompt_beside_an_idle_server(world: World) -> None:
    used, other = world.comfys
    other.lacks = lacking("flux")
    await world.until_over(await world.ask(1, work=FLUX))
    other.lacks = lambda _: ()
    used.foreign = [300.0]
    used.touch()
    await asyncio.sleep(2.0)
    jobs = [await world.ask(user, work=FLUX) for user in (1, 2, 3, 4)]
    asked_at = world.clock.monotonic()
    await world.until(lambda: delivered(world, *jobs), "all four")
    assert {world.job(one).server for one in jobs} == {other.name}
    assert world.clock.monotonic() - asked_at <= LOAD_S + 4 * PICTURE_S + 2.0


@played(servers=2)
async def test_what_was_posted_behind_somebody_elses_prompt_goes_to_the_server_that_falls_idle(world: World) -> None:
    used, other = world.comfys
    await both_warm(world)
    other.picture_s = 20.0
    used.lacks = lacking("flux")
    long = await world.ask(1, work=FLUX)
    await world.until(lambda: other.runs[-1].phase is RunPhase.RUNNING, "the long one")
    used.lacks, other.picture_s = (lambda _: ()), PICTURE_S
    used.foreign = [300.0]
    used.touch()
    waits = await world.ask(2, work=FLUX)
    await world.until(lambda: world.job(waits).state is JobState.SUBMITTED, "it to be posted behind the other's prompt")
    await world.until(lambda: delivered(world, long), "the other to be idle")
    idle_since = world.clock.monotonic()
    await world.until(lambda: delivered(world, waits), "the one that waited")
    assert world.job(waits).server == other.name
    assert world.clock.monotonic() - idle_since <= 2 * PICTURE_S + 2.0


@played()
async def test_a_prompt_that_waits_long_for_somebody_elses_is_no_sign_of_a_stuck_server(world: World) -> None:
    await world.until_over(await world.ask(1, work=FLUX))
    world.comfy.foreign = [1_000.0]  # longer than a prompt may wait for one of ours
    world.comfy.touch()
    job = await world.ask(2, work=FLUX)
    await world.until_over(job)
    assert delivered(world, job)
    assert world.job(job).failed_attempts == 0
    assert news_of_server(world.life) == []


@played(servers=2)
async def test_a_job_that_was_never_sent_to_a_dead_server_waits_for_nothing(world: World) -> None:
    dead, other = world.comfys
    await both_warm(world)
    other.lacks = lacking("flux")
    dead.go_away(600)
    job = await world.ask(2, work=FLUX)
    await world.until(lambda: ServerLost in news_of_server(world.life), "the loss")
    assert world.job(job).state is JobState.QUEUED
    other.lacks = lambda _: ()
    asked_at = world.clock.monotonic()
    await world.until(lambda: delivered(world, job), "the job")
    assert world.clock.monotonic() - asked_at <= PICTURE_S + 2.0
    assert world.job(job).failed_attempts == 0


async def test_a_server_tells_how_many_prompts_in_its_queue_are_not_ours() -> None:
    """By its own word on the socket: `status` counts all that run and wait."""
    async with ComfySandbox(name="shared", time_scale=0.2) as sandbox, comfy_side(sandbox) as side:
        assert side.ours.foreign_prompts == 0
        sandbox.add_foreign(count=2, seconds=0.5)
        async with asyncio.timeout(10):
            while side.ours.foreign_prompts != 2:  # noqa: ASYNC110 (the socket brings it)
                await asyncio.sleep(0.01)
            attempt = an_attempt()
            await side.ours.post(attempt)
            most = 0
            async for _ in side.ours.follow(attempt):
                most = max(most, side.ours.foreign_prompts)
        assert most <= 2, "our own prompt was taken for somebody else's"
        assert side.ours.foreign_prompts == 0
