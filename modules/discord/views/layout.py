"""The common look: one container with an accent colour, texts, rows of buttons, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import discord
from discord import ui

Piece = ui.Item[ui.LayoutView]

#: Over all text displays of a message. Source: userdoccers, "Components" (Discord's own documentation gives no number).
MAX_TEXT_CHARS = 4_000


class Accent(IntEnum):
    """What the colour of a card says."""

    GREY = 0x80848E  #: waiting, over
    BLURPLE = 0x5865F2  #: under way
    YELLOW = 0xF0B232  #: paused
    GREEN = 0x23A55A  #: done
    RED = 0xDA373C  #: did not work


def layout(*pieces: Piece) -> ui.LayoutView:
    """A message of these pieces, which lives as long as the message: no time-out, so nothing of it stays in memory.

    A text that would make it longer than Discord takes is cut: most of an answer is worth more than none.
    """
    view = ui.LayoutView(timeout=None)
    for piece in pieces:
        view.add_item(piece)
    texts = [item for item in view.walk_children() if isinstance(item, ui.TextDisplay)]
    while (excess := sum(chars(text.content) for text in texts) - MAX_TEXT_CHARS) > 0:
        longest = max(texts, key=lambda text: chars(text.content))
        longest.content = _cut(longest.content, chars(longest.content) - excess)
    return view


def chars(text: str) -> int:
    """How long Discord takes a text to be: at most so long, counting as JavaScript does what lies outside the first plane."""
    return len(text) + sum(char > "\uffff" for char in text)


def _cut(text: str, most: int) -> str:
    """Not longer than `most`, whole lines as far as there are any."""
    kept = ""
    for line in text.split("\n"):
        if chars(kept) + chars(line) + 2 > most:
            break
        kept += f"{line}\n"
    return f"{kept or text[: max(0, most // 2 - 2)]}…"


def card(accent: Accent, *pieces: Piece | str) -> ui.LayoutView:
    """A message that is one coloured container."""
    return layout(container(accent, *pieces))


def container(accent: Accent, *pieces: Piece | str) -> ui.Container[ui.LayoutView]:
    """Texts may be given as strings; empty ones are left out."""
    kept = [piece for piece in pieces if piece != ""]
    return ui.Container(*(ui.TextDisplay(piece) if isinstance(piece, str) else piece for piece in kept), accent_colour=accent)


#: Source: Discord developer documentation, "Media Gallery Item" and "Thumbnail": description.
MAX_DESCRIPTION_CHARS = 1_024


def thumbnail(file: str, description: str = "") -> ui.Thumbnail[ui.LayoutView]:
    """A small picture beside a text, by the name of its attachment."""
    return ui.Thumbnail(f"attachment://{file}", description=description[:MAX_DESCRIPTION_CHARS] or None)


def gallery(files: Sequence[str], *, is_spoiler: bool = False, description: str = "") -> ui.MediaGallery[ui.LayoutView]:
    """Pictures by the names of their attachments; at most ten."""
    return ui.MediaGallery(
        *(
            discord.MediaGalleryItem(
                f"attachment://{name}", spoiler=is_spoiler, description=description[:MAX_DESCRIPTION_CHARS] or None
            )
            for name in files
        )
    )
