"""Every fault that can be asked for does what it says, as often as it says, and to nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import aiohttp
import pytest
from PIL import Image

from tests.support.comfy import Comfy, Event, comfy, saved
from tests.support.merge_graphs import Common, Job, batched, solo

GRAPH = solo(Job(prompt="a quiet lake", seed=1), Common())
OTHER = solo(Job(prompt="a neon city", seed=2), Common())
JOBS = (Job(prompt="one", seed=1), Job(prompt="two", seed=2), Job(prompt="three", seed=3))


async def ask_for(server: Comfy, kind: str, **details: object) -> None:
    status, body = await server.call("POST", "/sandbox/faults", {"kind": kind, **details})
    assert status == 200, body


def errors(events: list[Event]) -> list[dict[str, Any]]:
    return [event["data"] for event in events if event["type"] == "execution_error"]


def status_of(history: Mapping[str, Any]) -> str:
    return str(history["status"]["status_str"])


async def test_out_of_memory_strikes_a_batch_that_is_too_large_and_spares_a_small_one() -> None:
    async with comfy() as server:
        await ask_for(server, "oom", times=None, match={"rows_over": 2})
        failed, events = await server.run(batched(JOBS, Common()))
        fine, _ = await server.run(batched(JOBS[:2], Common()))
    (error,) = errors(events)
    assert (status_of(failed), status_of(fine)) == ("error", "success")
    assert error["exception_type"] == "torch.OutOfMemoryError"
    assert "out of memory" in error["exception_message"]
    assert "TIPS" in error["exception_message"]
    assert error["node_id"] == "sample"


async def test_a_fault_strikes_as_often_as_it_was_asked_for() -> None:
    async with comfy() as server:
        await ask_for(server, "oom", times=2)
        outcomes = [status_of((await server.run(GRAPH))[0]) for _ in range(3)]
        assert outcomes == ["error", "error", "success"]
        assert await server.get("/sandbox/faults") == []


async def test_a_node_error_strikes_the_prompt_with_the_words_it_names() -> None:
    async with comfy() as server:
        await ask_for(server, "node_error", times=None, match={"text": "neon"}, message="bad words", exception_type="ValueError")
        fine, _ = await server.run(GRAPH)
        failed, events = await server.run(OTHER)
        job = await server.get(f"/api/jobs/{failed['prompt'][1]}")
    (error,) = errors(events)
    assert (status_of(fine), status_of(failed), job["status"]) == ("success", "error", "failed")
    assert (error["exception_type"], error["exception_message"], error["node_id"]) == ("ValueError", "bad words\n", "sample")


async def test_a_cuda_error_is_no_out_of_memory_error() -> None:
    async with comfy() as server:
        await ask_for(server, "cuda_error")
        _, events = await server.run(GRAPH)
    (error,) = errors(events)
    assert error["exception_message"].startswith("CUDA error")
    assert "memory access" in error["exception_message"]
    assert "OutOfMemory" not in error["exception_type"]


async def test_a_hung_prompt_moves_no_more_and_ends_when_it_is_cancelled() -> None:
    async with comfy() as server, server.listen("me") as socket:
        await ask_for(server, "hang", match={"step": 2})
        prompt_id = await server.post(GRAPH, client_id="me")
        await socket.until(lambda event: event["type"] == "progress" and event["data"]["value"] == 1)
        assert (await server.get(f"/api/jobs/{prompt_id}"))["status"] == "in_progress"
        assert await server.call("POST", f"/api/jobs/{prompt_id}/cancel") == (200, {"cancelled": True})
        await socket.until_end_of(prompt_id)
        assert (await server.get(f"/api/jobs/{prompt_id}"))["status"] == "cancelled"
    assert max(event["data"]["value"] for event in socket.events if event["type"] == "progress") == 1


async def test_a_deaf_hang_does_not_even_hear_a_cancel_and_a_restart_cures_it() -> None:
    async with comfy() as server:
        await ask_for(server, "hang", deaf=True)
        prompt_id = await server.post(GRAPH)
        await server.wait_for("/sandbox/faults", lambda waiting: waiting == [])  # it hangs now
        await server.call("POST", "/interrupt", {"prompt_id": prompt_id})
        waiting = await server.post(OTHER)
        await asyncio.sleep(0.1)  # nothing must happen: there is no fact to wait for
        queue = await server.get("/queue")
        assert [queue["queue_running"][0][1], queue["queue_pending"][0][1]] == [prompt_id, waiting]
        await server.sandbox.crash()
        assert status_of((await server.run(GRAPH))[0]) == "success"


async def test_a_slow_server_is_slower_by_the_factor_and_only_while_asked() -> None:
    async with comfy(time_scale=1.0, speed=30.0) as server:
        await server.run(GRAPH)

        async def seconds() -> float:
            await server.run(solo(Job(prompt="x", seed=next(seeds)), Common(steps=30, size=(512, 512))))
            life = (await server.get("/sandbox/log"))["prompts"][-1]
            return float(life["ended"] - life["started"])

        seeds = iter(range(100, 200))
        usual = await seconds()
        await ask_for(server, "slow", times=None, factor=20)
        slow = await seconds()
        await server.call("DELETE", "/sandbox/faults")
    assert slow > 3 * usual


async def test_a_crash_in_the_middle_of_a_run_loses_the_run_and_keeps_finished_files() -> None:
    async with comfy(time_scale=0.1) as server:  # so that the second prompt waits before the first one's second step
        finished, _ = await server.run(GRAPH)
        await ask_for(server, "crash", match={"step": 2}, seconds=0.05)
        async with server.listen("me") as socket:
            lost = await server.post(OTHER, client_id="me")
            waiting = await server.post(GRAPH, client_id="me")
            with pytest.raises(ConnectionError):
                await socket.until(lambda event: False)
            assert socket.socket.close_code == 1006
        await server.sandbox.wait_until_up()
        assert await server.get("/history") == {}
        for prompt_id in (lost, waiting):
            assert (await server.call("GET", f"/api/jobs/{prompt_id}"))[0] == 404
        await server.image(saved(finished)[0])
        log = await server.get("/sandbox/log")
    assert [life["status"] for life in log["prompts"]] == ["success", "lost", "lost"]
    assert len(log["boots"]) == 2


async def test_while_it_is_down_connections_are_refused() -> None:
    async with comfy() as server:
        await ask_for(server, "crash", seconds=0.3)
        await server.sandbox.wait_until_down()
        with pytest.raises(aiohttp.ClientConnectionError):
            await server.get("/queue")
        await server.sandbox.wait_until_up()
        assert (await server.get("/queue"))["queue_pending"] == []


async def test_a_dead_worker_leaves_prompts_waiting_while_http_is_healthy() -> None:
    async with comfy() as server:
        await ask_for(server, "dead_worker")
        for graph in (GRAPH, OTHER):
            await server.post(graph)
        await asyncio.sleep(0.1)  # nothing must happen
        queue = await server.get("/queue")
        assert (queue["queue_running"], len(queue["queue_pending"])) == ([], 2)
        await server.get("/system_stats")
        await server.sandbox.crash()
        assert status_of((await server.run(GRAPH))[0]) == "success"


async def test_a_tunnel_page_comes_instead_of_json() -> None:
    async with comfy() as server:
        await ask_for(server, "html", match={"path": "/prompt"})
        async with server.http.get(f"{server.url}/api/prompt") as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
        assert await server.get("/prompt") == {"exec_info": {"queue_remaining": 0}}


@pytest.mark.parametrize(("kind", "details", "status"), [("401", {}, 401), ("5xx", {}, 502), ("5xx", {"status": 503}, 503)])
async def test_a_proxy_may_refuse(kind: str, details: dict[str, object], status: int) -> None:
    async with comfy() as server:
        await ask_for(server, kind, match={"path": "/queue", "method": "GET"}, **details)
        assert (await server.call("GET", "/prompt"))[0] == 200
        assert (await server.call("GET", "/queue"))[0] == status
        assert (await server.call("GET", "/queue"))[0] == 200


@pytest.mark.parametrize(
    ("key", "auth"),
    [("user:secret", "Basic dXNlcjpzZWNyZXQ="), ("token-1", "Bearer token-1")],
)
async def test_a_server_with_a_key_answers_only_who_has_it(key: str, auth: str) -> None:
    async with comfy(key=key) as server:
        assert (await server.call("GET", "/queue"))[0] == 401
        assert (await server.call("GET", "/queue", headers={"Authorization": "Bearer wrong"}))[0] == 401
        assert (await server.call("GET", "/queue", headers={"Authorization": auth}))[0] == 200
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await server.http.ws_connect(f"{server.url}/ws")
        assert refused.value.status == 401


async def test_dropped_sockets_close_with_1006_and_the_prompt_goes_on() -> None:
    async with comfy() as server, server.listen("me") as socket:
        await ask_for(server, "ws_drop", match={"step": 2})
        prompt_id = await server.post(GRAPH, client_id="me")
        with pytest.raises(ConnectionError):
            await socket.until(lambda event: False)
        assert socket.socket.close_code == 1006
        history = await server.wait_for(f"/history/{prompt_id}", bool)
    assert status_of(history[prompt_id]) == "success"


async def test_a_silent_socket_stays_open_and_says_nothing() -> None:
    async with comfy() as server, server.listen("me") as socket:
        await ask_for(server, "ws_silent")
        prompt_id = await server.post(GRAPH, client_id="me")
        await server.wait_for(f"/history/{prompt_id}", bool)
        with pytest.raises(TimeoutError):
            await socket.socket.receive(timeout=0.1)
        assert not socket.socket.closed


async def test_a_truncated_output_cannot_be_decoded() -> None:
    async with comfy() as server:
        await ask_for(server, "truncate_output")
        entry, _ = await server.run(GRAPH)
        content = await server.image(saved(entry)[0])
    with pytest.raises(OSError, match="truncated"):
        Image.open(BytesIO(content)).load()


async def test_a_missing_output_is_in_the_history_and_not_on_the_disk() -> None:
    async with comfy() as server:
        await ask_for(server, "missing_output")
        entry, _ = await server.run(GRAPH)
        image = saved(entry)[0]
        assert (await server.call("GET", f"/view?filename={image['filename']}"))[0] == 404


async def test_a_batch_may_come_back_with_fewer_images_or_another_size() -> None:
    async with comfy() as server:
        await ask_for(server, "fewer_images")
        short, _ = await server.run(batched(JOBS, Common()))
        await ask_for(server, "wrong_size")
        entry, _ = await server.run(OTHER)
        image = Image.open(BytesIO(await server.image(saved(entry)[0])))
    assert len(saved(short)) == 2
    assert image.size == (Common().size[0] // 2, Common().size[1] // 2)


async def test_history_comes_late_when_asked_and_is_there_at_the_end() -> None:
    async with comfy() as server, server.listen("me") as socket:
        await ask_for(server, "delay_history", seconds=0.3)
        prompt_id = await server.post(GRAPH, client_id="me")
        await socket.until(lambda event: event["type"] == "execution_success")
        assert await server.get(f"/history/{prompt_id}") == {}
        assert (await server.get(f"/api/jobs/{prompt_id}"))["status"] == "in_progress"
        await socket.until_end_of(prompt_id)
        assert prompt_id in await server.get(f"/history/{prompt_id}")


async def test_a_prompt_may_be_refused_on_request() -> None:
    async with comfy() as server:
        await ask_for(server, "reject", match={"text": "neon"}, details="no neon today")
        fine = await server.call("POST", "/prompt", {"prompt": GRAPH})
        status, body = await server.call("POST", "/prompt", {"prompt": OTHER})
    assert fine[0] == 200
    assert (status, body["error"]["type"]) == (400, "prompt_outputs_failed_validation")
    assert "no neon today" in json.dumps(body["node_errors"])


async def test_a_lost_answer_leaves_the_prompt_running() -> None:
    prompt_id = "12345678-1234-4234-8234-123456789abc"
    async with comfy() as server:
        await ask_for(server, "lost_answer")
        with pytest.raises(aiohttp.ClientError):
            await server.post(GRAPH, prompt_id=prompt_id)
        history = await server.wait_for(f"/history/{prompt_id}", bool)
    assert status_of(history[prompt_id]) == "success"


async def test_a_fault_nobody_understands_is_refused_with_a_reason() -> None:
    async with comfy() as server:
        for body, word in (
            ({"kind": "nonsense"}, "kind must be one of"),
            ({"kind": "oom", "times": 0}, "times must be"),
            ({"kind": "oom", "match": {"colour": 1}}, "match knows only"),
            ({"kind": "oom", "match": []}, "match must be"),
        ):
            status, answer = await server.call("POST", "/sandbox/faults", body)
            assert status == 400
            assert word in answer["error"]


async def test_settings_change_while_it_runs_and_bad_ones_are_refused() -> None:
    async with comfy() as server:
        change = {"pack": "none", "models": {"checkpoints": ["other.safetensors"]}}
        status, body = await server.call("POST", "/sandbox/config", change)
        assert (status, body["pack"]) == (200, "none")
        assert await server.get("/object_info/CLIPTextEncodeBatch") == {}
        assert await server.get("/models/checkpoints") == ["other.safetensors"]
        assert await server.get("/models/vae") != []
        status, refusal = await server.call("POST", "/prompt", {"prompt": GRAPH})
        assert (status, refusal["node_errors"]["ckpt"]["errors"][0]["type"]) == (400, "value_not_in_list")
        for bad in ({"pack": "sometimes"}, {"speed": 0}, {"colour": "blue"}):
            status, answer = await server.call("POST", "/sandbox/config", bad)
            assert (status, bool(answer["error"])) == (400, True)
        assert (await server.get("/sandbox/config"))["pack"] == "none"
        await server.call("POST", "/sandbox/config", {"models": "large"})
        assert len(await server.get("/models/checkpoints")) > 25


async def test_the_log_has_every_request_and_the_life_of_every_prompt() -> None:
    async with comfy(time_scale=1.0, speed=50.0) as server:
        alone, _ = await server.run(GRAPH)
        merged, _ = await server.run(batched(JOBS, Common()))
        await server.call("GET", "/no/such/route")
        log = await server.get("/sandbox/log")
    first, second = log["prompts"]
    assert (first["prompt_id"], second["prompt_id"]) == (alone["prompt"][1], merged["prompt"][1])
    assert (first["form"], first["rows"], first["passes"]) == ("solo", 1, 1)
    assert (second["form"], second["rows"], second["passes"]) == ("batched", 3, 1)
    assert first["switch_seconds"] > 0
    assert second["switch_seconds"] == 0  # the loaders were cached
    assert first["posted"] <= first["started"] < first["ended"] <= second["started"] < second["ended"]
    lines = [(line["method"], line["path"], line["status"]) for line in log["requests"]]
    assert ("POST", "/prompt", 200) in lines
    assert ("GET", "/no/such/route", 404) in lines
    assert not any(path.startswith("/sandbox") for _, path, _ in lines)


async def test_free_empties_the_cache_before_the_next_prompt() -> None:
    async with comfy() as server:
        cached = []
        for body in (None, {"unload_models": True}, {"free_memory": True}):
            if body is not None:
                assert await server.call("POST", "/free", body) == (200, "")
            _, events = await server.run(GRAPH)
            cached += [len(event["data"]["nodes"]) for event in events if event["type"] == "execution_cached"]
    assert cached == [0, len(GRAPH), 0]
