"""Sessions: every person's private channel, found or made when needed, closed when idle, never mistaken for another's."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta
from weakref import WeakValueDictionary

import discord
import structlog

from modules.discord.house import DiscordOptions, House
from modules.discord.refusals import DISCORD_TROUBLE, INVALID_FORM, MAX_GUILD_CHANNELS, RefusalKind, refusal_of
from modules.discord.session_channels import (
    MAX_CHANNELS_PER_GUILD,
    channel_name,
    check_rights,
    ensure_admin_tools,
    is_hidden,
    is_shown_to,
    make_hidden,
    restrict_age,
    roomy_category,
    session_categories,
    session_overwrites,
)
from modules.discord.session_marker import SessionMarker
from modules.discord.voices import Voices
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.people import ChannelId, GuildId, UserId
from modules.domain.sessions import Session

log = structlog.get_logger(__name__)

ADMIN_TOOLS_KEY = "discord.admin_tools.{guild_id}"
#: Activity is noted at most this often a session: the sweep counts in minutes.
TOUCH_EVERY_S = 20.0
#: Making a channel, with discord.py's own retries inside.
CREATE_TIMEOUT_S = 30.0
#: The sweep looks this often at most and at least.
SWEEP_EVERY_S = (1.0, 60.0)


class SessionRooms:
    """Finds, makes, hides and closes session channels. One person's calls take turns."""

    def __init__(self, client: discord.Client, house: House, voices: Voices, options: DiscordOptions) -> None:
        self._client = client
        self._house = house
        self._voices = voices
        self._options = options
        self._turns: WeakValueDictionary[tuple[int, int], asyncio.Lock] = WeakValueDictionary()
        self._category_turns: WeakValueDictionary[GuildId, asyncio.Lock] = WeakValueDictionary()
        self._touched: dict[ChannelId, float] = {}
        self._marker: SessionMarker | None = None
        self._ready = asyncio.Event()

    async def ensure(
        self, member: discord.Member, *, language: str, unusable: ChannelId | None = None, is_age_restricted: bool = False
    ) -> Session:
        """This person's session, private and noted as active now. `language`: theirs, for a channel made anew.

        `unusable`: a channel that Discord just refused to us.

        `is_age_restricted`: Discord must ask for the person's age before it shows the channel; once so, it stays so.

        Raises PERMISSION_MISSING (named), CHANNEL_LIMIT_REACHED, DATABASE_UNAVAILABLE; Discord's own troubles pass through.
        """
        guild_id, user_id = GuildId(member.guild.id), UserId(member.id)
        turn = self._turns.setdefault((guild_id, user_id), asyncio.Lock())
        async with turn, asyncio.timeout(CREATE_TIMEOUT_S):
            stored = await self._house.sessions.get(guild_id, user_id)
            channel = await self._stored_channel(member.guild, stored) or await self._marked_channel(member.guild, user_id)
            if channel is None or channel.id == unusable:
                channel = await self._create(member, language, is_age_restricted=is_age_restricted)
            elif not is_hidden(channel) or not channel.permissions_for(member).view_channel:
                log.warning("session_rights_mended", channel_id=channel.id)
                await make_hidden(channel, member)
            if is_age_restricted and not channel.is_nsfw():
                await restrict_age(channel)
            session = Session(
                user_id=user_id, guild_id=guild_id, channel_id=ChannelId(channel.id), last_active_at=self._house.clock.now()
            )
            await self._house.sessions.save(session)
            if stored is not None and stored.channel_id != session.channel_id:
                await self._house.jobs.move_channel(user_id, session.channel_id)
            return session

    async def reopen(
        self,
        guild_id: GuildId,
        user_id: UserId,
        *,
        language: str,
        unusable: ChannelId | None = None,
        is_age_restricted: bool = False,
    ) -> Session | None:
        """The session of somebody who is not pressing anything right now; None when they or their guild are gone."""
        guild = self._client.get_guild(guild_id)
        if guild is None:
            return None
        try:
            member = guild.get_member(user_id) or await guild.fetch_member(user_id)
        except discord.NotFound:
            return None
        return await self.ensure(member, language=language, unusable=unusable, is_age_restricted=is_age_restricted)

    async def is_private(self, channel_id: ChannelId) -> bool | None:
        """Whether its person sees it and @everyone does not, by what Discord last told us; None when we know no such channel."""
        channel = self._client.get_channel(channel_id)
        if not isinstance(channel, discord.TextChannel):
            return None
        owner = await self.owner_of(channel_id)
        return is_hidden(channel) and (owner is None or is_shown_to(channel, owner))

    def is_age_restricted(self, channel_id: ChannelId) -> bool:
        """Whether Discord asks for people's age before it shows the channel, by what it last told us."""
        channel = self._client.get_channel(channel_id)
        return isinstance(channel, discord.TextChannel) and channel.is_nsfw()

    async def touch(self, channel_id: ChannelId) -> None:
        """Somebody did something there."""
        now = self._house.clock.monotonic()
        if now - self._touched.get(channel_id, float("-inf")) >= TOUCH_EVERY_S:
            self._touched[channel_id] = now
            await self._house.sessions.touch(channel_id, self._house.clock.now())

    async def owner_of(self, channel_id: ChannelId) -> UserId | None:
        """Whose session this channel is."""
        session = await self._house.sessions.by_channel(channel_id)
        return session.user_id if session else None

    async def welcome(self, guild: discord.Guild) -> None:
        """What a guild must have: `#admin-tools`. Safe to repeat."""
        key = ADMIN_TOOLS_KEY.format(guild_id=guild.id)
        try:
            stored = await self._house.control.get(key)
            channel = await ensure_admin_tools(guild, int(stored) if stored else None)
            if stored != str(channel.id):
                await self._house.control.set(key, str(channel.id))
        except (FulletError, *DISCORD_TROUBLE) as error:
            log.warning("admin_tools_not_made", guild_id=guild.id, reason=type(error).__name__)

    async def admin_tools(self, guild: discord.Guild) -> discord.TextChannel | None:
        """The administrators' channel, if it is there."""
        stored = await self._house.control.get(ADMIN_TOOLS_KEY.format(guild_id=guild.id))
        channel = guild.get_channel(int(stored)) if stored else None
        return channel if isinstance(channel, discord.TextChannel) else None

    def guilds_are_known(self) -> None:
        """Discord has told us of every channel: from now on a channel we do not know does not exist."""
        self._ready.set()

    async def run(self) -> None:
        """Close idle sessions for ever. What is idle stands in the database, so a restart forgets nothing."""
        idle = timedelta(minutes=self._options.session_idle_minutes)
        low, high = SWEEP_EVERY_S
        await self._ready.wait()
        while True:
            await asyncio.sleep(min(high, max(low, idle.total_seconds() / 4)))
            for guild in self._client.guilds:
                try:
                    await self._sweep(guild, idle)
                except (FulletError, *DISCORD_TROUBLE) as error:
                    log.warning("sweep_not_finished", guild_id=guild.id, reason=type(error).__name__)

    async def _sweep(self, guild: discord.Guild, idle: timedelta) -> None:
        for session in await self._house.sessions.idle(GuildId(guild.id), self._house.clock.now() - idle):
            await self._close(session, guild)

    async def _close(self, session: Session, guild: discord.Guild) -> None:
        """Delete the channel, unless its person came back in the meantime."""
        turn = self._turns.setdefault((session.guild_id, session.user_id), asyncio.Lock())
        async with turn, asyncio.timeout(CREATE_TIMEOUT_S):
            now = await self._house.sessions.by_channel(session.channel_id)
            if now is None or now.last_active_at > session.last_active_at:
                return
            channel = guild.get_channel(session.channel_id)
            if channel is not None:
                with contextlib.suppress(discord.NotFound):
                    await channel.delete(reason="idle session")
            await self._house.sessions.remove(session.channel_id)
            self._touched.pop(session.channel_id, None)
            log.info("session_closed", guild_id=guild.id, channel_id=session.channel_id)

    async def _stored_channel(self, guild: discord.Guild, stored: Session | None) -> discord.TextChannel | None:
        if stored is None:
            return None
        channel = guild.get_channel(stored.channel_id)
        if channel is None and not self._ready.is_set():
            try:
                channel = await guild.fetch_channel(stored.channel_id)  # type: ignore[assignment] # threads are no sessions
            except (discord.NotFound, discord.Forbidden, discord.InvalidData):
                return None
        if not isinstance(channel, discord.TextChannel):
            return None
        # A channel that somebody made ours hidden from ourselves is as good as gone.
        return channel if channel.permissions_for(guild.me).view_channel else None

    async def _marked_channel(self, guild: discord.Guild, user_id: UserId) -> discord.TextChannel | None:
        mark = (await self._its_marker()).mark(GuildId(guild.id), user_id)
        return next((channel for channel in guild.text_channels if channel.topic and mark in channel.topic), None)

    async def _create(self, member: discord.Member, language: str, *, is_age_restricted: bool) -> discord.TextChannel:
        guild = member.guild
        check_rights(guild)
        if len(guild.channels) >= MAX_CHANNELS_PER_GUILD:
            await self._make_room(member)
        mark = (await self._its_marker()).mark(GuildId(guild.id), UserId(member.id))
        topic = self._voices.speaking(language)("session.topic", mark=mark)
        full: frozenset[int] = frozenset()
        made_room = False
        while True:
            async with self._category_turns.setdefault(GuildId(guild.id), asyncio.Lock()):  # a crowd shares one new category
                category = await roomy_category(guild, full=full)
            try:
                channel = await guild.create_text_channel(
                    channel_name(member.display_name),
                    category=category,
                    topic=topic,
                    overwrites=session_overwrites(guild, member),
                    nsfw=is_age_restricted,
                    reason="private session",
                )
            except discord.HTTPException as error:
                if error.code == MAX_GUILD_CHANNELS and not made_room:
                    made_room = True
                    await self._make_room(member)
                elif error.code == INVALID_FORM and "parent_id" in str(error) and len(full) < len(session_categories(guild)):
                    full |= {category.id}  # others filled it between our look and our call
                elif refusal_of(error).kind is RefusalKind.PLACE_GONE:
                    raise FulletError(ErrorCode.PERMISSION_MISSING, permission="manage_channels") from error
                else:
                    raise
            else:
                log.info("session_opened", guild_id=guild.id, channel_id=channel.id)
                return channel

    async def _make_room(self, member: discord.Member) -> None:
        """The guild is full: the longest idle session goes, if one is idle at all."""
        sessions = await self._house.sessions.idle(GuildId(member.guild.id), self._house.clock.now())
        for session in sessions:
            turn = self._turns.get((session.guild_id, session.user_id))
            # Whoever holds a turn is using their session; waiting for them while holding ours could wait for ever.
            if session.user_id != member.id and not (turn and turn.locked()):
                await self._close(session, member.guild)
                return
        raise FulletError(ErrorCode.CHANNEL_LIMIT_REACHED)

    async def _its_marker(self) -> SessionMarker:
        if self._marker is None:
            self._marker = await SessionMarker.load(self._house.control)
        return self._marker
