"""What a person sees: the people, the guild with its channels, the messages, the commands, the stream of events."""

from aiohttp import web

from modules.sandbox.discord_server.commands import CommandKind
from modules.sandbox.discord_server.context import Context
from modules.sandbox.discord_server.people import listed_for, may_see, permissions_of
from modules.sandbox.discord_server.permissions import Permission, base_permissions
from modules.sandbox.discord_server.person.visit import Visit, answer
from modules.sandbox.discord_server.shapes import (
    channel_json,
    command_json,
    member_json,
    message_event_json,
    role_json,
    user_json,
)
from modules.sandbox.discord_server.wire import ApiError, Code, Json
from modules.sandbox.discord_server.world import Channel, ChannelKind, Command, Guild, User, World

MAX_PAGE = 200


def person_json(world: World, user: User) -> Json:
    """A user with what a client knows of its own account."""
    guild = next((g for g in world.guilds.values() if user.id in g.members), None)
    shape = user_json(user) | {"avatar_color": user.avatar_color, "locale": user.locale, "roles": [], "is_admin": False}
    if guild is not None:
        member = guild.members[user.id]
        shape["roles"] = [guild.roles[role_id].name for role_id in member.role_ids]
        shape["is_admin"] = Permission.ADMINISTRATOR in base_permissions(guild, member, world.clock.now())
    return shape


def world_identity(context: Context) -> web.Response:
    """Which world this is; needs no `as`, for whoever asks may come from another one."""
    return answer({"world": context.world.identity})


def users(context: Context) -> web.Response:
    """Everybody one can be; needs no `as`."""
    return answer([person_json(context.world, user) for user in context.world.people()])


async def state(visit: Visit) -> web.StreamResponse:
    """Everything a client shows before anything happens."""
    world = visit.context.world
    guild = visit.guild()
    dm = world.dm_with(visit.user.id)
    return answer(
        {
            "world": world.identity,
            "me": person_json(world, visit.user),
            "guild": None if guild is None else _guild_shape(world, guild, visit.user),
            "dm": channel_json(world, dm) | {"recipients": [user_json(world.bot)]},
            "bot": user_json(world.bot) | {"online": visit.context.gateway.is_online},
            "commands": [command_json(world, c) for c in usable_commands(world, visit.user, guild)],
        }
    )


def _guild_shape(world: World, guild: Guild, viewer: User) -> Json:
    listed = listed_for(world, viewer.id, guild)
    channels = [channel for channel in [*guild.channels.values(), *guild.threads.values()] if channel.id in listed]
    return {
        "id": str(guild.id),
        "name": guild.name,
        "owner_id": str(guild.owner_id),
        "preferred_locale": guild.preferred_locale,
        "channels": [channel_json(world, c) for c in in_list_order(channels)],
        "members": [member_json(world, m) | _colors(world, m.user_id) for m in guild.members.values()],
        "roles": [role_json(role) for role in sorted(guild.roles.values(), key=lambda r: -r.position)],
    }


def _colors(world: World, user_id: int) -> Json:
    return {"avatar_color": world.users[user_id].avatar_color}


def in_list_order(channels: list[Channel]) -> list[Channel]:
    """As the client lists them: channels without category first, then each category followed by its own."""

    threads: dict[int | None, list[Channel]] = {}
    for one in channels:
        if one.is_thread:
            threads.setdefault(one.parent_id, []).append(one)

    def within(parent_id: int | None) -> list[Channel]:
        found = [c for c in channels if c.parent_id == parent_id and c.kind is not ChannelKind.CATEGORY and not c.is_thread]
        ordered = sorted(found, key=lambda c: (c.kind is ChannelKind.VOICE, c.position, c.id))
        return [one for channel in ordered for one in (channel, *threads.get(channel.id, []))]

    ordered = within(None)
    for category in sorted((c for c in channels if c.kind is ChannelKind.CATEGORY), key=lambda c: (c.position, c.id)):
        ordered += [category, *within(category.id)]
    return ordered


def usable_commands(world: World, user: User, guild: Guild | None) -> list[Command]:
    """The commands a person is offered: the guild's and the global ones they may use."""
    commands = world.commands_for(None)
    if guild is not None and world.bot.id in guild.members:
        commands = world.commands_for(guild.id) + commands
    return [command for command in commands if may_use(world, user, guild, command)]


def may_use(world: World, user: User, guild: Guild | None, command: Command) -> bool:
    """Whether a command's `default_member_permissions` let somebody use it; in private everybody may."""
    needed = command.body.get("default_member_permissions")
    if guild is None or needed is None or user.id not in guild.members:
        return True
    allowed = base_permissions(guild, guild.members[user.id], world.clock.now())
    if needed == "0":
        return Permission.ADMINISTRATOR in allowed
    return Permission(int(needed)) in allowed


def works_in(command: Command, channel: Channel) -> bool:
    """Whether a command is offered in a channel: guild commands in their guild, global ones where their contexts say."""
    if command.guild_id is not None:
        return command.guild_id == channel.guild_id
    contexts = command.body.get("contexts")
    if contexts is None:
        return channel.guild_id is not None or command.body.get("dm_permission", True) is not False
    return (1 if channel.guild_id is None else 0) in contexts


def is_slash(command: Command) -> bool:
    """Whether it is typed, not chosen from a context menu."""
    return command.kind == CommandKind.CHAT_INPUT


async def messages(visit: Visit) -> web.StreamResponse:
    """The newest messages of a channel, oldest first, with this person's own ephemeral ones."""
    query = visit.request.query
    channel = visit.channel(query.get("channel"))
    world = visit.context.world
    if Permission.READ_MESSAGE_HISTORY not in permissions_of(world, visit.user.id, channel):
        raise ApiError(Code.MISSING_ACCESS)
    limit = min(int(query.get("limit", 100)), MAX_PAGE)
    visible = [m for m in world.messages_in(channel.id) if may_see(world, visit.user.id, m)]
    return answer([message_event_json(world, message) for message in visible[-limit:]])


async def events(visit: Visit) -> web.StreamResponse:
    """The stream of everything that happens before this person's eyes."""
    context = visit.context
    greeting = [("BOT_STATUS", {"online": context.gateway.is_online})]
    return await context.people.serve(visit.request, visit.user.id, greeting=greeting)
