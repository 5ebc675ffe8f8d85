"""`make demo`: the real bot as a process of its own, between a Discord and two GPUs that only play.

The bot is the unmodified program; it is only told where to look. When it dies it is started again after a moment, as
systemd would, so that anyone can kill it and see what becomes of the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO

from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.discord_server import DiscordSandbox

RESTART_AFTER_S = 1.0
#: The bot is up once it has opened its gateway; a first start migrates the database too.
UP_WITHIN_S = 60.0
#: Given to the bot when the demo ends, before it is killed.
STOP_WITHIN_S = 25.0
#: Held by a running demo, so that a second one does not empty the folder under its bot.
LOCK_NAME = "demo.lock"


def run_demo(command: Sequence[str], *, port: int, data: Path, speed: float) -> int:
    """Run until Ctrl-C; returns the exit code. `command` starts the bot."""
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(_Demo(command, port=port, data=data, speed=speed).run())
    return 0


class _Demo:
    def __init__(self, command: Sequence[str], *, port: int, data: Path, speed: float) -> None:
        self._command = command
        self._port = port
        self._data = data.absolute()
        self._speed = speed
        self._stop = asyncio.Event()
        self._bot: asyncio.subprocess.Process | None = None

    async def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._stop.set)
        self._data.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as stack:
            if not _is_ours(stack.enter_context((self._data / LOCK_NAME).open("w"))):
                print("  A demo is running in this folder already. Open its page, or stop it with Ctrl-C first.", file=sys.stderr)
                return 2
            # The stand-in's community lives in memory, so a database of an earlier demo would speak of channels that are gone.
            await asyncio.to_thread(_empty, self._data)
            discord = await stack.enter_async_context(self._discord())
            gpus = [
                await stack.enter_async_context(ComfySandbox(name=name, speed=speed * self._speed, data=self._data / name))
                for name, speed in (("gpu-1", 1.0), ("gpu-2", 0.6))
            ]
            keeping = asyncio.create_task(self._keep_bot_alive(self._environment(discord, gpus)))
            stack.push_async_callback(self._end_bot, keeping)
            return await self._serve(discord)

    def _discord(self) -> DiscordSandbox:
        if not _is_free(self._port):
            print(f"  Port {self._port} is taken by another program, so the page has another address this time.", flush=True)
            self._port = 0
        return DiscordSandbox(port=self._port, rate_limits=True)

    async def _serve(self, discord: DiscordSandbox) -> int:
        print("Starting the bot ...", flush=True)
        async with asyncio.timeout(UP_WITHIN_S):
            while not discord.context.gateway.is_online and not self._stop.is_set():  # noqa: ASYNC110 (the stand-in's own state)
                await asyncio.sleep(0.05)
        print(f"\n  FuLLet is ready. Open  {discord.page_url}\n", flush=True)
        print("  It is a stand-in for Discord: no account, no token, no GPU. Pick a person, type /imagine.")
        print(f"  The bot's log: {self._data / 'bot.log'}    Stop: Ctrl-C\n", flush=True)
        await self._stop.wait()
        return 0

    def _environment(self, discord: DiscordSandbox, gpus: Sequence[ComfySandbox]) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("COMFY", "DISCORD", "DATABASE"))},
            "DISCORD_TOKEN": discord.bot_token,
            "ALLOWED_GUILD_ID": str(next(iter(discord.world.guilds))),
            "COMFY_URLS": ",".join(gpu.url for gpu in gpus),
            "COMFY_API_KEY": "",
            "DATABASE_URL": f"sqlite:///{self._data / 'bot_data.db'}",
            "FULLET_DISCORD_API": discord.api_base,
            "FULLET_DISCORD_GATEWAY": discord.gateway_url,
        }

    async def _keep_bot_alive(self, environment: dict[str, str]) -> None:
        with (self._data / "bot.log").open("ab") as log:
            while True:
                started = time.monotonic()
                self._bot = await asyncio.create_subprocess_exec(
                    *self._command,
                    env=environment,
                    cwd=self._data,  # so that an operator's own .env is not read
                    stdout=log,
                    stderr=log,
                )
                code = await self._bot.wait()
                if self._stop.is_set():
                    return
                print(f"  The bot ended with code {code}; starting it again.", flush=True)
                if code == 2 or time.monotonic() - started < RESTART_AFTER_S:
                    print((self._data / "bot.log").read_text(errors="replace")[-2_000:], file=sys.stderr)
                await asyncio.sleep(RESTART_AFTER_S)

    async def _end_bot(self, keeping: asyncio.Task[None]) -> None:
        """The clean way; what its stand-in GPUs were drawing ends with them."""
        if self._bot is not None and self._bot.returncode is None:
            print("\n  Stopping. The next demo begins with an empty world ...", flush=True)
            self._bot.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_WITHIN_S):
                    await self._bot.wait()
            except TimeoutError:
                self._bot.kill()
                await self._bot.wait()
        keeping.cancel()


def _is_ours(lock: IO[str]) -> bool:
    """Whether nobody else holds it; ours then until it is closed, or this process ends in whatever way."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _empty(folder: Path) -> None:
    """Remove everything but the lock."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name != LOCK_NAME:
            entry.unlink()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last demo may still be closing
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True
