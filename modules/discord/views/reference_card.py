"""What "Use as reference" answers."""

from __future__ import annotations

from datetime import datetime

import discord
from discord import ui

from modules.discord.views.buttons import Act, button, row
from modules.discord.views.layout import Accent, card, thumbnail
from modules.discord.wording import moment, small
from modules.utils.i18n import Texts


def reference_card(file: str, *, forgotten_at: datetime, has_picture: bool, texts: Texts) -> ui.LayoutView:
    """The picture that was kept (the message carries it as `file`), and what can be done with it."""
    said = "\n".join(
        (
            f"### {texts('reference.title')}",
            texts("reference.kept"),
            small(texts("reference.until", moment=moment(forgotten_at))),
        )
    )
    buttons = [button(Act.REFERENCE_DROP, texts("button.ref_drop"))]
    if has_picture:
        edit = button(Act.REFERENCE_EDIT, texts("button.ref_edit"), emoji="✏️", style=discord.ButtonStyle.primary)
        buttons.insert(0, edit)
    return card(Accent.BLURPLE, ui.Section(said, accessory=thumbnail(file, texts("reference.title"))), row(*buttons))
