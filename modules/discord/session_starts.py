"""How often we may open a gateway session: at 1,000 IDENTIFYs a day Discord resets the token.

A bot that its supervisor starts every few seconds uses them up in a night. Near the limit the next IDENTIFY waits, so that the
rest is spread over the time that is left. Source: Discord developer documentation, "Gateway", "Identifying".
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import discord
import structlog

from modules.discord.refusals import DISCORD_TROUBLE

if TYPE_CHECKING:
    from discord.types.gateway import SessionStartLimit

log = structlog.get_logger(__name__)

#: With more than this share of the day's IDENTIFYs left nothing waits.
FREE_SHARE = 0.2


def wait_before_identify_s(total: int, remaining: int, reset_after_s: float) -> float:
    """Decide how long to wait before the next IDENTIFY: 0 while plenty are left, then evenly over the rest of the day."""
    if remaining > total * FREE_SHARE:
        return 0.0
    return max(0.0, reset_after_s) / max(1, remaining)


async def wait_for_session_start(client: discord.Client) -> None:
    """Return once an IDENTIFY is due. Where Discord does not say how many are left, at once."""
    try:
        _, _, limit = await client.http.get_bot_gateway()
    except (discord.GatewayNotFound, *DISCORD_TROUBLE):
        return  # connecting meets the same trouble and deals with it
    wait_s = _wait_s(limit)
    if wait_s > 0:
        log.error("session_starts_nearly_used_up", remaining=limit["remaining"], wait_s=round(wait_s))
        await asyncio.sleep(wait_s)


def _wait_s(limit: SessionStartLimit) -> float:
    return wait_before_identify_s(limit["total"], limit["remaining"], limit["reset_after"] / 1000)
