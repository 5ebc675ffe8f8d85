"""`/settings`: what a person chose, and what the house does where they did not."""

from __future__ import annotations

from collections.abc import Sequence

from discord import ui

from modules.discord.views.layout import Accent, card
from modules.discord.wording import model_label
from modules.domain.catalogue import ModelSpec
from modules.domain.records import PersonSettings
from modules.utils.i18n import Texts


def settings_card(settings: PersonSettings, models: Sequence[ModelSpec], texts: Texts) -> ui.LayoutView:
    """One line a setting."""
    house = texts("settings.house")
    spec = next((spec for spec in models if spec.name == settings.model), None)
    language = texts(f"language.{settings.language}") if settings.language in {"en", "es"} else texts("settings.client")
    lines = [
        texts("settings.model", value=model_label(settings.model, spec) if settings.model else house),
        texts("settings.size", value=settings.size or house),
        texts("settings.count", value=str(settings.count or house)),
        texts("settings.language", value=language),
        texts("settings.quiet", value=texts("word.yes" if settings.is_quiet else "word.no")),
        texts("settings.spoiler", value=texts("word.yes" if settings.is_spoiler else "word.no")),
    ]
    return card(Accent.GREY, f"### {texts('settings.title')}", "\n".join(lines))
