"""Short private messages: a refusal, a confirmation, a question."""

from __future__ import annotations

from discord import ui

from modules.discord.views.buttons import Act, button, row
from modules.discord.views.layout import Accent, card
from modules.domain.errors import ErrorCode
from modules.utils.i18n import Texts


def problem_notice(sentence: str, code: ErrorCode, texts: Texts) -> ui.LayoutView:
    """A refusal, with a button where there is something to press."""
    if code is ErrorCode.ACTIVE_LIMIT_REACHED:
        return card(Accent.RED, sentence, row(button(Act.MY_QUEUE, texts("button.my_queue"))))
    return card(Accent.RED, sentence)


def notice(sentence: str, *buttons: ui.Item[ui.LayoutView], accent: Accent = Accent.GREY) -> ui.LayoutView:
    """A calm sentence, with buttons under it if there are any."""
    return card(accent, sentence, row(*buttons)) if buttons else card(accent, sentence)
