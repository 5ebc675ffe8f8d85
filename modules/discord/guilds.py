"""The one border for what Discord says of a guild: the gateway's picture where it is complete, else the REST API.

In READY every guild is unavailable, and a new READY empties discord.py's cache: until GUILD_CREATE, which may take minutes or
hours, a guild there has no channels and no roles, and `me` is `None`. So "not in the cache" never means "does not exist" here.
Source: Discord developer documentation, "Ready", "Guild Create"; Rapptz/discord.py #5816.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import discord

from modules.discord.refusals import MISSING_ACCESS, MISSING_PERMISSIONS, UNKNOWN_CHANNEL
from modules.domain.people import ChannelId, GuildId, UserId

# Source: Discord developer documentation, "JSON error codes".
UNKNOWN_GUILD = 10004
UNKNOWN_MEMBER = 10007
UNKNOWN_USER = 10013
#: While a guild is away from the gateway its picture of the REST API serves for this long, so that a crowd costs few requests.
REST_VIEW_LIFE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuildView:
    """A guild with its roles, the bot as its member, and all its channels."""

    guild: discord.Guild
    me: discord.Member
    channels: Sequence[discord.abc.GuildChannel]
    _made_at: float = field(default_factory=time.monotonic)

    @property
    def is_recent(self) -> bool:
        """Whether it may still serve."""
        return time.monotonic() - self._made_at < REST_VIEW_LIFE_S


class Guilds:
    """Asks the gateway's cache first and the REST API whenever the cache cannot know."""

    def __init__(self, client: discord.Client) -> None:
        self._client = client
        self._views: dict[GuildId, GuildView] = {}
        self._turns: dict[GuildId, asyncio.Lock] = {}

    def cached(self, guild_id: GuildId) -> discord.Guild | None:
        """Give the gateway's guild; `None` while it has none or an incomplete one."""
        guild = self._client.get_guild(guild_id)
        return guild if guild is not None and is_complete(guild) else None

    def ids(self) -> Sequence[GuildId]:
        """Give every guild the bot is in, also those that are unavailable: READY lists them all."""
        return [GuildId(guild.id) for guild in self._client.guilds]

    async def view(self, guild_id: GuildId, *, fresh: bool = False) -> GuildView | None:
        """Give roles, the bot itself and channels; `None` when Discord says that the bot is not in this guild.

        `fresh`: ask the REST API even if the cache is complete. Raises `DISCORD_TROUBLE`.
        """
        guild = None if fresh else self.cached(guild_id)
        if guild is not None:
            self.forget(guild_id)
            return GuildView(guild=guild, me=guild.me, channels=list(guild.channels))
        async with self._turns.setdefault(guild_id, asyncio.Lock()):
            known = self._views.get(guild_id)
            if not fresh and known is not None and known.is_recent:
                return known
            fetched = await self._fetch(guild_id)
            if fetched is not None:
                self._views[guild_id] = fetched
            return fetched

    async def with_fresh_channels(self, view: GuildView) -> GuildView:
        """Give the same view with the channels that the REST API names now. Raises `DISCORD_TROUBLE`."""
        return replace(view, channels=await view.guild.fetch_channels())

    def forget(self, guild_id: GuildId) -> None:
        """Ask anew next time: something was changed in the guild."""
        self._views.pop(guild_id, None)

    async def _fetch(self, guild_id: GuildId) -> GuildView | None:
        assert self._client.user is not None, "asked before the login"
        try:
            guild = await self._client.fetch_guild(guild_id, with_counts=False)
            me = await guild.fetch_member(self._client.user.id)
            return GuildView(guild=guild, me=me, channels=await guild.fetch_channels())
        except (discord.NotFound, discord.Forbidden) as error:
            if error.code in {UNKNOWN_GUILD, UNKNOWN_MEMBER, MISSING_ACCESS}:
                return None
            raise

    async def member(self, guild_id: GuildId, user_id: UserId) -> discord.Member | None:
        """Give a member with their roles; `None` when Discord says that they (or the bot) are not in the guild.

        Raises `DISCORD_TROUBLE`.
        """
        guild = self.cached(guild_id)
        known = guild.get_member(user_id) if guild is not None else None
        if known is not None:
            return known
        view = await self.view(guild_id)
        if view is None:
            return None
        try:
            return await view.guild.fetch_member(user_id)
        except discord.NotFound as error:
            if error.code in {UNKNOWN_MEMBER, UNKNOWN_USER}:
                return None
            raise

    async def text_channel(self, guild_id: GuildId, channel_id: ChannelId) -> discord.TextChannel | None:
        """Give a text channel of a guild; `None` only when Discord says that it is gone or that the bot may not see it.

        Raises `DISCORD_TROUBLE`.
        """
        guild = self.cached(guild_id)
        channel: object = guild.get_channel(channel_id) if guild is not None else None
        if guild is not None and isinstance(channel, discord.TextChannel):
            return channel if channel.permissions_for(guild.me).view_channel else None
        try:
            channel = await self._client.fetch_channel(channel_id)
        except (discord.NotFound, discord.Forbidden) as error:
            if error.code in {UNKNOWN_CHANNEL, MISSING_ACCESS, MISSING_PERMISSIONS}:
                return None
            raise
        except discord.InvalidData:
            return None  # a kind of channel that discord.py does not know is no session
        return channel if isinstance(channel, discord.TextChannel) and channel.guild.id == guild_id else None

    async def delete_channel(self, channel_id: ChannelId, reason: str) -> None:
        """Delete a channel; one that is gone is no error. Raises `DISCORD_TROUBLE`."""
        try:
            await self._client.http.delete_channel(channel_id, reason=reason)
        except discord.NotFound as error:
            if error.code != UNKNOWN_CHANNEL:
                raise


def is_complete(guild: discord.Guild) -> bool:
    """Decide whether the gateway has told of this guild: its roles, its channels and the bot itself are known.

    discord.py's types promise a default role and `me`; before GUILD_CREATE both are `None`.
    """
    default_role, me = cast("discord.Role | None", guild.default_role), cast("discord.Member | None", guild.me)
    return not guild.unavailable and default_role is not None and me is not None
