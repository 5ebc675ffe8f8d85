"""Routes about guilds, members and roles."""

from datetime import datetime

from modules.sandbox.discord_server.moderation import remove_member
from modules.sandbox.discord_server.permissions import Permission, base_permissions, outranks, top_role
from modules.sandbox.discord_server.rest.routing import Call, RouteTable
from modules.sandbox.discord_server.shapes import guild_json, member_json, role_json
from modules.sandbox.discord_server.wire import ApiError, Code, FormErrors, Json, Reply, snowflake
from modules.sandbox.discord_server.world import Guild, Member, Role

table = RouteTable()

GUILD = "/guilds/{guild_id}"
MEMBER = GUILD + "/members/{user_id}"
MEMBER_ROLE = MEMBER + "/roles/{role_id}"
ROLE = GUILD + "/roles/{role_id}"
MAX_MEMBERS_PAGE = 1_000


@table.get(GUILD)
async def read(call: Call) -> Reply:
    """The guild."""
    shape = guild_json(call.context.world, call.guild())
    if not call.flag("with_counts"):
        shape.pop("approximate_member_count")
        shape.pop("approximate_presence_count")
    return Reply(shape)


@table.patch(GUILD)
async def edit(call: Call) -> Reply:
    """Change the guild's name or language."""
    guild = call.guild(Permission.MANAGE_GUILD)
    guild.name = call.form.get("name") or guild.name
    guild.locale = call.form.get("preferred_locale") or guild.locale
    call.context.announcer.guild_updated(guild)
    shape = guild_json(call.context.world, guild)
    shape.pop("approximate_member_count")
    shape.pop("approximate_presence_count")
    return Reply(shape)


@table.get(GUILD + "/members")
async def members(call: Call) -> Reply:
    """A page of members by id."""
    guild = call.guild()
    limit = min(int(call.query.get("limit", 1)), MAX_MEMBERS_PAGE)
    after = snowflake(call.query.get("after", "0"), path="after")
    page = sorted((m for m in guild.members.values() if m.user_id > after), key=lambda m: m.user_id)[:limit]
    return Reply([member_json(call.context.world, member) for member in page])


@table.get(GUILD + "/members/search")
async def search_members(call: Call) -> Reply:
    """Members whose name begins like this."""
    world = call.context.world
    start = call.query.get("query", "").casefold()
    limit = int(call.query.get("limit", 1))
    found = [
        m
        for m in call.guild().members.values()
        if any(name.casefold().startswith(start) for name in (m.nick, world.users[m.user_id].username) if name)
    ]
    return Reply([member_json(world, member) for member in found[:limit]])


@table.get(MEMBER)
async def member(call: Call) -> Reply:
    """One member."""
    return Reply(member_json(call.context.world, call.guild().member(call.id("user_id"))))


@table.patch(MEMBER)
async def edit_member(call: Call) -> Reply:
    """Change nickname, roles or time-out of a member below the bot."""
    guild, form = call.guild(), call.form
    target = guild.member(call.id("user_id"))
    if "nick" in form:
        _require_over(call, guild, target, Permission.MANAGE_NICKNAMES)
        target.nick = form["nick"] or None
    if form.get("roles") is not None:
        await _set_roles(call, guild, target, [snowflake(r, path="roles") for r in form["roles"]])
    if "communication_disabled_until" in form:
        _require_over(call, guild, target, Permission.MODERATE_MEMBERS)
        until = form["communication_disabled_until"]
        target.timed_out_until = datetime.fromisoformat(until) if until else None
    call.context.announcer.member_updated(guild, target)
    return Reply(member_json(call.context.world, target))


async def _set_roles(call: Call, guild: Guild, target: Member, wanted: list[int]) -> None:
    for role_id in set(wanted) ^ set(target.role_ids):
        _require_role(call, guild, guild.role(role_id))
    target.role_ids = wanted


def _require(call: Call, guild: Guild, needed: Permission) -> Member:
    bot = guild.members[call.context.world.bot.id]
    if needed not in base_permissions(guild, bot, call.context.world.clock.now()):
        raise ApiError(Code.MISSING_PERMISSIONS)
    call.require_two_factor(guild, needed)
    return bot


def _require_role(call: Call, guild: Guild, role: Role) -> None:
    bot = _require(call, guild, Permission.MANAGE_ROLES)
    if not outranks(guild, bot, role) or role.bot_id is not None:
        raise ApiError(Code.MISSING_PERMISSIONS)


def _require_over(call: Call, guild: Guild, target: Member, needed: Permission) -> None:
    bot = _require(call, guild, needed)
    if target.user_id == guild.owner_id or not outranks(guild, bot, top_role(guild, target)):
        raise ApiError(Code.MISSING_PERMISSIONS)


@table.patch(GUILD + "/members/@me")
async def edit_me(call: Call) -> Reply:
    """Change the bot's own nickname."""
    guild = call.guild(Permission.CHANGE_NICKNAME)
    bot = guild.members[call.context.world.bot.id]
    bot.nick = call.form.get("nick") or None
    call.context.announcer.member_updated(guild, bot)
    return Reply(member_json(call.context.world, bot))


@table.delete(MEMBER)
async def kick(call: Call) -> Reply:
    """Remove a member."""
    guild = call.guild()
    target = guild.member(call.id("user_id"))
    _require_over(call, guild, target, Permission.KICK_MEMBERS)
    remove_member(call.context, guild, target.user_id)
    return Reply(status=204)


@table.put(MEMBER_ROLE)
async def add_role(call: Call) -> Reply:
    """Give a member a role."""
    guild = call.guild()
    target, role = guild.member(call.id("user_id")), guild.role(call.id("role_id"))
    _require_role(call, guild, role)
    if role.id not in target.role_ids:
        target.role_ids.append(role.id)
        call.context.announcer.member_updated(guild, target)
    return Reply(status=204)


@table.delete(MEMBER_ROLE)
async def remove_role(call: Call) -> Reply:
    """Take a role from a member."""
    guild = call.guild()
    target, role = guild.member(call.id("user_id")), guild.role(call.id("role_id"))
    _require_role(call, guild, role)
    if role.id in target.role_ids:
        target.role_ids.remove(role.id)
        call.context.announcer.member_updated(guild, target)
    return Reply(status=204)


@table.get(GUILD + "/roles")
async def roles(call: Call) -> Reply:
    """All roles."""
    return Reply([role_json(role) for role in call.guild().roles.values()])


@table.get(ROLE)
async def role(call: Call) -> Reply:
    """One role."""
    return Reply(role_json(call.guild().role(call.id("role_id"))))


@table.post(GUILD + "/roles")
async def create_role(call: Call) -> Reply:
    """Make a role; it may grant only what the bot has."""
    guild = call.guild(Permission.MANAGE_ROLES)
    made = Role(id=call.context.world.ids.next(), name="new role", permissions=guild.everyone.permissions, position=1)
    _shape_role(call, guild, made, call.form)
    for other in guild.roles.values():
        if other.id != guild.id:
            other.position += 1
    guild.roles[made.id] = made
    call.context.announcer.role("GUILD_ROLE_CREATE", guild, made)
    return Reply(role_json(made))


def _shape_role(call: Call, guild: Guild, role: Role, form: Json) -> None:
    errors = FormErrors()
    if form.get("name") is not None:
        errors.check_length(["name"], form["name"], 0, 100)
    errors.raise_if_any()
    if form.get("permissions") is not None:
        bot = guild.members[call.context.world.bot.id]
        wanted = Permission(int(form["permissions"]))
        if (wanted ^ Permission(role.permissions)) & ~base_permissions(guild, bot, call.context.world.clock.now()):
            raise ApiError(Code.MISSING_PERMISSIONS)
        role.permissions = int(wanted)
    role.name = form.get("name") or role.name
    role.color = int(form.get("color") or role.color)
    role.hoist = bool(form.get("hoist", role.hoist))
    role.mentionable = bool(form.get("mentionable", role.mentionable))


@table.patch(ROLE)
async def edit_role(call: Call) -> Reply:
    """Change a role below the bot."""
    guild = call.guild()
    changed = guild.role(call.id("role_id"))
    bot = _require(call, guild, Permission.MANAGE_ROLES)
    if not outranks(guild, bot, changed):
        raise ApiError(Code.MISSING_PERMISSIONS)
    _shape_role(call, guild, changed, call.form)
    call.context.announcer.role("GUILD_ROLE_UPDATE", guild, changed)
    return Reply(role_json(changed))


@table.delete(ROLE)
async def delete_role(call: Call) -> Reply:
    """Remove a role below the bot."""
    guild = call.guild()
    gone = guild.role(call.id("role_id"))
    _require_role(call, guild, gone)
    for other in guild.members.values():
        other.role_ids = [role_id for role_id in other.role_ids if role_id != gone.id]
    for channel in guild.channels.values():
        channel.overwrites = [o for o in channel.overwrites if o.target_id != gone.id]
    del guild.roles[gone.id]
    call.context.announcer.role("GUILD_ROLE_DELETE", guild, gone)
    return Reply(status=204)
