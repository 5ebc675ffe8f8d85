"""How often a message may be edited: Discord's limit a channel, and ours a card. Plain values; the caller owns the clock."""

from __future__ import annotations

from collections import deque

#: Discord allows five message edits in five seconds a channel (bucket of `PATCH /channels/{id}/messages/{id}`).
#: We stay one below, so that the courier's own edit of a failed card always has room.
EDITS_PER_WINDOW = 4
WINDOW_S = 5.0
#: Of these, bare progress leaves one free: whoever presses Cancel, or whose picture begins, sees it at once.
KEPT_FOR_NEWS = 1
#: A new preview is shown at most this often a card (cards.md).
PREVIEW_EVERY_S = 3.0
#: Bare step counts go out at most this often a card.
STEP_EVERY_S = 1.5


class ChannelPace:
    """The edits of one channel in a sliding window."""

    def __init__(self, per_window: int = EDITS_PER_WINDOW, window_s: float = WINDOW_S) -> None:
        self._edits: deque[float] = deque(maxlen=per_window)
        self._per_window = per_window
        self._window_s = window_s

    def free_at(self, *, is_news: bool) -> float:
        """The first moment at which one more edit is within the limit, and, unless it is news, leaves room for some."""
        allowed = self._per_window if is_news else self._per_window - KEPT_FOR_NEWS
        return self._edits[-allowed] + self._window_s if len(self._edits) >= allowed else float("-inf")

    def note(self, now: float) -> None:
        """An edit ended at this moment."""
        self._edits.append(now)
