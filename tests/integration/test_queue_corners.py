"""Where two troubles meet: real engine, stores and courier in a world of our own; virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, cast

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import JobRequeued, JobSettled, JobStarted
from modules.domain.jobs import AttemptId, JobId, JobState
from modules.domain.servers import (
    BodyKind,
    InMemory,
    RunFailure,
    RunPhase,
    RunReport,
    ServerAnswer,
    ServerAnswerError,
    ServerCall,
)
from modules.queue_manager.neighbours import STATUS_PREFIX
from tests.support.builders import a_job_id, a_work_class
from tests.support.troubles import ADMIN, ALONE, delivered
from tests.support.world import Life, World, played
from tests.support.world.comfy import ComfyPort, Prompt

Report = Callable[[AttemptId], Coroutine[Any, Any, RunReport]]


def out_of_memory(_prompt: Prompt) -> RunFailure:
    return RunFailure(code=ErrorCode.OUT_OF_MEMORY)


# --- found again ----------------------------------------------------------------------------------------------------------


@played()
async def test_the_rest_of_a_half_settled_batch_is_found_by_its_files_after_both_sides_restarted(world: World) -> None:
    world.comfy.picture_s = 2.0
    await world.life.operations.pause(ADMIN)
    pair = [await world.ask(user) for user in (1, 2)]
    await world.life.operations.resume(ADMIN)
    await world.until(lambda: delivered(world, pair[0]), "the first of the two")
    assert world.job(pair[1]).state is JobState.SUBMITTED
    world.kill()
    await world.until(lambda: len(world.comfy.drawn) == 2, "the second of the two")
    world.comfy.restart()
    answer_late(world.begin())
    await world.until_over()
    assert delivered(world, *pair)
    assert not world.wrongs()


def answer_late(life: Life) -> None:
    """Its servers stand behind a slow tunnel: a report takes longer than a look into the database."""
    for worker in life.engine.workers.values():
        port = cast(ComfyPort, worker.server)
        port.report = _late(port.report)  # type: ignore[method-assign, assignment]


def _late(report: Report) -> Report:
    async def late(attempt_id: AttemptId) -> RunReport:
        await asyncio.sleep(0.3)
        return await report(attempt_id)

    return late


# --- too large ------------------------------------------------------------------------------------------------------------


@played(servers=2)
async def test_a_job_refused_here_does_not_wait_for_ever_for_a_server_that_never_comes_back(world: World) -> None:
    small, large = world.comfys
    small.misfortune = out_of_memory
    large.picture_s = 600.0
    await world.ask(9, work=ALONE)
    await world.until(lambda: bool(large.runs), "the large one to be busy")
    job = await world.ask(1, work=ALONE)
    await world.until(lambda: world.job(job).failed_attempts == 1, "the refusal")
    large.go_away(10 * 3600)
    [over] = await world.until_over(job)
    assert (over.state, over.error_code) == (JobState.FAILED, ErrorCode.OUT_OF_MEMORY.value)


@played(servers=2, is_alone=False)
async def test_a_job_too_large_for_the_cards_of_two_processes_fails_honestly(world: World) -> None:
    world.kill()
    for comfy in world.comfys:
        comfy.misfortune = out_of_memory
        world.begin(servers=[comfy])
    await asyncio.sleep(30)
    job = await world.ask(1, work=ALONE)
    [over] = await world.until_over(job)
    assert (over.state, over.error_code) == (JobState.FAILED, ErrorCode.OUT_OF_MEMORY.value)


# --- operators ------------------------------------------------------------------------------------------------------------


@played(servers=2)
async def test_a_requeue_means_the_attempt_the_job_is_in_and_is_told(world: World) -> None:
    good, away = world.comfys
    good.lacks = lambda _: ("file:x",)
    away.picture_s, good.picture_s = 3000.0, 60.0
    job = await world.ask(1, work=ALONE)
    await world.until(lambda: bool(away.runs), "the start")
    good.lacks = lambda _: ()
    away.go_away(3 * 3600)
    await world.until(lambda: bool(good.runs), "the other server")
    await world.life.operations.requeue(job, ADMIN)
    assert any(isinstance(event, JobRequeued) and event.reason == ErrorCode.INTERRUPTED.value for event in world.life.seen)
    await world.until(lambda: good.runs[0].phase is RunPhase.INTERRUPTED, "the stop")
    await world.until_over(job)
    assert delivered(world, job)


@played(is_alone=False)
async def test_a_process_that_stands_by_does_not_talk_over_the_one_that_drives_the_server(world: World) -> None:
    await world.until_over(await world.ask(1))
    world.begin()
    for _ in range(20):
        await asyncio.sleep(0.7)
        told = await world.life.database.control.get(STATUS_PREFIX + world.comfy.name)
        assert told is not None
        assert json.loads(told)["state"] == "healthy"


# --- a restart nobody asked for -------------------------------------------------------------------------------------------


@played()
async def test_a_restarted_server_has_its_model_to_load_again(world: World) -> None:
    await world.until_over(await world.ask(1))
    world.comfy.restart()
    await asyncio.sleep(30)
    job = await world.ask(1)
    await world.until_over(job)
    assert found_in_memory(world, job) is InMemory.UNKNOWN


@played()
async def test_what_makes_way_for_a_model_is_told_only_when_it_is_known(world: World) -> None:
    """The first job of a server, another model's, the same again, and the first of a new start of the program."""
    other = a_work_class("other/1", heavy_key="another")
    for work, expected in ((None, InMemory.UNKNOWN), (other, InMemory.ANOTHER), (other, InMemory.THIS)):
        job = await world.ask(1, work=work)
        await world.until_over(job)
        assert found_in_memory(world, job) is expected
    world.kill()
    await world.until(lambda: len(world.lives) == 2, "the next start")
    job = await world.ask(1, work=other)
    await world.until_over(job)
    assert found_in_memory(world, job) is InMemory.UNKNOWN


@played()
async def test_memory_that_ran_out_is_not_taken_for_another_model(world: World) -> None:
    await world.until_over(await world.ask(1))
    world.comfy.misfortune = lambda _: RunFailure(code=ErrorCode.OUT_OF_MEMORY)
    await world.until_over(await world.ask(1))
    world.comfy.misfortune = lambda _: None
    job = await world.ask(1)
    await world.until_over(job)
    assert found_in_memory(world, job) is InMemory.UNKNOWN


def found_in_memory(world: World, job: JobId) -> InMemory:
    [began] = [event for event in world.life.seen if isinstance(event, JobStarted) and event.job_id == job]
    return began.in_memory


# --- the clock ------------------------------------------------------------------------------------------------------------


@played()
async def test_a_clock_set_back_does_not_keep_a_postponed_picture(world: World) -> None:
    world.discord.go_away(120)
    job = await world.ask(1)
    await world.until(lambda: world.job(job).state is JobState.GENERATED, "the picture")
    await asyncio.sleep(60)
    world.clock.jump(-7 * 86_400)
    await world.until_over(job)
    assert delivered(world, job)
    assert not world.wrongs()


# --- what one process does not see itself -----------------------------------------------------------------------------------


@played()
async def test_a_retry_is_owed_no_more_once_another_process_has_made_it(world: World) -> None:
    await world.until_over(await world.ask(9))  # the program has started
    job, retries = a_job_id(), world.life.crew.retries
    retries.is_owed(job)
    for other in [a_job_id() for _ in range(20)]:  # more than the budget allows
        retries.is_owed(other)
        retries.dispatched([other])
    assert set(retries.held_back(world.clock.monotonic())) == {job}
    world.life.crew.events.publish(JobSettled(job_id=job, state=JobState.GENERATED))  # as the other process tells it
    await asyncio.sleep(1)
    assert not retries.held_back(world.clock.monotonic())


# --- a prompt that cannot be asked for, nor rebuilt -------------------------------------------------------------------------


@played()
async def test_a_prompt_that_can_neither_be_followed_nor_rebuilt_does_not_end_the_program(world: World) -> None:
    """Its template was changed while the program was away: now it wants a picture that the job does not have."""
    world.comfy.picture_s = 60.0
    job = await world.ask(1)
    await world.until(lambda: bool(world.comfy.runs), "the start")
    bad = world.comfy.runs[0].attempt.id
    no_answer = ServerAnswer(call=ServerCall.FOLLOW, route="GET /api/jobs/{id}", status=500, body=BodyKind.TEXT)
    errors = {
        ServerCall.FOLLOW: ServerAnswerError(ErrorCode.SERVER_BROKEN, no_answer),
        ServerCall.FETCH: FulletError(ErrorCode.PICTURE_GONE),
    }
    world.comfy.trips = lambda call, attempt_id: errors.get(call) if attempt_id == bad else None
    world.kill()
    later = await world.ask(2)
    await world.until_over()
    assert len(world.lives) == 2, "the program ended"
    assert delivered(world, job, later)


@played()
async def test_a_picture_whose_upload_takes_its_server_down_each_time_fails_in_the_end(world: World) -> None:
    """A tunnel that breaks under large bodies, say: sent again and again it would keep the server from everybody."""
    cut = ServerAnswer(call=ServerCall.UPLOAD, route="POST /upload/image")

    def breaks(call: ServerCall, _attempt: AttemptId) -> FulletError | None:
        if call is not ServerCall.UPLOAD:
            return None
        world.comfy.go_away(20)
        return ServerAnswerError(ErrorCode.SERVER_UNREACHABLE, cut)

    world.comfy.trips = breaks
    [over] = await world.until_over(await world.ask(1))
    assert (over.state, over.error_code) == (JobState.FAILED, ErrorCode.ATTEMPTS_USED_UP.value)
    assert world.vt(1) == 0.0, "it was charged"
