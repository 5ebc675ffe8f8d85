"""When something was last done for each of many people, channels or sentences, in bounded memory. Plain values; no clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Recent(Generic[K]):
    """Remembers the moments of the last `most` keys. A key that was forgotten counts as never done."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._done_at: OrderedDict[K, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._done_at)

    def is_due(self, key: K, now: float, every_s: float) -> bool:
        """Whether it was not done within the last `every_s` seconds; if so, it is noted as done now."""
        done_at = self._done_at.get(key)
        if done_at is not None and now - done_at < every_s:
            return False
        self._done_at[key] = now
        self._done_at.move_to_end(key)
        while len(self._done_at) > self._most:
            self._done_at.popitem(last=False)
        return True

    def forget(self, key: K) -> None:
        """It is done anew at the next chance."""
        self._done_at.pop(key, None)
