"""Long works in short transactions: everybody else waits for the one writer meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from modules.utils.database.engine import Engine

P = ParamSpec("P")
T = TypeVar("T")

#: What one transaction of a long work aims at. The bound that people notice is 100 ms, and a disk has slow moments.
AIM_S = 0.03


class Pace:
    """How much the next transaction takes on: as much as the last ones did in AIM_S, and never twice as much as before.

    `least`: so little costs hardly more than the commit itself, so that taking on less would only make more commits.
    """

    def __init__(self, *, least: int, most: int) -> None:
        self.size = least
        self._least = least
        self._most = most

    def note(self, done: int, held_s: float) -> None:
        """A transaction that did so much took so long, in seconds."""
        fitting = done * AIM_S / held_s if held_s > 0 else self._most
        if fitting < self.size or done >= self.size:  # a last, small piece says nothing of a large one
            self.size = max(self._least, int(min(fitting, 2 * self.size, self._most)))


async def held(
    engine: Engine, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
) -> tuple[T, float]:
    """Run an exclusive transaction; its result, and for how many seconds it kept every other from beginning.

    Afterwards it waits for as long again, so that a long work never takes more than half of the writer's time.
    """
    began_s = 0.0

    def timed(connection: Connection) -> T:
        nonlocal began_s
        began_s = time.perf_counter()
        return work(connection, *args, **kwargs)

    result = await engine.exclusive(timed)
    held_s = time.perf_counter() - began_s
    await asyncio.sleep(min(held_s, AIM_S))
    return result, held_s
