"""The stand-in answers as proxies, full disks, other people and other systems make a real ComfyUI answer."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import zlib
from typing import Any

import aiohttp
import pytest

from modules.sandbox.comfy_server import DEFAULT_MODELS
from modules.sandbox.comfy_server.proxies import gzipped_spaces
from tests.support.comfy import Comfy, Graph, comfy, png, saved
from tests.support.merge_graphs import Common, Job, solo

GRAPH = solo(Job(prompt="a quiet lake", seed=1), Common())
OTHER = solo(Job(prompt="a neon city", seed=2), Common())


async def raw(server: Comfy, method: str, path: str, **options: Any) -> tuple[int, str, str]:
    """Status, content type and text, without following a redirect."""
    async with server.http.request(method, server.url + path, allow_redirects=False, **options) as answer:
        return answer.status, answer.content_type, await answer.text()


# --- proxies --------------------------------------------------------------------------------------------------------------


async def test_a_proxy_refuses_bodies_over_its_limit_with_a_page_and_passes_smaller_ones() -> None:
    async with comfy() as server:
        server.sandbox.fail("413", times=None)
        form = aiohttp.FormData()
        form.add_field("image", io.BytesIO(b"x" * (1024 * 1024 + 1)), filename="large.png")
        status, kind, text = await raw(server, "POST", "/upload/image", data=form)
        assert (status, kind) == (413, "text/html")
        assert "413 Request Entity Too Large" in text
        small, _ = await server.upload("small.png", png())
        assert small == 200
        [refused] = [line for line in server.sandbox.journal.requests if line.status == 413]
        assert refused.path == "/upload/image"


@pytest.mark.parametrize(
    ("kind", "status", "content_type"), [("403", 403, "text/html"), ("302", 302, "application/octet-stream")]
)
async def test_a_firewall_and_a_login_page_answer_in_the_servers_place(kind: str, status: int, content_type: str) -> None:
    async with comfy() as server:
        server.sandbox.fail(kind, times=1)
        assert (await raw(server, "GET", "/queue"))[:2] == (status, content_type)
        assert (await raw(server, "GET", "/queue"))[0] == 200


async def test_one_graph_makes_the_server_trip_and_others_do_not() -> None:
    async with comfy() as server:
        await server.call("POST", "/sandbox/faults", {"kind": "500", "times": None, "match": {"text": "neon"}})
        status, body = await server.call("POST", "/prompt", {"prompt": OTHER})
        assert (status, body) == (500, "500 Internal Server Error\n\nServer got itself in trouble")
        assert (await server.call("POST", "/prompt", {"prompt": GRAPH}))[0] == 200
        assert (await server.call("GET", "/system_stats"))[0] == 200


async def test_a_picture_is_missing_once_and_there_the_next_time() -> None:
    async with comfy() as server:
        history, _ = await server.run(GRAPH)
        [image] = saved(history)
        await server.call("POST", "/sandbox/faults", {"kind": "404", "match": {"path": "/view"}})
        path = f"/view?filename={image['filename']}&subfolder={image['subfolder']}&type=output"
        assert (await raw(server, "GET", path))[0] == 404
        assert await server.image(image)


@pytest.mark.parametrize("silently", [False, True])
async def test_a_download_is_cut_once_and_whole_the_next_time(silently: bool) -> None:
    async with comfy() as server:
        history, _ = await server.run(GRAPH)
        [image] = saved(history)
        whole = await server.image(image)
        server.sandbox.fail("truncated_answer", silently=silently)
        if silently:
            assert await server.image(image) == whole[: len(whole) // 2]
        else:
            with pytest.raises(aiohttp.ClientPayloadError):
                await server.image(image)
        assert await server.image(image) == whole


async def test_an_answer_without_end_is_made_while_it_is_read() -> None:
    async with comfy() as server:
        server.sandbox.fail("huge_answer", bytes=100 * 1024 * 1024)
        async with server.http.get(f"{server.url}/queue") as answer:
            assert (answer.status, answer.content_type) == (200, "application/json")
            assert await answer.content.readexactly(1024) == b" " * 1024
        assert (await server.call("GET", "/queue"))[0] == 200


def test_a_bomb_is_a_correct_gzip_file_a_thousand_times_smaller_than_what_it_holds() -> None:
    size = 9 * 1024 * 1024 + 17
    packed = b"".join(gzipped_spaces(size))
    assert len(packed) < size / 500
    assert gzip.decompress(packed) == b" " * size


async def test_a_bomb_is_sent_packed() -> None:
    async with aiohttp.ClientSession(auto_decompress=False) as http, comfy() as server:
        server.sandbox.fail("huge_answer", bytes=1_300_000_000, gzip=True)
        async with http.get(f"{server.url}/object_info") as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            head = await answer.content.readexactly(2000)
    assert len(zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(head)) > 1_000_000


@pytest.mark.parametrize("after_status", [False, True])
async def test_a_socket_is_accepted_and_dropped_at_once(after_status: bool) -> None:
    async with comfy() as server:
        server.sandbox.fail("ws_flap", after_status=after_status)
        async with server.http.ws_connect(f"{server.url}/ws", params={"clientId": "me"}) as socket:
            heard = [message.type async for message in socket]
            assert heard == ([aiohttp.WSMsgType.TEXT] if after_status else [])
            assert socket.close_code == 1006
        async with server.listen("me"):
            pass


# --- a full disk ----------------------------------------------------------------------------------------------------------


async def test_with_a_full_disk_every_run_and_every_upload_fails_until_there_is_room() -> None:
    async with comfy() as server:
        server.sandbox.fail("disk_full", times=None)
        for graph in (GRAPH, OTHER):
            history, events = await server.run(graph)
            assert history["status"]["status_str"] == "error"
            [error] = [event["data"] for event in events if event["type"] == "execution_error"]
            assert (error["exception_type"], error["node_type"]) == ("OSError", "SaveImage")
            assert error["exception_message"] == "[Errno 28] No space left on device\n"
        assert (await server.upload("cat.png", png()))[0] == 500
        assert (await server.call("GET", "/system_stats"))[0] == 200
        server.sandbox.faults.clear()
        history, _ = await server.run(GRAPH)
        assert history["status"]["status_str"] == "success"
        assert (await server.upload("cat.png", png()))[0] == 200


# --- somebody else's prompts ----------------------------------------------------------------------------------------------


async def test_somebody_elses_prompts_run_and_wait_in_the_queue_and_name_no_client() -> None:
    async with comfy() as server:
        _, body = await server.call("POST", "/sandbox/foreign", {"count": 2, "seconds": 600})
        first, second = body["prompt_ids"]
        queue = await server.wait_for("/queue", lambda answer: bool(answer["queue_running"]))
        assert [entry[1] for entry in queue["queue_running"]] == [first]
        assert [entry[1] for entry in queue["queue_pending"]] == [second]
        assert "client_id" not in queue["queue_running"][0][3]
        assert (await server.get("/prompt"))["exec_info"]["queue_remaining"] == 2
        mine = await server.post(GRAPH, client_id="me")
        await server.call("POST", "/queue", {"delete": [second]})
        await server.call("POST", "/interrupt", {"prompt_id": first})
        await server.wait_for(f"/history/{mine}", bool)


async def test_the_progress_of_somebody_elses_prompt_reaches_every_socket() -> None:
    async with comfy() as server, server.listen("me") as socket:
        [foreign] = server.sandbox.add_foreign(seconds=0.2)
        event = await socket.until(lambda event: event["type"] == "progress")
        assert event["data"]["prompt_id"] == foreign
        await server.wait_for(f"/history/{foreign}", bool)


# --- what a server has ----------------------------------------------------------------------------------------------------


async def test_the_list_of_uploaded_pictures_is_empty_before_anybody_uploaded_one_to_the_top_folder() -> None:
    async with comfy() as server:
        await server.upload("cat.png", png(), subfolder="fullet")
        listed = (await server.get("/object_info/LoadImage"))["LoadImage"]["input"]["required"]["image"]
        assert listed == [[], {"image_upload": True}]
        graph: Graph = {
            "load": {"class_type": "LoadImage", "inputs": {"image": "fullet/cat.png"}},
            "save": {"class_type": "SaveImage", "inputs": {"images": ["load", 0], "filename_prefix": "x"}},
        }
        await server.run(graph)  # valid although it is not listed


def growing(**links: list[object]) -> Graph:
    return {
        "load": {"class_type": "LoadImage", "inputs": {"image": "cat.png"}},
        "batch": {"class_type": "BatchImagesNode", "inputs": dict(links)},
        "save": {"class_type": "SaveImage", "inputs": {"images": ["batch", 0], "filename_prefix": "x"}},
    }


async def test_a_growing_input_is_declared_once_and_posted_as_many_inputs() -> None:
    async with comfy() as server:
        await server.upload("cat.png", png())
        declared = (await server.get("/object_info/BatchImagesNode"))["BatchImagesNode"]["input"]["required"]
        kind, details = declared["images"]
        assert kind == "COMFY_AUTOGROW_V3"
        assert details["template"] == {"input": {"required": {"image": ["IMAGE", {}]}}, "prefix": "image", "min": 2, "max": 50}
        three = {f"images.image{index}": ["load", 0] for index in range(3)}
        history, _ = await server.run(growing(**three))
        assert len(saved(history, "save")) == 3


async def test_a_growing_input_with_too_few_links_is_refused_by_the_name_of_the_missing_one() -> None:
    async with comfy() as server:
        await server.upload("cat.png", png())
        status, body = await server.call("POST", "/prompt", {"prompt": growing(**{"images.image0": ["load", 0]})})
        assert status == 400
        [problem] = body["node_errors"]["batch"]["errors"]
        assert (problem["type"], problem["details"]) == ("required_input_missing", "images.image1")


NOT_UTF8 = "caf\udce9 xl.safetensors"  # Latin-1 on the server's disk; Python reads the byte as a lone surrogate


async def test_a_file_name_that_is_no_utf8_is_listed_as_a_lone_surrogate_and_can_be_used() -> None:
    files = {**DEFAULT_MODELS, "checkpoints": [NOT_UTF8, "sd_xl_base_1.0.safetensors"]}
    async with comfy(models=files) as server:
        async with server.http.get(f"{server.url}/object_info/CheckpointLoaderSimple") as answer:
            text = await answer.text()
        assert "caf\\udce9" in text
        assert json.loads(text)["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0][0] == NOT_UTF8
        graph = json.loads(json.dumps(GRAPH))
        graph["ckpt"]["inputs"]["ckpt_name"] = NOT_UTF8
        history, _ = await server.run(graph)
        assert history["status"]["status_str"] == "success"


async def test_a_server_on_windows_writes_folders_with_a_backslash_and_takes_no_other_spelling() -> None:
    files = {**DEFAULT_MODELS, "checkpoints": ["sdxl/sd_xl_base_1.0.safetensors"]}
    async with comfy(models=files, is_windows=True) as server:
        names = (await server.get("/object_info/CheckpointLoaderSimple"))["CheckpointLoaderSimple"]["input"]["required"]
        assert names["ckpt_name"][0] == ["sdxl\\sd_xl_base_1.0.safetensors"]
        assert (await server.get("/system_stats"))["system"]["os"] == "win32"
        graph = json.loads(json.dumps(GRAPH))
        graph["ckpt"]["inputs"]["ckpt_name"] = "sdxl/sd_xl_base_1.0.safetensors"
        assert (await server.call("POST", "/prompt", {"prompt": graph}))[0] == 400
        graph["ckpt"]["inputs"]["ckpt_name"] = "sdxl\\sd_xl_base_1.0.safetensors"
        history, _ = await server.run(graph)
        assert history["status"]["status_str"] == "success"


async def test_a_server_that_is_gone_for_good_refuses_connections() -> None:
    async with comfy() as server:
        server.sandbox.crash_soon(None)
        await server.sandbox.wait_until_down()
        with pytest.raises(aiohttp.ClientConnectorError):
            async with asyncio.timeout(5):
                await server.http.get(f"{server.url}/queue")
