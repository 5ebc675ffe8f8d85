"""The whole program in front of a real ComfyUI: people ask through the Discord stand-in, ComfyUI draws with tiny random models.

COMFYUI_URL        a server with the node pack, in fp32, with the models of make_tiny_models (required)
COMFYUI_PLAIN_URL  the same without the node pack: what people get there must be the same pictures
COMFYUI_COMMAND    starts a server with the node pack on 127.0.0.1:$PORT and stays in the foreground; it is killed and restarted
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from modules.sandbox.discord_server import DiscordSandbox
from modules.sandbox.discord_server.demo import demo_world
from tests.contracts.test_real_comfyui_graphs import LEAST_DB, decibels
from tests.support.person import Person
from tests.support.pictures import a_picture
from tests.support.plain_comfy import plain_comfy
from tests.support.program import WholeHouse, lawful_house
from tests.support.tiny_templates import tiny_program
from tests.support.wishing import ask, card, is_result, pictures_on, results

URL = os.environ.get("COMFYUI_URL", "").rstrip("/")
PLAIN_URL = os.environ.get("COMFYUI_PLAIN_URL", "").rstrip("/")
COMMAND = os.environ.get("COMFYUI_COMMAND", "")
pytestmark = [
    pytest.mark.real_comfyui,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not URL, reason="COMFYUI_URL does not point at a real ComfyUI: the bot was not tried with one."),
]
needs_command = pytest.mark.skipif(not COMMAND, reason="COMFYUI_COMMAND is not set: no ComfyUI was killed and restarted.")

#: Tiny models on a busy CPU, several chains behind one another.
PATIENCE_S = 240.0
#: Pictures of different people differ at least this much: the comparison can tell them apart.
DIFFERENT_DB = 30.0
#: Words that break careless code; nobody's picture may depend on the neighbour's.
PROMPTS = (
    "a red fox in the snow",
    'she said "hi", \\ {"and": ["left"]} 🦊 it\'s 100% <lora:x:1>\nand a second line',
    "the sea at night, " * 60,
    "(a lighthouse:1.4) in the (((fog)))",
)
SEED = 2**62


@asynccontextmanager
async def bot_at(folder: Path, url: str, **settings: str) -> AsyncIterator[WholeHouse]:
    """The program with one real server, and people who are new to it."""
    async with plain_comfy(url) as comfy:
        app = tiny_program(folder, await comfy.listing())
    settings = {"COMFY_URLS": url, "LOG_FORMAT": "json", **settings}
    world = DiscordSandbox(world=demo_world(guests=8))
    async with lawful_house(folder, discord=world, gpus=[], settings=settings, app=app) as house:
        yield house


async def arrived(person: Person, *, known: int = 0) -> Image.Image:
    """The picture of this person's next result."""
    message = await person.wait_for_message(lambda m: is_result(m, person), timeout=PATIENCE_S)
    assert len(await results(person)) == known + 1
    [data] = await pictures_on(person, message)
    return Image.open(io.BytesIO(data)).convert("RGB")


async def asked_at_once(house: WholeHouse, prompts: Sequence[str], **options: object) -> list[Person]:
    """One new person for each prompt, all waiting before the first is drawn."""
    elena = await house.people.be("elena")
    await elena.slash("admin pause")
    people = [await house.newcomer() for _ in prompts]
    for number, (person, prompt) in enumerate(zip(people, prompts, strict=True)):
        await ask(person, prompt, size="64x64", seed=str(SEED + number), **options)  # type: ignore[arg-type]  # no option is called size
    await elena.slash("admin resume")
    return people


async def drawn(house: WholeHouse, prompts: Sequence[str] = PROMPTS, **options: object) -> list[Image.Image]:
    return [await arrived(person) for person in await asked_at_once(house, prompts, **options)]


def batches(house: WholeHouse) -> list[int]:
    """How many jobs each prompt held that was posted to ComfyUI."""
    lines = [json.loads(line) for line in house.program.said().splitlines() if line.startswith("{")]
    return [line["jobs"] for line in lines if line["event"] == "batch_posted"]


def assert_same(mine: Sequence[Image.Image], alone: Sequence[Image.Image], what: str) -> None:
    assert decibels(alone[0], alone[1]) < DIFFERENT_DB, "the pictures of two people are alike: nothing is proven"
    found = [decibels(one, other) for one, other in zip(mine, alone, strict=True)]
    print(f"\n{what:36}", " ".join(f"{value:6.1f}" for value in found), "dB")
    assert min(found) > LEAST_DB


MODELS = ("sdxl", "z-image", "flux")


async def missing(model: str) -> str:
    """Why this server cannot draw with this model; empty when it can."""
    if model != "flux":
        return ""
    async with plain_comfy(URL) as comfy:
        listing = await comfy.listing()
    has_file = "tiny_flux2_Q8_0.gguf" in listing.options("UnetLoaderGGUF", "unet_name")
    has_encoder = "flux2" in listing.options("LocalTinyCLIPLoader", "type")
    return (
        ""
        if has_file and has_encoder
        else "This ComfyUI has no tiny FLUX.2 (ComfyUI-GGUF, its file, and a small encoder for it)."
    )


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mode", ["batched", "stacked"])
async def test_people_who_share_a_workflow_get_the_pictures_they_would_have_had_alone(
    tmp_path: Path, model: str, mode: str
) -> None:
    if reason := await missing(model):
        pytest.skip(reason)
    async with bot_at(tmp_path / "alone", URL, MERGE_MODE="never") as house:
        alone = await drawn(house, model=model)
        assert batches(house) == [1, 1, 1, 1]
    async with bot_at(tmp_path / "shared", URL, MERGE_MODE=mode) as house:
        shared = await drawn(house, model=model)
        assert batches(house) == [4]
    assert_same(shared, alone, f"{model} {mode}, against alone")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.skipif(not PLAIN_URL, reason="COMFYUI_PLAIN_URL is not set: no ComfyUI without the node pack was tried.")
async def test_without_the_node_pack_people_see_no_difference(tmp_path: Path, model: str) -> None:
    if reason := await missing(model):
        pytest.skip(reason)
    async with bot_at(tmp_path / "plain", PLAIN_URL) as house:
        plain = await drawn(house, model=model)
        assert batches(house) == [1, 1, 1, 1]
    async with bot_at(tmp_path / "pack", URL, MERGE_MODE="batched") as house:
        shared = await drawn(house, model=model)
        assert batches(house) == [4]
    assert_same(shared, plain, f"{model} batched, against no pack")


async def test_a_prompt_that_breaks_the_sums_spoils_nobody_elses_picture(tmp_path: Path) -> None:
    """A weight too large for a float turns this person's text into NaN; the pass is shared, the damage is not."""
    prompts = (PROMPTS[0], "a (broken:1e39) star", PROMPTS[3])
    async with bot_at(tmp_path / "alone", URL, MERGE_MODE="never") as house:
        alone = await drawn(house, prompts, model="sdxl")
    async with bot_at(tmp_path / "shared", URL, MERGE_MODE="batched") as house:
        shared = await drawn(house, prompts, model="sdxl")
        assert batches(house) == [3]
    assert_same([shared[0], shared[2]], [alone[0], alone[2]], "beside a broken prompt")
    assert max(high for _, high in alone[1].getextrema()) == 0, "it was not broken: nothing is proven"  # type: ignore[misc]


async def test_one_person_leaves_a_running_batch_and_the_others_keep_theirs(tmp_path: Path) -> None:
    async with bot_at(tmp_path / "alone", URL, MERGE_MODE="never") as house:
        alone = await drawn(house, PROMPTS[:3], model="sdxl", steps="60")
    async with bot_at(tmp_path / "shared", URL, MERGE_MODE="batched") as house:
        people = await asked_at_once(house, PROMPTS[:3], model="sdxl", steps="60")
        await running_on(URL)
        await people[1].press(await card(people[1], "she said"), "Cancel")
        kept = [await arrived(people[0]), await arrived(people[2])]
        assert await results(people[1]) == []
        assert batches(house) == [3]
    assert_same(kept, [alone[0], alone[2]], "after one left")


async def test_edits_of_several_people_share_a_workflow_and_keep_their_pictures(tmp_path: Path) -> None:
    if reason := await missing("flux"):
        pytest.skip(reason)
    found: dict[str, list[Image.Image]] = {}
    for mode in ("never", "auto"):
        async with bot_at(tmp_path / mode, URL, MERGE_MODE=mode) as house:
            elena, people = await house.people.be("elena"), [await house.newcomer() for _ in range(3)]
            await elena.slash("admin pause")
            for number, (person, color) in enumerate(zip(people, ("red", "navy", "olive"), strict=True)):
                size = (160, 64) if number < 2 else (96, 96)
                image = await person.upload("mine.png", a_picture(color, size))
                await person.slash("edit", prompt=PROMPTS[number], image=image, seed=str(SEED + number), timeout=PATIENCE_S)
            await elena.slash("admin resume")
            found[mode] = [await arrived(person) for person in people]
            assert batches(house) == ([1, 1, 1] if mode == "never" else [3])
    assert_same(found["auto"], found["never"], "flux edit stacked, against alone")


@needs_command
async def test_comfyui_is_killed_while_it_draws_for_several_and_everyone_gets_one_picture(tmp_path: Path) -> None:
    async with OwnComfy() as comfy, bot_at(tmp_path / "house", comfy.url, MERGE_MODE="batched") as house:
        people = await asked_at_once(house, PROMPTS[:3], model="sdxl", steps="60")
        await running_on(comfy.url)
        await comfy.kill()
        await comfy.start()
        for person in people:
            await arrived(person)
        assert sum(batches(house)) > 3


@needs_command
async def test_pictures_on_a_restarted_comfyuis_disk_are_found_and_not_drawn_again(tmp_path: Path) -> None:
    async with OwnComfy() as comfy, bot_at(tmp_path / "house", comfy.url, MERGE_MODE="batched") as house:
        people = await asked_at_once(house, PROMPTS[:3], model="sdxl", steps="60")
        await running_on(comfy.url)
        await house.program.kill()
        await nothing_runs_on(comfy.url)
        await comfy.kill()
        await comfy.start()
        await house.start()
        for person in people:
            await arrived(person)
        assert await said_by(comfy.url, "/history") == {}
        assert batches(house) == [3]


async def said_by(url: str, path: str) -> Any:
    async with aiohttp.ClientSession() as http, http.get(url + path) as answer:
        return await answer.json()


async def running_on(url: str) -> None:
    """Until ComfyUI draws."""
    async with asyncio.timeout(PATIENCE_S):
        while not (await said_by(url, "/queue"))["queue_running"]:  # noqa: ASYNC110 - HTTP has no events
            await asyncio.sleep(0.05)


async def nothing_runs_on(url: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while any((await said_by(url, "/queue")).values()):  # noqa: ASYNC110 - HTTP has no events
            await asyncio.sleep(0.05)


class OwnComfy:
    """A ComfyUI that this test may kill: `COMFYUI_COMMAND` on a free port."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> OwnComfy:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def start(self) -> None:
        environment: Mapping[str, str] = {**os.environ, "PORT": str(self.port)}
        self._process = await asyncio.create_subprocess_shell(
            f"exec {COMMAND}", env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        async with asyncio.timeout(PATIENCE_S):
            while not await self._answers():
                assert self._process.returncode is None, f"COMFYUI_COMMAND ended with {self._process.returncode}"
                await asyncio.sleep(0.2)

    async def kill(self) -> None:
        """kill -9."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def _answers(self) -> bool:
        try:
            await said_by(self.url, "/system_stats")
        except aiohttp.ClientError:
            return False
        return True
