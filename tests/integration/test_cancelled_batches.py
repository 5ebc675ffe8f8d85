"""Cancelling and requeueing: what becomes of the prompt, of the others in it, and of what was charged; virtual time."""

from __future__ import annotations

import pytest

from modules.domain.events import JobFinishing, JobRequeued, JobStarted
from modules.domain.jobs import JobId, JobState
from modules.domain.servers import RunPhase
from tests.support.troubles import ADMIN, delivered
from tests.support.world import World, played


async def a_batch_ahead_of(world: World, *users: int) -> list[JobId]:
    """Their jobs, in one prompt that ComfyUI has waiting behind a long one of somebody else."""
    await world.until_over(await world.ask(9))
    world.comfy.picture_s = 20.0
    await world.ask(9)
    await world.until(lambda: len(world.comfy.runs) == 2, "the first to run")
    await world.life.operations.pause(ADMIN)
    jobs = [await world.ask(user) for user in users]
    await world.life.operations.resume(ADMIN)
    await world.until(lambda: all(world.job(one).state is JobState.SUBMITTED for one in jobs), "the batch ahead")
    assert [world.job(one).shared_by for one in jobs] == [len(users)] * len(users)
    return jobs


@played()
async def test_cancelling_one_of_a_batch_ahead_gives_the_others_their_place_back_and_costs_nothing(world: World) -> None:
    gone, stays = await a_batch_ahead_of(world, 1, 2)
    charged = world.vt(1)
    await world.life.engine.cancel(gone)
    await world.until_over()
    assert world.job(gone).state is JobState.CANCELLED
    assert delivered(world, stays)
    assert gone not in {one.job_id for one in world.comfy.drawn}, "it was drawn all the same"
    assert world.job(stays).failed_attempts == 0
    assert [world.vt(user) for user in (1, 2)] == [charged - 2.0, charged]


@played()
async def test_a_batch_ahead_in_which_everybody_cancels_costs_nobody_anything(world: World) -> None:
    jobs = await a_batch_ahead_of(world, 1, 2)
    charged = world.vt(1)
    for job in jobs:
        await world.life.engine.cancel(job)
    await world.until_over()
    assert len(world.comfy.runs) == 2
    assert [world.vt(user) for user in (1, 2)] == [charged - 2.0] * 2


@pytest.mark.parametrize("leaving", [1, 2])
@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_batch_ahead_found_again_or_forgotten_costs_those_who_cancelled_nothing(leaving: int, *, is_forgotten: bool) -> None:
    @played()
    async def scene(world: World) -> None:
        jobs = await a_batch_ahead_of(world, 1, 2)
        charged = world.vt(1)
        for job in jobs[:leaving]:
            await world.life.engine.cancel(job)
        world.kill()
        if is_forgotten:
            world.comfy.restart()
        await world.until_over()
        assert {one.job_id for one in world.comfy.drawn}.isdisjoint(jobs[:leaving])
        assert [world.vt(user) for user in (1, 2)] == [charged - 2.0, charged - 2.0 * (leaving == 2)]

    scene()


@pytest.mark.parametrize("users", [(1,), (1, 2)])
def test_what_was_drawn_after_the_cancel_is_paid_for_although_both_sides_forgot_the_prompt(users: tuple[int, ...]) -> None:
    """Its file is still there. What the other one of the prompt drew is not, so that the whole attempt counts as lost."""

    @played()
    async def scene(world: World) -> None:
        await world.until_over(await world.ask(9))
        world.comfy.picture_s = 1.0  # over before the program is there again
        world.comfy.spoil = lambda prompt, slot, picture: None if slot == 1 and len(world.comfy.runs) == 2 else picture
        await world.life.operations.pause(ADMIN)
        gone, *others = [await world.ask(user) for user in users]
        await world.life.operations.resume(ADMIN)
        await world.until(lambda: world.job(gone).state is JobState.SUBMITTED and len(world.comfy.runs) == 2, "the start")
        charged = world.vt(1)
        await world.life.engine.cancel(gone)
        world.kill()
        await world.until(lambda: world.comfy.runs[1].phase is RunPhase.SUCCEEDED, "the end of the drawing")
        world.comfy.restart()
        await world.until_over()
        assert world.vt(1) == charged
        assert delivered(world, *others)

    scene()


@played()
async def test_the_picture_of_one_shows_that_the_gpu_had_begun_for_the_other_too(world: World) -> None:
    await world.life.operations.pause(ADMIN)
    early, gone = [await world.ask(user) for user in (1, 2)]
    await world.life.operations.resume(ADMIN)
    await world.until(lambda: delivered(world, early), "the first of the two")
    charged = world.vt(2)
    await world.life.engine.cancel(gone)
    world.kill()
    world.comfy.restart()
    await world.until_over()
    assert gone not in {one.job_id for one in world.comfy.drawn}
    assert world.vt(2) == charged


@played()
async def test_cancelling_the_only_job_of_a_prompt_stops_the_gpu_and_one_of_many_does_not(world: World) -> None:
    await world.until_over(await world.ask(9))
    alone = await world.ask(1)
    await world.until(lambda: world.job(alone).state is JobState.SUBMITTED and len(world.comfy.runs) == 2, "the start")
    charged = world.vt(1)
    await world.life.engine.cancel(alone)
    await world.until(lambda: world.comfy.runs[1].phase is RunPhase.INTERRUPTED, "the stop")
    await world.until_all_over()
    assert world.vt(1) == charged, "what the GPU began is paid for"
    await world.ask(9)
    shared = [await world.ask(user) for user in (1, 2)]
    await world.until(lambda: len(world.comfy.runs) == 4, "the shared batch to run")
    charged = world.vt(1)
    await world.life.engine.cancel(shared[0])
    await world.until_over()
    assert world.vt(1) == charged
    assert delivered(world, shared[1])
    assert world.job(shared[0]).state is JobState.CANCELLED
    assert not world.wrongs()


@played(servers=2)
async def test_of_a_requeued_job_nothing_is_told_any_more_by_the_run_it_left(world: World) -> None:
    for comfy in world.comfys:
        comfy.picture_s = 30.0
    job = await world.ask(1)
    await world.until(lambda: any(comfy.runs for comfy in world.comfys), "the start")
    seen = len(world.life.seen)
    await world.life.operations.requeue(job, ADMIN)
    await world.until_over()
    told = [type(event) for event in world.life.seen[seen:] if getattr(event, "job_id", None) == job]
    assert [kind for kind in told if kind in {JobRequeued, JobStarted, JobFinishing}] == [JobRequeued, JobStarted, JobFinishing]


@played()
async def test_a_requeued_job_leaves_its_prompt_and_is_drawn_anew(world: World) -> None:
    world.comfy.picture_s = 30.0
    job = await world.ask(1)
    await world.until(lambda: bool(world.comfy.runs), "the start")
    await world.life.operations.requeue(job, ADMIN)
    await world.until_over()
    assert delivered(world, job)
    assert world.comfy.runs[0].phase is RunPhase.INTERRUPTED
    assert world.job(job).failed_attempts == 0
