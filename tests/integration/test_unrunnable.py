"""A job whose files leave every server ends honestly and gives its slot back; real engine and stores, virtual time."""

from __future__ import annotations

import asyncio

import pytest

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import JobId, JobState
from modules.domain.records import Limits
from modules.queue_manager.engine import UNRUNNABLE_EVERY_S
from modules.queue_manager.unrunnable import GONE_AFTER_S
from tests.support.builders import a_work_class
from tests.support.troubles import delivered
from tests.support.world import World, played

GONE = a_work_class("gone/1", heavy_key="gone", cost_s=2.0)
ONE_EACH = Limits(active_per_person=1, queue_length=100)


def delete_files(world: World) -> None:
    for comfy in world.comfys:
        comfy.lacks = lambda work: ("file:ckpt_name=gone",) if work.heavy_key == "gone" else ()


def is_failed(world: World, job_id: JobId) -> bool:
    return (world.job(job_id).state, world.job(job_id).error_code) == (JobState.FAILED, ErrorCode.NO_SERVER_HAS_IT.value)


@played(servers=2, limits=ONE_EACH)
async def test_it_fails_after_minutes_with_all_servers_there_and_gives_back_slot_and_charge(world: World) -> None:
    await world.until_over(await world.ask(9))
    delete_files(world)
    asked_at = world.clock.monotonic()
    job = await world.ask(1, work=GONE)
    place = (await world.life.engine.places())[job]
    assert (place.starts_at, place.is_moment_open) == (None, True), "it says that all GPUs are away"
    with pytest.raises(FulletError):
        await world.ask(1)
    await world.until(lambda: is_failed(world, job), "the honest end")
    assert GONE_AFTER_S <= world.clock.monotonic() - asked_at <= GONE_AFTER_S + 2 * UNRUNNABLE_EVERY_S
    again = await world.ask(1)
    await world.until_over()
    assert delivered(world, again)


@played(servers=2)
async def test_files_that_come_back_in_time_are_waited_for(world: World) -> None:
    await world.until_over(await world.ask(9))
    delete_files(world)
    job = await world.ask(1, work=GONE)
    await asyncio.sleep(GONE_AFTER_S - UNRUNNABLE_EVERY_S)
    for comfy in world.comfys:
        comfy.lacks = lambda _: ()
    await world.until_over(job)
    assert delivered(world, job)
