"""The community that the demo and most tests start from."""

from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.world import Channel, ChannelKind, Guild, Member, Role, User, World

#: What a member of a fresh Discord server may do.
EVERYONE = (
    Permission.VIEW_CHANNEL
    | Permission.SEND_MESSAGES
    | Permission.SEND_MESSAGES_IN_THREADS
    | Permission.CREATE_PUBLIC_THREADS
    | Permission.READ_MESSAGE_HISTORY
    | Permission.EMBED_LINKS
    | Permission.ATTACH_FILES
    | Permission.ADD_REACTIONS
    | Permission.USE_APPLICATION_COMMANDS
    | Permission.USE_EXTERNAL_EMOJIS
    | Permission.CHANGE_NICKNAME
    | Permission.CONNECT
    | Permission.SPEAK
    | Permission.CREATE_INSTANT_INVITE
)
#: What the bot's own role was granted at the invitation: it makes private channels, posts pictures and tidies up.
BOT_ROLE = (
    Permission.VIEW_CHANNEL
    | Permission.SEND_MESSAGES
    | Permission.READ_MESSAGE_HISTORY
    | Permission.EMBED_LINKS
    | Permission.ATTACH_FILES
    | Permission.USE_APPLICATION_COMMANDS
    | Permission.MANAGE_CHANNELS
    | Permission.MANAGE_ROLES
    | Permission.MANAGE_MESSAGES
)


def demo_world(*, token: str | None = None, guests: int = 0) -> World:
    """Six people, one community with two public channels, and the bot, invited but not yet online.

    `guests` more members ("guest-001" ...) make a crowd for load tests.
    """
    world = World()
    elena = _person(world, "elena", "Elena", "en-US", "#e67e22")
    ana = _person(world, "ana", "Ana", "es-ES", "#e91e63")
    bruno = _person(world, "bruno", "Bruno", "en-US", "#2ecc71")
    chloe = _person(world, "chloe", "Chloe", "en-US", "#9b59b6")
    dario = _person(world, "dario", "Darío", "es-ES", "#3498db")
    zoe = _person(world, "zoe", "Zoe", "es-ES", "#1abc9c")
    world.add_application("FuLLet", owner=elena, token=token)

    guild = add_guild(world, "Pixel Garden", owner=elena)
    admin = add_role(world, guild, "Admin", int(Permission.ADMINISTRATOR), color=0xE67E22, hoist=True)
    booster = add_role(world, guild, "Server Booster", 0, color=0xF47FFF)
    booster.is_booster = True
    add_role(world, guild, "Artist", 0, color=0x3498DB)
    crowd = [_person(world, f"guest-{n:03}", f"Guest {n}", "en-US", "#95a5a6") for n in range(1, guests + 1)]
    for user in (ana, bruno, chloe, dario, zoe, *crowd):
        join(world, guild, user)
    guild.members[elena.id].role_ids.append(admin.id)
    guild.members[chloe.id].role_ids.append(booster.id)
    guild.members[chloe.id].boosting_since = world.clock.now()

    text = add_channel(world, guild, "Text channels", ChannelKind.CATEGORY)
    add_channel(world, guild, "general", parent=text, topic="Say hello, then try /imagine")
    add_channel(world, guild, "showcase", parent=text, topic="Pictures worth sharing")
    invite_bot(world, guild)
    return world


def _person(world: World, username: str, shown: str, locale: str, color: str) -> User:
    return world.add_user(username, global_name=shown, locale=locale, avatar_color=color)


def add_guild(world: World, name: str, *, owner: User, locale: str = "en-US") -> Guild:
    """A new guild with its @everyone role and its owner in it."""
    guild = Guild(id=world.ids.next(), name=name, owner_id=owner.id, locale=locale)
    guild.roles[guild.id] = Role(id=guild.id, name="@everyone", permissions=int(EVERYONE), position=0)
    world.guilds[guild.id] = guild
    join(world, guild, owner)
    return guild


def add_role(world: World, guild: Guild, name: str, permissions: int, *, color: int = 0, hoist: bool = False) -> Role:
    """A new role at the bottom of the list, above @everyone, as Discord places it."""
    for role in guild.roles.values():
        if role.id != guild.id:
            role.position += 1
    role = Role(id=world.ids.next(), name=name, permissions=permissions, position=1, color=color, hoist=hoist)
    guild.roles[role.id] = role
    return role


def add_channel(
    world: World,
    guild: Guild,
    name: str,
    kind: ChannelKind = ChannelKind.TEXT,
    *,
    parent: Channel | None = None,
    topic: str | None = None,
) -> Channel:
    """A new channel at the end of the list."""
    channel = Channel(
        id=world.ids.next(),
        kind=kind,
        guild_id=guild.id,
        name=name,
        topic=topic,
        parent_id=parent.id if parent else None,
        position=sum(1 for other in guild.channels.values() if (other.kind == kind)),
    )
    guild.channels[channel.id] = channel
    return channel


def join(world: World, guild: Guild, user: User) -> Member:
    """Make somebody a member."""
    member = Member(user_id=user.id, joined_at=world.clock.now())
    guild.members[user.id] = member
    return member


def invite_bot(world: World, guild: Guild, permissions: int = int(BOT_ROLE)) -> Member:
    """Add the bot with a managed role of its own, above the ordinary ones."""
    role = add_role(world, guild, world.application.name, permissions)
    role.bot_id = world.bot.id
    role.position = max(other.position for other in guild.roles.values() if other.id != role.id) + 1
    member = join(world, guild, world.bot)
    member.role_ids.append(role.id)
    return member
