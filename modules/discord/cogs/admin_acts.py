"""What all commands of the `/admin` group share. Discord wants one group, so it is one cog, told in several files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord
import structlog
from discord import app_commands
from discord.ext import commands

from modules.discord.answers import show_privately
from modules.discord.checks import is_admin
from modules.discord.failures import Refusal
from modules.discord.refusals import DISCORD_TROUBLE
from modules.discord.translator import phrase as _
from modules.discord.views.layout import Accent
from modules.discord.views.notices import notice
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.people import ChannelId, GuildId, UserId
from modules.domain.records import AuditEntry

if TYPE_CHECKING:
    from modules.discord.bot import FulletBot

log = structlog.get_logger(__name__)

ADMIN = app_commands.Group(
    name="admin",
    description=_("command.admin.description"),
    default_permissions=discord.Permissions(administrator=True),
    guild_only=True,
)


class AdminActs(commands.Cog):
    """Everything is checked against what Discord says of the person at that moment; nothing is cached."""

    def __init__(self, bot: FulletBot) -> None:
        self.bot = bot

    async def interaction_check(self, interaction: discord.Interaction, /) -> bool:
        """Discord hides the group from others; a server may have opened it, so we look ourselves."""
        if not is_admin(interaction):
            raise Refusal(FulletError(ErrorCode.ADMINS_ONLY))
        return True

    async def say(self, interaction: discord.Interaction, key: str, **params: str | int | float) -> None:
        """A sentence for the one who asked."""
        texts = await self.bot.voices.for_person(interaction)
        await show_privately(interaction, notice(texts(key, **params)))

    async def done(self, interaction: discord.Interaction, key: str, **params: str | int | float) -> None:
        """To the one who did it, and a line for all administrators."""
        await self.say(interaction, key, **params)
        await self.tell(interaction, key, **params)

    async def tell(self, interaction: discord.Interaction, key: str, **params: str | int | float) -> None:
        """A line for all administrators: in the channel they chose, else in `#admin-tools`. That it fails undoes nothing."""
        texts = self.bot.voices.for_guild(interaction.guild)
        line = texts("admin.line", person=interaction.user.mention, act=texts(key, **params))
        try:
            for channel in await self._told_in(guild_of(interaction)):
                if await self._tell_in(channel, line):
                    return
        except DISCORD_TROUBLE as error:
            log.warning("act_not_told", reason=type(error).__name__)

    async def _tell_in(self, channel: discord.TextChannel, line: str) -> bool:
        try:
            await channel.send(view=notice(line, accent=Accent.GREY), allowed_mentions=discord.AllowedMentions.none())
        except DISCORD_TROUBLE as error:
            log.warning("act_not_told", channel_id=channel.id, reason=type(error).__name__)
            return False
        return True

    async def note(self, actor: discord.abc.User, act: str, subject: str = "") -> None:
        """A row in the audit trail. Acts on the queue are noted where they are done."""
        now = self.bot.house.clock.now()
        await self.bot.house.control.audit(AuditEntry(at=now, actor_id=UserId(actor.id), act=act, subject=subject))

    async def _told_in(self, guild_id: GuildId) -> list[discord.TextChannel]:
        chosen = (await self.bot.house.people.guild(guild_id)).audit_channel_id
        channels = [
            await self.bot.known_guilds.text_channel(guild_id, ChannelId(chosen)) if chosen else None,
            await self.bot.rooms.admin_tools(guild_id),
        ]
        return [channel for channel in channels if channel is not None]


def guild_of(interaction: discord.Interaction) -> GuildId:
    """The group is for guilds only."""
    assert interaction.guild_id is not None
    return GuildId(interaction.guild_id)
