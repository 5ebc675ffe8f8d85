"""The stand-in as a process of its own: a real kill -9, a real restart, the same port and data folder."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.support.merge_graphs import Common, Job, solo

ROOT = Path(__file__).parents[2]
GRAPH = solo(Job(prompt="a quiet lake"), Common())


@asynccontextmanager
async def stand_in(*arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A running stand-in and its address."""
    command = (sys.executable, "-m", "modules.sandbox.comfy_server", "--time-scale", "0", *arguments)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            line = (await process.stdout.readline()).decode()
        yield process, line.split(" on ", 1)[1].strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def history(http: aiohttp.ClientSession, url: str) -> dict[str, dict[str, dict[str, object]]]:
    async with http.get(f"{url}/history") as answer:
        body: dict[str, dict[str, dict[str, object]]] = await answer.json()
        return body


async def test_after_a_kill_the_files_are_there_and_the_history_is_not(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http:
        async with stand_in("--port", "0", "--name", "gpu-7", "--data", str(tmp_path)) as (process, url):
            port = url.rsplit(":", 1)[1]
            async with http.post(f"{url}/prompt", json={"prompt": GRAPH}) as answer:
                assert answer.status == 200
            async with asyncio.timeout(20):
                while not await history(http, url):  # noqa: ASYNC110 - the fact is in another process
                    await asyncio.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            assert await process.wait() == -signal.SIGKILL
            with pytest.raises(aiohttp.ClientConnectionError):
                await history(http, url)
        async with stand_in("--port", port, "--data", str(tmp_path)) as (process, again):
            assert again == url
            assert await history(http, again) == {}
            async with http.get(f"{again}/view", params={"filename": "solo_00001_.png"}) as answer:
                assert (answer.status, answer.content_type) == (200, "image/png")
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


async def test_a_taken_port_is_said_at_once() -> None:
    async with stand_in("--port", "0") as (_, url):
        command = (sys.executable, "-m", "modules.sandbox.comfy_server", "--port", url.rsplit(":", 1)[1])
        second = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
        _, words = await asyncio.wait_for(second.communicate(), 30)
    assert second.returncode != 0
    assert b"Address already in use" in words
