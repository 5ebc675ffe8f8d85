"""What people do to their accounts and what administrators do to the guild."""

from datetime import datetime, timedelta

from aiohttp import web

from modules.sandbox.discord_server.demo import add_channel, invite_bot, join
from modules.sandbox.discord_server.moderation import remove_channel, remove_member
from modules.sandbox.discord_server.permissions import Permission, base_permissions
from modules.sandbox.discord_server.person.visit import Visit, answer
from modules.sandbox.discord_server.shapes import channel_json
from modules.sandbox.discord_server.wire import ApiError, Code, snowflake
from modules.sandbox.discord_server.world import Channel, ChannelKind, Guild


def _done() -> web.Response:
    return web.Response(status=204)


async def leave_guild(visit: Visit) -> web.StreamResponse:
    """Leave the guild."""
    remove_member(visit.context, visit.own_guild(), visit.user.id)
    return _done()


async def join_guild(visit: Visit) -> web.StreamResponse:
    """Join (again): the asked-for guild, else the first."""
    world = visit.context.world
    guild = visit.guild() or next(iter(world.guilds.values()))
    if visit.user.id not in guild.members:
        visit.context.announcer.member_joined(guild, join(world, guild, visit.user))
    return _done()


async def rename(visit: Visit) -> web.StreamResponse:
    """Change one's account name, shown name, language, or nickname in the guild."""
    body, user = visit.body, visit.user
    user.username = body.get("username", user.username)
    user.global_name = body.get("global_name", user.global_name)
    user.locale = body.get("locale", user.locale)
    if "nick" in body:
        visit.own_guild().member(user.id).nick = body["nick"]
    visit.context.announcer.user_updated(user)
    return _done()


async def set_privacy(visit: Visit) -> web.StreamResponse:
    """Take or refuse private messages of the bot."""
    visit.user.accepts_private = bool(visit.body["accepts_private"])
    return _done()


def _as_admin(visit: Visit) -> Guild:
    guild = visit.own_guild()
    allowed = base_permissions(guild, guild.member(visit.user.id), visit.context.world.clock.now())
    if Permission.ADMINISTRATOR not in allowed:
        raise ApiError(Code.MISSING_PERMISSIONS)
    return guild


async def delete_channel(visit: Visit) -> web.StreamResponse:
    """Delete a channel."""
    guild = _as_admin(visit)
    channel_id = snowflake(visit.body.get("channel"), path="channel")
    if channel_id not in guild.channels:
        raise ApiError(Code.UNKNOWN_CHANNEL)
    remove_channel(visit.context, guild.channels[channel_id])
    return _done()


async def create_channel(visit: Visit) -> web.StreamResponse:
    """Make a channel everybody sees; `type` 4 makes a category."""
    guild = _as_admin(visit)
    parent = guild.channels.get(int(visit.body.get("parent_id") or 0))
    kind = ChannelKind(int(visit.body.get("type") or 0))
    channel = add_channel(visit.context.world, guild, str(visit.body["name"]), kind, parent=parent)
    visit.context.announcer.channel_created(channel)
    return answer(channel_json(visit.context.world, channel))


async def open_thread(visit: Visit) -> web.StreamResponse:
    """Open a public thread under a text channel."""
    world = visit.context.world
    parent = visit.channel(visit.body.get("channel"), Permission.CREATE_PUBLIC_THREADS)
    guild = world.guild_of(parent)
    if guild is None or parent.kind is not ChannelKind.TEXT:
        raise ApiError(Code.WRONG_CHANNEL_TYPE)
    thread = Channel(
        id=world.ids.next(),
        kind=ChannelKind.PUBLIC_THREAD,
        guild_id=guild.id,
        name=str(visit.body["name"]),
        parent_id=parent.id,
        owner_id=visit.user.id,
        opened_at=world.clock.now(),
    )
    guild.threads[thread.id] = thread
    visit.context.announcer.thread_created(thread)
    return answer(channel_json(world, thread))


async def kick(visit: Visit) -> web.StreamResponse:
    """Remove a member; also the bot."""
    remove_member(visit.context, _as_admin(visit), snowflake(visit.body.get("user"), path="user"))
    return _done()


async def time_out(visit: Visit) -> web.StreamResponse:
    """Silence a member for `seconds`; 0 ends it."""
    guild = _as_admin(visit)
    member = guild.member(snowflake(visit.body.get("user"), path="user"))
    seconds = float(visit.body.get("seconds") or 0)
    now: datetime = visit.context.world.clock.now()
    member.timed_out_until = now + timedelta(seconds=seconds) if seconds else None
    visit.context.announcer.member_updated(guild, member)
    return _done()


async def set_roles(visit: Visit) -> web.StreamResponse:
    """Give a member exactly these roles, by name."""
    guild = _as_admin(visit)
    member = guild.member(snowflake(visit.body.get("user"), path="user"))
    by_name = {role.name: role.id for role in guild.roles.values()}
    missing = [name for name in visit.body.get("roles") or [] if name not in by_name]
    if missing:
        raise ApiError(Code.UNKNOWN_ROLE)
    member.role_ids = [by_name[name] for name in visit.body.get("roles") or []]
    visit.context.announcer.member_updated(guild, member)
    return _done()


async def invite(visit: Visit) -> web.StreamResponse:
    """Invite the bot (again) to a guild this person owns or administers."""
    guild = _as_admin(visit)
    world = visit.context.world
    if world.bot.id not in guild.members:
        invite_bot(world, guild)
        visit.context.announcer.guild_joined(guild)
    return _done()
