"""The queue in trouble: real engine, stores and courier; a ComfyUI and a Discord that fail on request; virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import cast

import pytest

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import ServerBack, ServerLost
from modules.domain.jobs import Attempt, JobId, JobRequest, JobState
from modules.domain.people import UserId
from modules.domain.servers import RunFailure, RunPhase
from modules.queue_manager.verdicts import MAX_FAILED_ATTEMPTS
from tests.support.builders import a_boot_id, a_person, a_request, a_work_class
from tests.support.world import Life, World, played
from tests.support.world.comfy import ComfyPort, Prompt

ADMIN = UserId(99)
ALONE = a_work_class("alone", heavy_key="sdxl", cost_s=2.0, is_mergeable=False)


def delivered(world: World, *job_ids: JobId) -> bool:
    return all(world.job(one).state is JobState.DELIVERED for one in job_ids)


def fails_of(prompt: str, code: ErrorCode) -> Callable[[Prompt], RunFailure | None]:
    return lambda one: RunFailure(code=code) if any(job.recipe.prompt == prompt for job in one.attempt.jobs) else None


def news_of_server(life: Life) -> list[type]:
    return [type(event) for event in life.seen if isinstance(event, ServerLost | ServerBack)]


# --- keeping the GPU busy -------------------------------------------------------------------------------------------------


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
    request = _a_request_of(1)
    first = await world.life.engine.submit(request)
    await world.until(lambda: bool(world.comfy.runs), "the start")
    await asyncio.sleep(20)
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


# --- hung, dead, stuck ----------------------------------------------------------------------------------------------------


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


# --- out of memory, poison, errors ----------------------------------------------------------------------------------------


@played(batch=4)
async def test_out_of_memory_halves_the_batches_and_is_nobodys_failure(world: World) -> None:
    def too_large(prompt: Prompt) -> RunFailure | None:
        return RunFailure(code=ErrorCode.OUT_OF_MEMORY) if len(prompt.attempt.slots) > 2 else None

    world.comfy.misfortune = too_large
    jobs = [await world.ask(user) for user in range(1, 9)]
    await world.until_over()
    assert delivered(world, *jobs)
    assert 1 <= world.comfy.freed <= 2, "once for the batch that failed, once more for the one that was already posted"
    sizes = [len(prompt.attempt.slots) for prompt in world.comfy.runs if prompt.phase is RunPhase.SUCCEEDED]
    assert max(sizes) == 2
    assert all(world.job(one).failed_attempts == 0 for one in jobs), "a shared batch that was too large is nobody's failure"


@played(servers=2)
async def test_a_job_too_large_for_one_card_is_given_to_another(world: World) -> None:
    small, large = world.comfys
    small.misfortune = lambda _: RunFailure(code=ErrorCode.OUT_OF_MEMORY)
    large.lacks = lambda work: ("file:x",) if large.is_away else ()
    jobs = [await world.ask(user, work=ALONE) for user in (1, 2)]
    await world.until_over()
    assert delivered(world, *jobs)
    assert {world.job(one).server for one in jobs} == {large.name}


@played()
async def test_a_job_too_large_for_every_card_fails_after_one_more_try_and_is_refunded(world: World) -> None:
    world.comfy.misfortune = lambda _: RunFailure(code=ErrorCode.OUT_OF_MEMORY)
    job = await world.ask(1, count=3)
    [over] = await world.until_over(job)
    assert (over.state, over.error_code) == (JobState.FAILED, ErrorCode.OUT_OF_MEMORY.value)
    assert [prompt.alone for prompt in world.comfy.runs] == [False, True], "the second time its pictures come one by one"
    await world.until_over()
    assert len(list(world.discord.messages())) == 1
    accounts = (await world.life.database.jobs.snapshot()).floor
    assert accounts == 0.0


@played(batch=3)
async def test_a_job_that_kills_its_server_is_convicted_and_its_neighbours_are_not(world: World) -> None:
    def kills(prompt: Prompt) -> RunFailure | None:
        if any(job.recipe.prompt == "poison" for job in prompt.attempt.jobs):
            world.comfy.restart()
        return None

    world.comfy.misfortune = kills
    good = [await world.ask(user) for user in (1, 2)]
    poison = await world.ask(3, prompt="poison")
    good += [await world.ask(user) for user in (4, 5, 6, 7)]
    await world.until_over()
    assert delivered(world, *good)
    assert (world.job(poison).state, world.job(poison).error_code) == (JobState.FAILED, ErrorCode.POISON.value)
    assert sum(any(job.id == poison for job in prompt.attempt.jobs) for prompt in world.comfy.runs) == 3


@played(batch=4)
async def test_a_node_error_fails_only_the_job_that_causes_it(world: World) -> None:
    world.comfy.misfortune = fails_of("cursed", ErrorCode.NODE_FAILED)
    await world.ask(9)
    good = [await world.ask(user) for user in (1, 2, 3)]
    cursed = await world.ask(4, prompt="cursed")
    await world.until_over()
    assert delivered(world, *good)
    assert world.job(cursed).error_code == ErrorCode.NODE_FAILED.value
    assert all(world.job(one).failed_attempts == 0 for one in good)


@played()
async def test_what_comes_to_nothing_five_times_is_given_up_honestly(world: World) -> None:
    world.comfy.misfortune = lambda _: RunFailure(code=ErrorCode.INTERRUPTED)
    job = await world.ask(1)
    [over] = await world.until_over(job)
    assert (over.state, over.error_code) == (JobState.FAILED, ErrorCode.ATTEMPTS_USED_UP.value)
    assert len(world.comfy.runs) == MAX_FAILED_ATTEMPTS


@played()
async def test_retries_are_at_most_a_fifth_of_what_is_dispatched(world: World) -> None:
    seen: set[JobId] = set()

    def every_first_time(prompt: Prompt) -> RunFailure | None:
        new = {job.id for job in prompt.attempt.jobs} - seen
        seen.update(new)
        return RunFailure(code=ErrorCode.INTERRUPTED) if new else None

    world.comfy.misfortune = every_first_time
    for user in range(1, 41):
        await world.ask(user)
    began = world.clock.monotonic()
    await world.until(lambda: len(seen) == 40, "every job's first try")
    retries = sum(len(prompt.attempt.jobs) for prompt in world.comfy.runs) - 40
    allowed = 10 + 0.2 * 40 + (world.clock.monotonic() - began) / 15 + 1
    assert 0 < retries <= allowed
    await world.until_over()
    assert set(world.states()) == {JobState.DELIVERED}, "those held back must have their turn in the end"


@played()
async def test_a_bug_of_ours_in_one_job_stops_neither_the_others_nor_the_program(world: World) -> None:
    port = cast(ComfyPort, next(iter(world.life.engine.workers.values())).server)
    post = port.post

    async def stumble(attempt: Attempt, *, alone: bool = False) -> None:
        if any(job.recipe.prompt == "odd" for job in attempt.jobs):
            raise ZeroDivisionError
        await post(attempt, alone=alone)

    port.post = stumble  # type: ignore[method-assign]
    await world.ask(9)
    good = await world.ask(1)
    odd = await world.ask(2, prompt="odd")
    await world.until_over()
    assert delivered(world, good)
    failed = world.job(odd)
    assert failed.error_code == ErrorCode.UNEXPECTED.value
    assert failed.error_params
    assert failed.error_params["incident"]


# --- pictures that are not what they should be ----------------------------------------------------------------------------


@played()
async def test_a_missing_picture_is_drawn_once_more_alone(world: World) -> None:
    lost: list[JobId] = []

    def lose_one(prompt: Prompt, slot: int, picture: object) -> object:
        job_id = prompt.attempt.slots[slot].job_id
        if world.job(job_id).user_id == UserId(2) and not lost:
            lost.append(job_id)
            return None
        return picture

    world.comfy.spoil = lose_one  # type: ignore[assignment]
    jobs = [await world.ask(user) for user in (9, 1, 2)]
    await world.until_over()
    assert delivered(world, *jobs)
    assert not world.wrongs(needless=False)
    again = world.comfy.runs[-1]
    assert ([job.id for job in again.attempt.jobs], again.alone) == (lost, True)


@played()
async def test_a_picture_that_never_comes_ends_in_bad_news_and_nobody_gets_anothers(world: World) -> None:
    world.comfy.spoil = lambda prompt, slot, picture: (
        None if world.job(prompt.attempt.slots[slot].job_id).user_id == UserId(2) else picture
    )
    jobs = [await world.ask(user) for user in (9, 1, 2, 3)]
    await world.until_over()
    assert [world.job(one).state for one in jobs] == [JobState.DELIVERED, JobState.DELIVERED, JobState.FAILED, JobState.DELIVERED]
    assert world.job(jobs[2]).error_code == ErrorCode.RESULT_INCOMPLETE.value
    assert not world.wrongs(needless=False)


# --- cancelling -----------------------------------------------------------------------------------------------------------


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


# --- the courier ----------------------------------------------------------------------------------------------------------


@played(is_alone=False)
async def test_a_picture_that_is_long_on_its_way_is_not_sent_by_a_second_courier_too(world: World) -> None:
    world.begin(servers=[])
    world.discord.send_s = 45.0
    job = await world.ask(1)
    await world.until_over()
    assert delivered(world, job)
    await asyncio.sleep(120)
    assert world.acts.names.count("discord send") == 1


@pytest.mark.parametrize(("is_alone", "within_s"), [(True, 1.0), (False, 16.0)])
def test_a_send_cut_by_a_kill_is_taken_up_again_soon(is_alone: bool, within_s: float) -> None:
    @played(is_alone=is_alone)
    async def scene(world: World) -> None:
        world.discord.send_s = 5.0
        job = await world.ask(1)
        await world.until(lambda: world.job(job).state is JobState.GENERATED)
        await asyncio.sleep(1)
        world.kill()
        world.discord.send_s = 0.0
        world.begin()
        died_at = world.clock.monotonic()
        await world.until_over()
        assert delivered(world, job)
        assert world.clock.monotonic() - died_at <= within_s

    scene()


# --- the database, the clock, the lease -----------------------------------------------------------------------------------


@played()
async def test_while_the_database_is_away_nothing_is_acknowledged_and_afterwards_everything_goes_on(world: World) -> None:
    jobs = [await world.ask(user) for user in (1, 2, 3)]
    await world.until(lambda: bool(world.comfy.runs), "the start")
    world.lose_database(60)
    with pytest.raises(FulletError) as refusal:
        await world.life.engine.submit(_a_request_of(4))
    assert refusal.value.code is ErrorCode.DATABASE_UNAVAILABLE
    assert len(world.jobs()) == 3
    await world.until_over()
    assert delivered(world, *jobs)
    assert len(world.lives) == 1, "the program ended"
    assert not world.wrongs()


@pytest.mark.parametrize("seconds", [-3600, 3600, -7 * 86_400])
def test_a_clock_that_jumps_costs_nothing(seconds: int) -> None:
    @played()
    async def play(world: World) -> None:
        jobs = [await world.ask(user) for user in range(1, 7)]
        await world.until(lambda: bool(world.comfy.runs), "the start")
        world.clock.jump(seconds)
        await world.until_over()
        assert delivered(world, *jobs)
        assert not world.wrongs()
        assert news_of_server(world.life) == []

    play()


@played(is_alone=False)
async def test_when_a_process_dies_the_next_takes_its_server_over_and_finishes_its_prompt(world: World) -> None:
    world.comfy.picture_s = 20.0
    job = await world.ask(1)
    await world.until(lambda: bool(world.comfy.runs), "the start")
    first, second = world.life, world.begin()
    world.kill(first)
    await world.until_over()
    assert delivered(world, job)
    assert len(world.comfy.runs) == 1
    assert not second.process.is_dead


@played(is_alone=False)
async def test_a_stolen_lease_stops_the_worker_that_lost_it(world: World) -> None:
    world.comfy.picture_s = 60.0
    jobs = [await world.ask(user) for user in (1, 2, 3)]
    await world.until(lambda: bool(world.comfy.runs), "the start")
    first, thief = world.life, a_boot_id()
    assert await first.database.jobs.take_lease(world.comfy.name, thief, timedelta(seconds=90), steal=True)
    await asyncio.sleep(30)
    assert len(world.comfy.prompts) == 1, "it went on posting"
    await world.until_over()
    assert delivered(world, *jobs)
    assert not world.wrongs()


# --- stopping -------------------------------------------------------------------------------------------------------------


@played()
async def test_a_clean_stop_takes_back_what_waits_and_leaves_what_runs(world: World) -> None:
    await world.until_over(await world.ask(9))
    world.comfy.picture_s = 20.0
    jobs = [await world.ask(user) for user in (1, 2, 3)]
    await world.until(lambda: len(world.comfy.prompts) == 2, "a batch ahead")
    life = world.life
    await life.engine.stop()
    assert [job.state for job in world.jobs()][1:] == [JobState.SUBMITTED, JobState.QUEUED, JobState.QUEUED]
    assert len(world.comfy.prompts) == 1
    with pytest.raises(FulletError) as refusal:
        await life.engine.submit(_a_request_of(4))
    assert refusal.value.code is ErrorCode.STOPPING
    world.kill()
    await world.until_over()
    assert delivered(world, *jobs)
    assert not world.wrongs()


@played(servers=2)
async def test_a_stop_does_not_wait_for_a_server_that_is_away(world: World) -> None:
    for comfy in world.comfys:
        comfy.go_away(3600)
    await world.ask(1)
    await asyncio.sleep(10)
    began = world.clock.monotonic()
    await world.life.engine.stop()
    assert world.clock.monotonic() - began < 6
    world.kill()


def _a_request_of(user: int) -> JobRequest:
    return a_request(a_person(user))
