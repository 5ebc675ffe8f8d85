"""Routes about channels and their overwrites."""

from modules.sandbox.discord_server.moderation import remove_channel
from modules.sandbox.discord_server.permissions import Permission, base_permissions, permissions_in
from modules.sandbox.discord_server.rest.routing import Call, RouteTable
from modules.sandbox.discord_server.shapes import channel_json
from modules.sandbox.discord_server.wire import ApiError, Code, FormErrors, Json, Reply, invalid, snowflake
from modules.sandbox.discord_server.world import Channel, ChannelKind, Guild, Overwrite, OverwriteKind, World

table = RouteTable()

CHANNEL = "/channels/{channel_id}"
OVERWRITE = CHANNEL + "/permissions/{overwrite_id}"
MAX_CHANNELS = 500
MAX_IN_CATEGORY = 50
MAX_NAME = 100
MAX_TOPIC = 1_024
_NAMED_LIKE_TEXT = (ChannelKind.TEXT, ChannelKind.ANNOUNCEMENT)


@table.get(CHANNEL)
async def read(call: Call) -> Reply:
    """One channel."""
    return Reply(channel_json(call.context.world, call.channel()))


@table.get("/guilds/{guild_id}/channels")
async def in_guild(call: Call) -> Reply:
    """All channels of a guild."""
    return Reply([channel_json(call.context.world, channel) for channel in call.guild().channels.values()])


@table.post("/guilds/{guild_id}/channels")
async def create(call: Call) -> Reply:
    """Make a channel, together with its overwrites."""
    world, form = call.context.world, call.form
    guild = call.guild(Permission.MANAGE_CHANNELS)
    if len(guild.channels) >= MAX_CHANNELS:
        raise ApiError(Code.MAX_CHANNELS)
    kind = _kind(form)
    _check_texts(form, name_required=True)
    _check_discovery(guild, form.get("name"))
    parent = _parent(guild, form.get("parent_id"))
    channel = Channel(
        id=world.ids.next(),
        kind=kind,
        guild_id=guild.id,
        name=_name(form["name"], kind),
        parent_id=parent.id if parent else None,
        topic=form.get("topic"),
        is_nsfw=bool(form.get("nsfw")),
        slowmode_s=int(form.get("rate_limit_per_user") or 0),
        position=_position(guild, kind, form),
    )
    if form.get("permission_overwrites") is not None:
        grantable = _grantable_at_creation(world, guild)
        channel.overwrites = [_overwrite(guild, item, {}, grantable) for item in form["permission_overwrites"]]
    elif parent is not None:
        channel.overwrites = [_copy(overwrite) for overwrite in parent.overwrites]
    guild.channels[channel.id] = channel
    call.context.announcer.channel_created(channel)
    return Reply(channel_json(world, channel), status=201)


def _kind(form: Json) -> ChannelKind:
    try:
        return ChannelKind(form.get("type") or ChannelKind.TEXT)
    except ValueError:
        raise invalid(["type"], "BASE_TYPE_CHOICES", "Value must be one of (0, 2, 4, 5).") from None


def _check_texts(form: Json, *, name_required: bool) -> None:
    errors = FormErrors()
    if name_required or form.get("name") is not None:
        errors.check_length(["name"], form.get("name"), 1, MAX_NAME)
    if form.get("topic") is not None:
        errors.check_length(["topic"], form["topic"], 0, MAX_TOPIC)
    errors.raise_if_any()


def _check_discovery(guild: Guild, name: object) -> None:
    """Servers that are listed in Server Discovery have their channels' names filtered; Discord publishes no list of words.

    Source: Dragory/modmailbot #651, python-discord/bot #2282, discord-tickets/bot #262.
    """
    if isinstance(name, str) and any(word in name.lower() for word in guild.refused_words):
        message = "Contains words not allowed for servers in Server Discovery."
        raise invalid(["name"], "INVALID_COMMUNITY_PROPERTY_NAME", message)


def _name(name: str, kind: ChannelKind) -> str:
    """Text channels are written small and without spaces."""
    return "-".join(name.lower().split()) if kind in _NAMED_LIKE_TEXT else name.strip()


def _position(guild: Guild, kind: ChannelKind, form: Json) -> int:
    if form.get("position") is not None:
        return int(form["position"])
    return max((c.position for c in guild.channels.values() if c.kind is kind), default=-1) + 1


def _parent(guild: Guild, parent_id: object, *, moving: Channel | None = None) -> Channel | None:
    if parent_id is None:
        return None
    parent = guild.channels.get(snowflake(parent_id, path="parent_id"))
    if parent is None or parent.kind is not ChannelKind.CATEGORY:
        raise invalid(["parent_id"], "CHANNEL_PARENT_INVALID", "Category does not exist")
    children = [c for c in guild.channels.values() if c.parent_id == parent.id and c is not moving]
    if len(children) >= MAX_IN_CATEGORY:
        message = f"Maximum number of channels in category reached ({MAX_IN_CATEGORY})"
        raise invalid(["parent_id"], "CHANNEL_PARENT_MAX_CHANNELS", message)
    return parent


def _copy(overwrite: Overwrite) -> Overwrite:
    return Overwrite(target_id=overwrite.target_id, kind=overwrite.kind, allow=overwrite.allow, deny=overwrite.deny)


# -- overwrites: the bot can hand out and take away only what it has itself -------------------------------------------


def _grantable_at_creation(world: World, guild: Guild) -> Permission:
    """What overwrites may contain when a channel is made: what the bot has in the guild; MANAGE_ROLES only by administrators.

    Source: developer docs, "Create Guild Channel"; discord-api-docs #2522 and #2524.
    """
    base = base_permissions(guild, guild.members[world.bot.id], world.clock.now())
    return base if Permission.ADMINISTRATOR in base else base & ~Permission.MANAGE_ROLES


def _grantable_on_edit(world: World, guild: Guild, channel: Channel) -> Permission:
    """What a change of overwrites may contain: what the bot has in the guild or, for a channel in a category, in the category.

    A category that shuts the bot out blocks the change although the channel lets it in. Source: developer docs, "Modify
    Channel"; discord-api-docs #3756.
    """
    category = guild.channels.get(channel.parent_id) if channel.parent_id is not None else None
    if category is None:
        return _grantable_at_creation(world, guild)
    allowed = permissions_in(guild, guild.members[world.bot.id], category, world.clock.now())
    return allowed if Permission.ADMINISTRATOR in allowed else allowed & ~Permission.MANAGE_ROLES


def _changed_overwrites(call: Call, guild: Guild, channel: Channel, wanted: list[Json]) -> list[Overwrite]:
    before = {(o.kind, o.target_id): o for o in channel.overwrites}
    grantable = _grantable_on_edit(call.context.world, guild, channel)
    return [_overwrite(guild, item, before, grantable) for item in wanted]


def _overwrite(guild: Guild, item: Json, before: dict[tuple[OverwriteKind, int], Overwrite], grantable: Permission) -> Overwrite:
    """One overwrite as sent; raises 50013 when what it changes is more than the bot may hand out."""
    target_id = snowflake(item.get("id"), path="permission_overwrites")
    kind = _overwrite_kind(guild, target_id, item)
    if kind is OverwriteKind.ROLE:
        guild.role(target_id)
    overwrite = Overwrite(target_id=target_id, kind=kind, allow=int(item.get("allow") or 0), deny=int(item.get("deny") or 0))
    old = before.get((kind, target_id), Overwrite(target_id=target_id, kind=kind))
    changed = Permission((overwrite.allow ^ old.allow) | (overwrite.deny ^ old.deny))
    if changed & ~grantable:
        raise ApiError(Code.MISSING_PERMISSIONS)
    return overwrite


def _overwrite_kind(guild: Guild, target_id: int, item: Json) -> OverwriteKind:
    if item.get("type") is None:
        return OverwriteKind.ROLE if target_id in guild.roles else OverwriteKind.MEMBER
    return OverwriteKind(int(item["type"]))


@table.put(OVERWRITE)
async def put_overwrite(call: Call) -> Reply:
    """Set one overwrite."""
    channel = call.channel(Permission.MANAGE_ROLES)
    guild = call.context.world.guild_of(channel)
    if guild is None:
        raise ApiError(Code.DM_ONLY_MISTAKE)
    item = call.form | {"id": call.params["overwrite_id"]}
    [overwrite] = _changed_overwrites(call, guild, channel, [item])
    channel.overwrites = [o for o in channel.overwrites if o.target_id != overwrite.target_id]
    channel.overwrites.append(overwrite)
    call.context.announcer.channel_updated(channel)
    return Reply(status=204)


@table.delete(OVERWRITE)
async def delete_overwrite(call: Call) -> Reply:
    """Remove one overwrite."""
    channel = call.channel(Permission.MANAGE_ROLES)
    target_id = call.id("overwrite_id")
    if all(o.target_id != target_id for o in channel.overwrites):
        raise ApiError(Code.UNKNOWN_OVERWRITE)
    channel.overwrites = [o for o in channel.overwrites if o.target_id != target_id]
    call.context.announcer.channel_updated(channel)
    return Reply(status=204)


@table.patch(CHANNEL)
async def edit(call: Call) -> Reply:
    """Change a channel. A third new name or topic within ten minutes has to wait."""
    world, form = call.context.world, call.form
    channel = call.channel(Permission.MANAGE_CHANNELS)
    guild = world.guild_of(channel)
    if guild is None:
        raise ApiError(Code.DM_ONLY_MISTAKE)
    _check_texts(form, name_required=False)
    _check_discovery(guild, form.get("name"))
    _count_rename(call, channel, form)
    if form.get("permission_overwrites") is not None:
        call.require(channel, Permission.MANAGE_ROLES)
        channel.overwrites = _changed_overwrites(call, guild, channel, form["permission_overwrites"])
    if "parent_id" in form:
        parent = _parent(guild, form["parent_id"], moving=channel)
        channel.parent_id = parent.id if parent else None
        if form.get("lock_permissions") and parent is not None:
            channel.overwrites = [_copy(overwrite) for overwrite in parent.overwrites]
    if form.get("name") is not None:
        channel.name = _name(form["name"], channel.kind)
    if "topic" in form:
        channel.topic = form["topic"]
    channel.is_nsfw = bool(form.get("nsfw", channel.is_nsfw))
    if form.get("position") is not None:
        channel.position = int(form["position"])
    channel.slowmode_s = int(form.get("rate_limit_per_user") or 0) if "rate_limit_per_user" in form else channel.slowmode_s
    call.context.announcer.channel_updated(channel)
    return Reply(channel_json(world, channel))


def _count_rename(call: Call, channel: Channel, form: Json) -> None:
    renames = form.get("name") is not None and _name(form["name"], channel.kind) != channel.name
    retopics = "topic" in form and form["topic"] != channel.topic
    if not renames and not retopics:
        return
    wait_s = call.context.limits.rename(channel.id, call.context.world.clock.timestamp())
    if wait_s is not None:
        raise ApiError(Code.CHANNEL_WRITE_LIMIT, extra={"retry_after": round(wait_s, 3), "global": False})


@table.delete(CHANNEL)
async def delete(call: Call) -> Reply:
    """Remove a channel; the children of a category lose their parent."""
    world = call.context.world
    channel = call.channel(Permission.MANAGE_CHANNELS)
    if channel.guild_id is None:
        return Reply(channel_json(world, channel))
    return Reply(remove_channel(call.context, channel))


@table.patch("/guilds/{guild_id}/channels")
async def reorder(call: Call) -> Reply:
    """Move several channels at once."""
    guild = call.guild(Permission.MANAGE_CHANNELS)
    for item in call.items:
        channel = guild.channels.get(snowflake(item.get("id")))
        if channel is None:
            raise ApiError(Code.UNKNOWN_CHANNEL)
        if item.get("position") is not None:
            channel.position = int(item["position"])
        if "parent_id" in item:
            parent = _parent(guild, item["parent_id"], moving=channel)
            channel.parent_id = parent.id if parent else None
        call.context.announcer.channel_updated(channel)
    return Reply(status=204)
