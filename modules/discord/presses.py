"""Which presses are one gesture: fingers repeat, and so do slow clients. Remembered here, by the times that Discord gives."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta

import discord

from modules.discord.views.buttons import Act, Press

#: The same button by the same person within this time is one press.
DOUBLE_PRESS = timedelta(seconds=1.5)
#: Where Cancel was, a card then shows Again, and the list of `/queue` the next job's Cancel. Whoever presses so soon after that
#: change still means the first: to see the change, read it and want something else takes longer. It counts from the change, not
#: from the press before: a card was seen to change as late as 3.9 s after that.
READING_TIME = timedelta(seconds=1)
#: In the list the next job's Cancel looks the same as the one before, so nothing needs to be read: only a double click is caught.
MOVING_UP = timedelta(seconds=0.7)
#: Meant as often as they are pressed: a page further, and one job more.
_MEANT_EACH_TIME = frozenset({Act.HISTORY, Act.CANCEL})
_WHERE_CANCEL_WAS = frozenset({Act.RETRY, Act.CANCEL})
_MOST_REMEMBERED = 512

Key = tuple[int, int, Press]


class Presses:
    """The last presses, by person, message and button."""

    def __init__(self) -> None:
        self._last: OrderedDict[Key, datetime] = OrderedDict()

    def is_repeated(self, interaction: discord.Interaction, press: Press) -> bool:
        """Note the press; whether it only goes on with the one before, so that nothing must come of it.

        A menu's entry is on no message: it is chosen anew each time, and its answer could not be left out.
        """
        message = interaction.message
        if message is None:
            return False
        at, key = interaction.created_at, (interaction.user.id, message.id, press)
        before = self._last.pop(key, None)
        self._last[key] = at
        while len(self._last) > _MOST_REMEMBERED:
            self._last.popitem(last=False)
        if press.act in _WHERE_CANCEL_WAS and self._has_cancelled_another(key):
            shown_at = message.edited_at or message.created_at
            if at - shown_at < (READING_TIME if press.act is Act.RETRY else MOVING_UP):
                return True
        return press.act not in _MEANT_EACH_TIME and before is not None and at - before < DOUBLE_PRESS

    def end(self, interaction: discord.Interaction) -> None:
        """A window that one of them opened came back: whatever is pressed on that message next is a new gesture."""
        if interaction.message is not None:
            whose = (interaction.user.id, interaction.message.id)
            for key in [key for key in self._last if key[:2] == whose]:
                del self._last[key]

    def _has_cancelled_another(self, key: Key) -> bool:
        """Whether the same person pressed a Cancel on this message that was not this very button."""
        return any(one[:2] == key[:2] and one[2].act is Act.CANCEL and one[2] != key[2] for one in self._last)
