"""The whole program as its operator runs it: `python app.py` in a process of its own, between the two stand-ins.

    async with whole_house(tmp_path) as house:
        ana = await house.people.be("ana")
        await ana.slash("imagine", model="z-image", prompt="a lighthouse")

The process can be killed and started again at any moment; the stand-ins live on, as Discord and ComfyUI would. A test that is
not about breaking the program uses `lawful_house`: it ends only if the program did nothing it must not.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict, Unpack

from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.discord_server import DiscordSandbox
from tests.support.person import People, Person

ROOT = Path(__file__).parents[2]
UP_WITHIN_S = 40.0
DOWN_WITHIN_S = 30.0


async def until(is_so: Callable[[], object], what: str, *, within_s: float = UP_WITHIN_S) -> None:
    """Wait for a fact that rings no bell, such as a file or a line of a log."""
    try:
        async with asyncio.timeout(within_s):
            while not is_so():  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited {within_s:g} s for {what}") from None


@dataclass(slots=True)
class Program:
    """One process of the bot and what it logs."""

    environment: Mapping[str, str]
    log: Path
    arguments: Sequence[str] = ()
    app: Path = ROOT / "app.py"
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; returns at once."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-W",
                "default",
                str(self.app),
                *self.arguments,
                env=dict(self.environment),
                cwd=self.log.parent,
                stdout=log,
                stderr=log,
            )

    async def kill(self) -> None:
        """kill -9: nothing is tidied up."""
        await self._send(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, as systemd does; the exit code."""
        return await self._send(signal.SIGTERM)

    async def wait(self) -> int:
        """Until it ends by itself; the exit code."""
        assert self.process is not None
        async with asyncio.timeout(DOWN_WITHIN_S):
            return await self.process.wait()

    async def _send(self, number: signal.Signals) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.wait()

    def said(self) -> str:
        """Everything it logged and printed, over all its lives."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@dataclass(slots=True, kw_only=True)
class WholeHouse:
    """The program, both stand-ins, and the people."""

    discord: DiscordSandbox
    gpus: Sequence[ComfySandbox]
    program: Program
    people: People
    folder: Path
    others: list[Program] = field(default_factory=list)
    _newcomers: int = 0

    async def newcomer(self) -> Person:
        """Somebody who has never spoken to the bot; the world must have guests enough (`demo_world(guests=...)`)."""
        self._newcomers += 1
        return await self.people.be(f"guest-{self._newcomers:03}")

    async def start(self) -> None:
        """Start the program and wait until it is online."""
        await self.program.start()
        await self.until_online()

    async def restart(self, *, clean: bool = False) -> None:
        """Kill it (or stop it the clean way), and start it again."""
        await (self.program.stop() if clean else self.program.kill())
        await self.start()

    async def until_online(self) -> None:
        """The bot has an open gateway; says what it logged when it has not."""
        try:
            async with asyncio.timeout(UP_WITHIN_S):
                while not self.discord.context.gateway.is_online or self._is_still_starting():
                    process = self.program.process
                    assert process is None or process.returncode is None, f"it ended:\n{self.program.said()[-4000:]}"
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not online:\n{self.program.said()[-4000:]}") from None

    def _is_still_starting(self) -> bool:
        """A killed process' connection may still look open for a moment; the new life says when it is ready."""
        lives = self.program.said().split("started   ")
        return "discord_ready" not in lives[-1]

    def violations(self) -> Sequence[object]:
        """Everything so far that was against Discord's own description or limits."""
        return self.discord.context.journal.violations()

    async def check_laws(self) -> None:
        """What holds whatever happened: it ends cleanly, keeps Discord's rules, and its log has no bugs, warnings or secrets."""
        for program in (self.program, *self.others):
            if program.process is not None and program.process.returncode is None:
                assert await program.stop() == 0, program.said()[-4000:]
            said = program.said().replace("DeprecationWarning: 'audioop'", "")  # discord.py's own, once a start
            for never in ("Traceback", "Warning:", "unexpected_failure", self.discord.bot_token):
                assert never not in said, said[max(0, said.index(never) - 2000) :][:4000]
        violations = self.violations()
        assert violations == [], violations


class HouseOptions(TypedDict, total=False):
    """What `whole_house` takes besides the folder."""

    gpus: Sequence[ComfySandbox]
    settings: Mapping[str, str]
    rate_limits: bool
    is_started: bool
    discord: DiscordSandbox
    app: Path


@asynccontextmanager
async def lawful_house(folder: Path, **options: Unpack[HouseOptions]) -> AsyncIterator[WholeHouse]:
    """`whole_house`, and at its end `check_laws`."""
    async with whole_house(folder, **options) as house:
        yield house
        await house.check_laws()


@asynccontextmanager
async def whole_house(
    folder: Path,
    *,
    gpus: Sequence[ComfySandbox] | None = None,
    settings: Mapping[str, str] | None = None,
    rate_limits: bool = False,
    is_started: bool = True,
    discord: DiscordSandbox | None = None,
    app: Path = ROOT / "app.py",
) -> AsyncIterator[WholeHouse]:
    """Everything running; at the end the program is stopped the clean way, if it still lives.

    `app` is for a program with templates of its own, `settings` may name other servers than `gpus`.
    """
    async with AsyncExitStack() as stack:
        discord = await stack.enter_async_context(discord or DiscordSandbox(rate_limits=rate_limits))
        gpus = [ComfySandbox(name="gpu-1", time_scale=0.1)] if gpus is None else gpus
        for gpu in gpus:
            await stack.enter_async_context(gpu)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONUNBUFFERED": "1",
            "DISCORD_TOKEN": discord.bot_token,
            "ALLOWED_GUILD_ID": str(next(iter(discord.world.guilds))),
            "COMFY_URLS": ",".join(gpu.url for gpu in gpus),
            "DATABASE_URL": f"sqlite:///{folder / 'bot_data.db'}",
            "FULLET_DISCORD_API": discord.api_base,
            "FULLET_DISCORD_GATEWAY": discord.gateway_url,
            **(settings or {}),
        }
        program = Program(environment, folder / "bot.log", app=app)
        people = await stack.enter_async_context(People(discord.page_url))
        house = WholeHouse(discord=discord, gpus=gpus, program=program, people=people, folder=folder)
        try:
            if is_started:
                await house.start()
            yield house
        finally:
            for one in (program, *house.others):
                if one.process is not None and one.process.returncode is None:
                    await one.stop()
