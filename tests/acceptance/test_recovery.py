"""kill -9 of the real program at the worst moments: what ComfyUI did meanwhile is found again, and nothing is drawn twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from modules.sandbox.comfy_server import ComfySandbox
from tests.support.person import Person, Seen
from tests.support.program import WholeHouse, whole_house

LIMIT_S = 40.0


@asynccontextmanager
async def house_with_running_job(folder: Path, *, time_scale: float) -> AsyncIterator[tuple[WholeHouse, ComfySandbox, Person]]:
    """Bruno's picture is being drawn, and the program was just killed."""
    gpu = ComfySandbox(name="gpu-1", time_scale=time_scale)
    async with whole_house(folder, gpus=[gpu]) as house:
        bruno = await house.people.be("bruno")
        await bruno.slash("imagine", model="z-image", prompt="a lighthouse", size="512x512")
        await until(lambda: [life.status for life in gpu.journal.prompts] == ["running"])
        await house.program.kill()
        yield house, gpu, bruno


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not is_so():  # noqa: ASYNC110 - a fact of the stand-in, which has no bell for tests
            await asyncio.sleep(0.02)


def is_result(message: Seen) -> bool:
    return bool(message.pictures and message.mentions)


async def the_only_result(bruno: Person) -> Seen:
    result = await bruno.wait_for_message(is_result, channel="session-bruno", timeout=LIMIT_S)
    assert len([message for message in await bruno.messages("session-bruno") if is_result(message)]) == 1
    return result


async def test_a_prompt_that_still_runs_is_followed_again(tmp_path: Path) -> None:
    async with house_with_running_job(tmp_path, time_scale=1.0) as (house, gpu, bruno):
        await house.start()
        assert [life.status for life in gpu.journal.prompts] == ["running"], "it was too quick for what this test is about"
        await the_only_result(bruno)
        assert [life.status for life in gpu.journal.prompts] == ["success"]


async def test_a_prompt_that_ended_meanwhile_is_fetched(tmp_path: Path) -> None:
    async with house_with_running_job(tmp_path, time_scale=0.1) as (house, gpu, bruno):
        await until(lambda: [life.status for life in gpu.journal.prompts] == ["success"])
        await house.start()
        await the_only_result(bruno)
        assert len(gpu.journal.prompts) == 1


async def test_after_a_restart_of_comfyui_too_its_files_are_read_by_their_names(tmp_path: Path) -> None:
    async with house_with_running_job(tmp_path, time_scale=0.1) as (house, gpu, bruno):
        await until(lambda: [life.status for life in gpu.journal.prompts] == ["success"])
        await gpu.crash()
        await house.start()
        await the_only_result(bruno)
        assert len(gpu.journal.prompts) == 1


async def test_what_a_crash_of_comfyui_swallowed_is_drawn_again(tmp_path: Path) -> None:
    async with house_with_running_job(tmp_path, time_scale=1.0) as (house, gpu, bruno):
        await gpu.crash()
        await house.start()
        await the_only_result(bruno)
        assert [life.status for life in gpu.journal.prompts] == ["lost", "success"]
