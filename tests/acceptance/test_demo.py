"""`make demo`: one command, one address, and the bot works as a newcomer would try it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.support.person import People
from tests.support.pictures import a_picture
from tests.support.program import DOWN_WITHIN_S, ROOT, until
from tests.support.wishing import PATIENCE_S, draw, pictures_on, result, session, sessions


class Demo:
    """The demo as a process."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self._log = log

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    async def address(self) -> str:
        """What it tells the newcomer to open."""
        await until(lambda: re.search(r"Open  (http://\S+)", self.said()), "the address", within_s=PATIENCE_S)
        found = re.search(r"Open  (http://\S+)", self.said())
        assert found is not None
        return found[1]

    def bot(self) -> int:
        """The process id of the bot."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(int(pid) for pid in children if "app.py" in Path(f"/proc/{pid}/cmdline").read_text())

    async def stop(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(DOWN_WITHIN_S):
            return await self.process.wait()


@asynccontextmanager
async def a_demo(folder: Path, *, data: Path | None = None) -> AsyncIterator[Demo]:
    log = folder / "demo.log"
    arguments = ["demo", "--port", "0", "--data", str(data or folder / "data"), "--speed", "50"]
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(ROOT / "app.py"),
            *arguments,
            env={"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"},
            cwd=folder,
            stdout=out,
            stderr=out,
        )
    try:
        yield Demo(process, log)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def test_a_second_demo_in_the_same_folder_leaves_the_first_alone(tmp_path: Path) -> None:
    async with a_demo(tmp_path) as first:
        await first.address()
        database = tmp_path / "data" / "bot_data.db"
        before = database.stat().st_ino
        (tmp_path / "second").mkdir()
        async with a_demo(tmp_path / "second", data=tmp_path / "data") as second:
            async with asyncio.timeout(DOWN_WITHIN_S):
                assert await second.process.wait() == 2
            assert "A demo is running in this folder already" in second.said()
        assert database.stat().st_ino == before
        assert await first.stop() == 0


async def test_a_newcomer_opens_one_address_and_imagine_and_edit_work_in_a_session_nobody_else_sees(tmp_path: Path) -> None:
    async with a_demo(tmp_path) as demo:
        address = await demo.address()
        async with aiohttp.ClientSession() as browser, browser.get(address) as page:
            assert page.status == 200
            assert "FuLLet" in await page.text()
        async with People(address) as people:
            ana, bruno = await people.be("ana"), await people.be("bruno")
            await ana.wait_for_command("imagine", timeout=PATIENCE_S)
            drawn = await draw(ana, "un faro de cristal")
            assert await pictures_on(ana, drawn)
            upload = await ana.upload("mine.png", a_picture("red"))
            await ana.slash("edit", prompt="con nieve", image=upload, timeout=PATIENCE_S)
            assert (await result(ana, "con nieve")).channel_id == await session(ana)
            assert await sessions(bruno) == []

            os.kill(demo.bot(), signal.SIGKILL)  # a curious newcomer
            await until(lambda: "starting it again" in demo.said(), "the bot's return")
            await ana.wait_for_bot(timeout=PATIENCE_S)
            await draw(ana, "después del golpe")
        assert await demo.stop() == 0
        assert "Traceback" not in demo.said()
        assert "Traceback" not in (tmp_path / "data" / "bot.log").read_text()


async def test_two_demos_find_two_ports(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with a_demo(tmp_path / "one") as one, a_demo(tmp_path / "two") as two:
        assert await one.address() != await two.address()
