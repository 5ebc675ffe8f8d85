"""Slash commands in both languages, from the same catalogues as every other sentence."""

from __future__ import annotations

import discord
from discord import app_commands

from modules.domain.people import Language
from modules.utils.i18n import Phrasebook

_ENGLISH = Phrasebook.load(Language.ENGLISH).texts()


def phrase(key: str) -> app_commands.locale_str:
    """A translatable text of a command: English is what Discord falls back to, the key finds the other languages."""
    return app_commands.locale_str(_ENGLISH(key), key=key)


class CatalogueTranslator(app_commands.Translator):
    """Answers discord.py's questions when the command tree is put together."""

    def __init__(self, phrases: Phrasebook) -> None:
        self._phrases = phrases

    async def translate(
        self, string: app_commands.locale_str, locale: discord.Locale, context: app_commands.TranslationContextTypes
    ) -> str | None:
        """The text in that locale; None where we do not speak it or it is no different from the English."""
        key = string.extras.get("key")
        language = locale.value.split("-", 1)[0]
        if key is None or language not in {known.value for known in Language}:
            return None
        said = self._phrases.texts(language)(str(key))
        return None if said == string.message else said
