"""The people's event sockets: each hears only what that person may see."""

import asyncio
from collections.abc import Iterable

from aiohttp import web

from modules.sandbox.discord_server.gateway import Line
from modules.sandbox.discord_server.permissions import IN_DM, NOTHING, Permission, permissions_in
from modules.sandbox.discord_server.shapes import channel_json
from modules.sandbox.discord_server.wire import Json, encode
from modules.sandbox.discord_server.world import Channel, ChannelKind, Guild, Message, MessageFlag, World


def permissions_of(world: World, user_id: int, channel: Channel) -> Permission:
    """What somebody may do in a channel of any kind; nothing where they are not a member."""
    guild = world.guild_of(channel)
    if guild is None:
        return IN_DM if user_id in channel.recipient_ids or user_id == world.bot.id else NOTHING
    member = guild.members.get(user_id)
    if channel.is_thread:  # a thread has no rights of its own
        channel = guild.channels[channel.parent_id or 0]
    return NOTHING if member is None else permissions_in(guild, member, channel, world.clock.now())


def is_listed(world: World, user_id: int, channel: Channel) -> bool:
    """Whether a guild channel stands in somebody's list. A category also does for the sake of a channel inside it."""
    if Permission.VIEW_CHANNEL in permissions_of(world, user_id, channel):
        return True
    guild = world.guild_of(channel)
    if guild is None or channel.kind is not ChannelKind.CATEGORY:
        return False
    inside = (other for other in guild.channels.values() if other.parent_id == channel.id)
    return any(Permission.VIEW_CHANNEL in permissions_of(world, user_id, other) for other in inside)


def listed_for(world: World, user_id: int, guild: Guild) -> set[int]:
    """The ids of the channels in somebody's list of a guild."""
    seen = [c for c in guild.channels.values() if Permission.VIEW_CHANNEL in permissions_of(world, user_id, c)]
    threads = {thread.id for thread in guild.threads.values() if thread.parent_id in {channel.id for channel in seen}}
    return {channel.id for channel in seen} | {channel.parent_id for channel in seen if channel.parent_id is not None} | threads


def may_see(world: World, user_id: int, message: Message) -> bool:
    """Whether a message exists for somebody."""
    if message.has(MessageFlag.EPHEMERAL) and (message.ephemeral_to != user_id or message.is_dismissed):
        return False
    return Permission.VIEW_CHANNEL in permissions_of(world, user_id, world.channel(message.channel_id))


class Listener:
    """One open events socket of one person."""

    def __init__(self, user_id: int, line: Line) -> None:
        self.user_id = user_id
        self.line = line
        self.visible: set[int] = set()  #: channels this socket was told of

    def tell(self, event: str, data: object) -> None:
        """Send one event."""
        self.line.send(encode({"t": event, "d": data}))


class People:
    """All events sockets."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._listeners: set[Listener] = set()

    async def serve(self, request: web.Request, user_id: int, *, greeting: Iterable[tuple[str, Json]]) -> web.StreamResponse:
        """The `/person/events` endpoint."""
        socket = web.WebSocketResponse(max_msg_size=1 << 16, heartbeat=20)
        await socket.prepare(request)
        listener = Listener(user_id, Line(socket, request.transport, codec=None))
        listener.visible = self.visible_to(user_id)
        self._listeners.add(listener)
        for event, data in greeting:
            listener.tell(event, data)
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(listener.line.write())
                async for _ in socket:
                    pass  # people speak over HTTP
                writer.cancel()
        finally:
            self._listeners.discard(listener)
        return socket

    def close(self) -> None:
        """Hang up on everybody."""
        for listener in list(self._listeners):
            listener.line.hang_up(1001)

    def visible_to(self, user_id: int) -> set[int]:
        """The guild channels in a person's list."""
        return set[int]().union(*(listed_for(self._world, user_id, guild) for guild in self._world.guilds.values()))

    def tell(self, user_id: int, event: str, data: object) -> None:
        """Send an event to every socket of one person."""
        for listener in list(self._listeners):
            if listener.user_id == user_id:
                listener.tell(event, data)

    def tell_all(self, event: str, data: object) -> None:
        """Send an event to everybody."""
        for listener in list(self._listeners):
            listener.tell(event, data)

    def tell_about(self, message: Message, event: str, data: object) -> None:
        """Send an event to those who may see a message."""
        for listener in list(self._listeners):
            if may_see(self._world, listener.user_id, message):
                listener.tell(event, data)

    def tell_viewers(self, channel: Channel, event: str, data: object, *, except_for: int | None = None) -> None:
        """Send an event to those who may view a channel."""
        for listener in list(self._listeners):
            if listener.user_id == except_for:
                continue
            if Permission.VIEW_CHANNEL in permissions_of(self._world, listener.user_id, channel):
                listener.tell(event, data)

    def refresh_channel(self, channel: Channel) -> None:
        """Tell everybody whether a channel appeared, changed or went for them since they were last told."""
        guild = self._world.guild_of(channel)
        exists = guild is not None and (channel.id in guild.channels or channel.id in guild.threads)
        shape = channel_json(self._world, channel)
        for listener in list(self._listeners):
            was_seen = channel.id in listener.visible
            is_seen = exists and is_listed(self._world, listener.user_id, channel)
            if is_seen:
                self._open_category(listener, channel)
            self._show(listener, channel.id, shape if is_seen else None)
            if was_seen and not is_seen:
                self._close_category(listener, channel)

    def refresh_all_channels(self) -> None:
        """The same for every channel, after rights or memberships changed; channels that stay in sight are not repeated."""
        for listener in list(self._listeners):
            now = self.visible_to(listener.user_id)
            for channel_id in listener.visible - now:
                self._show(listener, channel_id, None)
            for channel_id in sorted(now - listener.visible):
                self._show(listener, channel_id, channel_json(self._world, self._world.channel(channel_id)))

    def _open_category(self, listener: Listener, channel: Channel) -> None:
        """The category of a channel that is in sight, if it is not there yet."""
        if channel.parent_id is not None and channel.parent_id not in listener.visible:
            self._show(listener, channel.parent_id, channel_json(self._world, self._world.channel(channel.parent_id)))

    def _close_category(self, listener: Listener, channel: Channel) -> None:
        """The category of a channel that went out of sight, unless something else keeps it there."""
        guild = self._world.guild_of(channel)
        category = guild.channels.get(channel.parent_id) if guild is not None and channel.parent_id is not None else None
        if category is not None and not is_listed(self._world, listener.user_id, category):
            self._show(listener, category.id, None)

    def _show(self, listener: Listener, channel_id: int, shape: Json | None) -> None:
        was_seen = channel_id in listener.visible
        if shape is not None:
            listener.visible.add(channel_id)
            listener.tell("CHANNEL_UPDATE" if was_seen else "CHANNEL_CREATE", shape)
        elif was_seen:
            listener.visible.discard(channel_id)
            listener.tell("CHANNEL_DELETE", {"id": str(channel_id)})
