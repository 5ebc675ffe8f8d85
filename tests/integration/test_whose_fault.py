"""A proxy, one graph, a full disk, a cut download: only the job concerned pays for it, in seconds, and nobody blames the server.

The real engine over SQLite, the real ComfyUI adapter, stand-in GPUs with the fault switched on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import stamina

from modules.ai.client import TRIES
from modules.domain.errors import ErrorCode
from modules.domain.events import JobFinishing, JobRequeued, JobSettled, JobStarted, JobStranded, ServerLost, ServerTrouble
from modules.domain.images import BlobId, Dimensions, Picture, PictureFormat
from modules.domain.jobs import Job, JobId, JobState
from modules.domain.queue import Pick, QueueSnapshot
from modules.sandbox.comfy_server import ComfySandbox, Match
from tests.support.comfy import png
from tests.support.house_side import LIMIT_S, HouseSide, house_side
from tests.support.troubles import ADMIN

GOOD = JobState.GENERATED


@pytest.fixture(autouse=True)
def _no_waits_between_tries() -> Iterator[None]:
    with stamina.set_testing(True, attempts=TRIES, cap=True):
        yield


def troubles(house: HouseSide) -> list[ServerTrouble]:
    return [event for event in house.seen if isinstance(event, ServerTrouble)]


def assert_nobody_was_told_that_a_server_is_away(house: HouseSide) -> None:
    assert [event for event in house.seen if isinstance(event, ServerLost | JobStranded)] == []


async def a_picture(house: HouseSide, bytes_count: int) -> BlobId:
    """An input picture of about this many bytes: what people upload."""
    data = png(64, 64)
    return await house.database.blobs.put(
        Picture(data=data + b"\0" * (bytes_count - len(data)), format=PictureFormat.PNG, size=Dimensions(64, 64))
    )


async def over(house: HouseSide, *jobs: JobId) -> list[tuple[JobState, str | None]]:
    return [(job.state, job.error_code) for job in await house.until_all_over(jobs)]


async def edit(house: HouseSide, user: int, source: BlobId) -> JobId:
    return (await house.ask_edit(user, source)).job.id


# --- one request is refused -----------------------------------------------------------------------------------------------


async def test_a_picture_too_large_for_a_proxy_fails_alone_within_seconds_and_the_others_go_on(tmp_path: Path) -> None:
    async with ComfySandbox(name="gpu-1", time_scale=0.0) as gpu, house_side(tmp_path, [gpu]) as house:
        gpu.fail("413", times=None)
        large, small = await a_picture(house, 2 * 1024 * 1024), await a_picture(house, 10_000)
        began = time.monotonic()
        bad, good = await edit(house, 1, large), await edit(house, 2, small)
        others = [(await house.ask(user)).job.id for user in range(3, 7)]
        assert await over(house, bad) == [(JobState.FAILED, ErrorCode.UPLOAD_TOO_LARGE.value)]
        assert time.monotonic() - began < 10
        assert await over(house, good, *others) == [(GOOD, None)] * 5
        assert_nobody_was_told_that_a_server_is_away(house)
        [told] = troubles(house)
        assert (told.reason, told.status, told.route) == ("upload_too_large", 413, "POST /upload/image")
        assert sum(line.status == 413 for line in gpu.journal.requests) == 1, "the same body was sent again"


async def test_a_picture_too_large_for_one_proxy_is_drawn_by_the_other_server(tmp_path: Path) -> None:
    async with (
        ComfySandbox(name="gpu-1", time_scale=0.0) as strict,
        ComfySandbox(name="gpu-2", time_scale=0.0) as open_,
        house_side(tmp_path, [strict, open_]) as house,
    ):
        strict.fail("413", times=None)
        large = await a_picture(house, 2 * 1024 * 1024)
        jobs = [await edit(house, user, large) for user in range(1, 4)]
        assert await over(house, *jobs) == [(GOOD, None)] * 3
        assert_nobody_was_told_that_a_server_is_away(house)


async def test_a_graph_that_makes_the_server_trip_fails_alone_and_its_neighbours_in_the_batch_do_not(tmp_path: Path) -> None:
    async with ComfySandbox(name="gpu-1", time_scale=0.0) as gpu, house_side(tmp_path, [gpu]) as house:
        gpu.fail("500", times=None, match=Match(text="the wish that trips it"))
        await house.operations.pause(ADMIN)
        good = [(await house.ask(user)).job.id for user in (1, 2)]
        bad = (await house.ask(3, "the wish that trips it")).job.id
        good += [(await house.ask(user)).job.id for user in (4, 5)]
        began = time.monotonic()
        await house.operations.resume(ADMIN)
        assert await over(house, bad) == [(JobState.FAILED, ErrorCode.REQUEST_REFUSED.value)]
        assert time.monotonic() - began < 10
        assert await over(house, *good) == [(GOOD, None)] * 4
        assert_nobody_was_told_that_a_server_is_away(house)
        assert {(one.reason, one.status, one.route) for one in troubles(house)} == {("request_refused", 500, "POST /prompt")}


@pytest.mark.parametrize("kind", ["403", "302"])
async def test_a_firewall_that_dislikes_one_upload_costs_one_job(tmp_path: Path, kind: str) -> None:
    async with ComfySandbox(name="gpu-1", time_scale=0.0) as gpu, house_side(tmp_path, [gpu]) as house:
        gpu.fail(kind, times=None, match=Match(path="/upload/image"))
        bad = await edit(house, 1, await a_picture(house, 10_000))
        good = (await house.ask(2)).job.id
        assert await over(house, bad, good) == [(JobState.FAILED, ErrorCode.REQUEST_REFUSED.value), (GOOD, None)]
        assert_nobody_was_told_that_a_server_is_away(house)


async def test_a_prompt_that_cannot_be_followed_still_gives_its_picture(tmp_path: Path) -> None:
    async with ComfySandbox(name="gpu-1", time_scale=0.0) as gpu, house_side(tmp_path, [gpu]) as house:
        await house.until((await house.ask(1)).job.id)
        gpu.fail("ws_silent")
        gpu.fail("ws_drop")
        for path in ("/api/jobs", "/queue", "/history"):
            gpu.fail("403", times=None, match=Match(path=path))
        job = (await house.ask(2)).job.id
        assert await over(house, job) == [(GOOD, None)]
        assert_nobody_was_told_that_a_server_is_away(house)


@pytest.mark.parametrize("route", ["/api/jobs", "/queue"])
async def test_a_prompt_found_at_a_start_is_asked_for_again_after_bad_answers_and_not_drawn_again(
    tmp_path: Path, route: str
) -> None:
    async with ComfySandbox(name="gpu-1", time_scale=0.3) as gpu:
        async with house_side(tmp_path, [gpu]) as earlier:
            job = (await earlier.ask(1)).job.id
            await earlier.until_seen(JobStarted)
        fault = gpu.fail("403", times=2, match=Match(path=route))
        async with house_side(tmp_path, [gpu]) as house:
            assert await over(house, job) == [(GOOD, None)]
            assert fault.struck == 2
            assert len(gpu.journal.prompts) == 1, "it was drawn again"
            assert [event for event in house.seen if isinstance(event, JobRequeued)] == []
            assert_nobody_was_told_that_a_server_is_away(house)


# --- a server that was not asked yet ---------------------------------------------------------------------------------------


async def test_the_first_who_asks_after_a_start_is_not_told_that_the_gpus_are_away(tmp_path: Path) -> None:
    async with ComfySandbox(name="gpu-1", time_scale=0.0) as gpu:
        gpu.fail("slow_answer", seconds=1.0, match=Match(path="/system_stats"))
        async with house_side(tmp_path, [gpu]) as house:
            ticket = await house.ask(1)
            assert house.engine.workers[house.servers[0].name].status().state == "starting"
            assert ticket.place.starts_at is None
            assert ticket.place.is_moment_open
            assert await over(house, ticket.job.id) == [(GOOD, None)]


async def test_with_every_server_away_people_are_told_so(tmp_path: Path) -> None:
    async with ComfySandbox(name="gpu-1", time_scale=0.0) as gpu, house_side(tmp_path, [gpu]) as house:
        await house.until((await house.ask(1)).job.id)
        gpu.crash_soon(None)
        await house.until_state("gpu-1", "away")
        assert not (await house.ask(2)).place.is_moment_open


async def test_batches_that_a_killed_life_of_ours_never_posted_say_nothing_against_the_server(tmp_path: Path) -> None:
    def one_job(snapshot: QueueSnapshot) -> Pick:
        first = snapshot.jobs[0]
        return Pick(job_ids=(first.id,), exact_key=first.exact_key, heavy_key=first.heavy_key, charges={first.user_id: 1.0})

    async with ComfySandbox(name="gpu-1", time_scale=0.0) as gpu:
        async with house_side(tmp_path, [gpu]) as earlier:
            await earlier.operations.pause(ADMIN)
            jobs = [(await earlier.ask(user)).job for user in range(1, 5)]
            keys = [job.work.exact_key for job in jobs]
            for _ in jobs:  # written down, as always, before anything is sent; then the kill
                assert await earlier.database.jobs.claim(earlier.servers[0].name, earlier.crew.boot_id, keys, one_job)
        async with house_side(tmp_path, [gpu]) as house:
            await house.operations.resume(ADMIN)
            assert await over(house, *(job.id for job in jobs)) == [(GOOD, None)] * 4
            assert_nobody_was_told_that_a_server_is_away(house)


# --- a server that is really away -----------------------------------------------------------------------------------------


async def test_a_server_behind_a_login_page_is_away_and_nobodys_job_fails(tmp_path: Path) -> None:
    async with ComfySandbox(name="gpu-1", time_scale=0.0) as gpu, house_side(tmp_path, [gpu]) as house:
        await house.until((await house.ask(1)).job.id)
        gpu.fail("302", times=None)
        job = (await house.ask(2)).job.id
        await house.until_seen(ServerLost)
        gpu.faults.clear()
        assert await over(house, job) == [(GOOD, None)]


async def test_a_server_whose_socket_does_not_stay_is_not_read_again_and_again_and_draws_as_ever(tmp_path: Path) -> None:
    async with ComfySandbox(name="gpu-1", time_scale=0.0) as gpu, house_side(tmp_path, [gpu]) as house:
        await house.until((await house.ask(1)).job.id)
        fault = gpu.fail("ws_flap", times=None, after_status=True)
        gpu.fail("ws_drop")
        for user in range(2, 12):
            assert (await house.until((await house.ask(user)).job.id)).state is GOOD
        async with asyncio.timeout(30):
            while fault.struck < 4:  # noqa: ASYNC110 - the stand-in counts
                await asyncio.sleep(0.02)
        read = sum(line.path == "/object_info" for line in gpu.journal.requests)
        assert read <= 2, "once at the start, and once since the socket that lived was lost"
        assert_nobody_was_told_that_a_server_is_away(house)


# --- pictures on their way ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "silently"),
    [("404", False), ("truncated_answer", False), ("truncated_answer", True), ("5xx", False), ("403", False)],
    ids=["missing once", "cut", "cut in silence", "a proxy's hiccup", "a firewall's hiccup"],
)
async def test_a_picture_that_does_not_come_once_is_fetched_again_and_not_drawn_again(
    tmp_path: Path, kind: str, silently: bool
) -> None:
    async with ComfySandbox(name="gpu-1", time_scale=0.0) as gpu, house_side(tmp_path, [gpu]) as house:
        gpu.fail(kind, match=Match(path="/view"), silently=silently)
        job = await house.until((await house.ask(1)).job.id)
        assert (job.state, job.failed_attempts) == (GOOD, 0)
        assert len(gpu.journal.prompts) == 1, "it was drawn again"
        assert [event for event in house.seen if isinstance(event, JobRequeued)] == []
        assert_nobody_was_told_that_a_server_is_away(house)


async def test_pictures_that_travel_slowly_do_not_keep_the_next_batches_from_the_gpu(tmp_path: Path) -> None:
    async with ComfySandbox(name="gpu-1", time_scale=0.0) as gpu, house_side(tmp_path, [gpu]) as house:
        slow = gpu.fail("slow_answer", times=2, seconds=5.0, match=Match(path="/view"))
        first = (await house.ask(1)).job.id
        await house.until_seen(JobFinishing)
        second = (await house.ask(2)).job.id
        async with asyncio.timeout(LIMIT_S):
            while slow.struck < 2:  # noqa: ASYNC110 - the stand-in counts
                await asyncio.sleep(0.02)
        third = (await house.ask(3)).job.id
        assert await over(house, third, first, second) == [(GOOD, None)] * 3
        settled = [event.job_id for event in house.seen if isinstance(event, JobSettled)]
        assert settled[0] == third, "it waited for the pictures of the others"


async def test_a_picture_over_our_limit_fails_its_own_job_only_and_is_fetched_once(tmp_path: Path) -> None:
    async with ComfySandbox(name="gpu-1", time_scale=0.0) as gpu, house_side(tmp_path, [gpu]) as house:
        fault = gpu.fail("huge_answer", bytes=200 * 1024 * 1024, match=Match(path="/view"))
        bad = (await house.ask(1)).job.id
        assert await over(house, bad) == [(JobState.FAILED, ErrorCode.OUTPUT_TOO_LARGE.value)]
        good = (await house.ask(2)).job.id
        assert await over(house, good) == [(GOOD, None)]
        assert fault.struck == 1
        assert len(gpu.journal.prompts) == 2, "it was drawn again"
        assert_nobody_was_told_that_a_server_is_away(house)


async def test_a_whole_picture_of_another_size_is_delivered_as_it_is(tmp_path: Path) -> None:
    async with ComfySandbox(name="gpu-1", time_scale=0.0) as gpu, house_side(tmp_path, [gpu]) as house:
        gpu.fail("wrong_size")
        job = await house.until((await house.ask(1, size="512x512")).job.id)
        [blob] = await house.database.blobs.of_job(job.id)
        picture = await house.database.blobs.get(blob)
        assert picture is not None
        assert (job.state, picture.size, job.failed_attempts) == (GOOD, Dimensions(256, 256), 0)
        assert len(gpu.journal.prompts) == 1


# --- a full disk ----------------------------------------------------------------------------------------------------------


async def test_a_gpu_with_a_full_disk_costs_nobody_a_picture_and_is_left_alone(tmp_path: Path) -> None:
    async with (
        ComfySandbox(name="gpu-1", time_scale=0.0) as full,
        ComfySandbox(name="gpu-2", time_scale=0.0) as well,
        house_side(tmp_path, [full, well]) as house,
    ):
        full.fail("disk_full", times=None)
        jobs = [(await house.ask(user, f"wish {user}")).job.id for user in range(1, 41)]
        ended = await house.until_all_over(jobs, within_s=60)
        assert {job.state for job in ended} == {GOOD}, [job.error_code for job in ended]
        assert {job.server for job in ended} == {"gpu-2"}
        failed_runs = sum(life.status == "error" for life in full.journal.prompts)
        assert failed_runs <= 8, "it was given more and more although it fails everybody"
        assert_nobody_was_told_that_a_server_is_away(house)
        told = [one for one in troubles(house) if one.fails_all]
        assert len(told) == 1
        assert "No space left on device" in told[0].detail
        assert told[0].node.startswith(("SaveImage", "FuLLetMergeSaveImage"))


async def test_a_disk_with_room_again_is_noticed_by_the_next_picture(tmp_path: Path) -> None:
    async with ComfySandbox(name="gpu-1", time_scale=0.0) as gpu, house_side(tmp_path, [gpu]) as house:
        gpu.fail("disk_full", times=None)
        first = [(await house.ask(user)).job.id for user in range(1, 4)]
        await house.until_seen(ServerTrouble)
        await house.until_state("gpu-1", "failing")
        gpu.faults.clear()
        late = (await house.ask(9)).job.id
        assert await over(house, late) == [(GOOD, None)]
        await house.until_state("gpu-1", "healthy")
        await house.until_all_over(first)
        assert_nobody_was_told_that_a_server_is_away(house)


async def test_one_persons_broken_wishes_do_not_make_a_server_suspect(tmp_path: Path) -> None:
    async with ComfySandbox(name="gpu-1", time_scale=0.0) as gpu, house_side(tmp_path, [gpu]) as house:
        gpu.fail("node_error", times=None, match=Match(text="broken"))
        jobs = [(await house.ask(1, f"broken {number}")).job.id for number in range(6)]
        assert await over(house, *jobs) == [(JobState.FAILED, ErrorCode.NODE_FAILED.value)] * 6
        assert house.engine.workers[house.servers[0].name].status().state == "healthy"


async def test_a_node_error_goes_once_to_the_other_server_and_then_fails(tmp_path: Path) -> None:
    async with (
        ComfySandbox(name="gpu-1", time_scale=0.0) as one,
        ComfySandbox(name="gpu-2", time_scale=0.0) as two,
        house_side(tmp_path, [one, two]) as house,
    ):
        for gpu in (one, two):
            gpu.fail("node_error", times=None, match=Match(text="broken"), message="mat1 and mat2 shapes cannot be multiplied")
        job: Job = await house.until((await house.ask(1, "broken")).job.id)
        assert (job.state, job.error_code) == (JobState.FAILED, ErrorCode.NODE_FAILED.value)
        assert [len(gpu.journal.prompts) for gpu in (one, two)] == [1, 1]
        assert all("mat1 and mat2" in told.detail for told in troubles(house))
