"""Out of memory, poison, errors of nodes, pictures that never come: who is blamed, and who is not; virtual time."""

from __future__ import annotations

from typing import cast

from modules.domain.errors import ErrorCode
from modules.domain.jobs import Attempt, JobId, JobState
from modules.domain.people import UserId
from modules.domain.servers import RunFailure, RunPhase
from modules.queue_manager.verdicts import MAX_FAILED_ATTEMPTS
from tests.support.troubles import ALONE, delivered, fails_of
from tests.support.world import World, played
from tests.support.world.comfy import ComfyPort, Prompt


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
