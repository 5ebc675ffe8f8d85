"""One row that cannot be read ends neither the program nor anybody else's job; real engine and stores, virtual time."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from modules.domain.errors import ErrorCode
from modules.domain.jobs import JobId, JobState
from tests.support.troubles import ADMIN, delivered
from tests.support.world import World, played
from tests.support.world.world import the_disk

BROKEN = {
    "no JSON": ("recipe", "{not json"),
    "of another version": ("recipe", json.dumps({"v": 99, "words": "a fox"})),
    "of no sense": ("recipe", json.dumps([1, 2])),
    "with a seed that is text": ("recipe", json.dumps({"workflow": "w", "model": "m", "prompt": "p", "size": None, "seed": "x"})),
}


def spoil(world: World, job_id: JobId, column: str, value: str) -> None:
    """As a disk, another version or a hand in the database might have left it."""
    with the_disk().engine.begin() as connection:
        changed = connection.execute(text(f"UPDATE job SET {column} = :value WHERE id = :id"), {"value": value, "id": job_id.hex})
        assert changed.rowcount == 1


@pytest.mark.parametrize("how", sorted(BROKEN))
def test_a_waiting_job_that_cannot_be_read_fails_alone_and_the_others_are_drawn(how: str) -> None:
    @played()
    async def play(world: World) -> None:
        await world.life.operations.pause(ADMIN)
        broken = await world.ask(1)
        good = [await world.ask(user) for user in (2, 3)]
        spoil(world, broken, *BROKEN[how])
        world.kill()
        await world.until(lambda: not world.life.process.is_dead, "the next start")
        await world.life.operations.resume(ADMIN)
        await world.until_over()
        assert delivered(world, *good)
        failed = world.job(broken)
        assert (failed.state, failed.error_code) == (JobState.FAILED, ErrorCode.UNEXPECTED.value)
        assert len(world.lives) == 2, "the program ended"
        assert world.vt(1) == 0.0, "it was charged"

    play()


@pytest.mark.parametrize("how", sorted(BROKEN))
def test_a_job_under_way_that_cannot_be_read_any_more_fails_alone_after_a_restart(how: str) -> None:
    @played(batch=2)
    async def play(world: World) -> None:
        world.comfy.picture_s = 30.0
        await world.life.operations.pause(ADMIN)
        broken, good = await world.ask(1), await world.ask(2)
        await world.life.operations.resume(ADMIN)
        await world.until(lambda: bool(world.comfy.runs), "the start")
        spoil(world, broken, *BROKEN[how])
        world.kill()
        later = await world.ask(3)
        await world.until_over()
        assert delivered(world, good, later)
        failed = world.job(broken)
        assert (failed.state, failed.error_code) == (JobState.FAILED, ErrorCode.UNEXPECTED.value)
        assert len(world.lives) == 2, "the program ended"

    play()


@played()
async def test_a_finished_job_that_cannot_be_read_any_more_leaves_history_and_status_whole(world: World) -> None:
    broken, good = await world.ask(1), await world.ask(1)
    await world.until_over()
    spoil(world, broken, "recipe", "{")
    spoil(world, broken, "error_params", "{")
    spoil(world, broken, "origin", "telepathy")
    listed = await world.life.database.jobs.jobs(user_id=world.job(good).user_id)
    assert {job.id: job.is_readable for job in listed} == {broken: False, good: True}
    assert (await world.life.operations.status()).waiting == 0


@played()
async def test_an_open_attempt_whose_jobs_are_gone_is_closed(world: World) -> None:
    world.comfy.picture_s = 30.0
    gone = await world.ask(1)
    await world.until(lambda: bool(world.comfy.runs), "the start")
    world.kill()
    with the_disk().engine.begin() as connection:
        connection.execute(text("DELETE FROM job WHERE id = :id"), {"id": gone.hex})
    await world.until_over(await world.ask(2))
    await world.until_all_over()
    assert len(world.lives) == 2, "the program ended"
