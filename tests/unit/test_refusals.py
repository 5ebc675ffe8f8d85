"""Discord's refusals, row by row of what is known of them; the sources stand in `modules/discord/refusals.py`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import discord
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.discord.refusals import RefusalKind, kind_of, refusal_of

HTML = "<html><title>Access denied | discord.com used Cloudflare to restrict access</title></html>"


def an_error(status: int, body: dict[str, Any] | str, headers: dict[str, str] | None = None) -> discord.HTTPException:
    """As discord.py raises it."""
    response = SimpleNamespace(status=status, reason="", headers=headers or {})
    kinds = {403: discord.Forbidden, 404: discord.NotFound}
    kind = kinds.get(status, discord.DiscordServerError if status >= 500 else discord.HTTPException)
    return kind(cast(aiohttp.ClientResponse, response), body)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        # the channel is gone, not visible, or a right is missing: another place
        (404, 10003, RefusalKind.PLACE_GONE),
        (403, 50001, RefusalKind.PLACE_GONE),
        (403, 50013, RefusalKind.PLACE_GONE),
        # the message is gone, or the nonce is that of a deleted one: a new message
        (404, 10008, RefusalKind.MESSAGE_GONE),
        # the person takes no private messages; no server in common
        (403, 50007, RefusalKind.PLACE_GONE),
        (403, 50278, RefusalKind.PLACE_GONE),
        (400, 50278, RefusalKind.PLACE_GONE),
        # Cloudflare or Discord in trouble: nothing about the channel
        (403, 40333, RefusalKind.LATER),
        (403, 0, RefusalKind.LATER),
        (404, 0, RefusalKind.LATER),
        (401, 0, RefusalKind.LATER),
        # uploads are limited for the whole server
        (403, 400001, RefusalKind.LATER),
        (400, 400001, RefusalKind.LATER),
        # this very content is refused
        (400, 240000, RefusalKind.CONTENT_REFUSED),
        (403, 240000, RefusalKind.CONTENT_REFUSED),
        (400, 20009, RefusalKind.CONTENT_REFUSED),
        (400, 50035, RefusalKind.CONTENT_REFUSED),
        # a file or the request is too large
        (413, 40005, RefusalKind.TOO_LARGE),
        (400, 50045, RefusalKind.TOO_LARGE),
        (413, 0, RefusalKind.TOO_LARGE),
        # busy, whatever code stands beside
        *((429, code, RefusalKind.LATER) for code in (0, 20028, 20029, 30046)),
        *((status, 0, RefusalKind.LATER) for status in (500, 502, 503, 504, 524)),
        # a proxy that waited too long for the rest of an upload
        (408, 0, RefusalKind.LATER),
        # the interaction was answered already
        (400, 40060, RefusalKind.ANSWERED),
        # none of these: our request was at fault
        (400, 50006, RefusalKind.WRONG),
        (405, 0, RefusalKind.WRONG),
    ],
)
def test_each_refusal_means_what_its_code_says(status: int, code: int, kind: RefusalKind) -> None:
    assert kind_of(status, code) is kind
    assert refusal_of(an_error(status, {"code": code, "message": "x"})).kind is kind


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_page_of_html_says_nothing_of_the_channel(status: int) -> None:
    assert refusal_of(an_error(status, HTML)).kind is RefusalKind.LATER


@pytest.mark.parametrize(
    "error", [aiohttp.ServerDisconnectedError(), ConnectionResetError(104, "reset"), TimeoutError(), discord.RateLimited(7.5)]
)
def test_resets_and_time_outs_mean_later(error: Exception) -> None:
    assert refusal_of(error).kind is RefusalKind.LATER


def test_how_long_to_wait_is_read_where_discord_or_cloudflare_tells_it() -> None:
    assert refusal_of(discord.RateLimited(7.5)).retry_after_s == 7.5
    assert refusal_of(an_error(429, HTML, {"Retry-After": "600"})).retry_after_s == 600
    assert refusal_of(an_error(429, HTML)).retry_after_s is None


@given(st.sampled_from([403, 404]), st.integers(min_value=0, max_value=999_999))
def test_a_channel_is_gone_for_five_codes_only(status: int, code: int) -> None:
    assert (kind_of(status, code) is RefusalKind.PLACE_GONE) == (code in {10003, 50001, 50013, 50007, 50278})
