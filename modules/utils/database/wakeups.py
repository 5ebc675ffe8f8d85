"""Wake-ups: hints that something may have changed. Losing one loses nothing, since whoever waits also looks by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection

#: More than this and a stream that nobody reads drops its oldest.
_MAX_PENDING = 1_000
_TOLD = "fullet_told"


class Topic(StrEnum):
    """What the stores themselves talk about. Others may `notify` under words of their own."""

    QUEUE = "queue"  #: something waits, or waits no more
    OUTBOX = "outbox"  #: a message is owed
    CONTROL = "control"  #: a shared fact changed; the payload is its key


@dataclass(frozen=True, slots=True)
class Wakeup:
    """One hint. `is_own`: said by this very process."""

    topic: str
    payload: str = ""
    is_own: bool = True


def tell(connection: Connection, topic: Topic, payload: str = "") -> None:
    """Wake others once this transaction has been committed; nobody when it is rolled back."""
    connection.info.setdefault(_TOLD, {})[Wakeup(topic.value, payload)] = None


def take_told(connection: Connection) -> tuple[Wakeup, ...]:
    """What was told in this transaction; called before it begins (to forget the last one's) and at its end."""
    return tuple(connection.info.pop(_TOLD, ()))


class _Stream:
    """One reader's pending hints: each once, in order."""

    def __init__(self) -> None:
        self._pending: dict[Wakeup, None] = {}
        self._has_some = asyncio.Event()

    def add(self, wakeup: Wakeup) -> None:
        self._pending[wakeup] = None
        if len(self._pending) > _MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._has_some.set()

    def __aiter__(self) -> AsyncIterator[Wakeup]:
        return self

    async def __anext__(self) -> Wakeup:
        await self._has_some.wait()
        wakeup = next(iter(self._pending))
        del self._pending[wakeup]
        if not self._pending:
            self._has_some.clear()
        return wakeup


class Hub:
    """Hands every hint to every stream of this process. Used on the event loop's thread only."""

    def __init__(self) -> None:
        self._streams: list[_Stream] = []

    def publish(self, wakeups: Iterable[Wakeup]) -> None:
        """Never blocks."""
        for wakeup in wakeups:
            for stream in self._streams:
                stream.add(wakeup)

    def publish_lost_track(self) -> None:
        """Hints from elsewhere may have been missed: let everybody look."""
        self.publish(Wakeup(topic.value, is_own=False) for topic in Topic)

    @contextmanager
    def stream(self) -> Iterator[AsyncIterator[Wakeup]]:
        """Everything published while the context is open."""
        mine = _Stream()
        self._streams.append(mine)
        try:
            yield mine
        finally:
            self._streams.remove(mine)
