"""Uploads, `/view` and saved files of the stand-in are treated as the recordings say."""

from __future__ import annotations

import asyncio
import copy
import re
from io import BytesIO

import aiohttp
from PIL import Image

from modules.sandbox.comfy_server.sandbox import MAX_UPLOAD_BYTES
from tests.support.comfy import (
    RECORDED_MODELS,
    RECORDINGS,
    Comfy,
    changed,
    comfy,
    png,
    recorded_graph,
    recorded_json,
    recorded_lines,
    saved,
)


async def test_uploads_get_the_recorded_names() -> None:
    async with comfy() as server:
        for line in recorded_lines("http/upload_image.jsonl"):
            if "names" in line or line["case"] in ("wrong field name", "JSON instead of multipart") or line["bytes"] > 10**6:
                continue
            status, body = await server.upload(line["filename"], b"x" * line["bytes"], **line["fields"])
            assert (status, body) == (line["status"], line["response"]), line["case"]
        form = aiohttp.FormData()
        form.add_field("picture", b"x", filename="cat.png")
        async with server.http.post(f"{server.url}/upload/image", data=form) as answer:
            assert (answer.status, await answer.text()) == (400, "")
        assert await server.call("POST", "/upload/image", {"image": "x"}) == (400, "")


async def test_unquoted_upload_names_are_treated_as_recorded() -> None:
    async with comfy() as server:
        for line in recorded_json("odds_and_ends.json")["upload_unquoted_names"]:
            form = aiohttp.FormData(quote_fields=False)
            form.add_field("image", b"x", filename=line["filename (sent unquoted)"])
            async with server.http.post(f"{server.url}/upload/image", data=form) as answer:
                assert answer.status == line["status"], line
                if answer.status == 200:
                    assert await answer.json() == line["response"]


async def test_an_upload_over_the_limit_is_refused_with_the_recorded_text() -> None:
    (recorded,) = [line for line in recorded_lines("http/upload_image.jsonl") if line.get("status") == 413]
    async with comfy(max_upload_bytes=1000) as server:
        status, body = await server.upload("big.bin", b"x" * 5000)
    assert (status, body) == (413, recorded["response"].replace(str(MAX_UPLOAD_BYTES), "1000"))


async def test_eight_uploads_of_one_name_at_once_get_eight_names() -> None:
    (recorded,) = [line["names"] for line in recorded_lines("http/upload_image.jsonl") if "names" in line]
    async with comfy() as server:
        names: list[str] = []
        async with asyncio.TaskGroup() as tasks:
            sent = [tasks.create_task(server.upload("race.png", bytes([number]) * 100)) for number in range(8)]
        names = sorted(task.result()[1]["name"] for task in sent)
    assert names == recorded


async def prepared_for_view(server: Comfy) -> str:
    """The files the recorded `/view` requests ask for; the name of the temp file."""
    base = recorded_graph("sd15_txt2img")
    await server.run(base)
    await server.run(changed(base, "9", filename_prefix="other/name"))
    preview = copy.deepcopy(base)
    preview["9"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    entry, _ = await server.run(preview)
    await server.upload("cat.png", png())
    await server.upload("x.html", b"<script>alert(1)</s")
    await server.upload("notes.png", b"just some text, honest")
    return saved(entry)[0]["filename"]


async def test_files_are_served_as_recorded() -> None:
    async with comfy(models=RECORDED_MODELS) as server:
        temp = await prepared_for_view(server)
        etag = ""
        for line in recorded_lines("http/view.jsonl"):
            method, path = line["request"].split(" ", 1)
            headers = dict(line.get("request_headers", {}))
            if "If-None-Match" in headers:
                headers["If-None-Match"] = etag
            path = path.replace("ComfyUI_temp_txneh_00001_.png", temp)
            async with server.http.request(method, server.url + path, headers=headers) as answer:
                content = await answer.read()
                assert answer.status == line["status"], line["case"]
                served_type = answer.headers.get("Content-Type")
                assert not line["content_type"] or served_type == line["content_type"], line["case"]
                disposition = (line["content_disposition"] or "").replace("ComfyUI_temp_txneh_00001_.png", temp)
                assert (answer.headers.get("Content-Disposition") or "") == disposition, line["case"]
                for name in (
                    "ETag",
                    "Last-Modified",
                    "Accept-Ranges",
                    "X-Content-Type-Options",
                    "Cache-Control",
                    "Content-Range",
                ):
                    assert (name in answer.headers) == (name in line), (line["case"], name)
                etag = answer.headers.get("ETag", etag) if line["case"] == "output" else etag
            if "image" in line:
                picture = Image.open(BytesIO(content))
                found = {"format": picture.format, "size": list(picture.size), "mode": picture.mode}
                found["text_keys"] = sorted(getattr(picture, "text", {}))
                assert found == line["image"], line["case"]
            elif line["status"] in (400, 403, 404):
                assert content == b"", line["case"]


async def test_prefixes_of_saved_files_are_treated_as_recorded() -> None:
    base = recorded_graph("sd15_txt2img")
    async with comfy(models=RECORDED_MODELS) as server:
        for line in recorded_json("odds_and_ends.json")["filename_prefix"]:
            prefix = "x" * 300 if line["prefix"].startswith("xxxx") else line["prefix"]
            entry, events = await server.run(changed(base, "9", filename_prefix=prefix))
            assert entry["status"]["status_str"] == line["status"], prefix
            errors = [event["data"]["exception_message"] for event in events if event["type"] == "execution_error"]
            if line["error"]:
                assert line["error"][0][:40] in errors[0]
            elif "%" not in prefix:
                assert saved(entry) == line["images"]
            elif "%year%" in prefix:
                assert re.fullmatch(r"\d{4}-\d\d_256x256_00001_\.png", saved(entry)[0]["filename"])
            else:
                assert saved(entry) == line["images"]


async def test_a_saved_picture_carries_the_graph_and_every_extra_text() -> None:
    recorded = Image.open(BytesIO((RECORDINGS / "binary" / "saved_image_with_metadata.png").read_bytes()))
    extra = {"extra_pnginfo": {"workflow": {"id": "abc", "note": "hello"}, "discord_user": "someone"}}
    async with comfy(models=RECORDED_MODELS) as server:
        entry, _ = await server.run(recorded_graph("sd15_txt2img"), extra_data=extra)
        picture = Image.open(BytesIO(await server.image(saved(entry)[0])))
    assert isinstance(picture.info["prompt"], str)
    assert picture.info.keys() == recorded.info.keys() | {"workflow", "discord_user"}
    assert picture.info["workflow"] == '{"id": "abc", "note": "hello"}'
