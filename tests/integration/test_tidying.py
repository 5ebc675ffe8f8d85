"""What we leave on a GPU's machine is removed once nobody can need it, and not before. Real engine, stores and client."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from pathlib import Path

import pytest
from sqlalchemy import update

from modules.domain.catalogue import Wish, WorkflowKind
from modules.domain.images import BlobId
from modules.domain.jobs import JobId, JobState, ServerName
from modules.domain.people import MessageId, UserId
from modules.domain.recipes import ModelName
from modules.domain.records import MessageKind
from modules.queue_manager.tidying import KEPT_S, UNKNOWN_KEPT_S, Tidying
from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.comfy_server.faults import Match
from modules.sandbox.comfy_server.objects import PackState
from modules.utils.database.tables import attempt
from tests.support.builders import a_picture
from tests.support.house_side import HouseSide, house_side

ONE = ServerName("one")


def folders(sandbox: ComfySandbox) -> set[str]:
    root = sandbox.outputs / "fullet"
    return {path.name for path in root.iterdir()} if root.is_dir() else set()


def uploads(sandbox: ComfySandbox) -> set[str]:
    root = sandbox.inputs / "fullet"
    return {path.name for path in root.iterdir()} if root.is_dir() else set()


def grow_old(sandbox: ComfySandbox, age_s: float = KEPT_S * 3) -> None:
    """As if everything had been written so long ago."""
    moment = time.time() - age_s
    for path in [*sandbox.outputs.rglob("*"), *sandbox.inputs.rglob("*")]:
        os.utime(path, (moment, moment))


def tidying(side: HouseSide) -> Tidying:
    return Tidying(side.engine.workers, {server.name: server.files for server in side.servers}, side.database.jobs)


async def drawn(side: HouseSide, user: int = 1) -> str:
    """Somebody's picture is drawn and stored; the id of its attempt."""
    ticket = await side.ask(user)
    job = await side.until(ticket.job.id, {JobState.GENERATED})
    assert job.attempt_id is not None
    return str(job.attempt_id)


async def deliver(side: HouseSide, user: int = 1) -> None:
    """As the courier notes it."""
    for job in await side.database.jobs.jobs(states={JobState.GENERATED}):
        if job.user_id == user:
            await side.database.outbox.delivered(job.id, MessageKind.RESULT, MessageId(1))


async def test_the_files_of_an_attempt_go_when_its_picture_is_delivered_and_not_before(tmp_path: Path) -> None:
    async with ComfySandbox(name="one", time_scale=0.01) as gpu, house_side(tmp_path, [gpu]) as side:
        first = await drawn(side, user=1)
        second = await drawn(side, user=2)
        await deliver(side, user=1)
        await tidying(side).tidy(ONE)
        assert folders(gpu) == {first, second}, "they are young"
        grow_old(gpu)
        await tidying(side).tidy(ONE)
        assert folders(gpu) == {second}
        await deliver(side, user=2)
        await tidying(side).tidy(ONE)
        assert folders(gpu) == set()


async def test_what_the_database_does_not_know_stays(tmp_path: Path) -> None:
    """Another bot may share the GPU, and people use ComfyUI by hand."""
    async with ComfySandbox(name="one", time_scale=0.01) as gpu, house_side(tmp_path, [gpu]) as side:
        await drawn(side)
        await deliver(side)
        strangers = {str(uuid.uuid4()), "by hand"}
        for name in strangers:
            (gpu.outputs / "fullet" / name).mkdir()
            (gpu.outputs / "fullet" / name / "0_00001_.png").write_bytes(b"somebody's")
        grow_old(gpu)
        await tidying(side).tidy(ONE)
        assert folders(gpu) == strangers


async def test_after_a_week_also_what_was_erased_goes_and_what_people_made_by_hand_stays(tmp_path: Path) -> None:
    async with ComfySandbox(name="one", time_scale=0.01) as gpu, house_side(tmp_path, [gpu]) as side:
        erased = await drawn(side)
        await deliver(side)
        await side.database.people.erase(UserId(1))
        (gpu.outputs / "fullet" / "by hand").mkdir()
        grow_old(gpu)
        await tidying(side).tidy(ONE)
        assert folders(gpu) == {erased, "by hand"}
        grow_old(gpu, UNKNOWN_KEPT_S + 60)
        await tidying(side).tidy(ONE)
        assert folders(gpu) == {"by hand"}


async def test_an_attempt_that_waits_for_a_week_keeps_its_files(tmp_path: Path) -> None:
    async with ComfySandbox(name="one", time_scale=0.01) as gpu, house_side(tmp_path, [gpu]) as side:
        attempt_id = await drawn(side)
        grow_old(gpu, UNKNOWN_KEPT_S * 2)
        await tidying(side).tidy(ONE)
        assert folders(gpu) == {attempt_id}


async def test_more_than_a_page_is_tidied_in_one_go_also_behind_many_strangers(tmp_path: Path) -> None:
    async with ComfySandbox(name="one", time_scale=0.01) as gpu, house_side(tmp_path, [gpu]) as side:
        mine = await drawn(side)
        await deliver(side)
        strangers = {f"00000000-0000-4000-8000-{number:012}" for number in range(600)}
        for name in strangers:
            (gpu.outputs / "fullet" / name).mkdir()
        grow_old(gpu)
        await tidying(side).tidy(ONE)
        assert folders(gpu) == strangers
        assert mine not in folders(gpu)


async def test_an_attempt_that_is_still_open_keeps_its_files_although_its_job_was_cancelled(tmp_path: Path) -> None:
    """Recovery asks for them: they say whether the GPU began, and so who pays."""
    async with ComfySandbox(name="one", time_scale=0.01) as gpu, house_side(tmp_path, [gpu]) as side:
        attempt_id = await drawn(side)
        await deliver(side)
        grow_old(gpu)
        [job] = await side.database.jobs.jobs()
        await reopen(side, attempt_id)
        await tidying(side).tidy(ONE)
        assert folders(gpu) == {attempt_id}
        assert job.state is JobState.DELIVERED


async def reopen(side: HouseSide, attempt_id: str) -> None:
    """As a server that went away in the middle leaves it."""
    statement = update(attempt).where(attempt.c.id == uuid.UUID(attempt_id)).values(ended_at=None)
    await side.database.engine.write(lambda connection: connection.execute(statement))


@pytest.mark.parametrize("pack", ["none", "encode"])
async def test_a_server_without_the_routes_is_left_as_it_is(tmp_path: Path, pack: PackState) -> None:
    async with ComfySandbox(name="one", time_scale=0.01, pack=pack) as gpu, house_side(tmp_path, [gpu]) as side:
        attempt_id = await drawn(side)
        await deliver(side)
        grow_old(gpu)
        await tidying(side).tidy(ONE)
        assert folders(gpu) == {attempt_id}


async def test_a_server_that_is_away_is_left_to_the_next_time(tmp_path: Path) -> None:
    async with ComfySandbox(name="one", time_scale=0.01) as gpu, house_side(tmp_path, [gpu]) as side:
        await drawn(side)
        await deliver(side)
        grow_old(gpu)
        gpu.crash_soon(None)
        await gpu.wait_until_down()
        await tidying(side).tidy(ONE)


async def edited(side: HouseSide, source: BlobId, user: int) -> JobId:
    """Somebody asks for an edit of this stored picture."""
    wish = Wish(kind=WorkflowKind.EDIT, model=ModelName("flux"), prompt="at night", source=source)
    return (await side.submit(user, *side.catalogue.resolve(wish))).job.id


async def test_an_old_upload_goes_and_the_same_picture_can_be_edited_again(tmp_path: Path) -> None:
    async with ComfySandbox(name="one", time_scale=0.01) as gpu, house_side(tmp_path, [gpu]) as side:
        source = await side.database.blobs.put(a_picture(side_px=64))
        for user in (1, 2):
            await side.until(await edited(side, source, user), {JobState.GENERATED})
            assert uploads(gpu) == {f"{source}.png"}
            grow_old(gpu)
            await tidying(side).tidy(ONE)
            assert uploads(gpu) == set()


async def test_an_upload_stays_from_the_moment_it_is_needed_again(tmp_path: Path) -> None:
    """The server has the file, so it is not written anew and looks old; until the prompt is queued nothing there names it."""
    async with ComfySandbox(name="one", time_scale=0.01) as gpu, house_side(tmp_path, [gpu]) as side:
        source = await side.database.blobs.put(a_picture(side_px=64))
        await side.until(await edited(side, source, 1), {JobState.GENERATED})
        grow_old(gpu)
        slow = gpu.fail("slow_answer", match=Match(path="/prompt", method="POST"), seconds=1.0)
        again = await edited(side, source, 2)
        async with asyncio.timeout(10):
            while not slow.struck:  # noqa: ASYNC110 - the stand-in's count is the fact
                await asyncio.sleep(0.01)
        await tidying(side).tidy(ONE)
        assert uploads(gpu) == {f"{source}.png"}
        await side.until(again, {JobState.GENERATED})
