"""Decodes what people send in a process of its own, one picture at a time, with a deadline; killed when it is over it.

Why a process: a decoder that runs too long or takes too much memory can be ended, and nothing else waits for it
(docs/decisions/0079-uploads-are-decoded-in-a-process.md).
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from modules.domain.errors import ErrorCode, FulletError, Param
from modules.domain.images import Dimensions, Picture, PictureFormat
from modules.utils.upload_messages import BEGUN, LENGTH, READ_RECIPE, SANITISE

log = structlog.get_logger(__name__)

#: A Python with Pillow takes 0.2 s to start; on a machine that is very busy some seconds.
START_TIMEOUT_S = 20.0
#: From the beginning of the work to its end. The worker bounds its processor time more closely (`upload_worker.CPU_LIMIT_S`).
DEADLINE_S = 30.0
#: For the end of a process that was killed, which takes some milliseconds.
END_TIMEOUT_S = 10.0
#: An unused process is ended: it holds about 30 MiB.
IDLE_S = 60.0
#: The process is not given our environment, which holds tokens and keys: only what an interpreter may need to start.
_KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TEMP", "TMP", "LANG", "LC_ALL")
#: glibc reserves 64 MiB of addresses for each further thread's heap, which would count against the memory bound.
_ONE_HEAP = {"MALLOC_ARENA_MAX": "1"}
_ROOT = Path(__file__).resolve().parents[2]
#: What an answer may hold at most; it comes from a process that read a stranger's file.
_MAX_FACTS_BYTES = 1024 * 1024
_MAX_PICTURE_BYTES = 16 * 1024 * 1024
_CODES = frozenset(code.value for code in ErrorCode)

Facts = Mapping[str, object]


class UploadProcess:
    """The lane for uploads; open it with `async with`. The process is started by the first picture and ended when unused."""

    def __init__(self, *, deadline_s: float = DEADLINE_S, idle_s: float = IDLE_S) -> None:
        self._deadline_s = deadline_s
        self._idle_s = idle_s
        self._lane = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._is_closing = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._is_closing = True
        if self._process is not None:
            _kill(self._process)  # whoever reads its answer learns of it, and leaves the lane
        async with self._lane:
            await self._end()

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self._process.pid if self._process is not None else None

    async def sanitise(self, data: bytes) -> Picture:
        """Make an upload safe, as `upload_images.sanitise_upload` does. Raises its errors, PICTURE_TOO_COMPLEX, PICTURES_BUSY."""
        facts, picture = await self._ask(SANITISE, data)
        form, width, height = (facts.get(name) for name in ("format", "width_px", "height_px"))
        if form not in set(PictureFormat) or not isinstance(width, int) or not isinstance(height, int):
            raise FulletError(ErrorCode.PICTURE_BROKEN)
        return Picture(data=picture, format=PictureFormat(str(form)), size=Dimensions(width, height))

    async def read_recipe(self, data: bytes) -> str | None:
        """The recipe in a file of ours, as `images.read_recipe` finds it. Raises PICTURE_TOO_COMPLEX, PICTURES_BUSY."""
        facts, _ = await self._ask(READ_RECIPE, data)
        recipe = facts.get("recipe")
        return recipe if isinstance(recipe, str) else None

    async def _ask(self, what: bytes, data: bytes) -> tuple[Facts, bytes]:
        """One request, when its turn has come. A caller who is cancelled frees the lane at once."""
        async with self._lane:
            facts, picture = await self._work(what, data)
        if "error" in facts:
            raise _error_in(facts)
        return facts, picture

    async def _work(self, what: bytes, data: bytes) -> tuple[Facts, bytes]:
        if self._ending is not None:
            self._ending.cancel()
        try:
            process = await self._ready(what, data)
            async with asyncio.timeout(self._deadline_s):
                answer = await _read_answer(process)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, ValueError) as error:
            await self._end()
            log.warning("upload_given_up", reason=type(error).__name__, bytes=len(data))
            raise FulletError(ErrorCode.PICTURE_TOO_COMPLEX) from error
        except BaseException:
            await self._end()  # above all: whoever asked is gone, so the decoder must not go on
            raise
        self._ending = asyncio.get_running_loop().call_later(self._idle_s, self._kill_unused)
        return answer

    async def _ready(self, what: bytes, data: bytes) -> asyncio.subprocess.Process:
        """The process, at work on this file. One that ended since its last answer is replaced, once."""
        if self._process is not None and (process := await self._begun(self._process, what, data)) is not None:
            return process
        self._check_open()
        self._process = await _started()
        self._check_open()
        if (process := await self._begun(self._process, what, data)) is not None:
            return process
        log.warning("upload_process_does_not_start")
        raise FulletError(ErrorCode.PICTURES_BUSY)

    def _check_open(self) -> None:
        """Raises PICTURES_BUSY at the end of the program: nothing is begun any more."""
        if self._is_closing:
            raise FulletError(ErrorCode.PICTURES_BUSY)

    async def _begun(self, process: asyncio.subprocess.Process, what: bytes, data: bytes) -> asyncio.subprocess.Process | None:
        """The process, when it has begun with this file; None, and it is ended, when it does not."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await _send(process, what, data)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            await self._end()
            return None
        return process

    def _kill_unused(self) -> None:
        if not self._lane.locked() and self._process is not None:
            _kill(self._process)

    async def _end(self) -> None:
        """Kill the process and wait until it is gone; it is killed even if this wait is cancelled. For the owner of the lane."""
        if self._ending is not None:
            self._ending.cancel()
        process, self._process = self._process, None
        if process is not None:
            _kill(process)
            await _until_gone(process)


async def _started() -> asyncio.subprocess.Process:
    """A new worker. Raises PICTURES_BUSY when the machine gives us no process."""
    kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # modules come from where this one lies, not from the folder that the program was started in
            "-m",
            "modules.utils.upload_worker",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**kept, **_ONE_HEAP, "PYTHONPATH": str(_ROOT)},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        log.exception("upload_process_not_started")
        raise FulletError(ErrorCode.PICTURES_BUSY) from error


async def _send(process: asyncio.subprocess.Process, what: bytes, data: bytes) -> None:
    """Hand over a file; returns when the worker has begun with it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(what + LENGTH.pack(len(data)))
    process.stdin.write(data)
    await process.stdin.drain()
    if await process.stdout.readexactly(1) != BEGUN:
        raise ValueError("not an answer")


async def _read_answer(process: asyncio.subprocess.Process) -> tuple[Facts, bytes]:
    assert process.stdout is not None
    text = await _read_block(process.stdout, _MAX_FACTS_BYTES)
    picture = await _read_block(process.stdout, _MAX_PICTURE_BYTES)
    facts = json.loads(text)
    if not isinstance(facts, dict):
        raise ValueError("not an answer")  # noqa: TRY004 - a wrong value, not a wrong use
    return facts, picture


async def _read_block(source: asyncio.StreamReader, limit: int) -> bytes:
    [length] = LENGTH.unpack(await source.readexactly(LENGTH.size))
    if length > limit:
        raise ValueError("an answer is too long")
    return await source.readexactly(length)


def _error_in(facts: Facts) -> FulletError:
    code, params = facts.get("error"), facts.get("params")
    if code not in _CODES or not isinstance(params, dict):
        return FulletError(ErrorCode.PICTURE_BROKEN)
    numbers: dict[str, Param] = {str(name): value for name, value in params.items() if isinstance(value, int)}
    return FulletError(ErrorCode(code), **numbers)


async def _until_gone(process: asyncio.subprocess.Process) -> None:
    """Wait for the end of a process that was killed; not longer than END_TIMEOUT_S, which only a kernel that hangs takes.

    asyncio notices the end of a process after the ends of its pipes, and the end of one only where somebody reads it: with a
    buffer that is full of an answer that nobody wants any more, `wait` would never return. So the rest is read and dropped.
    Source: the warning at `Process.wait` in Python's manual.
    """
    try:
        async with asyncio.timeout(END_TIMEOUT_S):
            await process.communicate()
    except TimeoutError:
        log.warning("upload_process_does_not_end", pid=process.pid)


def _kill(process: asyncio.subprocess.Process) -> None:
    try:
        process.kill()
    except ProcessLookupError:
        return  # it ended by itself
