"""Pictures between a menu entry and the window that it opened.

A window has no room for a picture's address, and its channel may be closed to us: only the menu's interaction brings the file.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta

from modules.discord.message_files import MessageFile
from modules.discord.views.forms import OPEN_FOR_S

#: Windows of so many people may be open at once; beyond it the oldest is forgotten.
MOST_REMEMBERED = 1_000


class MenuPictures:
    """Remembers which picture each person opened a window on, for as long as a window may stay open. Lost with the process."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, int], tuple[MessageFile, datetime]] = OrderedDict()

    def keep(self, user_id: int, message_id: int, file: MessageFile, now: datetime) -> None:
        """Remember the picture of this message for this person."""
        self._kept.pop((user_id, message_id), None)
        self._kept[user_id, message_id] = file, now
        while len(self._kept) > MOST_REMEMBERED:
            self._kept.popitem(last=False)

    def of(self, user_id: int, message_id: int, now: datetime) -> MessageFile | None:
        """That picture; None where it was not remembered, too long ago, or before a restart."""
        file, kept_at = self._kept.get((user_id, message_id), (None, now))
        return file if now - kept_at <= timedelta(seconds=OPEN_FOR_S) else None
