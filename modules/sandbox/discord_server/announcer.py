"""Tells both faces what happened: the bot over its gateway, people over their sockets."""

from modules.sandbox.discord_server.clock import iso
from modules.sandbox.discord_server.gateway import Gateway
from modules.sandbox.discord_server.people import People, permissions_of
from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.shapes import (
    channel_json,
    guild_json,
    member_json,
    message_event_json,
    message_json,
    role_json,
    user_json,
    without_content,
)
from modules.sandbox.discord_server.wire import Json
from modules.sandbox.discord_server.world import Channel, Guild, Member, Message, MessageFlag, Role, User, World


class Announcer:
    """One method for each thing that can happen."""

    def __init__(self, world: World, gateway: Gateway, people: People) -> None:
        self._world = world
        self._gateway = gateway
        self._people = people
        gateway.on_status = self._bot_status

    def _bot_status(self, online: bool) -> None:
        self._people.tell_all("BOT_STATUS", {"online": online})

    # -- messages ---------------------------------------------------------------------------------------------------

    def message_created(self, message: Message) -> None:
        """A message appeared."""
        self._message_event("MESSAGE_CREATE", message)
        self.notify(message)

    def message_updated(self, message: Message) -> None:
        """A message changed."""
        self._message_event("MESSAGE_UPDATE", message)

    def _message_event(self, event: str, message: Message) -> None:
        shape = message_event_json(self._world, message)
        if self._bot_sees(message):
            bare = without_content(self._world, message, shape)
            self._gateway.dispatch(event, shape, guild_id=self._guild_id_in_events(message), bare=bare)
        self._people.tell_about(message, event, shape)

    def _bot_sees(self, message: Message) -> bool:
        allowed = permissions_of(self._world, self._world.bot.id, self._world.channel(message.channel_id))
        return message.has(MessageFlag.EPHEMERAL) or Permission.VIEW_CHANNEL in allowed

    def _guild_id_in_events(self, message: Message) -> int | None:
        return None if message.has(MessageFlag.EPHEMERAL) else self._world.channel(message.channel_id).guild_id

    def notify(self, message: Message) -> None:
        """Ring for those a message mentions."""
        if message.has(MessageFlag.SUPPRESS_NOTIFICATIONS):
            return
        channel = self._world.channel(message.channel_id)
        note = {"channel": str(channel.id), "message": message_json(self._world, message)}
        for user_id in self._pinged(message, channel):
            if user_id != message.author_id and Permission.VIEW_CHANNEL in permissions_of(self._world, user_id, channel):
                self._people.tell(user_id, "NOTIFICATION", note)

    def _pinged(self, message: Message, channel: Channel) -> set[int]:
        if message.has(MessageFlag.EPHEMERAL):
            return set()
        guild = self._world.guild_of(channel)
        if guild is None:
            return set(channel.recipient_ids)
        if message.mentions_everyone:
            return set(guild.members)
        roles = set(message.mention_role_ids)
        by_role = {m.user_id for m in guild.members.values() if roles & set(m.role_ids)}
        return set(message.mention_ids) | by_role

    def message_deleted(self, message: Message) -> None:
        """A message went; it must still be known to the caller, no longer to the world."""
        data: Json = {"id": str(message.id), "channel_id": str(message.channel_id)}
        guild_id = self._guild_id_in_events(message)
        if guild_id is not None:
            data["guild_id"] = str(guild_id)
        self._people.tell_about(message, "MESSAGE_DELETE", data)
        if self._bot_sees(message):
            self._gateway.dispatch("MESSAGE_DELETE", data, guild_id=guild_id)

    def messages_deleted(self, channel: Channel, messages: list[Message]) -> None:
        """Several messages went at once."""
        data: Json = {"ids": [str(m.id) for m in messages], "channel_id": str(channel.id), "guild_id": str(channel.guild_id)}
        self._gateway.dispatch("MESSAGE_DELETE_BULK", data, guild_id=channel.guild_id)
        for message in messages:
            gone = {"id": str(message.id), "channel_id": str(channel.id), "guild_id": str(channel.guild_id)}
            self._people.tell_about(message, "MESSAGE_DELETE", gone)

    def reaction(self, event: str, message: Message, user_id: int, emoji: str | None) -> None:
        """A reaction came or went (`MESSAGE_REACTION_ADD|REMOVE|REMOVE_ALL`)."""
        channel = self._world.channel(message.channel_id)
        guild = self._world.guild_of(channel)
        data: Json = {"channel_id": str(channel.id), "message_id": str(message.id)}
        if emoji is not None:
            data |= {"user_id": str(user_id), "emoji": {"id": None, "name": emoji}, "burst": False, "type": 0}
        if guild is not None:
            data["guild_id"] = str(guild.id)
            if event == "MESSAGE_REACTION_ADD":
                data["member"] = member_json(self._world, guild.members[user_id])
        self._gateway.dispatch(event, data, guild_id=channel.guild_id)
        shape: Json = {"reactions": []} | message_event_json(self._world, message)  # clients keep what an update leaves out
        self._people.tell_about(message, "MESSAGE_UPDATE", shape)

    def typing(self, channel: Channel, user_id: int) -> None:
        """Somebody started to type."""
        data: Json = {
            "channel_id": str(channel.id),
            "user_id": str(user_id),
            "timestamp": int(self._world.clock.timestamp()),
        }
        if (guild := self._world.guild_of(channel)) is not None:
            data |= {"guild_id": str(guild.id), "member": member_json(self._world, guild.members[user_id])}
        self._gateway.dispatch("TYPING_START", data, guild_id=channel.guild_id)
        self._people.tell_viewers(channel, "TYPING", data, except_for=user_id)

    def pins_changed(self, channel: Channel) -> None:
        """A message was pinned or unpinned."""
        data: Json = {"channel_id": str(channel.id), "last_pin_timestamp": iso(channel.last_pin_at)}
        if channel.guild_id is not None:
            data["guild_id"] = str(channel.guild_id)
        self._gateway.dispatch("CHANNEL_PINS_UPDATE", data, guild_id=channel.guild_id)

    # -- channels ---------------------------------------------------------------------------------------------------

    def channel_created(self, channel: Channel) -> None:
        """A channel appeared."""
        self._gateway.dispatch("CHANNEL_CREATE", channel_json(self._world, channel), guild_id=channel.guild_id)
        self._people.refresh_channel(channel)

    def thread_created(self, thread: Channel) -> None:
        """A thread was opened."""
        shape = channel_json(self._world, thread) | {"newly_created": True}
        self._gateway.dispatch("THREAD_CREATE", shape, guild_id=thread.guild_id)
        self._people.refresh_channel(thread)

    def channel_updated(self, channel: Channel) -> None:
        """A channel changed, perhaps also who sees it."""
        self._gateway.dispatch("CHANNEL_UPDATE", channel_json(self._world, channel), guild_id=channel.guild_id)
        self._people.refresh_channel(channel)

    def channel_deleted(self, channel: Channel, shape: Json) -> None:
        """A channel went; `shape` is how it looked."""
        self._gateway.dispatch("CHANNEL_DELETE", shape, guild_id=channel.guild_id)
        self._people.refresh_channel(channel)

    # -- guilds, roles, members -------------------------------------------------------------------------------------

    def guild_updated(self, guild: Guild) -> None:
        """The guild itself changed."""
        self._gateway.dispatch("GUILD_UPDATE", guild_json(self._world, guild), guild_id=guild.id)

    def guild_joined(self, guild: Guild) -> None:
        """The bot was invited."""
        self._gateway.guild_available(guild)
        self._people.refresh_all_channels()

    def guild_left(self, guild: Guild) -> None:
        """The bot left, was removed, or the guild is gone."""
        self._gateway.dispatch("GUILD_DELETE", {"id": str(guild.id)}, guild_id=guild.id)
        self._people.refresh_all_channels()

    def role(self, event: str, guild: Guild, role: Role) -> None:
        """A role came, changed or went (`GUILD_ROLE_CREATE|UPDATE|DELETE`)."""
        data: Json = {"guild_id": str(guild.id)}
        data |= {"role_id": str(role.id)} if event == "GUILD_ROLE_DELETE" else {"role": role_json(role)}
        self._gateway.dispatch(event, data, guild_id=guild.id)
        self._people.refresh_all_channels()

    def member_joined(self, guild: Guild, member: Member) -> None:
        """Somebody joined."""
        shape = member_json(self._world, member) | {"guild_id": str(guild.id)}
        self._gateway.dispatch("GUILD_MEMBER_ADD", shape, guild_id=guild.id)
        self._people.refresh_all_channels()

    def member_updated(self, guild: Guild, member: Member) -> None:
        """Somebody's nickname, roles or time-out changed. The bot hears of itself without the members intent."""
        shape = member_json(self._world, member) | {"guild_id": str(guild.id)}
        if member.user_id == self._world.bot.id:
            self._gateway.dispatch("GUILD_MEMBER_UPDATE", shape, guild_id=guild.id, always=True)
        else:
            self._gateway.dispatch("GUILD_MEMBER_UPDATE", shape, guild_id=guild.id)
        self._people.refresh_all_channels()

    def member_left(self, guild: Guild, user: User) -> None:
        """Somebody left or was removed."""
        data = {"guild_id": str(guild.id), "user": user_json(user)}
        self._gateway.dispatch("GUILD_MEMBER_REMOVE", data, guild_id=guild.id)
        self._people.refresh_all_channels()

    def user_updated(self, user: User) -> None:
        """Somebody changed their account's name; bots learn of it through each shared guild."""
        for guild in self._world.guilds.values():
            if member := guild.members.get(user.id):
                self.member_updated(guild, member)

    # -- interactions -----------------------------------------------------------------------------------------------

    def interaction_created(self, payload: Json, *, guild_id: int | None) -> None:
        """A person did something the bot must answer."""
        self._gateway.dispatch("INTERACTION_CREATE", payload, guild_id=guild_id, always=True)

    def interaction_event(self, user_id: int, event: str, data: Json) -> None:
        """What became of it, told only to whoever did it."""
        self._people.tell(user_id, event, data)

    def commands_changed(self) -> None:
        """The list of application commands changed."""
        self._people.tell_all("COMMANDS_UPDATE", {})
