"""Select menus that outlive restarts. A list longer than Discord's 25 entries has pages and a search: nothing is left out.

What is chosen always stands first, also when no server has it any more: only what is seen can be taken away again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Self, cast

import discord
from discord import ui

from modules.utils.i18n import Texts

if TYPE_CHECKING:
    from modules.discord.bot import FulletBot

#: Source: Discord developer documentation, "String select": options, characters of a label or value, and of the placeholder.
MAX_OPTIONS = 25
MAX_CHARS = 100
MAX_PLACEHOLDER_CHARS = 150
#: A search stands in the select's custom id, of at most 100 characters.
MAX_QUERY_CHARS = 60
#: Options that lead on: to another page, to the search window, and back to the whole list.
TURN, FIND, SHOW_ALL = "page:", "find:", "all:"
_CONTROLS = 4
#: Stands for a name that is too long for a value.
_DIGEST = "name:"


class Field(StrEnum):
    """What is chosen. Stands in open forms: add, never rename."""

    MODEL = "model"
    SIZE = "size"
    CHECKPOINT = "checkpoint"
    SAMPLER = "sampler"
    SCHEDULER = "scheduler"
    LORAS = "loras"


@dataclass(frozen=True, slots=True)
class Look:
    """The part of a long list that is shown: what contains `query`, from a page on."""

    page: int = 0
    query: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One use of a select."""

    field: str
    values: Sequence[str]
    on_page: Collection[str]  #: everything it offered
    look: Look

    @property
    def picks(self) -> list[str]:
        """The values that choose something."""
        return [value for value in self.values if not is_control(value)]

    @property
    def wants_window(self) -> bool:
        """Whether the search window was asked for."""
        return FIND in self.values

    @property
    def next_look(self) -> Look | None:
        """The part of the list that was asked for, if one was."""
        if SHOW_ALL in self.values:
            return Look()
        turns = [value.removeprefix(TURN) for value in self.values if value.startswith(TURN)]
        return Look(int(turns[0]), self.look.query) if turns and turns[0].isdigit() else None

    def merged(self, before: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
        """The whole choice after this one: what another open form chose and this page did not offer, stays."""
        offered = {named(value, (*before, *known)) for value in self.on_page}
        picked = [named(value, (*before, *known)) for value in self.picks]
        return tuple(dict.fromkeys((*(name for name in before if name not in offered or name in picked), *picked)))


class FieldSelect(
    ui.DynamicItem[ui.Select[ui.LayoutView]], template=r"s1:(?P<field>[a-z]{1,20}):(?P<page>\d{1,3})(?::(?P<query>.{0,60}))?"
):
    """Any select of the form."""

    def __init__(self, item: ui.Select[ui.LayoutView], field: str, look: Look) -> None:
        super().__init__(item)
        self.field = field
        self.look = look

    @classmethod
    async def from_custom_id(cls, interaction: discord.Interaction, item: ui.Item[ui.LayoutView], match: re.Match[str]) -> Self:
        """Called by discord.py."""
        assert isinstance(item, ui.Select)
        return cls(item, match["field"], Look(int(match["page"]), match["query"] or ""))

    async def callback(self, interaction: discord.Interaction[FulletBot]) -> None:  # type: ignore[override] # our bot
        """Hand over to the form; a failure is worded like every other."""
        bot = interaction.client
        bot.note_handling()
        async with bot.failures.worded(interaction):
            offered = frozenset(option.value for option in self.item.options)
            await bot.form.choose(interaction, Chosen(field=self.field, values=self.item.values, on_page=offered, look=self.look))


def field_select(
    field: Field,
    placeholder: str,
    names: Sequence[str],
    chosen: Sequence[str],
    texts: Texts,
    *,
    look: Look | None = None,
    most: int = 1,
    least: int = 0,
    has_window: bool = False,
    labels: Mapping[str, str] | None = None,
) -> ui.ActionRow[ui.LayoutView]:
    """A row with one select of names. `has_window`: something else than the list may be typed.

    `labels`: what people read instead of a name. Only what is shown becomes an option: a list may hold ten thousand files.
    """
    look = look or Look()
    read = labels or {}
    first = [
        discord.SelectOption(
            label=_label(read.get(name, name) if name in names else f"⚠️ {name}"), value=value_of(name), default=True
        )
        for name in chosen
    ]
    query = look.query.casefold()
    fitting = [name for name in names if query in read.get(name, name).casefold()] if query else names
    count = len(fitting) - sum(name in fitting for name in set(chosen))
    is_long = len(first) + count > MAX_OPTIONS - has_window or bool(look.query)
    size = MAX_OPTIONS - len(first) - _CONTROLS if is_long else count
    pages = max(1, -(-count // size)) if size else 1
    page = min(look.page, pages - 1)
    on_page = [
        discord.SelectOption(label=_label(read.get(name, name)), value=value_of(name))
        for name in islice((name for name in fitting if name not in chosen), page * size, (page + 1) * size)
    ]
    shown = [*first, *on_page, *_controls(page, pages, look, texts, is_long=is_long)]
    if has_window and not is_long:
        shown.append(discord.SelectOption(label=texts("gen.another_size"), value=FIND, emoji="✍️"))
    found = f" · “{look.query}” ({count})" if look.query else ""
    select: ui.Select[ui.LayoutView] = ui.Select(
        custom_id=f"s1:{field.value}:{page}:{look.query}".rstrip(":"),
        placeholder=f"{placeholder}{found}"[:MAX_PLACEHOLDER_CHARS],
        options=shown,
        min_values=least,
        # One more than may be chosen: with all of them taken, a page could not be turned otherwise.
        max_values=min(most + (most > 1 and is_long), len(shown)),
    )
    return ui.ActionRow(cast("ui.Item[ui.LayoutView]", FieldSelect(select, field.value, look)))


def is_control(value: str) -> bool:
    """Whether an option leads on instead of choosing something."""
    return value.startswith((TURN, FIND, SHOW_ALL))


def value_of(name: str) -> str:
    """What an option carries: the name, or where that is too long, its fingerprint."""
    if len(name) <= MAX_CHARS:
        return name
    return _DIGEST + hashlib.blake2b(name.encode(), digest_size=16).hexdigest()


def named(value: str, names: Sequence[str]) -> str:
    """The name that an option's value stands for."""
    if not value.startswith(_DIGEST):
        return value
    return next((name for name in names if value_of(name) == value), value)


def _label(text: str) -> str:
    """The end of a long path says more than its beginning."""
    return text if len(text) <= MAX_CHARS else "…" + text[-(MAX_CHARS - 1) :]


def _controls(page: int, pages: int, look: Look, texts: Texts, *, is_long: bool) -> list[discord.SelectOption]:
    if not is_long:
        return []
    more = f"{texts('gen.more')} ({{}}/{pages})"
    controls = [discord.SelectOption(label=texts("gen.find"), value=FIND, emoji="🔎")]
    if look.query:
        controls.append(discord.SelectOption(label=texts("gen.all"), value=SHOW_ALL, emoji="📜"))
    if page > 0:
        controls.append(discord.SelectOption(label=f"◀ {more.format(page)}", value=f"{TURN}{page - 1}"))
    if page < pages - 1:
        controls.append(discord.SelectOption(label=f"{more.format(page + 2)} ▶", value=f"{TURN}{page + 1}"))
    return controls
