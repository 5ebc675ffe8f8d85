"""`ComfySandbox`: a ComfyUI that needs no GPU, on a loopback port.

    async with ComfySandbox(name="gpu-1", speed=1.0) as server:
        ... server.url ...

It can crash and come back on the same port: queue, history, cache and temp files are gone then, outputs and inputs stay.
"""

from __future__ import annotations

import asyncio
import socket as sockets
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from aiohttp import web

from modules.sandbox.comfy_server.control import ControlRoutes
from modules.sandbox.comfy_server.faults import Fault, FaultKind, Faults, Match
from modules.sandbox.comfy_server.journal import Journal
from modules.sandbox.comfy_server.middleware import logging_middleware
from modules.sandbox.comfy_server.process import Process
from modules.sandbox.comfy_server.routes import ComfyRoutes
from modules.sandbox.comfy_server.settings import SandboxSettings, SettingsArguments
from modules.sandbox.comfy_server.storage import Storage

#: `--max-upload-size` of ComfyUI, 100 MB by default.
MAX_UPLOAD_BYTES = 104857600


class ComfySandbox:
    """Start it with `async with`; everything else may be called while it runs."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        data: Path | str | None = None,
        max_upload_bytes: int = MAX_UPLOAD_BYTES,
        **settings: Unpack[SettingsArguments],
    ) -> None:
        """`data` keeps outputs and inputs across lives; without it they lie in a temporary folder. Port 0: a free one."""
        self.settings = SandboxSettings(**settings)
        self.faults = Faults()
        self.journal = Journal()
        self._host, self._port = host, port
        self._max_upload_bytes = max_upload_bytes
        self._own_folder = tempfile.TemporaryDirectory(prefix="comfy-sandbox-") if data is None else None
        self._storage = Storage(Path(data if data is not None else self._own_folder.name))  # type: ignore[union-attr]  # one of the two is set
        self._process: Process | None = None
        self._runner: web.AppRunner | None = None
        self._lives: asyncio.Task[None] | None = None
        self._crash: asyncio.Event = asyncio.Event()
        self._down_s: float | None = None
        self._is_up = asyncio.Event()
        self._is_down = asyncio.Event()

    # --- what callers see --------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def process(self) -> Process:
        if self._process is None:
            raise RuntimeError("the sandbox is not running")
        return self._process

    @property
    def outputs(self) -> Path:
        return self._storage.root / "output"

    @property
    def inputs(self) -> Path:
        return self._storage.root / "input"

    def configure(self, settings: SandboxSettings) -> None:
        self.settings = settings
        if self._process is not None:
            self._process.configure(settings)

    def fail(self, kind: FaultKind | str, *, times: int | None = 1, match: Match | None = None, **details: object) -> Fault:
        """Ask for a fault, as `POST /sandbox/faults` does."""
        fault = self.faults.add(FaultKind(kind), times=times, match=match, **details)
        self.act(fault)
        return fault

    def act(self, fault: Fault) -> None:
        """Do at once what needs no occasion: a crash or dropped sockets without a step to wait for."""
        if fault.match.step is not None:
            return
        match fault.kind:
            case FaultKind.CRASH:
                self.faults.use(fault)
                self.crash_soon(fault.seconds(1.0))
            case FaultKind.WS_DROP:
                self.faults.use(fault)
                self.process.hub.drop_all()
            case FaultKind.WS_SILENT:
                if self.process.hub.silence_all():
                    self.faults.use(fault)  # otherwise it waits for the next socket
            case _:
                pass

    def add_foreign(self, *, count: int = 1, seconds: float = 5.0) -> list[str]:
        """Prompts of somebody else in the queue, as `POST /sandbox/foreign` makes them; their ids."""
        return self.process.add_foreign(count=count, seconds=seconds)

    def crash_soon(self, down_s: float | None) -> None:
        """Die as a killed process dies, as soon as the loop turns; back after `down_s`, or never when None."""
        self._down_s = down_s
        self._is_up.clear()
        self._crash.set()

    async def crash(self, down_s: float | None = 0.0) -> None:
        """Die now and, unless `down_s` is None, wait until the server is back."""
        self.crash_soon(down_s)
        if down_s is not None:
            await self._is_up.wait()

    async def wait_until_up(self) -> None:
        await self._is_up.wait()

    async def wait_until_down(self) -> None:
        """Until a crash that was asked for has closed the port."""
        await self._is_down.wait()

    # --- living ------------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._lives = asyncio.create_task(self._live(), name=f"comfy-sandbox-{self.name}")
        up = asyncio.create_task(self._is_up.wait())
        await asyncio.wait([up, self._lives], return_when=asyncio.FIRST_COMPLETED)
        if self._lives.done():
            up.cancel()
            self._lives.result()  # raises what went wrong at the start, such as a taken port
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._lives is not None
        self._lives.cancel()
        await asyncio.wait([self._lives])
        if self._own_folder is not None:
            await asyncio.to_thread(self._own_folder.cleanup)
        if not self._lives.cancelled():
            self._lives.result()  # a mistake in the stand-in must not hide behind a test that fails for another reason

    async def run_for_ever(self) -> None:
        """Until cancelled, or until a crash that has no return."""
        assert self._lives is not None
        await self._lives

    async def _live(self) -> None:
        """One life after the other on the same port. A mistake in the stand-in itself ends it loudly."""
        while True:
            worker = await self._begin()
            crashed = asyncio.create_task(self._crash.wait())
            try:
                await asyncio.wait([worker, crashed], return_when=asyncio.FIRST_COMPLETED)
                if worker.done():
                    worker.result()  # raises a mistake; a dead worker thread is not one: HTTP stays until the crash
                    await crashed
            finally:
                crashed.cancel()
                await self._end(worker)
            if self._down_s is None:
                return
            await asyncio.sleep(self._down_s)

    async def _begin(self) -> asyncio.Task[None]:
        await asyncio.to_thread(self._storage.prepare)
        self._crash.clear()
        self._process = Process(self.settings, self._storage, self.faults, self.journal, self.crash_soon)
        app = web.Application(middlewares=[logging_middleware(self)], client_max_size=self._max_upload_bytes)
        ComfyRoutes(self).add_to(app)
        ControlRoutes(self).add_to(app)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)
        await self._runner.setup()
        listener = _listener(self._host, self._port)
        self._port = listener.getsockname()[1]
        await web.SockSite(self._runner, listener).start()
        self.journal.boots.append(time.time())
        self._is_down.clear()
        self._is_up.set()
        return asyncio.create_task(self._process.work(), name=f"comfy-worker-{self.name}")

    async def _end(self, worker: asyncio.Task[None]) -> None:
        """No farewell to anybody: connections are cut, the run is dropped where it stands."""
        self._is_up.clear()
        assert self._process is not None
        assert self._runner is not None
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        for site in tuple(self._runner.sites):
            await site.stop()
        self._process.hub.drop_all()
        if self._runner.server is not None:
            for connection in self._runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
        await self._runner.cleanup()
        self.journal.lose_unfinished()
        self._is_down.set()


def _listener(host: str, port: int) -> sockets.socket:
    """A listening socket on the wanted port, free again at once after a crash."""
    listener = sockets.socket(sockets.AF_INET, sockets.SOCK_STREAM)
    listener.setsockopt(sockets.SOL_SOCKET, sockets.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise
    return listener
