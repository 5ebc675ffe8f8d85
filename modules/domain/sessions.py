"""Sessions: the private channel in which one person follows their jobs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from modules.domain.people import ChannelId, GuildId, UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One person's private channel, as stored. The stored id is the proof of ownership, never the channel's name."""

    user_id: UserId
    guild_id: GuildId
    channel_id: ChannelId
    last_active_at: datetime
