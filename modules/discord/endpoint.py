"""Which Discord we speak to, the real one or a stand-in on loopback; how we get in, and why it may not let us."""

from __future__ import annotations

import discord
import discord.http
import stamina
import structlog
from discord.gateway import DiscordWebSocket
from discord.utils import MISSING
from yarl import URL

from modules.discord.refusals import DISCORD_TROUBLE, RefusalKind, refusal_of

log = structlog.get_logger(__name__)

#: Between two tries while Discord is away: from the first to the second of these, with jitter.
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0


def use_endpoint(api: str, gateway: str) -> None:
    """Point discord.py at another Discord. The library itself stays as it is; these two attributes are all it reads.

    `api`: base of the REST API, such as `http://127.0.0.1:9000/api/v10`; `gateway`: `ws://...`.
    """
    discord.http.Route.BASE = api
    DiscordWebSocket.DEFAULT_GATEWAY = URL(gateway)


async def log_in(client: discord.Client, token: str) -> None:
    """Log in; while Discord is away, try again until cancelled, so that the GPUs go on meanwhile with what waits.

    Raises discord.LoginFailure, and discord.HTTPException for a refusal that another try would not change.
    """
    async for attempt in stamina.retry_context(
        on=_is_away, attempts=None, timeout=None, wait_initial=FIRST_PAUSE_S, wait_max=LONGEST_PAUSE_S
    ):
        with attempt:
            try:
                await client.login(token)
            except DISCORD_TROUBLE as error:
                log.warning("discord_not_reached", reason=str(error)[:200] or type(error).__name__)
                await client.http.close()  # login opens a session each time, and takes up no closed connector
                client.http.connector = MISSING
                raise


def _is_away(error: Exception) -> bool:
    return isinstance(error, DISCORD_TROUBLE) and refusal_of(error).kind is RefusalKind.LATER


def why_not_let_in(error: BaseException) -> str | None:
    """What the operator must mend when Discord refused the login; None for any other error."""
    if isinstance(error, discord.LoginFailure):
        return "Discord does not know this DISCORD_TOKEN. Copy it again: Developer Portal, your application, Bot, Reset Token."
    if isinstance(error, discord.PrivilegedIntentsRequired):
        return (
            "Discord refuses two intents. Turn on SERVER MEMBERS INTENT and MESSAGE CONTENT INTENT: "
            "Developer Portal, your application, Bot."
        )
    return None
