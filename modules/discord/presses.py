"""Which presses are one gesture: fingers repeat, and so do slow clients. Remembered for seconds, and only here."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import discord

from modules.discord.views.buttons import Act, Press
from modules.domain.ports import Clock

#: The same button by the same person within this time is one press.
DOUBLE_PRESS_S = 1.5
#: Where Cancel was, the card shows Again once it is painted, which was seen to take 1.5 s. Whoever is still pressing Cancel then
#: is at most a double press behind; whoever wants the picture after all has to read the card first.
AFTER_CANCEL_S = 1.5 + DOUBLE_PRESS_S
#: Meant as often as they are pressed: a page further, and one job more.
_MEANT_EACH_TIME = frozenset({Act.HISTORY, Act.CANCEL})
_MOST_REMEMBERED = 512

Key = tuple[int, int, Press]


class Presses:
    """The last presses, by person, message and button."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: OrderedDict[Key, float] = OrderedDict()

    def is_repeated(self, interaction: discord.Interaction, press: Press) -> bool:
        """Note the press; whether it only goes on with the one before, so that nothing must come of it.

        A menu's entry is on no message: it is chosen anew each time, and its answer could not be left out.
        """
        if interaction.message is None:
            return False
        now, key = self._clock.monotonic(), (interaction.user.id, interaction.message.id, press)
        before = self._last.pop(key, float("-inf"))
        self._last[key] = now
        while len(self._last) > _MOST_REMEMBERED:
            self._last.popitem(last=False)
        if press.act is Act.RETRY and now - self._cancelled_at(key) < AFTER_CANCEL_S:
            return True
        return press.act not in _MEANT_EACH_TIME and now - before < DOUBLE_PRESS_S

    def end(self, interaction: discord.Interaction) -> None:
        """A window that one of them opened came back: whatever is pressed on that message next is a new gesture."""
        if interaction.message is not None:
            whose = (interaction.user.id, interaction.message.id)
            for key in [key for key in self._last if key[:2] == whose]:
                del self._last[key]

    def _cancelled_at(self, key: Key) -> float:
        """When the same person pressed Cancel for this job on this very message: never that of `/queue` or `/admin`."""
        user_id, message_id, press = key
        return self._last.get((user_id, message_id, replace(press, act=Act.CANCEL)), float("-inf"))
