"""The prompts of one life of a server: pending, running, done. All of it is gone after a restart.

Pending prompts lie in a real heap of tuples, as on the real server, because its quirks come from there: the list is not
sorted, equal numbers compare ids, and two entries equal in both compare graphs, which kills whoever asked.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

#: (number, prompt id, graph, extra data, outputs): what `/queue` and `/history` show.
Entry = tuple[float, str, dict[str, Any], dict[str, Any], list[str]]

#: Older entries of the history go when it is full (from the server's source).
HISTORY_LIMIT = 10_000


@dataclass(slots=True)
class Done:
    """One entry of `/history`."""

    prompt: Entry
    outputs: dict[str, Any]
    status: dict[str, Any]
    meta: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        return {"prompt": list(self.prompt), "outputs": self.outputs, "status": self.status, "meta": self.meta}


def timestamp_ms() -> int:
    return int(time.time() * 1000)


@dataclass(slots=True)
class PromptQueue:
    changed: Callable[[], None]  #: called after every change of the number of prompts
    pending: list[Entry] = field(default_factory=list)
    running: Entry | None = None
    history: dict[str, Done] = field(default_factory=dict)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _counter: int = 0

    @property
    def remaining(self) -> int:
        return len(self.pending) + (self.running is not None)

    def next_number(self, *, front: bool) -> float:
        number = -self._counter if front else self._counter
        self._counter += 1
        return number

    def put(self, entry: Entry) -> None:
        """Raises `TypeError` when another entry has the same number and id; the entry is in the queue all the same."""
        try:
            heapq.heappush(self.pending, entry)
        finally:
            self._arrived.set()
        self.changed()

    async def arrival(self) -> None:
        """Until a prompt has been posted."""
        self._arrived.clear()
        await self._arrived.wait()

    def take(self) -> Entry:
        """The next prompt, which then runs. Raises `TypeError` as `put` does, `IndexError` when there is none."""
        self.running = heapq.heappop(self.pending)
        self.changed()
        return self.running

    def finish(self, done: Done) -> None:
        """From running to history in one step. A repeated id keeps its old place there."""
        self.history[done.prompt[1]] = done
        while len(self.history) > HISTORY_LIMIT:
            del self.history[next(iter(self.history))]
        self.running = None
        self.changed()

    def delete(self, prompt_id: str) -> Entry | None:
        """Take back one pending entry with this id; only one, even when there are two."""
        for index, entry in enumerate(self.pending):
            if entry[1] == prompt_id:
                del self.pending[index]
                heapq.heapify(self.pending)
                self.changed()
                return entry
        return None

    def clear(self) -> list[Entry]:
        cleared = list(self.pending)
        self.pending.clear()
        self.changed()
        return cleared
