"""What happens in session channels: uploads are remembered, activity is noted, a channel still needed comes back."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import discord
import structlog
from discord.ext import commands

from modules.discord.attachments import looks_like_picture
from modules.discord.message_files import MessageFile
from modules.discord.recent import Recent
from modules.discord.refusals import DISCORD_TROUBLE
from modules.discord.wording import spec_of
from modules.domain.errors import FulletError
from modules.domain.jobs import ACTIVE_STATES, JobState
from modules.domain.people import ChannelId, GuildId, UserId
from modules.utils.i18n import Texts

if TYPE_CHECKING:
    from modules.discord.bot import FulletBot

log = structlog.get_logger(__name__)

#: A person who writes to the bot directly is told where it works, once in this time.
TOLD_EVERY_S = 600.0
#: People remembered for that.
TOLD_AT_MOST = 1_000
_KEPT = "🖼️"


class Sessions(commands.Cog):
    """Listens; has no commands of its own."""

    def __init__(self, bot: FulletBot) -> None:
        self.bot = bot
        self._told: Recent[UserId] = Recent(TOLD_AT_MOST)  #: whose direct messages were answered

    @commands.Cog.listener()
    async def on_message(self, message: discord.Message) -> None:
        """A picture posted in one's own session is what `/edit` takes when none is attached. Direct messages are answered too."""
        if message.author.bot or message.webhook_id is not None:
            return
        if message.guild is None:
            await self._say_where(message)
            return
        self.bot.note_handling()
        try:
            owner = await self.bot.rooms.owner_of(ChannelId(message.channel.id))
            if owner is None:
                return
            await self.bot.rooms.touch(ChannelId(message.channel.id))
            if owner == message.author.id and message.attachments:
                await self._remember(message, owner)
        except FulletError as error:
            log.warning("message_not_followed", code=error.code.value)

    async def _say_where(self, message: discord.Message) -> None:
        """One kind sentence to a direct message, now and then: whoever writes on, person or machine, gets no conversation."""
        self.bot.note_handling()
        author, now = UserId(message.author.id), self.bot.house.clock.monotonic()
        if not self._told.is_due(author, now, TOLD_EVERY_S):
            return
        try:
            texts = await self._texts_of(author, message)
            await message.reply(texts("session.direct"), mention_author=False)
        except (FulletError, *DISCORD_TROUBLE) as error:
            log.warning("direct_message_not_answered", reason=type(error).__name__)

    async def _texts_of(self, owner: UserId, message: discord.Message) -> Texts:
        """A message tells no language: the one its author chose, else that of their last job, else the server's."""
        chosen = (await self.bot.house.people.settings(owner)).language
        latest = [] if chosen else await self.bot.house.jobs.jobs(user_id=owner, limit=1)
        if chosen or latest:
            return self.bot.voices.speaking(chosen or latest[0].language)
        only = self.bot.guilds[0] if len(self.bot.guilds) == 1 else None
        return self.bot.voices.for_guild(message.guild or only)

    async def _remember(self, message: discord.Message, owner: UserId) -> None:
        pictures = [attached for attached in message.attachments if looks_like_picture(MessageFile.of(attached))]
        texts = await self._texts_of(owner, message)
        try:
            # The last picture, or the last file: what is no picture gets the sentence that says so.
            blob_id = await self.bot.asking.upload(owner, (pictures or message.attachments)[-1])
        except FulletError as error:
            await message.reply(self.bot.failures.sentence(error, texts), mention_author=False)
            return
        await self.bot.house.blobs.remember_last(owner, blob_id)
        with contextlib.suppress(*DISCORD_TROUBLE):  # only a nod; the picture is kept whether or not it can be shown
            await message.add_reaction(_KEPT)

    @commands.Cog.listener()
    async def on_interaction(self, interaction: discord.Interaction) -> None:
        """Commands and presses in a session count as activity too."""
        if interaction.channel_id is None or interaction.type is discord.InteractionType.autocomplete:
            return
        self.bot.note_handling()
        try:
            await self.bot.rooms.touch(ChannelId(interaction.channel_id))
        except FulletError as error:
            log.warning("activity_not_noted", code=error.code.value)

    @commands.Cog.listener()
    async def on_guild_channel_delete(self, channel: discord.abc.GuildChannel) -> None:
        """While its person waits for something, a deleted session comes back; else it is forgotten."""
        self.bot.note_handling()
        try:
            session = await self.bot.house.sessions.by_channel(ChannelId(channel.id))
            if session is None:
                return
            await self.bot.house.sessions.remove(session.channel_id)
            owed = await self.bot.house.jobs.jobs(user_id=session.user_id, states=ACTIVE_STATES | {JobState.GENERATED})
            if owed:
                models = self.bot.house.catalogue.models()
                is_for_adults = any((spec := spec_of(models, job)) and spec.is_age_restricted for job in owed)
                again = await self.bot.rooms.reopen(
                    session.guild_id, session.user_id, language=owed[0].language, is_age_restricted=is_for_adults
                )
                if again is not None:
                    await self.bot.house.jobs.move_channel(session.user_id, session.guild_id, again.channel_id)
                    await self.bot.cards.moved(session.user_id, again.channel_id)
        except (FulletError, *DISCORD_TROUBLE) as error:
            log.warning("session_not_reopened", channel_id=channel.id, reason=type(error).__name__)

    @commands.Cog.listener()
    async def on_raw_member_remove(self, event: discord.RawMemberRemoveEvent) -> None:
        """Who leaves waits for nothing any more."""
        await self._cancel_all(UserId(event.user.id), GuildId(event.guild_id))

    async def _cancel_all(self, user_id: UserId, guild_id: GuildId) -> None:
        self.bot.note_handling()
        try:
            for job in await self.bot.house.jobs.jobs(user_id=user_id, states=ACTIVE_STATES):
                if job.guild_id == guild_id:
                    await self.bot.house.studio.cancel(job.id)
        except FulletError as error:
            log.warning("jobs_of_leaver_not_cancelled", code=error.code.value)
