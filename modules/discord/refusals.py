"""What Discord's refusals mean: is the place gone, the content refused, or is it worth another try? Decided without I/O.

The code decides, not the status: in trouble Discord and Cloudflare answer 403 and 404 with code 0, 40333 or a page of HTML, which
says nothing of the channel. Only the codes that name a channel or a person mean that messages must go somewhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import aiohttp
import discord

#: Everything a call to Discord raises when the call, not our code, went wrong. discord.py does not wrap aiohttp's own
#: errors, and lets connection resets through on Linux (it retries errno 54 and 10054; Linux says 104).
DISCORD_TROUBLE = (discord.HTTPException, discord.RateLimited, aiohttp.ClientError, OSError)

# Source: Discord developer documentation, "Opcodes and Status Codes", "JSON Error Codes".
UNKNOWN_CHANNEL = 10003
UNKNOWN_MESSAGE = 10008
UNKNOWN_INTERACTION = 10062
EXPLICIT_CONTENT = 20009
MAX_GUILD_CHANNELS = 30013
EDITS_OF_OLD_MESSAGES_USED_UP = 30046
REQUEST_TOO_LARGE = 40005
INTERACTION_ANSWERED = 40060
MISSING_ACCESS = 50001
CANNOT_MESSAGE_PERSON = 50007
MISSING_PERMISSIONS = 50013
INVALID_FORM = 50035
FILE_TOO_LARGE = 50045
NO_MUTUAL_GUILD = 50278
HARMFUL_LINK = 240000
#: "internal network error" of Cloudflare, in front of Discord. Source: discord-api-docs issue 6473.
NETWORK_ERROR = 40333
#: Uploads are limited for the whole guild: another channel of it does not help.
UPLOADS_LIMITED = 400001


#: A proxy waited too long for the rest of a request, such as an upload over a thin line. Source: RFC 9110, 15.5.9.
REQUEST_TIMEOUT = 408


class RefusalKind(StrEnum):
    """What to do about it."""

    PLACE_GONE = "place_gone"  #: the channel is no more, we may not see it or write there, or the person takes no messages
    MESSAGE_GONE = "message_gone"  #: only this message; a new one, with a new nonce, can be posted
    CONTENT_REFUSED = "content_refused"  #: this very text or file, for good: repeating it is useless
    TOO_LARGE = "too_large"
    LATER = "later"  #: Discord is away, busy or slow; nothing is known of the place or the content
    ANSWERED = "answered"  #: the interaction was answered already, perhaps by our own earlier try
    WRONG = "wrong"  #: our request was at fault: a bug


_KINDS = {
    UNKNOWN_CHANNEL: RefusalKind.PLACE_GONE,
    MISSING_ACCESS: RefusalKind.PLACE_GONE,
    MISSING_PERMISSIONS: RefusalKind.PLACE_GONE,
    CANNOT_MESSAGE_PERSON: RefusalKind.PLACE_GONE,
    NO_MUTUAL_GUILD: RefusalKind.PLACE_GONE,
    UNKNOWN_MESSAGE: RefusalKind.MESSAGE_GONE,
    EDITS_OF_OLD_MESSAGES_USED_UP: RefusalKind.MESSAGE_GONE,
    HARMFUL_LINK: RefusalKind.CONTENT_REFUSED,
    EXPLICIT_CONTENT: RefusalKind.CONTENT_REFUSED,
    INVALID_FORM: RefusalKind.CONTENT_REFUSED,
    REQUEST_TOO_LARGE: RefusalKind.TOO_LARGE,
    FILE_TOO_LARGE: RefusalKind.TOO_LARGE,
    NETWORK_ERROR: RefusalKind.LATER,
    UPLOADS_LIMITED: RefusalKind.LATER,
    INTERACTION_ANSWERED: RefusalKind.ANSWERED,
}
#: Repeating what got one of these is useless; with other content the person may still be reached.
FOR_GOOD = frozenset({RefusalKind.CONTENT_REFUSED, RefusalKind.WRONG})


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
        case discord.HTTPException(status=429):
            return Refusal(RefusalKind.LATER, _retry_after_s(error))
        case discord.HTTPException():
            return Refusal(kind_of(error.status, error.code))
        case _:
            return Refusal(RefusalKind.LATER)


def kind_of(status: int, code: int) -> RefusalKind:
    """What an answer with this status and JSON code means; `code` is 0 where the body had none or was no JSON."""
    if status in {REQUEST_TIMEOUT, 429} or status >= 500:
        return RefusalKind.LATER
    if code in _KINDS:
        return _KINDS[code]
    if status == 413:
        return RefusalKind.TOO_LARGE
    if status in {401, 403, 404}:
        # Neither an unknown code nor none at all says that a channel is gone; 401 is about our token.
        return RefusalKind.LATER
    return RefusalKind.WRONG


def is_gone(error: discord.HTTPException) -> bool:
    """Whether Discord says that this message, or its whole channel, is no more: for whoever wanted it away, a success."""
    return error.code in {UNKNOWN_MESSAGE, UNKNOWN_CHANNEL}


def _retry_after_s(error: discord.HTTPException) -> float | None:
    """A 429 that discord.py raises instead of sleeping (no `Via` header: Cloudflare spoke, not Discord)."""
    try:
        return float(error.response.headers.get("Retry-After", ""))
    except ValueError:
        return None
