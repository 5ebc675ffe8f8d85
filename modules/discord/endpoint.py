"""Which Discord we speak to, the real one or a stand-in on loopback, and why it may not let us in."""

from __future__ import annotations

import discord
import discord.http
from discord.gateway import DiscordWebSocket
from yarl import URL


def use_endpoint(api: str, gateway: str) -> None:
    """Point discord.py at another Discord. The library itself stays as it is; these two attributes are all it reads.

    `api`: base of the REST API, such as `http://127.0.0.1:9000/api/v10`; `gateway`: `ws://...`.
    """
    discord.http.Route.BASE = api
    DiscordWebSocket.DEFAULT_GATEWAY = URL(gateway)


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
