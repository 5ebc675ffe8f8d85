"""What Discord says of our token, intents and rights; asked over HTTP alone, so that it can run beside a living bot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import discord

from modules.discord.guilds import UNKNOWN_GUILD, GuildView
from modules.discord.refusals import DISCORD_TROUBLE, MISSING_ACCESS
from modules.discord.rights import NEEDED_RIGHTS
from modules.discord.session_channels import session_categories
from modules.discord.session_starts import FREE_SHARE
from modules.domain.errors import Param
from modules.domain.findings import Finding, Severity

AREA = "discord"
#: One login and seven questions.
PATIENCE_S = 30.0


async def inspect_discord(token: str, guild_id: int) -> Sequence[Finding]:
    """Token, intents, guild, rights; stops at the first that makes the rest unknowable."""
    client = discord.Client(intents=discord.Intents(guilds=True))
    try:
        async with asyncio.timeout(PATIENCE_S), client:
            await client.login(token)
            return [
                _found("token_good", str(client.user)),
                *await _session_starts(client),
                *await _intents(client),
                *await _guild(client, guild_id),
            ]
    except discord.LoginFailure:
        return [_wrong("token_refused", "DISCORD_TOKEN")]
    except (discord.GatewayNotFound, *DISCORD_TROUBLE, TimeoutError):
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
    except (discord.NotFound, discord.Forbidden) as error:
        if error.code not in {UNKNOWN_GUILD, MISSING_ACCESS}:
            raise  # Cloudflare's or Discord's own trouble says nothing of the guild
        return [_wrong("guild_unknown", str(guild_id))]
    assert client.user is not None
    view = GuildView(guild=guild, me=await guild.fetch_member(client.user.id), channels=await guild.fetch_channels())
    return [_found("guild_good", guild.name), *_two_factor(guild), *_rights(view)]


def _two_factor(guild: discord.Guild) -> Sequence[Finding]:
    """Server-wide two-factor authentication: whether the owner of the application has it, Discord does not tell a bot."""
    return [_note("two_factor_server", guild.name)] if guild.mfa_level is discord.MFALevel.require_2fa else []


def _rights(view: GuildView) -> Sequence[Finding]:
    """Every right of the invitation, in the server itself and in the categories of the sessions."""
    rights = view.me.guild_permissions
    if rights.administrator:
        return [_note("administrator", view.guild.name)]
    missing = [name for name in NEEDED_RIGHTS if not getattr(rights, name)]
    return [
        *(_wrong("right_missing", NEEDED_RIGHTS[name]) for name in missing),
        *(
            Finding(
                area=AREA,
                subject=NEEDED_RIGHTS[name],
                severity=Severity.ERROR,
                code="right_missing_in_category",
                params={"category": category.name},
            )
            for category in session_categories(view)
            for name in NEEDED_RIGHTS
            if name not in missing and not getattr(category.permissions_for(view.me), name)
        ),
    ]


async def _session_starts(client: discord.Client) -> Sequence[Finding]:
    _, _, limit = await client.http.get_bot_gateway()
    if limit["remaining"] > limit["total"] * FREE_SHARE:
        return []
    params: dict[str, Param] = {"remaining": limit["remaining"], "total": limit["total"]}
    return [Finding(area=AREA, subject="DISCORD_TOKEN", severity=Severity.WARNING, code="session_starts_low", params=params)]


def _found(code: str, subject: str) -> Finding:
    return Finding(area=AREA, subject=subject, severity=Severity.OK, code=code)


def _note(code: str, subject: str) -> Finding:
    return Finding(area=AREA, subject=subject, severity=Severity.WARNING, code=code)


def _wrong(code: str, subject: str) -> Finding:
    return Finding(area=AREA, subject=subject, severity=Severity.ERROR, code=code)
