"""Buttons that outlive restarts and upgrades: their `custom_id` carries an act, a job's id and at most one small argument."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self, cast
from uuid import UUID

import discord
from discord import ui

from modules.domain.jobs import JobId, base36, from_base36

if TYPE_CHECKING:
    from modules.discord.bot import FulletBot

#: Raised when the meaning of a custom_id changes; buttons of other versions get a kind sentence.
VERSION = 1


class Act(StrEnum):
    """What a button does. The values stand in messages for ever: add, never rename."""

    CANCEL = "cancel"
    RETRY = "retry"
    AGAIN = "again"
    VARY = "vary"  #: asks how far
    VARY_SUBTLE = "vary_s"
    VARY_STRONG = "vary_x"
    EDIT = "edit"
    UPSCALE = "upscale"
    REMIX = "remix"
    RECIPE = "recipe"
    DELETE = "delete"  #: asks once
    DELETE_NOW = "delete_now"
    MY_QUEUE = "queue"
    ERASE_ME = "erase_me"
    START_OVER = "start_over"  #: from the prompt of a picture whose job is gone; argument: its message's id, base 36
    RECALL_DRAW = "recall_draw"  #: the recipe is attached to the button's own message
    RECALL_FORM = "recall_form"
    REFERENCE_EDIT = "ref_edit"  #: of the session's last picture
    REFERENCE_DROP = "ref_drop"
    FORM_WORDS = "gen_words"
    FORM_STRENGTHS = "gen_loras"
    FORM_GENERATE = "gen_go"
    FORM_DEFAULT = "gen_default"
    SEND_AGAIN = "send_again"  #: a result that could not be delivered
    HISTORY = "history"  #: argument: the `seq` to go on from, base 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """One button pressed. `act` is None where the button is of another version or its id is no id."""

    act: Act | None
    job_id: JobId | None = None
    argument: str = ""

    @classmethod
    def read(cls, found: re.Match[str]) -> Press:
        """From the custom_id's match."""
        if int(found["version"]) != VERSION or found["act"] not in {act.value for act in Act}:
            return cls(act=None)
        job_id = from_base36(found["job"]) if found["job"] else None
        return cls(act=Act(found["act"]), job_id=job_id, argument=found["argument"] or "")


#: `f1:vary:<job>:<picture>`; every version, so that none is left without an answer.
TEMPLATE = r"f(?P<version>\d{1,3}):(?P<act>[a-z_]{1,20})(?::(?P<job>[0-9a-z]{0,25}))?(?::(?P<argument>[0-9a-z]{1,20}))?"


class PressButton(ui.DynamicItem[ui.Button[ui.LayoutView]], template=TEMPLATE):
    """Any of our buttons. discord.py makes one from the message when it is pressed."""

    def __init__(self, item: ui.Button[ui.LayoutView], press: Press) -> None:
        super().__init__(item)
        self.press = press

    @classmethod
    async def from_custom_id(
        cls,
        interaction: discord.Interaction,
        item: ui.Item[ui.LayoutView],
        match: re.Match[str],
    ) -> Self:
        """Called by discord.py."""
        assert isinstance(item, ui.Button)
        return cls(item, Press.read(match))

    async def callback(self, interaction: discord.Interaction[FulletBot]) -> None:  # type: ignore[override] # our bot
        """Hand over to the bot's controls; a failure is worded like every other."""
        bot = interaction.client
        bot.note_handling()
        async with bot.failures.worded(interaction):
            await bot.controls.press(interaction, self.press)


def custom_id(act: Act, job_id: JobId | None = None, argument: str = "") -> str:
    """What the button carries; at most 73 of the 100 characters that Discord allows."""
    parts = [f"f{VERSION}", act.value]
    if job_id is not None or argument:
        parts.append(base36(job_id) if job_id else "")
    if argument:
        parts.append(argument)
    return ":".join(parts)


def button(
    act: Act,
    label: str,
    job_id: JobId | None = None,
    argument: str = "",
    *,
    emoji: str | None = None,
    style: discord.ButtonStyle = discord.ButtonStyle.secondary,
    is_disabled: bool = False,
) -> ui.Item[ui.LayoutView]:
    """A button for this act on this job."""
    item: ui.Button[ui.LayoutView] = ui.Button(
        label=label, custom_id=custom_id(act, job_id, argument), emoji=emoji, style=style, disabled=is_disabled
    )
    # discord.py types a dynamic item as one of either kind of view; ours only ever stand in layouts.
    return cast("ui.Item[ui.LayoutView]", PressButton(item, Press(act=act, job_id=job_id, argument=argument)))


def row(*buttons: ui.Item[ui.LayoutView]) -> ui.ActionRow[ui.LayoutView]:
    """A row of at most five."""
    return ui.ActionRow(*buttons)


def to_base36(number: int) -> str:
    """A small argument of a button or form; `int(text, 36)` reads it."""
    return base36(JobId(UUID(int=number)))
