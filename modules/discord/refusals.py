"""What Discord's refusals mean for us: whether the place is gone, we lack a right, or it is worth another try."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import aiohttp
import discord

#: Everything a call to Discord raises when the call, not our code, went wrong. discord.py does not wrap aiohttp's own
#: errors, and lets connection resets through on Linux (it retries errno 54 and 10054; Linux says 104).
DISCORD_TROUBLE = (discord.HTTPException, discord.RateLimited, aiohttp.ClientError, OSError)

# Source: Discord developer documentation, "JSON error codes".
UNKNOWN_CHANNEL = 10003
UNKNOWN_MESSAGE = 10008
UNKNOWN_INTERACTION = 10062
MAX_GUILD_CHANNELS = 30013
EDITS_OF_OLD_MESSAGES_USED_UP = 30046
REQUEST_TOO_LARGE = 40005
INTERACTION_ANSWERED = 40060
MISSING_ACCESS = 50001
CANNOT_MESSAGE_PERSON = 50007
MISSING_PERMISSIONS = 50013
INVALID_FORM = 50035


class RefusalKind(StrEnum):
    """What to do about it."""

    PLACE_GONE = "place_gone"  #: the channel is no more, or we may not see it or write there
    MESSAGE_GONE = "message_gone"  #: only this message; a new one can be posted
    TOO_LARGE = "too_large"
    LATER = "later"  #: Discord is away, busy or slow
    WRONG = "wrong"  #: our request was at fault: a bug


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal, read."""

    kind: RefusalKind
    retry_after_s: float | None = None


def refusal_of(error: Exception) -> Refusal:
    """Read any of `DISCORD_TROUBLE`."""
    match error:
        case discord.RateLimited():
            return Refusal(RefusalKind.LATER, error.retry_after)
        case discord.HTTPException():
            return _http_refusal(error)
        case _:
            return Refusal(RefusalKind.LATER)


def _http_refusal(error: discord.HTTPException) -> Refusal:
    if error.status == 429:
        return Refusal(RefusalKind.LATER, _retry_after_s(error))
    if error.status >= 500:
        return Refusal(RefusalKind.LATER)
    if error.code in {UNKNOWN_MESSAGE, EDITS_OF_OLD_MESSAGES_USED_UP}:
        return Refusal(RefusalKind.MESSAGE_GONE)
    if error.status == 413 or error.code == REQUEST_TOO_LARGE:
        return Refusal(RefusalKind.TOO_LARGE)
    if error.status in {403, 404}:
        return Refusal(RefusalKind.PLACE_GONE)
    return Refusal(RefusalKind.WRONG)


def _retry_after_s(error: discord.HTTPException) -> float | None:
    """A 429 that discord.py raises instead of sleeping (no `Via` header: Cloudflare spoke, not Discord)."""
    try:
        return float(error.response.headers.get("Retry-After", ""))
    except ValueError:
        return None
