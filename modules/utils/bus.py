"""Events inside one process: bounded, never waiting for a slow listener."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

from modules.domain.events import Event, JobPreviewed, JobProgressed

#: Events a listener may fall behind; at 50 cards with 5 events a second each, several seconds.
MAX_BACKLOG = 2_000

_DISPOSABLE = (JobPreviewed, JobProgressed)


class EventBus:
    """Hands every published event to every open subscription; implements the `Events` port."""

    def __init__(self, max_backlog: int = MAX_BACKLOG) -> None:
        self._subscriptions: set[_Subscription] = set()
        self._max_backlog = max_backlog

    def publish(self, event: Event) -> None:
        """Never blocks: a listener that is too far behind loses its oldest previews and progress, then its oldest events."""
        for subscription in self._subscriptions:
            subscription.push(event)

    def subscribe(self) -> _Opening:
        """`async with bus.subscribe() as events: async for event in events: ...`"""
        return _Opening(self._subscriptions, self._max_backlog)


class _Subscription:
    def __init__(self, max_backlog: int) -> None:
        self._backlog: deque[Event] = deque()
        self._max_backlog = max_backlog
        self._has_more = asyncio.Event()

    def push(self, event: Event) -> None:
        if len(self._backlog) >= self._max_backlog:
            self._drop_one()
        self._backlog.append(event)
        self._has_more.set()

    def _drop_one(self) -> None:
        disposable = next((old for old in self._backlog if isinstance(old, _DISPOSABLE)), None)
        if disposable is None:
            self._backlog.popleft()
        else:
            self._backlog.remove(disposable)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._backlog:
            self._has_more.clear()
            await self._has_more.wait()
        return self._backlog.popleft()


class _Opening:
    """The subscription exists from `async with` on, so nothing published after that is missed."""

    def __init__(self, subscriptions: set[_Subscription], max_backlog: int) -> None:
        self._subscriptions = subscriptions
        self._subscription = _Subscription(max_backlog)

    async def __aenter__(self) -> AsyncIterator[Event]:
        self._subscriptions.add(self._subscription)
        return self._subscription

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._subscriptions.discard(self._subscription)
