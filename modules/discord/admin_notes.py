"""What only administrators can mend is told in `#admin-tools`, the same thing at most once an hour."""

from __future__ import annotations

import discord
import structlog

from modules.discord.error_codes import passes_by_itself
from modules.discord.recent import Recent
from modules.discord.refusals import DISCORD_TROUBLE
from modules.discord.session_rooms import SessionRooms
from modules.discord.views.layout import Accent
from modules.discord.views.notices import notice
from modules.domain.errors import FulletError
from modules.domain.people import GuildId
from modules.domain.ports import Clock

log = structlog.get_logger(__name__)

#: Everybody who is refused meets the same fault; the administrators need to hear of it once.
AGAIN_AFTER_S = 3600.0
#: Subjects remembered for that, over all guilds.
SUBJECTS_KEPT = 1_000


class AdminNotes:
    """Writes to the administrators of a guild."""

    def __init__(self, rooms: SessionRooms, clock: Clock) -> None:
        self._rooms = rooms
        self._clock = clock
        self._told: Recent[tuple[int, str]] = Recent(SUBJECTS_KEPT)

    async def tell(self, guild_id: int, sentence: str, *, accent: Accent = Accent.RED, about: str | None = None) -> None:
        """One line; raises nothing, for what is wrong may also keep us from writing there.

        `about`: what it is of, where the same thing may be said in different words; else the sentence itself.
        """
        subject = (guild_id, sentence if about is None else about)
        if not self._told.is_due(subject, self._clock.monotonic(), AGAIN_AFTER_S):
            return
        try:
            tools = await self._rooms.admin_tools(GuildId(guild_id))
            if tools is not None:
                await tools.send(view=notice(sentence, accent=accent), allowed_mentions=discord.AllowedMentions.none())
        except (FulletError, *DISCORD_TROUBLE) as error:
            log.warning("admins_not_told", guild_id=guild_id, reason=type(error).__name__)
            if isinstance(error, FulletError) or passes_by_itself(error):
                self._told.forget(subject)  # whoever meets it next tells them
