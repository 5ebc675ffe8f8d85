"""Session channels as Discord has them: names, rights, categories. Decides and makes; knows no store."""

from __future__ import annotations

import re
import unicodedata

import discord

from modules.domain.errors import ErrorCode, FulletError

SESSIONS_CATEGORY = "sessions"
ADMIN_TOOLS = "admin-tools"

#: Source: Discord developer documentation, "Guild" limits.
MAX_CHANNELS_PER_CATEGORY = 50
MAX_CHANNELS_PER_GUILD = 500
#: Source: the same, channel name length.
MAX_NAME_CHARS = 100

_CATEGORY_NAME = re.compile(rf"{SESSIONS_CATEGORY}(?: (\d{{1,3}}))?", re.IGNORECASE)
_NOT_FOR_NAMES = re.compile(r"[^\w-]+")

#: What the person may do in their session.
PERSON_RIGHTS = discord.PermissionOverwrite(
    view_channel=True,
    send_messages=True,
    use_application_commands=True,
    read_message_history=True,
    embed_links=True,
    attach_files=True,
)


def bot_rights() -> discord.PermissionOverwrite:
    """What we may do in a session: the person's rights, and to manage it."""
    return discord.PermissionOverwrite(
        view_channel=True,
        send_messages=True,
        read_message_history=True,
        embed_links=True,
        attach_files=True,
        manage_channels=True,
        manage_messages=True,
    )


def channel_name(display_name: str) -> str:
    """`session-<name>` of letters, digits and hyphens, as Discord would write it. Never used to find it again."""
    flat = unicodedata.normalize("NFKC", display_name).casefold()
    name = _NOT_FOR_NAMES.sub("-", flat).strip("-_") or "member"
    return f"session-{name}"[:MAX_NAME_CHARS].rstrip("-")


def session_overwrites(
    guild: discord.Guild, member: discord.abc.Snowflake
) -> dict[discord.Role | discord.Member | discord.Object, discord.PermissionOverwrite]:
    """Hidden from everyone, open to one person and us. Given with the creation: there is no moment at which others see it."""
    return {
        guild.default_role: discord.PermissionOverwrite(view_channel=False),
        discord.Object(member.id, type=discord.Member): PERSON_RIGHTS,
        guild.me: bot_rights(),
    }


def is_shown_to(channel: discord.TextChannel, user_id: int) -> bool:
    """Whether this very person was let in. Roles may let them in as well, but a session does not depend on those."""
    return any(target.id == user_id and rights.view_channel for target, rights in channel.overwrites.items())


def is_hidden(channel: discord.abc.GuildChannel) -> bool:
    """Whether @everyone cannot see it."""
    return channel.overwrites_for(channel.guild.default_role).view_channel is False


def session_categories(guild: discord.Guild) -> list[discord.CategoryChannel]:
    """`sessions`, `sessions 2` ... in that order."""
    found = [
        (int(match[1] or 1), category) for category in guild.categories if (match := _CATEGORY_NAME.fullmatch(category.name))
    ]
    return [category for _, category in sorted(found, key=lambda pair: (pair[0], pair[1].id))]


async def roomy_category(guild: discord.Guild, *, full: frozenset[int] = frozenset()) -> discord.CategoryChannel:
    """A category with room for one more; `full` are those that Discord just refused. Makes an overflow category if need be."""
    categories = session_categories(guild)
    for category in categories:
        if category.id not in full and len(category.channels) < MAX_CHANNELS_PER_CATEGORY:
            return category
    name = SESSIONS_CATEGORY if not categories else f"{SESSIONS_CATEGORY} {len(categories) + 1}"
    return await guild.create_category(name, overwrites=_hidden(guild), reason="room for session channels")


async def restrict_age(channel: discord.TextChannel) -> None:
    """Have Discord ask for the person's age before it shows the channel. Raises PERMISSION_MISSING."""
    try:
        await channel.edit(nsfw=True, reason="a model for adults was asked for")
    except discord.Forbidden as error:
        raise FulletError(ErrorCode.PERMISSION_MISSING, permission="manage_channels") from error


async def make_hidden(channel: discord.TextChannel, owner: discord.abc.Snowflake) -> None:
    """Put the rights of a session back where somebody opened it to everyone."""
    await channel.edit(overwrites=session_overwrites(channel.guild, owner), reason="a session is private")


async def ensure_admin_tools(guild: discord.Guild, stored_id: int | None) -> discord.TextChannel:
    """`#admin-tools`: by its stored id, else by its name, else made, hidden from everyone."""
    stored = guild.get_channel(stored_id) if stored_id else None
    if isinstance(stored, discord.TextChannel):
        return stored
    named = discord.utils.get(guild.text_channels, name=ADMIN_TOOLS)
    return named or await guild.create_text_channel(ADMIN_TOOLS, overwrites=_hidden(guild), reason="for administrators")


def check_rights(guild: discord.Guild) -> None:
    """Raise PERMISSION_MISSING for the first right that sessions need and we lack in this guild."""
    rights = guild.me.guild_permissions
    for name in ("manage_channels", "view_channel", "send_messages", "embed_links", "attach_files", "read_message_history"):
        if not getattr(rights, name):
            raise FulletError(ErrorCode.PERMISSION_MISSING, permission=name)


def _hidden(guild: discord.Guild) -> dict[discord.Role | discord.Member | discord.Object, discord.PermissionOverwrite]:
    return {guild.default_role: discord.PermissionOverwrite(view_channel=False), guild.me: bot_rights()}
