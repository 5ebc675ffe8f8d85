"""Short private messages: a refusal, a confirmation, a question."""

from __future__ import annotations

from datetime import datetime

from discord import ui

from modules.discord.views.buttons import Act, button, row, to_base36
from modules.discord.views.layout import Accent, card
from modules.discord.wording import clock_time
from modules.domain.errors import ErrorCode
from modules.domain.people import MessageId
from modules.utils.i18n import Texts


def problem_notice(sentence: str, code: ErrorCode, texts: Texts, about: MessageId | None = None) -> ui.LayoutView:
    """A refusal, with a button where there is something to press. `about`: the message whose button was pressed."""
    if code is ErrorCode.ACTIVE_LIMIT_REACHED:
        return card(Accent.RED, sentence, row(button(Act.MY_QUEUE, texts("button.my_queue"))))
    if code is ErrorCode.RECIPE_GONE and about is not None:
        start_over = button(Act.START_OVER, texts("button.remix"), argument=to_base36(about), emoji="🎛️")
        return card(Accent.GREY, sentence, row(start_over))
    return card(Accent.RED, sentence)


def notice(sentence: str, *buttons: ui.Item[ui.LayoutView], accent: Accent = Accent.GREY) -> ui.LayoutView:
    """A calm sentence, with buttons under it if there are any."""
    return card(accent, sentence, row(*buttons)) if buttons else card(accent, sentence)


def registration_waits(until: datetime | None, texts: Texts) -> str:
    """Said to whoever changes the slash commands sooner than Discord likes."""
    return texts("admin.commands_slow") if until is None else texts("admin.commands_wait", when=clock_time(until))


def registration_done(count: int | None, texts: Texts) -> str:
    """So many slash commands are registered; None: they are removed."""
    return texts("admin.cleared") if count is None else texts("admin.synced", count=count)
