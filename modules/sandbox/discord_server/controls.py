"""`/sandbox/...`: break things on purpose and look at everything. For tests."""

import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from modules.sandbox.discord_server.context import Context
from modules.sandbox.discord_server.demo import add_guild, invite_bot
from modules.sandbox.discord_server.people import permissions_of
from modules.sandbox.discord_server.shapes import (
    channel_json,
    command_json,
    guild_json,
    member_json,
    message_json,
    user_json,
)
from modules.sandbox.discord_server.wire import ApiError, Code, Json, encode, snowflake
from modules.sandbox.discord_server.world import Channel, Guild, Overwrite, OverwriteKind, World

Control = Callable[[Context, Json], object]


def add_control_routes(app: web.Application, context: Context) -> None:
    """Register `/sandbox/...`."""

    def control(act: Control) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def serve(request: web.Request) -> web.Response:
            raw = await request.read()
            try:
                asked = json.loads(raw) if raw else dict(request.query)
                result = act(context, asked)
            except (ApiError, ValueError, KeyError) as error:
                return web.json_response({"message": str(error)}, status=400)
            if result is None:
                return web.Response(status=204)
            return web.Response(body=encode(result), content_type="application/json")

        return serve

    router = app.router
    router.add_post("/sandbox/faults", control(_add_fault))
    router.add_delete("/sandbox/faults", control(_clear_faults))
    router.add_post("/sandbox/gateway", control(_gateway))
    router.add_get("/sandbox/requests", control(_requests))
    router.add_get("/sandbox/violations", control(_violations))
    router.add_post("/sandbox/permissions", control(_permissions))
    router.add_post("/sandbox/clock", control(_clock))
    router.add_post("/sandbox/guilds", control(_add_guild))
    router.add_post("/sandbox/guild-settings", control(_guild_settings))
    router.add_post("/sandbox/intents", control(_intents))
    router.add_get("/sandbox/state", control(_state))


def _add_fault(context: Context, asked: Json) -> None:
    context.faults.add(asked)


def _clear_faults(context: Context, _: Json) -> None:
    context.faults.clear()


def _gateway(context: Context, asked: Json) -> None:
    gateway = context.gateway
    match asked["action"]:
        case "drop":
            gateway.drop(resumable=bool(asked.get("resumable", True)))
        case "reconnect":
            gateway.ask_to_reconnect(resumable=bool(asked.get("resumable", True)))
        case "invalid_session":
            gateway.invalidate(resumable=bool(asked.get("resumable", False)))
        case "silence":
            gateway.silence()
        case "late_guilds":
            gateway.guilds.late_s = float(asked.get("late_s", "inf"))
        case "release_guilds":
            gateway.guilds.late_s = 0.0
            gateway.release_guilds()
        case "begin_outage":
            gateway.guilds.outage_event = asked.get("event", "GUILD_DELETE")
            gateway.begin_outage(_guild(context.world, asked).id)
        case "end_outage":
            gateway.end_outage(_guild(context.world, asked).id)
        case other:
            raise ValueError(f"unknown action {other}")


def _guild(world: World, asked: Json) -> Guild:
    """The guild named by id, else the first."""
    return world.guild(snowflake(asked["guild"])) if "guild" in asked else next(iter(world.guilds.values()))


def _guild_settings(context: Context, asked: Json) -> None:
    """What an owner sets in the server's settings, and Discord's own filter of names."""
    guild = _guild(context.world, asked)
    guild.mfa_level = int(asked.get("mfa_level", guild.mfa_level))
    guild.features = list(asked.get("features", guild.features))
    guild.locale = str(asked.get("locale", guild.locale))
    guild.refused_words = [str(word) for word in asked.get("refused_words", guild.refused_words)]
    context.announcer.guild_updated(guild)


def _requests(context: Context, asked: Json) -> list[Json]:
    since = int(asked.get("since", 0))
    return [e.shape(json.loads(e.body) if e.body else None) for e in context.journal.entries if e.number > since]


def _violations(context: Context, asked: Json) -> Json:
    found = [v.shape() for v in context.journal.violations()]
    if kind := asked.get("kind"):
        found = [v for v in found if v["kind"] == kind]
    return {"checking": context.journal.spec.is_on, "violations": found}


def _permissions(context: Context, asked: Json) -> None:
    """Change a role's permissions, or the overwrite of a role or user in one channel."""
    world = context.world
    allow, deny = int(asked.get("allow") or 0), int(asked.get("deny") or 0)
    guild = _guild(world, asked)
    if asked.get("channel"):
        channel = world.channel(snowflake(asked["channel"]))
        _overwrite(channel, _target(world, guild, asked), allow, deny)
        context.announcer.channel_updated(channel)
        return
    role_id, _ = _target(world, guild, asked)
    role = guild.role(role_id)
    role.permissions = role.permissions & ~deny | allow
    context.announcer.role("GUILD_ROLE_UPDATE", guild, role)


def _target(world: World, guild: Guild, asked: Json) -> tuple[int, OverwriteKind]:
    """Whom it is about: `user` or `role` by id, a role also by name, `"bot"` for the bot's own role."""
    if "user" in asked:
        return snowflake(asked["user"]), OverwriteKind.MEMBER
    wanted = asked["role"]
    for role in guild.roles.values():
        if wanted in (role.name, str(role.id)) or (wanted == "bot" and role.bot_id == world.bot.id):
            return role.id, OverwriteKind.ROLE
    raise ApiError(Code.UNKNOWN_ROLE)


def _overwrite(channel: Channel, target: tuple[int, OverwriteKind], allow: int, deny: int) -> None:
    target_id, kind = target
    old = next((o for o in channel.overwrites if o.target_id == target_id), Overwrite(target_id=target_id, kind=kind))
    channel.overwrites = [o for o in channel.overwrites if o.target_id != target_id]
    old.allow, old.deny = old.allow & ~deny | allow, old.deny & ~allow | deny
    channel.overwrites.append(old)


def _clock(context: Context, asked: Json) -> Json:
    context.world.clock.advance(float(asked["advance_s"]))
    return {"now": context.world.clock.now().isoformat()}


def _add_guild(context: Context, asked: Json) -> Json:
    """Somebody invites the bot to another guild."""
    world = context.world
    owner = world.user(snowflake(asked["owner"])) if "owner" in asked else world.people()[0]
    guild = add_guild(world, str(asked["name"]), owner=owner)
    invite_bot(world, guild)
    context.announcer.guild_joined(guild)
    return guild_json(world, guild)


def _intents(context: Context, asked: Json) -> None:
    """Set the application's flags, as the switches in the developer portal do."""
    context.world.application.flags = int(asked["flags"])


def _state(context: Context, _: Json) -> Json:
    world = context.world
    return {
        "now": world.clock.now().isoformat(),
        "users": [user_json(user) for user in world.users.values()],
        "guilds": [_guild_state(world, guild) for guild in world.guilds.values()],
        "dms": [channel_json(world, channel) for channel in world.dms.values()],
        "messages": {
            str(channel_id): [message_json(world, m) | _private(m.ephemeral_to) for m in messages.values()]
            for channel_id, messages in world.messages.items()
        },
        "commands": [command_json(world, command) for command in world.commands.values()],
        "gateway": {
            "online": context.gateway.is_online,
            "sessions": len(context.gateway.sessions),
            "identifies": context.gateway.identifies,
            "resumes": context.gateway.resumes,
            "session_starts_left": context.gateway.session_starts.remaining,
        },
    }


def _private(user_id: int | None) -> Json:
    return {} if user_id is None else {"ephemeral_to": str(user_id)}


def _guild_state(world: World, guild: Guild) -> Json:
    channels = []
    for channel in guild.channels.values():
        may = {str(m): str(int(permissions_of(world, m, channel))) for m in guild.members}
        channels.append(channel_json(world, channel) | {"permissions_of": may})
    members = [member_json(world, member) for member in guild.members.values()]
    return guild_json(world, guild) | {"channels": channels, "members": members}
