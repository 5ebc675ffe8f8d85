"""Discord's refusals as our own error codes, so that people read the cause and what to do. Decided without I/O.

A trouble of Discord's is never worded as a fault of ours: `UNEXPECTED`, with its number to quote, is for bugs alone.
"""

from __future__ import annotations

import aiohttp
import discord

from modules.discord.refusals import (
    INVALID_FORM,
    MAX_GUILD_CHANNELS,
    MISSING_ACCESS,
    MISSING_PERMISSIONS,
    RefusalKind,
    refusal_of,
)
from modules.domain.errors import ErrorCode, FulletError

#: Server-wide two-factor authentication is on and the account that owns the application has none. Source: Discord developer
#: documentation, "JSON error codes" and "Permissions".
TWO_FACTOR_REQUIRED = 60003


def fullet_error_for(error: BaseException, *, missing: str | None = None) -> FulletError | None:
    """Give the error a person is told for what a call to Discord raised; `None` for what is no trouble of Discord's.

    `missing`: the right that the bot lacks for this call, by discord.py's name, where the caller knows it.
    """
    match error:
        case discord.HTTPException(code=code) if code == TWO_FACTOR_REQUIRED:
            return FulletError(ErrorCode.TWO_FACTOR_REQUIRED)
        case discord.HTTPException(code=code) if code == MAX_GUILD_CHANNELS:
            return FulletError(ErrorCode.CHANNEL_LIMIT_REACHED)
        case discord.Forbidden(code=code) if code in {MISSING_PERMISSIONS, MISSING_ACCESS}:
            return FulletError(ErrorCode.PERMISSION_MISSING, permission=missing or "")
        case discord.HTTPException() | discord.RateLimited():
            refusal = refusal_of(error)
            if refusal.kind is RefusalKind.LATER:
                return FulletError(ErrorCode.DISCORD_BUSY, wait_s=refusal.retry_after_s or "")
            is_bug = isinstance(error, discord.HTTPException) and error.code == INVALID_FORM
            if refusal.kind is RefusalKind.CONTENT_REFUSED and not is_bug:
                return FulletError(ErrorCode.CONTENT_REFUSED)
            return None
        case aiohttp.ClientError() | ConnectionError() | TimeoutError():
            return FulletError(ErrorCode.DISCORD_BUSY, wait_s="")
        case _:
            return None


def passes_by_itself(error: BaseException) -> bool:
    """Decide whether a call to Discord failed for a reason that says nothing of what was asked: another try may work."""
    known = fullet_error_for(error)
    return known is not None and known.code is ErrorCode.DISCORD_BUSY
