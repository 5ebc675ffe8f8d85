"""The queue at work: real store, real ComfyUI adapter, stand-in GPUs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from modules.ai.workflows.gain import MergeMode
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.events import JobProgressed, JobStarted, ServerBack, ServerLost
from modules.domain.jobs import JobState, ServerName
from modules.domain.people import UserId
from modules.domain.records import Limits
from modules.sandbox.comfy_server import ComfySandbox, FaultKind, Match
from modules.utils.clock import SystemClock
from tests.support.house_side import house_side

ADMIN = UserId(1)
QUICK_GPU = {"time_scale": 0.05}


def a_gpu(name: str = "gpu-1", **settings: object) -> ComfySandbox:
    return ComfySandbox(name=name, **{**QUICK_GPU, **settings})  # type: ignore[arg-type]


async def test_a_job_becomes_the_pictures_it_asked_for(tmp_path: Path) -> None:
    async with a_gpu() as gpu, house_side(tmp_path, [gpu]) as house:
        ticket = await house.ask(7, count=3)
        job = await house.until(ticket.job.id)
        assert job.state is JobState.GENERATED
        pictures = [await house.database.blobs.get(blob) for blob in await house.database.blobs.of_job(job.id)]
        assert len({picture.data for picture in pictures if picture}) == 3
        assert {str(picture.size) for picture in pictures if picture} == {"512x512"}
        assert job.worked_s is not None
        assert any(isinstance(event, JobProgressed) and event.step == event.steps for event in house.seen)


async def test_four_people_share_one_prompt_and_get_what_they_would_have_had_alone(tmp_path: Path) -> None:
    async with a_gpu() as gpu, house_side(tmp_path, [gpu]) as house:
        first = await house.ask(1, "warm up")
        tickets = [await house.ask(user, f"a castle for {user}") for user in (2, 3, 4, 5)]
        jobs = await house.until_all_over([ticket.job.id for ticket in [first, *tickets]])
        assert {job.state for job in jobs} == {JobState.GENERATED}
        assert max(job.shared_by for job in jobs) > 1
        shared = next(job for job in jobs if job.shared_by > 1)
        [blob] = await house.database.blobs.of_job(shared.id)
        together = await house.database.blobs.get(blob)
        again = await house.ask_again(shared)
        alone = await house.until(again.job.id)
        assert alone.shared_by == 1
        [blob] = await house.database.blobs.of_job(alone.id)
        assert await house.database.blobs.get(blob) == together


async def test_the_third_job_is_refused_while_two_wait_or_run(tmp_path: Path) -> None:
    async with (
        a_gpu(time_scale=1.0) as gpu,
        house_side(tmp_path, [gpu], limits=Limits(active_per_person=2, queue_length=9)) as house,
    ):
        first = await house.ask(7)
        await house.until(first.job.id, {JobState.SUBMITTED})
        await house.ask(7)
        with pytest.raises(FulletError) as refusal:
            await house.ask(7)
        assert (refusal.value.code, refusal.value.params) == (ErrorCode.ACTIVE_LIMIT_REACHED, {"limit": 2})


async def test_a_cancelled_job_leaves_its_batch_mates_alone(tmp_path: Path) -> None:
    async with a_gpu(time_scale=0.1) as gpu, house_side(tmp_path, [gpu]) as house:
        await house.ask(1)
        tickets = [await house.ask(user) for user in (2, 3, 4)]
        running = await house.until(tickets[0].job.id, {JobState.SUBMITTED})
        await house.engine.cancel(running.id)
        jobs = await house.until_all_over([ticket.job.id for ticket in tickets])
        assert [job.state for job in jobs] == [JobState.CANCELLED, JobState.GENERATED, JobState.GENERATED]
        assert await house.database.blobs.of_job(running.id) == []


async def test_cancelling_the_only_job_of_a_prompt_stops_the_gpu(tmp_path: Path) -> None:
    async with a_gpu() as gpu, house_side(tmp_path, [gpu]) as house:
        gpu.fail(FaultKind.HANG, match=Match(step=2))
        ticket = await house.ask(1)
        await house.until_seen(JobProgressed)
        await house.engine.cancel(ticket.job.id)
        after = await house.ask(2)
        assert (await house.until(after.job.id)).state is JobState.GENERATED
        assert [life.status for life in gpu.journal.prompts] == ["interrupted", "success"]


async def test_out_of_memory_halves_the_batch_and_loses_nobody(tmp_path: Path) -> None:
    async with a_gpu() as gpu, house_side(tmp_path, [gpu], mode=MergeMode.BATCHED) as house:
        gpu.faults.add(FaultKind.OOM, times=None, match=Match(rows_over=2))
        await house.ask(9)
        tickets = [await house.ask(user) for user in range(1, 5)]
        jobs = await house.until_all_over([ticket.job.id for ticket in tickets])
        assert {job.state for job in jobs} == {JobState.GENERATED}
        assert all(job.shared_by <= 2 for job in jobs)


async def test_a_prompt_that_breaks_a_node_fails_alone(tmp_path: Path) -> None:
    async with a_gpu() as gpu, house_side(tmp_path, [gpu]) as house:
        gpu.faults.add(FaultKind.NODE_ERROR, times=None, match=Match(text="cursed"))
        await house.ask(9)
        tickets = [await house.ask(user, "cursed" if user == 2 else "blessed") for user in range(1, 5)]
        jobs = await house.until_all_over([ticket.job.id for ticket in tickets])
        assert [job.state for job in jobs] == [JobState.GENERATED, JobState.FAILED, JobState.GENERATED, JobState.GENERATED]


async def test_a_server_that_crashes_mid_run_is_waited_for_and_its_jobs_keep_their_place(tmp_path: Path) -> None:
    async with a_gpu(time_scale=0.2) as gpu, house_side(tmp_path, [gpu]) as house:
        tickets = [await house.ask(user) for user in range(1, 7)]
        await house.until(tickets[0].job.id, {JobState.SUBMITTED})
        await gpu.crash(down_s=3.5)  # longer than the adapter's patience
        jobs = await house.until_all_over([ticket.job.id for ticket in tickets], within_s=60)
        assert {job.state for job in jobs} == {JobState.GENERATED}
        lost = [event for event in house.seen if isinstance(event, ServerLost | ServerBack)]
        assert [type(event) for event in lost[-2:]] == [ServerLost, ServerBack]


async def test_what_a_server_offers_after_a_restart_is_known_without_anybody_asking(tmp_path: Path) -> None:
    async with a_gpu() as gpu, house_side(tmp_path, [gpu]) as house:
        await house.until((await house.ask(1)).job.id)
        assert "new.safetensors" not in house.catalogue.choices().checkpoints
        gpu.configure(gpu.settings.changed({"models": {"checkpoints": ["new.safetensors"]}}))
        await gpu.crash()
        async with asyncio.timeout(20):
            while "new.safetensors" not in house.catalogue.choices().checkpoints:  # noqa: ASYNC110 (the list is the fact)
                await asyncio.sleep(0.02)


async def test_a_paused_queue_takes_jobs_and_starts_none(tmp_path: Path) -> None:
    async with a_gpu() as gpu, house_side(tmp_path, [gpu]) as house:
        await house.operations.pause(ADMIN)
        ticket = await house.ask(1)
        assert ticket.place.is_paused
        await asyncio.sleep(0)
        await house.operations.resume(ADMIN)
        assert (await house.until(ticket.job.id)).state is JobState.GENERATED
        acts = [entry.act for entry in await house.database.control.audit_trail()]
        assert {"queue_paused", "queue_resumed"} <= set(acts)


async def test_a_drained_server_gets_nothing_more(tmp_path: Path) -> None:
    async with a_gpu("one") as one, a_gpu("two") as two, house_side(tmp_path, [one, two]) as house:
        before = SystemClock().now()
        await house.operations.drain(ServerName("one"), ADMIN)
        [drained, _] = (await house.operations.status()).servers
        assert drained.state == "drained"
        assert drained.since >= before, "since the start of the bot, not of the draining"
        tickets = [await house.ask(user) for user in range(1, 6)]
        jobs = await house.until_all_over([ticket.job.id for ticket in tickets])
        assert {job.server for job in jobs} == {"two"}
        assert not one.journal.prompts


async def test_an_idle_server_starts_at_once(tmp_path: Path) -> None:
    async with a_gpu() as gpu, house_side(tmp_path, [gpu]) as house:
        await house.until((await house.ask(1)).job.id)
        ticket = await house.ask(2)
        job = await house.until(ticket.job.id)
        assert job.waited_s is not None
        assert job.waited_s < 0.5
        assert any(isinstance(event, JobStarted) for event in house.seen)
