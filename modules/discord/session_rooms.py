"""Sessions: every person's private channel, found or made when needed, closed when idle, never mistaken for another's."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from weakref import WeakValueDictionary

import discord
import structlog

from modules.discord.error_codes import fullet_error_for, passes_by_itself
from modules.discord.guilds import Guilds, GuildView
from modules.discord.house import DiscordOptions, House
from modules.discord.recent import Recent
from modules.discord.refusals import DISCORD_TROUBLE, INVALID_FORM, MAX_GUILD_CHANNELS, RefusalKind, refusal_of
from modules.discord.rights import RIGHTS_TO_CHANGE_OVERWRITES, RIGHTS_TO_CREATE, first_missing
from modules.discord.session_channels import (
    MAX_CHANNELS_PER_GUILD,
    channel_name,
    is_hidden,
    is_name_refused,
    is_shown_to,
    make_admin_tools,
    make_hidden,
    neutral_name,
    own_channel,
    owner_by_overwrites,
    roomy_category,
    session_categories,
    session_overwrites,
)
from modules.discord.voices import Voices
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.people import ChannelId, GuildId, UserId
from modules.domain.sessions import Session

log = structlog.get_logger(__name__)

#: Earlier versions signed channel topics with a key kept here; whose a channel is stands in its overwrites now.
FORMER_MARKER_KEY = "discord.session_marker_key"
ADMIN_TOOLS_KEY = "discord.admin_tools.{guild_id}"
#: Activity is noted at most this often a session: the sweep counts in minutes.
TOUCH_EVERY_S = 20.0
#: Channels remembered for that.
TOUCHED_KEPT = 5_000
#: Making a channel, with discord.py's own retries inside.
CREATE_TIMEOUT_S = 30.0
#: The sweep looks this often at most and at least.
SWEEP_EVERY_S = (1.0, 60.0)
#: Names that Discord refused are remembered, this many at most, so that each is tried once.
REFUSED_NAMES_KEPT = 1_000


class SessionRooms:
    """Finds, makes, hides and closes session channels. One person's calls take turns."""

    def __init__(self, guilds: Guilds, house: House, voices: Voices, options: DiscordOptions) -> None:
        self._guilds = guilds
        self._house = house
        self._voices = voices
        self._options = options
        self._turns: WeakValueDictionary[tuple[int, int], asyncio.Lock] = WeakValueDictionary()
        self._guild_turns: dict[GuildId, asyncio.Lock] = {}
        self._touched: Recent[ChannelId] = Recent(TOUCHED_KEPT)
        self._refused_names: dict[tuple[GuildId, str], None] = {}

    async def ensure(
        self, member: discord.Member, *, language: str, unusable: ChannelId | None = None, is_age_restricted: bool = False
    ) -> Session:
        """This person's session, private and noted as active now. `language`: theirs, for a channel made anew.

        `unusable`: a channel that Discord just refused to us.

        `is_age_restricted`: Discord must ask for the person's age before it shows the channel; once so, it stays so.

        Raises PERMISSION_MISSING (named), TWO_FACTOR_REQUIRED, CHANNEL_LIMIT_REACHED, NOT_IN_A_GUILD, DATABASE_UNAVAILABLE; what
        passes by itself (`DISCORD_TROUBLE` of the kind "later") passes through.
        """
        guild_id, user_id = GuildId(member.guild.id), UserId(member.id)
        turn = self._turns.setdefault((guild_id, user_id), asyncio.Lock())
        async with turn, asyncio.timeout(CREATE_TIMEOUT_S):
            stored = await self._house.sessions.get(guild_id, user_id)
            channel = await self._known_channel(guild_id, user_id, stored, unusable)
            if channel is None:
                channel = await self._create(member, language, unusable=unusable, is_age_restricted=is_age_restricted)
            elif not is_hidden(channel) or not is_shown_to(channel, user_id):
                log.warning("session_rights_mended", channel_id=channel.id)
                await self._mend_rights(channel, user_id)
            if is_age_restricted and not channel.is_nsfw():
                await self._restrict_age(channel)
            session = Session(
                user_id=user_id, guild_id=guild_id, channel_id=ChannelId(channel.id), last_active_at=self._house.clock.now()
            )
            if stored is None or stored.channel_id != session.channel_id:
                # Before the new channel is noted: should that fail, the next call finds the same to do.
                await self._house.jobs.move_channel(user_id, guild_id, session.channel_id)
            await self._house.sessions.save(session)
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
        """The session of somebody who is not pressing anything right now; None when they or the bot left the guild.

        Raises what `ensure` raises.
        """
        member = await self._guilds.member(guild_id, user_id)
        if member is None:
            return None
        return await self.ensure(member, language=language, unusable=unusable, is_age_restricted=is_age_restricted)

    async def is_private(self, guild_id: GuildId, channel_id: ChannelId) -> bool | None:
        """Whether its person sees it and @everyone does not; None when Discord says that we have no such channel.

        Raises `DISCORD_TROUBLE`.
        """
        channel = await self._guilds.text_channel(guild_id, channel_id)
        if channel is None:
            return None
        owner = await self.owner_of(channel_id)
        return is_hidden(channel) and (owner is None or is_shown_to(channel, owner))

    async def is_age_restricted(self, guild_id: GuildId, channel_id: ChannelId) -> bool:
        """Whether Discord asks for people's age before it shows the channel. Raises `DISCORD_TROUBLE`."""
        channel = await self._guilds.text_channel(guild_id, channel_id)
        return channel is not None and channel.is_nsfw()

    async def touch(self, channel_id: ChannelId) -> None:
        """Somebody did something there."""
        if self._touched.is_due(channel_id, self._house.clock.monotonic(), TOUCH_EVERY_S):
            await self._house.sessions.touch(channel_id, self._house.clock.now())

    async def owner_of(self, channel_id: ChannelId) -> UserId | None:
        """Whose session this channel is."""
        session = await self._house.sessions.by_channel(channel_id)
        return session.user_id if session else None

    async def welcome(self, guild_id: GuildId) -> None:
        """Make what a guild must have: `#admin-tools`. Safe to repeat."""
        key = ADMIN_TOOLS_KEY.format(guild_id=guild_id)
        try:
            async with self._turn_of_guild(guild_id):
                stored = await self._house.control.get(key)
                if stored and await self._guilds.text_channel(guild_id, ChannelId(int(stored))) is not None:
                    return
                view = await self._guilds.view(guild_id, fresh=bool(stored))
                if view is not None:
                    channel = await make_admin_tools(view)
                    self._guilds.forget(guild_id)
                    await self._house.control.set(key, str(channel.id))
        except (FulletError, *DISCORD_TROUBLE) as error:
            log.warning("admin_tools_not_made", guild_id=guild_id, reason=type(error).__name__)

    async def admin_tools(self, guild_id: GuildId) -> discord.TextChannel | None:
        """The administrators' channel, if it is there. Raises `DISCORD_TROUBLE`."""
        stored = await self._house.control.get(ADMIN_TOOLS_KEY.format(guild_id=guild_id))
        return await self._guilds.text_channel(guild_id, ChannelId(int(stored))) if stored else None

    async def run(self) -> None:
        """Close idle sessions for ever. What is idle stands in the database, so a restart forgets nothing."""
        idle = timedelta(minutes=self._options.session_idle_minutes)
        low, high = SWEEP_EVERY_S
        try:
            await self._house.control.set(FORMER_MARKER_KEY, None)
        except FulletError as error:
            log.info("former_key_not_removed", code=error.code.value)
        while True:
            await asyncio.sleep(min(high, max(low, idle.total_seconds() / 4)))
            for guild_id in self._guilds.ids():
                try:
                    await self._sweep(guild_id, idle)
                except (FulletError, *DISCORD_TROUBLE) as error:
                    log.warning("sweep_not_finished", guild_id=guild_id, reason=type(error).__name__)

    async def _sweep(self, guild_id: GuildId, idle: timedelta) -> None:
        for session in await self._house.sessions.idle(guild_id, self._house.clock.now() - idle):
            await self._close(session)

    async def _close(self, session: Session) -> None:
        """Delete the channel, unless its person came back in the meantime.

        The row goes only when Discord says that the channel is gone. A channel that we may not delete is left for another idle
        time, so that it does not keep the others from being closed. Raises `DISCORD_TROUBLE` of the kind "later".
        """
        turn = self._turns.setdefault((session.guild_id, session.user_id), asyncio.Lock())
        async with turn, asyncio.timeout(CREATE_TIMEOUT_S):
            now = await self._house.sessions.by_channel(session.channel_id)
            if now is None or now.last_active_at > session.last_active_at:
                return
            try:
                await self._guilds.delete_channel(session.channel_id, "idle session")
            except (discord.HTTPException, discord.RateLimited) as error:
                if passes_by_itself(error):
                    raise
                log.warning(
                    "session_not_closed", guild_id=session.guild_id, channel_id=session.channel_id, reason=str(error)[:200]
                )
                await self._house.sessions.touch(session.channel_id, self._house.clock.now())
                return
            self._guilds.forget(session.guild_id)
            await self._house.sessions.remove(session.channel_id)
            self._touched.forget(session.channel_id)
            log.info("session_closed", guild_id=session.guild_id, channel_id=session.channel_id)

    # --- finding one that is there --------------------------------------------------------------------------------------

    async def _known_channel(
        self, guild_id: GuildId, user_id: UserId, stored: Session | None, unusable: ChannelId | None
    ) -> discord.TextChannel | None:
        """The stored channel, else the one that its overwrites show to be this person's."""
        view = await self._view(guild_id)
        if stored is not None and stored.channel_id != unusable:
            channel = await self._guilds.text_channel(guild_id, stored.channel_id)
            # Somebody with Manage Roles may have made it another person's; then it is not this one's any more.
            if channel is not None and owner_by_overwrites(channel, view.me.id) in (None, user_id):
                return channel
        return await self._own_channel(view, user_id, unusable)

    async def _own_channel(self, view: GuildView, user_id: UserId, unusable: ChannelId | None) -> discord.TextChannel | None:
        besides = {unusable} if unusable is not None else set()
        while (found := own_channel(view, user_id, besides=besides)) is not None:
            noted = await self._house.sessions.by_channel(ChannelId(found.id))
            if noted is None or noted.user_id == user_id:
                return found
            besides.add(ChannelId(found.id))
        return None

    async def _view(self, guild_id: GuildId, *, fresh: bool = False) -> GuildView:
        view = await self._guilds.view(guild_id, fresh=fresh)
        if view is None:
            raise FulletError(ErrorCode.NOT_IN_A_GUILD)
        return view

    async def _mend_rights(self, channel: discord.TextChannel, user_id: UserId) -> None:
        view = await self._view(GuildId(channel.guild.id))
        try:
            await make_hidden(view, channel, user_id)
        except discord.HTTPException as error:
            inside = channel.category.permissions_for(view.me) if channel.category is not None else view.me.guild_permissions
            missing = first_missing(inside, RIGHTS_TO_CHANGE_OVERWRITES) or "manage_roles"
            raise _worded(error, missing) from error

    async def _restrict_age(self, channel: discord.TextChannel) -> None:
        """Have Discord ask for the person's age before it shows the channel."""
        try:
            await channel.edit(nsfw=True, reason="a model for adults was asked for")
        except discord.HTTPException as error:
            raise _worded(error, "manage_channels") from error

    # --- making one -----------------------------------------------------------------------------------------------------

    async def _create(
        self, member: discord.Member, language: str, *, unusable: ChannelId | None, is_age_restricted: bool
    ) -> discord.TextChannel:
        """A new channel. Another process may make one for the same person at the same moment: then the older one is kept."""
        guild_id, user_id = GuildId(member.guild.id), UserId(member.id)
        view = await self._view(guild_id)
        if (missing := first_missing(view.me.guild_permissions, RIGHTS_TO_CREATE)) is not None:
            raise FulletError(ErrorCode.PERMISSION_MISSING, permission=missing)
        if len(view.channels) >= MAX_CHANNELS_PER_GUILD:
            await self._make_room(guild_id, user_id)
        topic = self._voices.speaking(language)("session.topic")
        made = await self._post_channel(guild_id, user_id, member.display_name, topic, is_age_restricted=is_age_restricted)
        log.info("session_opened", guild_id=guild_id, channel_id=made.id)
        first = await self._own_channel(await self._guilds.with_fresh_channels(view), user_id, unusable)
        if first is None or first.id == made.id:
            return made
        log.info("session_made_twice", guild_id=guild_id, kept=first.id, removed=made.id)
        await self._guilds.delete_channel(ChannelId(made.id), "made twice at the same moment")
        self._guilds.forget(guild_id)
        return first

    async def _post_channel(
        self, guild_id: GuildId, user_id: UserId, display_name: str, topic: str, *, is_age_restricted: bool
    ) -> discord.TextChannel:
        name = channel_name(display_name)
        if (guild_id, name) in self._refused_names:
            name = neutral_name(user_id)
        full: frozenset[int] = frozenset()
        made_room = False
        while True:
            view = await self._view(guild_id)
            try:
                async with self._turn_of_guild(guild_id):  # a crowd shares one new category
                    view = await self._view(guild_id)
                    category = await roomy_category(view, full=full)
                    self._guilds.forget(guild_id)
                return await view.guild.create_text_channel(
                    name,
                    category=category,
                    topic=topic,
                    overwrites=session_overwrites(view, user_id),
                    nsfw=is_age_restricted,
                    reason="private session",
                )
            except discord.HTTPException as error:
                if is_name_refused(error) and name != neutral_name(user_id):
                    self._remember_refused(guild_id, name)
                    name = neutral_name(user_id)
                elif error.code == MAX_GUILD_CHANNELS and not made_room:
                    made_room = True
                    await self._make_room(guild_id, user_id)
                elif error.code == INVALID_FORM and "parent_id" in str(error) and len(full) < len(session_categories(view)):
                    full |= {category.id}  # others filled it between our look and our call
                else:
                    raise await self._why_not_made(error, guild_id) from error

    def _remember_refused(self, guild_id: GuildId, name: str) -> None:
        log.info("channel_name_refused", guild_id=guild_id)
        self._refused_names[guild_id, name] = None
        while len(self._refused_names) > REFUSED_NAMES_KEPT:
            self._refused_names.pop(next(iter(self._refused_names)))

    async def _why_not_made(self, error: discord.HTTPException, guild_id: GuildId) -> Exception:
        """The named cause; for a missing right Discord is asked which, for our picture of the roles may be old."""
        if refusal_of(error).kind is not RefusalKind.PLACE_GONE or passes_by_itself(error):
            return _worded(error, None)
        view = await self._view(guild_id, fresh=True)
        places = [view.me.guild_permissions, *(category.permissions_for(view.me) for category in session_categories(view))]
        missing = next((found for rights in places if (found := first_missing(rights, RIGHTS_TO_CREATE))), None)
        return _worded(error, missing)

    async def _make_room(self, guild_id: GuildId, user_id: UserId) -> None:
        """The guild is full: the longest idle session goes, if one is idle at all."""
        sessions = await self._house.sessions.idle(guild_id, self._house.clock.now())
        for session in sessions:
            turn = self._turns.get((session.guild_id, session.user_id))
            # Whoever holds a turn is using their session; waiting for them while holding ours could wait for ever.
            if session.user_id != user_id and not (turn and turn.locked()):
                await self._close(session)
                return
        raise FulletError(ErrorCode.CHANNEL_LIMIT_REACHED)

    def _turn_of_guild(self, guild_id: GuildId) -> asyncio.Lock:
        return self._guild_turns.setdefault(guild_id, asyncio.Lock())


def _worded(error: discord.HTTPException, missing: str | None) -> Exception:
    """Our own error for a refusal that stays, so that its cause is told; what passes by itself stays as it is."""
    if passes_by_itself(error):
        return error
    return fullet_error_for(error, missing=missing) or error
