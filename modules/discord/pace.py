"""How often a message may be edited: Discord's limit a channel, and ours a card. Plain values; the caller owns the clock."""

from __future__ import annotations

from collections import deque

from modules.domain.people import ChannelId

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
#: Channels whose paces are kept without a look at whether they are still needed.
KEPT_PACES = 64


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

    def is_idle(self, now: float) -> bool:
        """Whether all its edits are so long ago that a new pace would say the same."""
        return not self._edits or self._edits[-1] + self._window_s <= now


class Paces:
    """The paces of all channels. Sessions come and go, so those that hold nothing up are forgotten."""

    def __init__(self) -> None:
        self._paces: dict[ChannelId, ChannelPace] = {}
        self._tidied_at = KEPT_PACES

    def __len__(self) -> int:
        return len(self._paces)

    def of(self, channel_id: ChannelId, now: float) -> ChannelPace:
        """The pace of a channel at this moment; ask again at the next, for it may have been forgotten meanwhile."""
        if len(self._paces) >= self._tidied_at:
            self._paces = {one: pace for one, pace in self._paces.items() if not pace.is_idle(now)}
            self._tidied_at = max(KEPT_PACES, 2 * len(self._paces))
        return self._paces.setdefault(channel_id, ChannelPace())
