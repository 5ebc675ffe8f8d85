"""An event loop whose time passes only when everybody waits, and then at once."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import ParamSpec, TypeVar

from tests.support.builders import FIRST_MOMENT

P = ParamSpec("P")
T = TypeVar("T")


class _Leaping(selectors.SelectSelector):
    """Instead of waiting for the next timer, moves the time there."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits for something that will never come")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """No sockets, no threads: what is handed to a thread is done on the spot."""

    def __init__(self) -> None:
        self._leaping = _Leaping()
        super().__init__(self._leaping)
        self.set_default_executor(_OnTheSpot())

    def time(self) -> float:
        return self._leaping.now

    def _write_to_self(self) -> None:
        """There is no other thread to wake us."""


class _OnTheSpot(ThreadPoolExecutor):
    """asyncio insists on this class; no thread is ever started."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - handed to whoever awaits it, as a pool does
            future.set_exception(error)
        return future


class VirtualClock:
    """Implements the `Clock` port on a `VirtualLoop`; the wall clock may be set, the other goes on."""

    def __init__(self) -> None:
        self._offset_s = 0.0

    def now(self) -> datetime:
        return FIRST_MOMENT + timedelta(seconds=self.monotonic() + self._offset_s)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def jump(self, seconds: float) -> None:
        """Somebody sets the clock."""
        self._offset_s += seconds


def run_virtually(work: Coroutine[object, object, T]) -> T:
    """`asyncio.run` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
