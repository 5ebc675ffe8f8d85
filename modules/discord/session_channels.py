"""Session channels as Discord has them: names, rights, categories, and whose they are. Decides and makes; knows no store."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import discord

from modules.discord.guilds import GuildView
from modules.discord.refusals import INVALID_FORM
from modules.discord.rights import PERSON_RIGHTS, bot_rights
from modules.domain.people import UserId

SESSIONS_CATEGORY = "sessions"
ADMIN_TOOLS = "admin-tools"

#: Source: Discord developer documentation, "Guild" limits.
MAX_CHANNELS_PER_CATEGORY = 50
MAX_CHANNELS_PER_GUILD = 500
#: Source: the same, channel name length.
MAX_NAME_CHARS = 100
#: No vowels and no digits: these letters spell no word and no number that a filter could know.
_NEUTRAL_LETTERS = "bcdfghjkmnpqrstvwxz"

_CATEGORY_NAME = re.compile(rf"{SESSIONS_CATEGORY}(?: (\d{{1,3}}))?", re.IGNORECASE)
_NOT_FOR_NAMES = re.compile(r"[^\w-]+")

_VIEW_CHANNEL = discord.Permissions(view_channel=True).value

Overwrites = dict[discord.Role | discord.Member | discord.Object, discord.PermissionOverwrite]


def channel_name(display_name: str) -> str:
    """`session-<name>` of letters, digits and hyphens, as Discord would write it. Never used to find it again."""
    flat = unicodedata.normalize("NFKC", display_name).casefold()
    name = _NOT_FOR_NAMES.sub("-", flat).strip("-_") or "member"
    return f"session-{name}"[:MAX_NAME_CHARS].rstrip("-")


def neutral_name(user_id: UserId) -> str:
    """`session-<six letters>` for a person whose name Discord refuses; the same letters every time."""
    digest = hashlib.blake2b(str(user_id).encode(), digest_size=6).digest()
    return "session-" + "".join(_NEUTRAL_LETTERS[byte % len(_NEUTRAL_LETTERS)] for byte in digest)


def is_name_refused(error: discord.HTTPException) -> bool:
    """Decide whether Discord refused the channel's name, such as one with a word of Server Discovery's filter.

    The answer is 50035 with `name` as the field and INVALID_COMMUNITY_PROPERTY_NAME as its code; discord.py keeps only the field
    and the words ("In name: Contains words not allowed for servers in Server Discovery."). The words may be changed by Discord.
    Source: Dragory/modmailbot #651, python-discord/bot #2282, discord-tickets/bot #262.
    """
    return error.code == INVALID_FORM and "\nIn name:" in error.text


# --- rights -------------------------------------------------------------------------------------------------------------------


def session_overwrites(view: GuildView, owner_id: UserId) -> Overwrites:
    """Hidden from everyone, open to one person and us. Given with the creation: there is no moment at which others see it."""
    return {
        view.guild.default_role: discord.PermissionOverwrite(view_channel=False),
        discord.Object(owner_id, type=discord.Member): PERSON_RIGHTS,
        discord.Object(view.me.id, type=discord.Member): bot_rights(),
    }


def _hidden(view: GuildView) -> Overwrites:
    return {
        view.guild.default_role: discord.PermissionOverwrite(view_channel=False),
        discord.Object(view.me.id, type=discord.Member): bot_rights(),
    }


def is_shown_to(channel: discord.TextChannel, user_id: int) -> bool:
    """Whether this very person was let in. Roles may let them in as well, but a session does not depend on those."""
    return _sight(channel).get(user_id) is True


def is_hidden(channel: discord.abc.GuildChannel) -> bool:
    """Whether @everyone, the role with the guild's own id, cannot see it."""
    return _sight(channel).get(channel.guild.id) is False


def _sight(channel: discord.abc.GuildChannel) -> Mapping[int, bool]:
    """Id of a role or member -> whether the channel's overwrites show it to them or hide it from them.

    Read from the numbers that Discord sent: `channel.overwrites` builds every right of every target anew (0.6 ms), and
    whoever has none yet is looked for in all of them. Where one overwrite denies a right and allows it as well, Discord allows
    it. Source: Discord developer documentation, "Permissions", "Permission Overwrites".
    """
    return {
        overwrite.id: bool(overwrite.allow & _VIEW_CHANNEL)
        for overwrite in channel._overwrites  # discord.py offers the numbers nowhere else
        if (overwrite.allow | overwrite.deny) & _VIEW_CHANNEL
    }


def owner_by_overwrites(channel: discord.TextChannel, bot_id: int) -> UserId | None:
    """Whose session a channel is by its permission overwrites alone; `None` where they do not make it one person's.

    @everyone may not see it, the bot was let in, no role is let in, and exactly one other member is. Only people with Manage
    Roles can change that of a channel that exists, so it proves what a name or a topic cannot: whoever made the channel, nobody
    but this person, the bot and administrators can see it.
    """
    sight = _sight(channel)
    if sight.get(channel.guild.id) is not False:
        return None
    let_in = {target_id for target_id, is_shown in sight.items() if is_shown}  # a role's id is nobody's
    if bot_id not in let_in or len(let_in) != 2:
        return None
    return UserId(next(iter(let_in - {bot_id})))


def own_channel(view: GuildView, user_id: UserId, *, besides: Iterable[int] = ()) -> discord.TextChannel | None:
    """This person's session among the channels of our categories; the oldest, so that two processes choose the same one."""
    ours = {category.id for category in session_categories(view)}
    passed_over = set(besides)
    found = [
        channel
        for channel in view.channels
        if isinstance(channel, discord.TextChannel)
        and channel.category_id in ours
        and channel.id not in passed_over
        and owner_by_overwrites(channel, view.me.id) == user_id
    ]
    return min(found, key=lambda channel: channel.id, default=None)


# --- categories ---------------------------------------------------------------------------------------------------------------


def session_categories(view: GuildView) -> Sequence[discord.CategoryChannel]:
    """`sessions`, `sessions 2` ... in that order, then those that somebody renamed."""
    categories = [channel for channel in view.channels if isinstance(channel, discord.CategoryChannel)]
    named = [
        (int(match[1] or 1), category.id, category)
        for category in categories
        if (match := _CATEGORY_NAME.fullmatch(category.name))
    ]
    known = {category.id for _, _, category in named}
    renamed = [category for category in categories if category.id not in known and _was_made_by_us(category, view.me.id)]
    return [category for _, _, category in sorted(named, key=lambda one: one[:2])] + sorted(renamed, key=lambda one: one.id)


def _was_made_by_us(category: discord.CategoryChannel, bot_id: int) -> bool:
    """Decide by the rights `roomy_category` gives: hidden, and the bot by itself may manage what is inside."""
    own = next((rights for target, rights in category.overwrites.items() if target.id == bot_id), None)
    return is_hidden(category) and own is not None and bool(own.view_channel and own.manage_channels and own.manage_messages)


async def roomy_category(view: GuildView, *, full: frozenset[int] = frozenset()) -> discord.CategoryChannel:
    """A category with room for one more; `full` are those that Discord just refused. Makes an overflow category if need be."""
    categories = session_categories(view)
    for category in categories:
        inside = sum(channel.category_id == category.id for channel in view.channels)
        if category.id not in full and inside < MAX_CHANNELS_PER_CATEGORY:
            return category
    name = SESSIONS_CATEGORY if not categories else f"{SESSIONS_CATEGORY} {len(categories) + 1}"
    return await view.guild.create_category(name, overwrites=_hidden(view), reason="room for session channels")


async def make_hidden(view: GuildView, channel: discord.TextChannel, owner_id: UserId) -> None:
    """Put the rights of a session back where somebody opened it to others or shut its person out."""
    await channel.edit(overwrites=session_overwrites(view, owner_id), reason="a session is private")


async def make_admin_tools(view: GuildView) -> discord.TextChannel:
    """`#admin-tools`: by its name, else made, hidden from everyone."""
    named = next(
        (channel for channel in view.channels if isinstance(channel, discord.TextChannel) and channel.name == ADMIN_TOOLS), None
    )
    return named or await view.guild.create_text_channel(ADMIN_TOOLS, overwrites=_hidden(view), reason="for administrators")
