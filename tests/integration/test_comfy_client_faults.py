"""What goes wrong on the way to a ComfyUI and back, and what ours makes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from io import BytesIO

import pytest
import stamina
from aiohttp import web
from PIL import Image

from modules.ai.client import NGROK_HEADER, TRIES, ComfyClient
from modules.ai.workflows.gain import MergeMode
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import Dimensions, Picture, PictureFormat
from modules.domain.servers import RunPhase, RunPreviewed, RunProgressed, RunStarted
from modules.sandbox.comfy_server import ComfySandbox, FaultKind, Match
from modules.utils.images import finish_output
from tests.support.comfy_side import ComfySide, a_recipe, an_attempt, comfy_side, events_of, report_in, started

BRISK = 0.05
AT_ONCE = 0.0


def posts(sandbox: ComfySandbox) -> int:
    return sum(line.method == "POST" and line.path == "/prompt" for line in sandbox.journal.requests)


def a_png() -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (64, 64), "teal").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _no_waits_between_tries() -> Iterator[None]:
    with stamina.set_testing(True, attempts=TRIES, cap=True):
        yield


def lives(sandbox: ComfySandbox) -> list[str]:
    return [life.status for life in sandbox.journal.prompts]


@asynccontextmanager
async def both(time_scale: float = AT_ONCE, mode: MergeMode = MergeMode.AUTO, **settings: object) -> AsyncIterator[ComfySide]:
    sandbox = ComfySandbox(time_scale=time_scale, **settings)  # type: ignore[arg-type]  # passed on as given
    async with sandbox, comfy_side(sandbox, mode=mode) as side:
        yield side


# --- the socket ---------------------------------------------------------------------------------------------------------


async def test_a_socket_dropped_in_the_middle_costs_no_picture() -> None:
    async with both(BRISK) as side:
        attempt = an_attempt(a_recipe(steps=12))
        side.sandbox.fail(FaultKind.WS_DROP, match=Match(step=4))
        events = await side.run(attempt)
        assert report_in(events).phase is RunPhase.SUCCEEDED
        assert set(await side.ours.fetch(attempt, {0})) == {0}
        again = await side.run(an_attempt(a_recipe(seed=8)))
        assert any(isinstance(event, RunPreviewed) for event in again)  # the next one has a socket again


async def test_an_open_but_silent_socket_is_noticed_and_replaced() -> None:
    async with both(BRISK) as side:
        side.sandbox.fail(FaultKind.WS_SILENT)
        events = await side.run(an_attempt())
        assert [type(event) for event in events] == [RunStarted, type(events[-1])]  # learnt by polling alone
        assert report_in(events).phase is RunPhase.SUCCEEDED
        side.sandbox.faults.clear()
        for seed in (8, 9):  # the connection that came instead may have been silenced as well; the one after it is not
            events = await side.run(an_attempt(a_recipe(seed=seed)))
        assert any(isinstance(event, RunProgressed) for event in events)


async def test_without_any_socket_polling_alone_brings_the_picture() -> None:
    async with both(BRISK) as side:
        side.sandbox.fail(FaultKind.SERVER_ERROR, times=None, match=Match(path="/ws"))
        side.sandbox.fail(FaultKind.WS_DROP)
        attempt = an_attempt()
        events = await side.run(attempt)
        assert report_in(events).phase is RunPhase.SUCCEEDED
        assert set(await side.ours.fetch(attempt, {0})) == {0}


async def test_a_history_written_late_is_waited_for() -> None:
    async with both(BRISK) as side:
        side.sandbox.fail(FaultKind.DELAY_HISTORY, seconds=0.3)
        side.sandbox.fail(FaultKind.SERVER_ERROR, times=None, match=Match(path="/ws"))  # so that polling has to tell
        side.sandbox.fail(FaultKind.WS_DROP)
        assert report_in(await side.run(an_attempt())).phase is RunPhase.SUCCEEDED


# --- posting ------------------------------------------------------------------------------------------------------------


async def test_a_lost_answer_is_looked_up_and_never_posted_again() -> None:
    async with both(BRISK) as side:
        side.sandbox.fail(FaultKind.LOST_ANSWER)
        attempt = an_attempt()
        events = await side.run(attempt)
        assert report_in(events).phase is RunPhase.SUCCEEDED
        assert posts(side.sandbox) == 1
        assert lives(side.sandbox) == ["success"]


async def test_an_answer_lost_after_the_history_was_wiped_is_found_by_its_file() -> None:
    async with both() as side:
        attempt = an_attempt()
        await side.run(attempt)
        await side.ours.forget(attempt.id)
        side.sandbox.fail(FaultKind.SERVER_ERROR, match=Match(path="/prompt", method="POST"))
        await side.ours.post(attempt)  # no error: its picture is there
        assert len(lives(side.sandbox)) == 1


async def test_a_post_that_never_arrived_says_so() -> None:
    async with both() as side:
        side.sandbox.fail(FaultKind.SERVER_ERROR, match=Match(path="/prompt", method="POST"))
        with pytest.raises(FulletError) as caught:
            await side.ours.post(an_attempt())
        assert caught.value.code is ErrorCode.SERVER_UNREACHABLE
        assert posts(side.sandbox) == 1
        assert lives(side.sandbox) == []


async def test_a_rejected_workflow_names_node_and_reason() -> None:
    async with both() as side:
        side.sandbox.fail(FaultKind.REJECT)
        with pytest.raises(FulletError) as caught:
            await side.ours.post(an_attempt())
        assert caught.value.code is ErrorCode.SERVER_REJECTED
        assert caught.value.params["node"]
        assert "custom_validation_failed" in str(caught.value.params["reason"])
        assert posts(side.sandbox) == 1


async def test_a_slot_refused_among_others_is_told_at_the_end_and_the_others_are_drawn() -> None:
    async with both(pack="none") as side:
        attempt = an_attempt(a_recipe("good", seed=1), a_recipe("bad", seed=2, steps=20_000))
        await side.ours.post(attempt)
        report = report_in(await events_of(side.ours, attempt))
        assert report.phase is RunPhase.SUCCEEDED
        assert report.failure is not None
        assert report.failure.code is ErrorCode.SERVER_REJECTED
        assert report.failure.slots == {1}
        assert set(await side.ours.fetch(attempt, {0, 1})) == {0}


async def test_a_workflow_refused_as_a_whole_names_the_guilty_slot() -> None:
    async with both(mode=MergeMode.STACKED) as side:
        with pytest.raises(FulletError) as caught:
            await side.ours.post(an_attempt(a_recipe("bad", seed=2, steps=20_000)))
        assert (caught.value.code, caught.value.params["guilty"]) == (ErrorCode.SERVER_REJECTED, 0)


# --- while it runs ------------------------------------------------------------------------------------------------------


async def test_out_of_memory_is_nobodys_guilt() -> None:
    async with both(mode=MergeMode.BATCHED) as side:
        side.sandbox.fail(FaultKind.OOM, match=Match(rows_over=1))
        report = report_in(await side.run(an_attempt(a_recipe(seed=1), a_recipe(seed=2))))
        assert report.failure is not None
        assert (report.phase, report.failure.code, report.failure.slots) == (
            RunPhase.FAILED,
            ErrorCode.OUT_OF_MEMORY,
            frozenset(),
        )
        assert report_in(await side.run(an_attempt())).phase is RunPhase.SUCCEEDED


async def test_a_sticky_gpu_fault_is_told_apart() -> None:
    async with both() as side:
        side.sandbox.fail(FaultKind.CUDA_ERROR)
        failure = report_in(await side.run(an_attempt())).failure
        assert failure is not None
        assert failure.code is ErrorCode.GPU_BROKEN


@pytest.mark.parametrize("by_socket", [True, False])
async def test_a_node_that_fails_in_one_persons_chain_names_their_slot(by_socket: bool) -> None:
    async with both(mode=MergeMode.STACKED) as side:
        if not by_socket:
            side.sandbox.fail(FaultKind.WS_SILENT)
        size = Dimensions(64, 64)
        good = await side.blobs.put(finish_output(a_png()))
        # a JPEG is sent as it is; of other formats we would look for transparency ourselves
        broken = await side.blobs.put(Picture(data=b"these are words", format=PictureFormat.JPEG, size=size))
        recipes = (a_recipe(workflow="flux_edit", size=None, seed=seed, source=blob) for seed, blob in ((1, good), (2, broken)))
        report = report_in(await side.run(an_attempt(*recipes)))
        assert report.failure is not None
        assert (report.phase, report.failure.code) == (RunPhase.FAILED, ErrorCode.NODE_FAILED)
        assert report.failure.slots == {1}
        assert "LoadImage" in report.failure.node


async def test_a_dead_worker_thread_is_no_long_queue() -> None:
    async with both() as side:
        side.sandbox.fail(FaultKind.DEAD_WORKER)
        await side.ours.post(an_attempt(a_recipe(seed=1)))
        attempt = an_attempt(a_recipe(seed=2))
        await side.ours.post(attempt)
        with pytest.raises(FulletError) as caught:
            await events_of(side.ours, attempt)
        assert caught.value.code is ErrorCode.SERVER_BROKEN


# --- restarts -----------------------------------------------------------------------------------------------------------


async def test_what_was_saved_before_a_restart_is_read_from_disk() -> None:
    async with both() as side:
        attempt = an_attempt(a_recipe(count=2))
        await side.run(attempt)
        before = await side.ours.fetch(attempt, {0, 1})
        await side.sandbox.crash()
        assert (await side.ours.report(attempt.id)).phase is RunPhase.UNKNOWN
        async with comfy_side(side.sandbox) as another_start_of_ours:
            after = await another_start_of_ours.ours.fetch(attempt, {0, 1})
        assert {slot: picture.data for slot, picture in before.items()} == {slot: picture.data for slot, picture in after.items()}


async def test_a_prompt_lost_in_a_restart_ends_as_unknown() -> None:
    async with both(BRISK) as side:
        attempt = an_attempt(a_recipe(steps=30))
        side.sandbox.fail(FaultKind.CRASH, match=Match(step=5), seconds=0.3)
        events = await side.run(attempt)
        assert report_in(events).phase is RunPhase.UNKNOWN
        assert await side.ours.fetch(attempt, {0}) == {}
        assert lives(side.sandbox) == ["lost"]
        assert report_in(await side.run(an_attempt())).phase is RunPhase.SUCCEEDED


async def test_a_server_that_stays_away_is_told_after_some_patience() -> None:
    async with both(BRISK) as side:
        attempt = an_attempt(a_recipe(steps=30))
        await side.ours.post(attempt)
        await started(side.ours, attempt)
        side.sandbox.crash_soon(None)
        with pytest.raises(FulletError) as caught:
            await events_of(side.ours, attempt)
        assert caught.value.code is ErrorCode.SERVER_UNREACHABLE


async def test_another_start_of_ours_follows_what_the_first_one_posted() -> None:
    async with both(BRISK, mode=MergeMode.STACKED) as side:
        attempt = an_attempt(a_recipe("fine", seed=1, steps=20), a_recipe("cursed", seed=2, steps=20))
        side.sandbox.fail(FaultKind.NODE_ERROR, match=Match(text="cursed", node="KSampler"))
        await side.ours.post(attempt)
        async with comfy_side(side.sandbox, mode=MergeMode.BATCHED) as later:  # would choose another form now
            report = report_in(await events_of(later.ours, attempt))
        assert report.phase is RunPhase.FAILED
        assert report.failure is not None
        assert len(report.failure.slots) == 1  # by the node of one chain; the one pass it would build now serves both


# --- what is fetched ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FaultKind.TRUNCATE_OUTPUT, FaultKind.MISSING_OUTPUT])
async def test_a_picture_that_is_not_right_is_left_out_and_the_others_are_not(kind: FaultKind) -> None:
    async with both(mode=MergeMode.STACKED) as side:
        side.sandbox.fail(kind)
        attempt = an_attempt(a_recipe("one", seed=1), a_recipe("two", seed=2), a_recipe("three", seed=3))
        assert report_in(await side.run(attempt)).phase is RunPhase.SUCCEEDED
        assert len(await side.ours.fetch(attempt, {0, 1, 2})) == 2


async def test_fewer_pictures_than_slots_are_never_given_to_the_wrong_one() -> None:
    async with both(mode=MergeMode.BATCHED) as side:
        side.sandbox.fail(FaultKind.FEWER_IMAGES)
        attempt = an_attempt(*(a_recipe(f"picture {number}", seed=number) for number in range(3)))
        await side.run(attempt)
        drawn = await side.ours.fetch(attempt, {0, 1, 2})
        assert len(drawn) < 3
        side.sandbox.faults.clear()
        for slot, picture in drawn.items():
            alone = an_attempt(a_recipe(f"picture {slot}", seed=slot))
            await side.run(alone)
            assert (await side.ours.fetch(alone, {0}))[0].data == picture.data


# --- stopping -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_jobs_api", [True, False])
async def test_cancelling_stops_only_its_own_prompt(has_jobs_api: bool) -> None:
    async with both(BRISK, has_jobs_api=has_jobs_api) as side:
        running, waiting = an_attempt(a_recipe(seed=1, steps=12)), an_attempt(a_recipe(seed=2))
        await side.ours.post(running)
        await side.ours.post(waiting)
        await started(side.ours, running)
        await side.ours.cancel(waiting.id)
        assert report_in(await events_of(side.ours, waiting)).phase is RunPhase.INTERRUPTED
        assert report_in(await events_of(side.ours, running)).phase is RunPhase.SUCCEEDED
        assert lives(side.sandbox) == ["success", "deleted"]
        assert "/interrupt" not in {line.path for line in side.sandbox.journal.requests}  # very old servers stop whatever runs


async def test_cancelling_what_is_over_or_unknown_harms_nobody() -> None:
    async with both(BRISK) as side:
        done, running = an_attempt(a_recipe(seed=1)), an_attempt(a_recipe(seed=2, steps=12))
        await side.run(done)
        await side.ours.post(running)
        await started(side.ours, running)
        await side.ours.cancel(done.id)
        await side.ours.cancel(an_attempt().id)
        assert report_in(await events_of(side.ours, running)).phase is RunPhase.SUCCEEDED


async def test_only_what_waits_can_be_taken_back() -> None:
    async with both(BRISK) as side:
        running, waiting = an_attempt(a_recipe(seed=1, steps=12)), an_attempt(a_recipe(seed=2))
        await side.ours.post(running)
        await side.ours.post(waiting)
        await started(side.ours, running)
        assert await side.ours.take_back(waiting.id)
        assert not await side.ours.take_back(running.id)
        assert report_in(await events_of(side.ours, waiting)).phase is RunPhase.INTERRUPTED
        assert report_in(await events_of(side.ours, running)).phase is RunPhase.SUCCEEDED
        assert not await side.ours.take_back(running.id)


# --- what answers -------------------------------------------------------------------------------------------------------


async def test_a_tunnel_page_instead_of_json_is_told_after_a_few_tries() -> None:
    async with both() as side:
        fault = side.sandbox.fail(FaultKind.HTML, times=None, match=Match(path="/system_stats"))
        with pytest.raises(FulletError) as caught:
            await side.ours.refresh()
        assert caught.value.code is ErrorCode.SERVER_NOT_COMFYUI
        assert fault.struck == TRIES


async def test_a_hiccup_is_tried_again() -> None:
    async with both() as side:
        side.sandbox.fail(FaultKind.HTML, times=2, match=Match(path="/system_stats"))
        assert (await side.ours.refresh()).version == "0.33.0"


async def test_free_memory_asks_the_server() -> None:
    async with both() as side:
        await side.ours.free_memory()
        assert any(line.path == "/free" and line.status == 200 for line in side.sandbox.journal.requests)


@pytest.mark.parametrize("key", ["ann:hunter2", "a-token"])
async def test_the_right_key_opens_everything_and_a_wrong_one_nothing(key: str) -> None:
    async with ComfySandbox(time_scale=BRISK, key=key) as sandbox:
        async with comfy_side(sandbox, key=key) as side:
            events = await side.run(an_attempt())
            assert any(isinstance(event, RunProgressed) for event in events)  # so the socket was let in as well
        for wrong in (None, "nobody:x", "x"):
            async with ComfyClient(sandbox.url, key=wrong) as client:
                with pytest.raises(FulletError) as caught:
                    await client.system_stats()
                assert caught.value.code is ErrorCode.SERVER_UNAUTHORISED


async def test_nobody_there_is_unreachable() -> None:
    async with ComfySandbox() as sandbox:
        url = sandbox.url
    async with ComfyClient(url) as client:
        with pytest.raises(FulletError) as caught:
            await client.queue(tries=1)
    assert caught.value.code is ErrorCode.SERVER_UNREACHABLE


@asynccontextmanager
async def serving(handler: object) -> AsyncIterator[str]:
    """A web server that is no ComfyUI."""
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)  # type: ignore[arg-type]  # each test's own
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


async def test_every_call_and_the_socket_carry_the_tunnel_header_and_no_origin() -> None:
    seen: list[web.BaseRequest] = []

    async def note(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        if request.path == "/ws":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            return socket
        return web.json_response({"queue_running": [], "queue_pending": []})

    async with serving(note) as url, ComfyClient(url, key="k") as client:
        await client.queue()
        await client.free()
        async with client.events("id-1"):
            pass
    assert [request.path for request in seen] == ["/queue", "/free", "/ws"]
    for request in seen:
        assert NGROK_HEADER in request.headers
        assert request.headers["Authorization"] == "Bearer k"
        assert "Origin" not in request.headers
        assert "Sec-Fetch-Site" not in request.headers


async def test_a_redirect_is_not_followed_so_the_key_stays_at_home() -> None:
    keys: list[str | None] = []

    async def thief(request: web.Request) -> web.Response:
        keys.append(request.headers.get("Authorization"))
        return web.json_response({"queue_running": [], "queue_pending": []})

    async with serving(thief) as elsewhere:

        async def redirect(_request: web.Request) -> web.Response:
            raise web.HTTPTemporaryRedirect(elsewhere)

        async with serving(redirect) as url, ComfyClient(url, key="secret") as client:
            with pytest.raises(FulletError) as caught:
                await client.queue(tries=1)
    assert caught.value.code is ErrorCode.SERVER_NOT_COMFYUI
    assert keys == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"text": "not json", "content_type": "application/json"}, ErrorCode.SERVER_NOT_COMFYUI),
        ({"text": "hello", "content_type": "text/plain"}, ErrorCode.SERVER_NOT_COMFYUI),
        ({"text": "{}", "content_type": "application/json"}, ErrorCode.SERVER_NOT_COMFYUI),
        ({"text": "<html>", "content_type": "text/html"}, ErrorCode.SERVER_NOT_COMFYUI),
        ({"body": b"\xff\xfe\x00\x80", "content_type": "application/json"}, ErrorCode.SERVER_NOT_COMFYUI),
        ({"body": b"\xff\xfe\x00\x80", "content_type": "application/octet-stream"}, ErrorCode.SERVER_NOT_COMFYUI),
        ({"text": "[" * 200_000, "content_type": "application/json"}, ErrorCode.SERVER_NOT_COMFYUI),
        ({"text": "x", "status": 404}, ErrorCode.SERVER_NOT_COMFYUI),
        ({"text": "x", "status": 403}, ErrorCode.SERVER_UNAUTHORISED),
        ({"text": "x", "status": 500}, ErrorCode.SERVER_BROKEN),
        ({"text": "x", "status": 503}, ErrorCode.SERVER_UNREACHABLE),
        ({"text": "x", "status": 530}, ErrorCode.SERVER_UNREACHABLE),
    ],
)
async def test_whatever_else_answers_is_named(answer: dict[str, object], code: ErrorCode) -> None:
    async def reply(_request: web.Request) -> web.Response:
        return web.Response(**answer)  # type: ignore[arg-type]  # as each case says

    async with serving(reply) as url, ComfyClient(url) as client:
        with pytest.raises(FulletError) as caught:
            await client.system_stats()
    assert caught.value.code is code
