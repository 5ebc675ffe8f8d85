"""A small client for ComfyUI's wire, for tests of the stand-in, and the recordings to hold it to."""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image

from modules.sandbox.comfy_server import ComfySandbox

RECORDINGS = Path(__file__).parents[1] / "recordings" / "comfyui"

#: The files of the server that was recorded.
RECORDED_MODELS: Mapping[str, list[str]] = {
    "checkpoints": ["tiny_sd15.safetensors"],
    "diffusion_models": ["tiny_flux_dev.safetensors", "tiny_flux_schnell.safetensors", "tiny_z_image_turbo_fp8.safetensors"],
    "text_encoders": ["clip_l.safetensors", "tiny_qwen_3_4b.safetensors", "tiny_t5xxl.safetensors"],
    "vae": ["ae.safetensors"],
    "loras": ["tiny_flux_style.safetensors", "tiny_sd15_style.safetensors", "tiny_z_image_style.safetensors"],
    "upscale_models": ["tiny_copy_4x.safetensors"],
    "embeddings": ["tiny_embedding.safetensors"],
}

#: The client id of the recordings.
CLIENT = "11111111-2222-4333-8444-555555555555"

Graph = dict[str, Any]
Event = dict[str, Any]
LIMIT_S = 20.0


def recorded_json(path: str) -> Any:
    return json.loads((RECORDINGS / path).read_text("utf-8"))


def recorded_lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RECORDINGS / path).read_text("utf-8").splitlines() if line.strip()]


def recorded_graph(name: str) -> Graph:
    graph: Graph = recorded_json(f"workflows/{name}.json")
    return graph


@dataclass(slots=True)
class Socket:
    """A websocket client that keeps everything it hears; binary frames as {"type": "binary", ...}."""

    socket: aiohttp.ClientWebSocketResponse
    events: list[Event] = field(default_factory=list)

    async def until(self, wanted: Callable[[Event], bool]) -> Event:
        """The first event from now on that is wanted."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                event = await self.next()
                if wanted(event):
                    return event

    async def next(self) -> Event:
        message = await self.socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            event: Event = json.loads(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            event = read_frame(message.data)
        else:
            raise ConnectionError(f"closed: {self.socket.close_code}")
        self.events.append(event)
        return event

    async def until_end_of(self, prompt_id: str) -> Event:
        return await self.until(lambda event: is_end_of(event, prompt_id))

    def types(self) -> list[str]:
        return [str(event["type"]) for event in self.events]


def is_end_of(event: Event, prompt_id: str) -> bool:
    return event["type"] == "executing" and event["data"].get("node") is None and event["data"].get("prompt_id") == prompt_id


def read_frame(frame: bytes) -> Event:
    kind = int.from_bytes(frame[:4], "big")
    second = int.from_bytes(frame[4:8], "big")
    if kind == 4:
        return {"type": "binary", "event": kind, "metadata": json.loads(frame[8 : 8 + second]), "image": frame[8 + second :]}
    return {"type": "binary", "event": kind, "format": second, "image": frame[8:]}


@dataclass(slots=True)
class Comfy:
    """Talks to one stand-in."""

    sandbox: ComfySandbox
    http: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return self.sandbox.url

    async def call(self, method: str, path: str, body: object = None, **options: Any) -> tuple[int, Any]:
        """Status and body: JSON where it is JSON, else text."""
        async with self.http.request(method, self.url + path, json=body, **options) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text

    async def get(self, path: str) -> Any:
        status, body = await self.call("GET", path)
        assert status == 200, (status, body)
        return body

    async def post(self, graph: Graph, **rest: object) -> str:
        """The id of an accepted prompt."""
        status, body = await self.call("POST", "/prompt", {"prompt": graph, **rest})
        assert status == 200, body
        prompt_id: str = body["prompt_id"]
        return prompt_id

    @asynccontextmanager
    async def listen(self, client_id: str = "listener", *, metadata: bool = False) -> AsyncIterator[Socket]:
        async with self.http.ws_connect(f"{self.url}/ws", params={"clientId": client_id}) as raw:
            socket = Socket(raw)
            await socket.until(lambda event: event["type"] == "status")
            if metadata:
                await raw.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
                await socket.until(lambda event: event["type"] == "feature_flags")
            yield socket

    async def run(self, graph: Graph, **rest: object) -> tuple[Event, list[Event]]:
        """Post, wait for the end: the history entry and the events."""
        async with self.listen("runner") as socket:
            prompt_id = await self.post(graph, client_id="runner", **rest)
            await socket.until_end_of(prompt_id)
            return (await self.get(f"/history/{prompt_id}"))[prompt_id], socket.events

    async def wait_for(self, path: str, wanted: Callable[[Any], bool]) -> Any:
        """Poll until the answer is the wanted one."""
        async with asyncio.timeout(LIMIT_S):
            while not wanted(body := await self.get(path)):  # noqa: ASYNC110 - the fact is on the other side of HTTP
                await asyncio.sleep(0.01)
            return body

    async def image(self, entry: Mapping[str, str]) -> bytes:
        params = {name: entry[name] for name in ("filename", "subfolder", "type")}
        async with self.http.get(f"{self.url}/view", params=params) as answer:
            assert answer.status == 200
            return await answer.read()

    async def upload(self, name: str, content: bytes, **fields: str) -> tuple[int, Any]:
        form = aiohttp.FormData()
        form.add_field("image", content, filename=name)
        for key, value in fields.items():
            form.add_field(key, value)
        async with self.http.post(f"{self.url}/upload/image", data=form) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type == "application/json" else text


@asynccontextmanager
async def comfy(**settings: Any) -> AsyncIterator[Comfy]:
    """A stand-in that does not waste time, and a client for it."""
    settings = {"time_scale": 0.0, **settings}
    async with ComfySandbox(**settings) as sandbox, aiohttp.ClientSession() as http:
        yield Comfy(sandbox, http)


def saved(history: Mapping[str, Any], node_id: str | None = None) -> list[dict[str, str]]:
    """The images of a history entry, of one node or of all."""
    outputs = history["outputs"]
    nodes = [node_id] if node_id is not None else sorted(outputs)
    return [image for node in nodes for image in outputs[node]["images"]]


def changed(graph: Graph, node_id: str, **inputs: object) -> Graph:
    copied = copy.deepcopy(graph)
    copied[node_id]["inputs"] |= inputs
    return copied


def png(width: int = 256, height: int = 256, colour: tuple[int, int, int] = (180, 90, 30)) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "PNG")
    return buffer.getvalue()


# --- comparing with recordings ------------------------------------------------------------------------------------------


def shape(value: object) -> object:
    """Keys and types without values; a list is the set of its elements' shapes."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return {repr(shape(item)) for item in value}
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def without(value: Any, *names: str) -> Any:
    """A copy without these keys, at any depth."""
    if isinstance(value, dict):
        return {key: without(item, *names) for key, item in value.items() if key not in names}
    return [without(item, *names) for item in value] if isinstance(value, list) else value


def told(event: Event) -> tuple[object, ...]:
    """What an event says, without ids and instants; temp files have five letters that change with every start."""
    data = event.get("data", {})
    match event["type"]:
        case "binary":
            metadata = event.get("metadata")
            return ("binary", event["event"], sorted(metadata) if metadata else event["format"], metadata and metadata["node_id"])
        case "status":
            return ("status", data["status"]["exec_info"]["queue_remaining"], "sid" in data)
        case "progress_state":
            nodes = {name: (node["value"], node["max"], node["state"], *sorted(node)) for name, node in data["nodes"].items()}
            return ("progress_state", nodes)
        case "executed":
            output = re.sub(r"temp_[a-z]{5}_", "temp_xxxxx_", repr(data["output"]))
            return ("executed", data["node"], data["display_node"], output, *sorted(data))
        case "execution_error":
            error = (data["node_id"], data["node_type"], data["exception_type"], data["exception_message"])
            return ("execution_error", *error, sorted(data["executed"]), *sorted(data))
        case "execution_interrupted":
            return ("execution_interrupted", data["node_id"], data["node_type"], sorted(data["executed"]), *sorted(data))
        case "feature_flags":
            return ("feature_flags", repr(data))
        case kind:
            return (kind, repr(without(data, "prompt_id", "timestamp")), *sorted(data))


def recorded_events(name: str) -> list[Event]:
    """The frames one socket received, in the form `tests.support.comfy.Socket` has them."""
    events: list[Event] = []
    for line in recorded_lines(f"ws/{name}.jsonl"):
        if line.get("dir") != "recv":
            continue
        if line["kind"] == "text":
            events.append(line["json"])
        else:
            about = {"metadata": line["metadata"]} if line.get("metadata") else {"format": line["image_format"]}
            events.append({"type": "binary", "event": line["event_type"], **about})
    return events
