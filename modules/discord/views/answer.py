"""The answer to a command: place in line, the moment, and where to follow it. Only the asker sees it."""

from __future__ import annotations

from discord import ui

from modules.discord.views.layout import Accent, card
from modules.discord.wording import channel_link, clock_time, small
from modules.domain.people import ChannelId, GuildId
from modules.domain.ports import Ticket
from modules.domain.queue import Place
from modules.utils.i18n import Texts


def accepted(ticket: Ticket, channel_id: ChannelId, guild_id: GuildId, texts: Texts) -> ui.LayoutView:
    """`Your picture is on its way: 3rd in line, likely ready at <t:..:T>.`"""
    link: ui.Button[ui.LayoutView] = ui.Button(
        label=texts("button.open"), url=f"https://discord.com/channels/{guild_id}/{channel_id}"
    )
    return card(
        Accent.BLURPLE,
        "\n".join(
            (
                place_sentence(ticket.place, ticket.job.recipe.count, texts),
                texts("answer.follow", channel=channel_link(channel_id)),
                *([texts("answer.reference")] if ticket.job.recipe.reference is not None else []),
                small(texts("answer.active", active=ticket.active, limit=ticket.limit)),
            )
        ),
        ui.ActionRow(link),
    )


def place_sentence(place: Place, pictures: int, texts: Texts) -> str:
    """Where the job stands, in one sentence that is still true when it is read later."""
    if place.is_paused:
        return texts("answer.paused", count=pictures)
    if place.starts_at is None and place.is_moment_open:
        return texts("answer.no_moment", count=pictures, place=texts.ordinal(place.position))
    if place.starts_at is None or place.ends_at is None:
        return texts("answer.away", count=pictures)
    if place.position <= 1:
        return texts("answer.next", count=pictures, moment=clock_time(place.ends_at))
    return texts("answer.in_line", count=pictures, place=texts.ordinal(place.position), moment=clock_time(place.ends_at))
