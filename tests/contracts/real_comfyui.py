"""A real ComfyUI, driven over HTTP: graphs of the node pack and their stock twins, and the numbers that compare them.

Everything is read from files that ComfyUI wrote: no torch is needed on this side.
"""

import json
import math
import struct
import uuid
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

Graph = dict[str, dict[str, Any]]
Row = Sequence[float]
RUN_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of tiny model, as make_tiny_models writes them, with the settings its templates use."""

    name: str
    loaders: Graph
    model: list[Any]
    clip: list[Any]
    vae: list[Any]
    empty_latent: str
    cfg: float
    sampler: str
    scheduler: str


def _unet(name: str, shift: bool) -> Graph:
    graph: Graph = {
        "unet": {"class_type": "UNETLoader", "inputs": {"unet_name": name, "weight_dtype": "default"}},
        # width 768 everywhere: CLIP-L stands in for T5 and Qwen, whose full sizes a stock server would build
        "clip": {
            "class_type": "CLIPLoader",
            "inputs": {"clip_name": "clip_l.safetensors", "type": "stable_diffusion", "device": "default"},
        },
        "vae": {"class_type": "VAELoader", "inputs": {"vae_name": "ae.safetensors"}},
    }
    if shift:
        graph["shifted"] = {"class_type": "ModelSamplingAuraFlow", "inputs": {"model": ["unet", 0], "shift": 3.0}}
    return graph


SD15 = Family(
    "sd15", {"ckpt": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tiny_sd15.safetensors"}}},
    ["ckpt", 0], ["ckpt", 1], ["ckpt", 2], "EmptyLatentImage", 7.0, "euler", "normal",
)  # fmt: skip
FLUX = Family(
    "flux",
    _unet("tiny_flux_dev.safetensors", False),
    ["unet", 0],
    ["clip", 0],
    ["vae", 0],
    "EmptySD3LatentImage",
    1.0,
    "euler",
    "simple",
)
ZIMAGE = Family(
    "zimage", _unet("tiny_z_image_turbo_fp8.safetensors", True),
    ["shifted", 0], ["clip", 0], ["vae", 0], "EmptySD3LatentImage", 1.0, "res_multistep", "simple",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Slot:
    """One person's wish."""

    prompt: str
    seed: int
    negative: str = ""
    cfg: float | None = None
    guidance: float | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """What all slots of a run share."""

    sampler: str = ""
    scheduler: str = ""
    steps: int = 3
    size: tuple[int, int] = (64, 64)
    denoise: float = 1.0
    extra: dict[str, Any] = field(default_factory=dict)


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def solo_graph(family: Family, slot: Slot, how: Sampling = Sampling()) -> Graph:
    """The stock graph that one person alone would get."""
    positive: list[Any] = ["pos", 0]
    graph: Graph = {**family.loaders, "pos": node("CLIPTextEncode", clip=family.clip, text=slot.prompt)}
    graph["neg"] = node("CLIPTextEncode", clip=family.clip, text=slot.negative)
    if slot.guidance is not None:
        graph["guided"] = node("FluxGuidance", conditioning=positive, guidance=slot.guidance)
        positive = ["guided", 0]
    graph["empty"] = node(family.empty_latent, width=how.size[0], height=how.size[1], batch_size=1)
    graph["sample"] = node(
        "KSampler", model=family.model, positive=positive, negative=["neg", 0], latent_image=["empty", 0], seed=slot.seed,
        steps=how.steps, cfg=family.cfg if slot.cfg is None else slot.cfg, sampler_name=how.sampler or family.sampler,
        scheduler=how.scheduler or family.scheduler, denoise=how.denoise,
    )  # fmt: skip
    return finished(graph, family, f"solo/{family.name}")


def merged_graph(family: Family, slots: Sequence[Slot], how: Sampling = Sampling()) -> Graph:
    """The same for several people, through the pack's KSampler."""
    graph = merged_inputs(family, slots, how)
    graph["sample"] = node(
        "FuLLetMergeKSampler", model=family.model, positive=["pos", 0], negative=["neg", 0], latent_image=["empty", 0],
        seeds=seeds_of(slots), cfg=cfgs_of(family, slots), steps=how.steps, sampler_name=how.sampler or family.sampler,
        scheduler=how.scheduler or family.scheduler, denoise=how.denoise, protocol=1, **how.extra,
    )  # fmt: skip
    return finished(graph, family, f"merged/{family.name}", slots)


def merged_inputs(family: Family, slots: Sequence[Slot], how: Sampling) -> Graph:
    guidance = [slot.guidance for slot in slots]
    encoded = "" if all(value is None for value in guidance) else json.dumps(guidance)
    return {
        **family.loaders,
        "pos": node(
            "CLIPTextEncodeBatch",
            clip=family.clip,
            prompts=json.dumps([slot.prompt for slot in slots]),
            guidance=encoded,
            protocol=1,
        ),
        "neg": node("CLIPTextEncodeBatch", clip=family.clip, prompts=json.dumps([slot.negative for slot in slots]), protocol=1),
        "empty": node(family.empty_latent, width=how.size[0], height=how.size[1], batch_size=len(slots)),
    }


def custom_sampling(
    graph: Graph, family: Family, slots: Sequence[Slot], how: Sampling, latent: Sequence[Any] = ("empty", 0)
) -> Graph:
    """Noise, sampler and guider of the pack around the stock SamplerCustomAdvanced."""
    graph |= {
        "noise": node("FuLLetMergeNoise", seeds=seeds_of(slots)),
        "select": node("KSamplerSelect", sampler_name=how.sampler or family.sampler),
        "sampler": node("FuLLetMergeSampler", sampler=["select", 0], seeds=seeds_of(slots)),
        "sigmas": node("BasicScheduler",
            model=family.model,
            scheduler=how.scheduler or family.scheduler,
            steps=how.steps,
            denoise=how.denoise,
        ),
        "guider": node(
            "FuLLetMergeGuider",
            model=family.model,
            positive=["pos", 0],
            negative=["neg", 0],
            cfg=cfgs_of(family, slots),
            protocol=1,
            **how.extra,
        ),
        "sample": node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=["sampler", 0], sigmas=["sigmas", 0],
            latent_image=list(latent),
        ),
    }  # fmt: skip
    return graph


def finished(graph: Graph, family: Family, prefix: str, slots: Sequence[Slot] = ()) -> Graph:
    """The graph with its latent saved as numbers, and for slots their pictures too."""
    graph["latent"] = node("SaveLatent", samples=["sample", 0], filename_prefix=f"{prefix}_{uuid.uuid4().hex}")
    if slots:
        targets = [{"id": f"job-{number}", "prefix": f"{prefix}/{uuid.uuid4().hex}"} for number in range(len(slots))]
        graph["decode"] = node("VAEDecode", samples=["sample", 0], vae=family.vae)
        graph["save"] = node("FuLLetMergeSaveImage", images=["decode", 0], slots=json.dumps(targets), type="output")
    return graph


def seeds_of(slots: Sequence[Slot]) -> str:
    return json.dumps([slot.seed for slot in slots])


def cfgs_of(family: Family, slots: Sequence[Slot]) -> str:
    return json.dumps([family.cfg if slot.cfg is None else slot.cfg for slot in slots])


class RealComfyUI:
    """One server, one client id; keeps every message of its websocket."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self.url, self.client_id = http, url.rstrip("/"), str(uuid.uuid4())

    async def object_info(self, name: str) -> dict[str, Any]:
        async with self._http.get(f"{self.url}/object_info/{name}") as answer:
            described: dict[str, Any] = await answer.json()
        found: dict[str, Any] = described.get(name, {})
        return found

    async def submit(self, graph: Graph, **extra: Any) -> tuple[int, dict[str, Any]]:
        body = {"prompt": graph, "client_id": self.client_id, "extra_data": extra}
        async with self._http.post(f"{self.url}/prompt", json=body) as answer:
            return answer.status, await answer.json()

    @asynccontextmanager
    async def events(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        self.client_id = str(uuid.uuid4())
        async with self._http.ws_connect(f"{self.url}/ws?clientId={self.client_id}", max_msg_size=0) as socket:
            await socket.send_json({"type": "feature_flags", "data": {"supports_preview_metadata": True}})
            yield socket

    async def run(self, graph: Graph, **extra: Any) -> dict[str, Any]:
        """The history entry of a graph that ran to its end, well or badly."""
        async with self.events() as socket:
            status, answer = await self.submit(graph, **extra)
            assert status == 200, json.dumps(answer)[:2000]
            await self.wait_for_end(socket, answer["prompt_id"])
        return await self.history(answer["prompt_id"])

    async def wait_for_end(self, socket: aiohttp.ClientWebSocketResponse, prompt_id: str) -> list[Any]:
        """All messages up to the one after which history is there (executing, node null)."""
        seen: list[Any] = []
        while True:
            message = await socket.receive(timeout=RUN_TIMEOUT_S)
            if message.type is aiohttp.WSMsgType.BINARY:
                seen.append(message.data)
                continue
            assert message.type is aiohttp.WSMsgType.TEXT, message
            event = json.loads(message.data)
            seen.append(event)
            if event["type"] == "executing" and event["data"]["node"] is None and event["data"].get("prompt_id") == prompt_id:
                return seen

    async def history(self, prompt_id: str) -> dict[str, Any]:
        async with self._http.get(f"{self.url}/history/{prompt_id}") as answer:
            entry: dict[str, Any] = (await answer.json())[prompt_id]
        return entry

    async def post(self, path: str, body: dict[str, Any]) -> int:
        async with self._http.post(f"{self.url}{path}", json=body) as answer:
            return answer.status

    async def file(self, place: dict[str, Any]) -> bytes:
        params = {name: str(place[name]) for name in ("filename", "subfolder", "type")}
        async with self._http.get(f"{self.url}/view", params=params) as answer:
            assert answer.status == 200, params
            return await answer.read()

    async def upload(self, name: str, data: bytes) -> str:
        form = aiohttp.FormData()
        form.add_field("image", data, filename=name, content_type="image/png")
        async with self._http.post(f"{self.url}/upload/image", data=form) as answer:
            stored: str = (await answer.json())["name"]
        return stored

    async def latents(self, graph: Graph) -> list[Row]:
        """Run a graph that ends in SaveLatent; the rows of its latent."""
        entry = await self.run(graph)
        assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
        return rows_of(await self.file(entry["outputs"]["latent"]["latents"][0]))


def rows_of(safetensors: bytes) -> list[Row]:
    """The rows of the float32 tensor `latent_tensor` in a file that SaveLatent wrote."""
    (header_bytes,) = struct.unpack("<Q", safetensors[:8])
    about = json.loads(safetensors[8 : 8 + header_bytes])["latent_tensor"]
    assert about["dtype"] == "F32"
    start, end = about["data_offsets"]
    values = array("f", safetensors[8 + header_bytes :][start:end])
    per_row = len(values) // about["shape"][0]
    return [values[row * per_row : (row + 1) * per_row] for row in range(about["shape"][0])]


def likeness_db(one: Sequence[float], other: Sequence[float]) -> float:
    """Peak signal to noise in dB, against the largest value of `other`; 999 for equality."""
    assert len(one) == len(other)
    peak = max(abs(value) for value in other)
    assert math.isfinite(peak)
    assert peak > 0.01, "an empty picture proves nothing"
    error = math.sqrt(sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) / len(one))
    return 999.0 if error == 0 else 20 * math.log10(peak / error)
