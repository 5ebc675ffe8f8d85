"""What Discord says of our token, intents and rights; asked over HTTP alone, so that it can run beside a living bot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import discord

from modules.discord.refusals import DISCORD_TROUBLE
from modules.domain.findings import Finding, Severity

AREA = "discord"
#: One login and four questions.
PATIENCE_S = 20.0
#: The rights the invitation asks for (README), by discord.py's names, with the words of Discord's own client. A bot can give a
#: member in their session only what it has itself, so using commands is among them.
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


async def inspect_discord(token: str, guild_id: int) -> Sequence[Finding]:
    """Token, intents, guild, rights; stops at the first that makes the rest unknowable."""
    client = discord.Client(intents=discord.Intents(guilds=True))
    try:
        async with asyncio.timeout(PATIENCE_S), client:
            await client.login(token)
            return [_found("token_good", str(client.user)), *await _intents(client), *await _guild(client, guild_id)]
    except discord.LoginFailure:
        return [_wrong("token_refused", "DISCORD_TOKEN")]
    except (*DISCORD_TROUBLE, TimeoutError):
        return [_wrong("discord_unreachable", "Discord")]


async def _intents(client: discord.Client) -> Sequence[Finding]:
    flags = (await client.application_info()).flags
    granted = {
        "SERVER MEMBERS INTENT": flags.gateway_guild_members or flags.gateway_guild_members_limited,
        "MESSAGE CONTENT INTENT": flags.gateway_message_content or flags.gateway_message_content_limited,
    }
    return [_found("intent_on", name) if is_on else _wrong("intent_off", name) for name, is_on in granted.items()]


async def _guild(client: discord.Client, guild_id: int) -> Sequence[Finding]:
    try:
        guild = await client.fetch_guild(guild_id)
    except discord.NotFound:
        return [_wrong("guild_unknown", str(guild_id))]
    except discord.Forbidden:
        return [_wrong("guild_unknown", str(guild_id))]
    assert client.user is not None
    rights = (await guild.fetch_member(client.user.id)).guild_permissions
    if rights.administrator:
        return [_found("guild_good", guild.name), _note("administrator", guild.name)]
    missing = [words for name, words in NEEDED_RIGHTS.items() if not getattr(rights, name)]
    return [_found("guild_good", guild.name), *(_wrong("right_missing", words) for words in missing)]


def _found(code: str, subject: str) -> Finding:
    return Finding(area=AREA, subject=subject, severity=Severity.OK, code=code)


def _note(code: str, subject: str) -> Finding:
    return Finding(area=AREA, subject=subject, severity=Severity.WARNING, code=code)


def _wrong(code: str, subject: str) -> Finding:
    return Finding(area=AREA, subject=subject, severity=Severity.ERROR, code=code)
