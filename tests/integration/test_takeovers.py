"""What one process leaves, the next takes up: sends, leases, the database, the clock, a clean stop; virtual time."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import BootId, JobState, ServerName
from tests.support.builders import a_boot_id, a_person, a_request
from tests.support.troubles import delivered, news_of_server
from tests.support.world import Life, World, played

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
        await world.life.engine.submit(a_request(a_person(4)))
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


@pytest.mark.parametrize(("before_s", "after_s"), [(0.0, 14.0), (60.0, 0.0)])
def test_two_processes_never_drive_one_server_however_slow_the_database_of_one_is(before_s: float, after_s: float) -> None:
    """A lease counts from when it was asked for (15 s), and a renewal that hangs is not waited for until that is over."""

    @played(is_alone=False)
    async def scene(world: World) -> None:
        await world.until(lambda: drives(world, world.life), "the first lease")
        slow, other = world.life, world.begin()
        slow_down_leases(slow, before_s=before_s, after_s=after_s)
        for _ in range(1_200):
            assert not (drives(world, slow) and drives(world, other))
            await asyncio.sleep(0.1)
        assert drives(world, other)

    scene()


@played(is_alone=False)
async def test_a_first_lease_that_is_told_of_when_it_is_nearly_over_is_not_counted_on(world: World) -> None:
    world.kill()
    slow = world.begin()
    slow_down_leases(slow, after_s=14.0)
    await asyncio.sleep(25)  # what the dead one held is over, and the slow one has asked anew
    other = world.begin()
    for _ in range(1_200):
        assert not drives(world, slow)
        await asyncio.sleep(0.1)
    assert drives(world, other)


def drives(world: World, life: Life) -> bool:
    return life.engine.workers[world.comfy.name].is_driving


def slow_down_leases(program: Life, *, before_s: float = 0.0, after_s: float = 0.0) -> None:
    """Its database takes so long until it does what was asked, and then until it says so."""
    take = program.database.jobs.take_lease

    async def slowly(server: ServerName, boot_id: BootId, life: timedelta, *, steal: bool = False) -> bool:
        await asyncio.sleep(before_s)
        is_ours = await take(server, boot_id, life, steal=steal)
        await asyncio.sleep(after_s)
        return is_ours

    program.database.jobs.take_lease = slowly  # type: ignore[method-assign]


@pytest.mark.parametrize("seconds", [3600, 7 * 86_400])
def test_a_lease_from_a_clock_that_went_ahead_blocks_nobody_longer_than_any_other(seconds: int) -> None:
    @played(is_alone=False)
    async def scene(world: World) -> None:
        world.comfy.picture_s = 20.0
        world.clock.jump(seconds)
        world.kill()
        job_life = world.begin()
        await world.until(lambda: drives(world, job_life), "the lease")
        job = await world.ask(1)
        await world.until(lambda: bool(world.comfy.runs), "the start")
        world.clock.jump(-seconds)  # the next process runs on a machine whose clock is right
        world.kill(job_life)
        died_at = world.clock.monotonic()
        second = world.begin()
        await world.until(lambda: drives(world, second), "the takeover")
        assert world.clock.monotonic() - died_at <= 30.0
        await world.until_over()
        assert delivered(world, job)
        assert len(world.comfy.runs) == 1

    scene()


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
        await life.engine.submit(a_request(a_person(4)))
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
