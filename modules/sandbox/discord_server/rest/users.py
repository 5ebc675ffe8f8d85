"""Routes about the bot itself, users and the gateway's address."""

from modules.sandbox.discord_server.permissions import base_permissions
from modules.sandbox.discord_server.rest.routing import Call, RouteTable
from modules.sandbox.discord_server.shapes import application_json, channel_json, user_json
from modules.sandbox.discord_server.wire import ApiError, Code, Json, Reply, snowflake

table = RouteTable()


@table.get("/users/@me")
async def me(call: Call) -> Reply:
    """The bot's account."""
    world = call.context.world
    return Reply(user_json(world.bot) | {"mfa_enabled": True, "locale": "en-US", "verified": True, "email": None})


@table.get("/users/@me/guilds")
async def my_guilds(call: Call) -> Reply:
    """The guilds the bot is in."""
    world = call.context.world
    shapes: list[Json] = []
    for guild in world.guilds.values():
        member = guild.members.get(world.bot.id)
        if member is None:
            continue
        allowed = base_permissions(guild, member, world.clock.now())
        shapes.append(
            {
                "id": str(guild.id),
                "name": guild.name,
                "icon": None,
                "banner": None,
                "owner": guild.owner_id == world.bot.id,
                "permissions": str(int(allowed)),
                "features": list(guild.features),
            }
        )
    return Reply(shapes)


@table.delete("/users/@me/guilds/{guild_id}")
async def leave_guild(call: Call) -> Reply:
    """The bot leaves."""
    context = call.context
    guild = call.guild()
    for role in [role for role in guild.roles.values() if role.bot_id == context.world.bot.id]:
        del guild.roles[role.id]
    del guild.members[context.world.bot.id]
    context.announcer.guild_left(guild)
    return Reply(status=204)


@table.post("/users/@me/channels")
async def open_dm(call: Call) -> Reply:
    """The private conversation with somebody."""
    world = call.context.world
    user = world.user(snowflake(call.form.get("recipient_id"), path="recipient_id"))
    if user.is_bot:
        raise ApiError(Code.CANNOT_DM)
    return Reply(channel_json(world, world.dm_with(user.id)))


@table.get("/users/{user_id}")
async def user(call: Call) -> Reply:
    """Anybody's account."""
    return Reply(user_json(call.context.world.user(call.id("user_id"))))


@table.get("/oauth2/applications/@me")
async def my_application(call: Call) -> Reply:
    """The application, as the OAuth2 routes name it."""
    return Reply(application_json(call.context.world, call.context.world.application))


@table.get("/applications/@me")
async def current_application(call: Call) -> Reply:
    """The application."""
    return Reply(application_json(call.context.world, call.context.world.application))


@table.get("/gateway")
async def gateway(call: Call) -> Reply:
    """Where the gateway is."""
    return Reply({"url": call.context.gateway.url})


@table.get("/gateway/bot")
async def gateway_for_bots(call: Call) -> Reply:
    """Where the gateway is, with the recommended number of shards, and how often the bot may still identify."""
    gateway = call.context.gateway
    return Reply({"url": gateway.url, "shards": 1, "session_start_limit": gateway.session_starts.shape()})
