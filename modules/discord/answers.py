"""First answers to interactions: in time, and one only, whoever gives it.

Discord forgets an interaction that is not answered within three seconds. What takes long is deferred before it is begun; where
the first answer has to be a window or depends on something stored, `answer_in_time` defers when that takes too long.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

import discord

from modules.discord.refusals import DISCORD_TROUBLE
from modules.discord.views.notices import notice
from modules.utils.i18n import Texts

#: Discord waits three seconds from its side; the way there and back, and a busy loop, take their part of it.
#: Source: Discord developer documentation, "Receiving and Responding".
FIRST_ANSWER_S = 1.8
_TURN = "answer_turn"
_GIVEN_UP = "answer_given_up"


async def defer_privately(interaction: discord.Interaction) -> None:
    """ "Thinking ..." for the person alone, to be replaced by the answer; nothing where something was answered."""
    async with _turn(interaction):
        if not interaction.response.is_done():
            await interaction.response.defer(ephemeral=True, thinking=True)


async def defer_quietly(interaction: discord.Interaction) -> None:
    """The message with the button stays as it is until it is edited; nothing where something was answered."""
    async with _turn(interaction):
        if not interaction.response.is_done():
            await interaction.response.defer()


async def open_window(interaction: discord.Interaction, window: discord.ui.Modal, texts: Texts) -> None:
    """Open a window. Where that took too long Discord takes none any more: then a sentence asks to press once more."""
    async with _turn(interaction):
        if not interaction.response.is_done():
            await interaction.response.send_modal(window)
            return
    await show_privately(interaction, notice(texts("form.too_late")))


async def show_privately(
    interaction: discord.Interaction, view: discord.ui.LayoutView, files: Iterable[discord.File] = ()
) -> None:
    """Show a view only to the person, whatever was answered before."""
    attached = list(files)
    async with _turn(interaction):
        if not interaction.response.is_done():
            await interaction.response.send_message(view=view, files=attached, ephemeral=True)
            return
    if interaction.response.type is discord.InteractionResponseType.deferred_channel_message:
        await interaction.edit_original_response(view=view, attachments=attached)
    else:
        await interaction.followup.send(view=view, files=attached, ephemeral=True)


async def answer_in_time(interaction: discord.Interaction) -> None:
    """Defer privately what has no first answer yet when it is nearly too late. Whoever answers then replaces "thinking ..."."""
    if interaction.type is not discord.InteractionType.autocomplete:
        await asyncio.sleep(FIRST_ANSWER_S)
        if not interaction.extras.get(_GIVEN_UP):
            with contextlib.suppress(*DISCORD_TROUBLE):  # whoever handles it meets the same, and says so
                await defer_privately(interaction)


def give_up(interaction: discord.Interaction) -> None:
    """Nobody can answer any more, so nobody must promise to: Discord takes no answer, or another took it."""
    interaction.extras[_GIVEN_UP] = True


def _turn(interaction: discord.Interaction) -> asyncio.Lock:
    """Two who would answer first take turns: discord.py knows that one has only after Discord confirmed it."""
    turn: asyncio.Lock = interaction.extras.setdefault(_TURN, asyncio.Lock())
    return turn
