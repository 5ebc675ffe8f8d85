"""The rights the bot asks for at its invitation, and which of them something needs. Decided without I/O."""

from __future__ import annotations

import discord

#: The rights of the invitation link (README, step 2) by discord.py's names, with the words of Discord's own client.
NEEDED_RIGHTS = {
    "view_channel": "View Channels",
    "manage_channels": "Manage Channels",
    "manage_roles": "Manage Roles",
    "send_messages": "Send Messages",
    "manage_messages": "Manage Messages",
    "embed_links": "Embed Links",
    "attach_files": "Attach Files",
    "read_message_history": "Read Message History",
    "use_application_commands": "Use Application Commands",
    "add_reactions": "Add Reactions",
}
#: What a person may do in their session.
PERSON_RIGHTS = discord.PermissionOverwrite(
    view_channel=True,
    send_messages=True,
    use_application_commands=True,
    read_message_history=True,
    embed_links=True,
    attach_files=True,
)


def bot_rights() -> discord.PermissionOverwrite:
    """Give what the bot may do in a session: the person's rights, and to manage it."""
    return discord.PermissionOverwrite(
        view_channel=True,
        send_messages=True,
        read_message_history=True,
        embed_links=True,
        attach_files=True,
        manage_channels=True,
        manage_messages=True,
    )


def _allowed(rights: discord.PermissionOverwrite) -> frozenset[str]:
    return frozenset(name for name, value in rights if value)


#: Making a session channel needs Manage Channels, and every right that its overwrites hand out: a bot gives only what it has in
#: the server itself. Source: Discord developer documentation, "Create Guild Channel".
RIGHTS_TO_CREATE = tuple(
    name for name in NEEDED_RIGHTS if name in _allowed(PERSON_RIGHTS) | _allowed(bot_rights()) | {"manage_channels"}
)
#: Changing overwrites needs Manage Roles besides. Source: the same, "Modify Channel".
RIGHTS_TO_CHANGE_OVERWRITES = ("manage_roles", *RIGHTS_TO_CREATE)


def first_missing(rights: discord.Permissions, needed: tuple[str, ...]) -> str | None:
    """Give the first of these rights that is missing, by discord.py's name; `None` when all are there."""
    if rights.administrator:
        return None
    return next((name for name in needed if not getattr(rights, name)), None)
