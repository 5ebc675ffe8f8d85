"""The world behind both faces: people, guilds, channels, messages, commands. Data and look-ups only."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, IntFlag

from modules.sandbox.discord_server.clock import Snowflakes, WorldClock
from modules.sandbox.discord_server.wire import ApiError, Code, Json


class ChannelKind(IntEnum):
    """The channel types the stand-in has."""

    TEXT = 0
    DM = 1
    VOICE = 2
    CATEGORY = 4
    ANNOUNCEMENT = 5
    PUBLIC_THREAD = 11


class OverwriteKind(IntEnum):
    """Whom an overwrite speaks of."""

    ROLE = 0
    MEMBER = 1


class MessageKind(IntEnum):
    """The message types the stand-in writes."""

    DEFAULT = 0
    PINNED = 6
    JOINED = 7
    REPLY = 19
    SLASH_COMMAND = 20
    CONTEXT_MENU = 23


class MessageFlag(IntFlag):
    """Message flags. Source: developer docs, "Message Flags"."""

    CROSSPOSTED = 1 << 0
    SUPPRESS_EMBEDS = 1 << 2
    EPHEMERAL = 1 << 6
    LOADING = 1 << 7
    SUPPRESS_NOTIFICATIONS = 1 << 12
    COMPONENTS_V2 = 1 << 15


class ApplicationFlag(IntFlag):
    """Which privileged intents the application has been granted in the developer portal."""

    PRESENCE = 1 << 12
    GUILD_MEMBERS = 1 << 14
    MESSAGE_CONTENT = 1 << 18


@dataclass(slots=True, kw_only=True)
class User:
    """An account: a person or the bot."""

    id: int
    username: str
    global_name: str | None = None
    is_bot: bool = False
    locale: str = "en-US"
    avatar_color: str = "#5865f2"
    accepts_private: bool = True  #: "Allow direct messages from server members"
    has_two_factor: bool = True  #: whether the account is protected by two-factor authentication


@dataclass(slots=True, kw_only=True)
class Role:
    """A role of one guild; the one with the guild's own id is @everyone."""

    id: int
    name: str
    permissions: int
    position: int
    color: int = 0
    hoist: bool = False
    mentionable: bool = False
    bot_id: int | None = None  #: set for the role Discord makes for a bot; such a role is managed
    is_booster: bool = False


@dataclass(slots=True, kw_only=True)
class Overwrite:
    """An exception from the roles' permissions in one channel."""

    target_id: int
    kind: OverwriteKind
    allow: int = 0
    deny: int = 0


@dataclass(slots=True, kw_only=True)
class Channel:
    """A channel of a guild, or a private conversation (no guild)."""

    id: int
    kind: ChannelKind
    guild_id: int | None
    name: str = ""
    position: int = 0
    parent_id: int | None = None
    topic: str | None = None
    is_nsfw: bool = False
    slowmode_s: int = 0
    overwrites: list[Overwrite] = field(default_factory=list)
    recipient_ids: list[int] = field(default_factory=list)
    last_message_id: int | None = None
    last_pin_at: datetime | None = None
    owner_id: int | None = None  #: of a thread: whoever opened it
    opened_at: datetime | None = None  #: of a thread

    @property
    def is_thread(self) -> bool:
        """Whether it hangs under another channel, whose permissions count for it."""
        return self.kind is ChannelKind.PUBLIC_THREAD


@dataclass(slots=True, kw_only=True)
class Member:
    """A user inside one guild."""

    user_id: int
    joined_at: datetime
    nick: str | None = None
    role_ids: list[int] = field(default_factory=list)
    timed_out_until: datetime | None = None
    boosting_since: datetime | None = None

    def is_timed_out(self, now: datetime) -> bool:
        """Whether a moderator has silenced this member for now."""
        return self.timed_out_until is not None and self.timed_out_until > now


@dataclass(slots=True, kw_only=True)
class Guild:
    """A server."""

    id: int
    name: str
    owner_id: int
    locale: str = "en-US"  #: as chosen by its owner; only Community servers have this choice, see `preferred_locale`
    boost_tier: int = 0
    features: list[str] = field(default_factory=list)
    mfa_level: int = 0  #: 1: moderating needs two-factor authentication, a bot's that of its owner
    refused_words: list[str] = field(default_factory=list)  #: what Server Discovery's filter finds in channel names
    roles: dict[int, Role] = field(default_factory=dict)
    members: dict[int, Member] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    threads: dict[int, Channel] = field(default_factory=dict)  #: never among the channels, as in Discord's API

    @property
    def everyone(self) -> Role:
        """The role everybody has; its id is the guild's."""
        return self.roles[self.id]

    @property
    def preferred_locale(self) -> str:
        """The language that Discord tells: a setting of Community servers, `en-US` everywhere else.

        Source: developer docs, "Guild Object" (`preferred_locale`).
        """
        return self.locale if "COMMUNITY" in self.features else "en-US"

    def member(self, user_id: int) -> Member:
        """Raises 10007 for somebody who is not here."""
        if user_id not in self.members:
            raise ApiError(Code.UNKNOWN_MEMBER)
        return self.members[user_id]

    def role(self, role_id: int) -> Role:
        """Raises 10011."""
        if role_id not in self.roles:
            raise ApiError(Code.UNKNOWN_ROLE)
        return self.roles[role_id]


@dataclass(slots=True, kw_only=True)
class Attachment:
    """A stored file as messages and options mention it."""

    id: int
    filename: str
    size: int
    url: str
    content_type: str
    width: int | None = None
    height: int | None = None
    description: str | None = None
    is_ephemeral: bool = False


@dataclass(slots=True, kw_only=True)
class Message:
    """One message. `embeds`, `components` and the interaction parts are kept in the shape Discord shows them."""

    id: int
    channel_id: int
    author_id: int
    kind: MessageKind
    created_at: datetime
    content: str = ""
    edited_at: datetime | None = None
    flags: int = 0
    embeds: list[Json] = field(default_factory=list)
    components: list[Json] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)  #: every file; `shapes` leaves out what the message shows
    mention_ids: list[int] = field(default_factory=list)
    mention_role_ids: list[int] = field(default_factory=list)
    mentions_everyone: bool = False
    nonce: str | int | None = None
    is_pinned: bool = False
    is_tts: bool = False
    reference: Json | None = None
    snapshots: list[Json] = field(default_factory=list)  #: of a forwarded message: what it forwards
    reactions: dict[str, list[int]] = field(default_factory=dict)
    interaction: Json | None = None
    interaction_metadata: Json | None = None
    ephemeral_to: int | None = None  #: only this person sees it
    is_dismissed: bool = False  #: an ephemeral message its addressee has put away

    def has(self, flag: MessageFlag) -> bool:
        """Whether a flag is set."""
        return bool(self.flags & flag.value)


@dataclass(slots=True, kw_only=True)
class Application:
    """The one bot application of this world."""

    id: int
    name: str
    bot_id: int
    owner_id: int
    token: str
    description: str = ""
    flags: int = int(ApplicationFlag.GUILD_MEMBERS | ApplicationFlag.MESSAGE_CONTENT | ApplicationFlag.PRESENCE)


@dataclass(slots=True, kw_only=True)
class Command:
    """A registered application command; `body` is its definition as Discord shows it."""

    id: int
    version: int
    guild_id: int | None
    kind: int
    name: str
    body: Json


class World:
    """Everything that exists. Look-ups raise Discord's own errors (`ApiError`)."""

    def __init__(self, *, clock: WorldClock | None = None) -> None:
        self.identity = secrets.token_hex(8)  #: told to pages, so that one left open notices a world where nobody has its ids
        self.clock = clock or WorldClock()
        self.ids = Snowflakes(self.clock)
        self.users: dict[int, User] = {}
        self.guilds: dict[int, Guild] = {}
        self.dms: dict[int, Channel] = {}
        self.messages: dict[int, dict[int, Message]] = {}
        self.commands: dict[int, Command] = {}
        self.application: Application

    # -- look-ups ---------------------------------------------------------------------------------------------------

    @property
    def bot(self) -> User:
        """The bot's account."""
        return self.users[self.application.bot_id]

    def user(self, user_id: int) -> User:
        """Raises 10013."""
        if user_id not in self.users:
            raise ApiError(Code.UNKNOWN_USER)
        return self.users[user_id]

    def guild(self, guild_id: int) -> Guild:
        """Raises 10004."""
        if guild_id not in self.guilds:
            raise ApiError(Code.UNKNOWN_GUILD)
        return self.guilds[guild_id]

    def channel(self, channel_id: int) -> Channel:
        """A channel of any guild or a private one; raises 10003."""
        if channel_id in self.dms:
            return self.dms[channel_id]
        for guild in self.guilds.values():
            if channel_id in guild.channels:
                return guild.channels[channel_id]
            if channel_id in guild.threads:
                return guild.threads[channel_id]
        raise ApiError(Code.UNKNOWN_CHANNEL)

    def guild_of(self, channel: Channel) -> Guild | None:
        """The guild a channel belongs to; `None` for a private one."""
        return None if channel.guild_id is None else self.guilds[channel.guild_id]

    def message(self, channel_id: int, message_id: int) -> Message:
        """Raises 10008."""
        found = self.messages.get(channel_id, {}).get(message_id)
        if found is None:
            raise ApiError(Code.UNKNOWN_MESSAGE)
        return found

    def messages_in(self, channel_id: int) -> Iterator[Message]:
        """Oldest first, ephemeral ones included."""
        return iter(self.messages.get(channel_id, {}).values())

    def people(self) -> list[User]:
        """The accounts a person can be."""
        return [user for user in self.users.values() if not user.is_bot]

    def commands_for(self, guild_id: int | None) -> list[Command]:
        """The commands of one scope: a guild's, or the global ones for `None`."""
        return [command for command in self.commands.values() if command.guild_id == guild_id]

    # -- making things ----------------------------------------------------------------------------------------------

    def add_user(self, username: str, **details: object) -> User:
        """Create an account."""
        user = User(id=self.ids.next(), username=username, **details)  # type: ignore[arg-type]  # the caller's own fields
        self.users[user.id] = user
        return user

    def add_application(self, name: str, *, owner: User, token: str | None = None) -> Application:
        """Create the bot: application and account."""
        bot = self.add_user(name, is_bot=True)
        self.application = Application(id=bot.id, name=name, bot_id=bot.id, owner_id=owner.id, token=token or _bot_token(bot.id))
        return self.application

    def reset_token(self) -> None:
        """Make the bot's token worthless, as Discord does after too many IDENTIFYs."""
        self.application.token = _bot_token(self.application.bot_id)

    def dm_with(self, user_id: int) -> Channel:
        """The private conversation of the bot with somebody, made when it is first needed."""
        for channel in self.dms.values():
            if user_id in channel.recipient_ids:
                return channel
        channel = Channel(id=self.ids.next(), kind=ChannelKind.DM, guild_id=None, recipient_ids=[user_id])
        self.dms[channel.id] = channel
        return channel


def _bot_token(bot_id: int) -> str:
    return f"sandbox.{bot_id}.{secrets.token_urlsafe(24)}"
