"""Select menus that outlive restarts, in pages where a list is longer than Discord's 25 entries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Self, cast

import discord
from discord import ui

if TYPE_CHECKING:
    from modules.discord.bot import FulletBot

#: Source: Discord developer documentation, "String select": options, and characters of a label or value.
MAX_OPTIONS = 25
MAX_CHARS = 100
#: Options of a page that lead to the neighbouring pages.
TURN = "page:"
#: A page leaves room for both turns.
PAGE = MAX_OPTIONS - 2


class Field(StrEnum):
    """What is chosen. Stands in open forms: add, never rename."""

    MODEL = "model"
    SIZE = "size"
    CHECKPOINT = "checkpoint"
    SAMPLER = "sampler"
    SCHEDULER = "scheduler"
    LORAS = "loras"


class FieldSelect(ui.DynamicItem[ui.Select[ui.LayoutView]], template=r"s1:(?P<field>[a-z]{1,20}):(?P<page>\d{1,3})"):
    """Any select of the form."""

    def __init__(self, item: ui.Select[ui.LayoutView], field: str) -> None:
        super().__init__(item)
        self.field = field

    @classmethod
    async def from_custom_id(cls, interaction: discord.Interaction, item: ui.Item[ui.LayoutView], match: re.Match[str]) -> Self:
        """Called by discord.py."""
        assert isinstance(item, ui.Select)
        return cls(item, match["field"])

    async def callback(self, interaction: discord.Interaction[FulletBot]) -> None:  # type: ignore[override] # our bot
        """Hand over to the form; a failure is worded like every other."""
        bot = interaction.client
        bot.note_handling()
        async with bot.failures.worded(interaction):
            options = [option.value for option in self.item.options]
            await bot.form.choose(interaction, self.field, self.item.values, options)


def field_select(
    field: Field,
    placeholder: str,
    options: Sequence[tuple[str, str]],
    chosen: Sequence[str],
    *,
    page: int = 0,
    most: int = 1,
    more: str = "…",
) -> ui.ActionRow[ui.LayoutView]:
    """A row with one select of (value, label). What is chosen but on another page stays chosen (`merged`)."""
    pages = [options[start : start + PAGE] for start in range(0, len(options), PAGE)] if len(options) > MAX_OPTIONS else [options]
    page = min(max(page, 0), len(pages) - 1)
    shown = [
        discord.SelectOption(label=label[:MAX_CHARS], value=value, default=value in chosen)
        for value, label in pages[page]
        if 1 <= len(value) <= MAX_CHARS
    ]
    if page > 0:
        shown.insert(0, discord.SelectOption(label=f"◀ {more}", value=f"{TURN}{page - 1}"))
    if page < len(pages) - 1:
        shown.append(discord.SelectOption(label=f"{more} ▶", value=f"{TURN}{page + 1}"))
    select: ui.Select[ui.LayoutView] = ui.Select(
        custom_id=f"s1:{field.value}:{page}",
        placeholder=placeholder[:150],
        options=shown,
        min_values=0 if most > 1 else 1,
        max_values=min(most, len(shown)),
    )
    return ui.ActionRow(cast("ui.Item[ui.LayoutView]", FieldSelect(select, field.value)))


def turned_to(values: Sequence[str]) -> int | None:
    """The page that was asked for, if a page was."""
    turns = [value.removeprefix(TURN) for value in values if value.startswith(TURN)]
    return int(turns[0]) if turns and turns[0].isdigit() else None


def merged(before: Sequence[str], values: Sequence[str], on_page: Sequence[str]) -> tuple[str, ...]:
    """The whole choice after one page changed: what stands on other pages stays."""
    return (*(name for name in before if name not in on_page), *(name for name in values if not name.startswith(TURN)))
