"""In which language to speak to whom."""

from __future__ import annotations

import discord

from modules.domain.errors import FulletError
from modules.domain.people import Language, UserId
from modules.domain.ports import PeopleStore
from modules.utils.i18n import Phrasebook, Texts


class Voices:
    """Private replies follow the person, public ones the server."""

    def __init__(self, phrases: Phrasebook, people: PeopleStore) -> None:
        self._phrases = phrases
        self._people = people
        self._of_guilds: dict[int, str] = {}  #: as last told; while a guild is away nobody tells its language

    async def for_person(self, interaction: discord.Interaction) -> Texts:
        """The language the person chose in `/settings`, else their client's. Speaks even when the database is away."""
        try:
            chosen = (await self._people.settings(UserId(interaction.user.id))).language
        except FulletError:
            chosen = None
        return self._phrases.texts(chosen or interaction.locale.value)

    def of_client(self, interaction: discord.Interaction) -> Texts:
        """The language of the person's client; needs no database, for autocomplete and last resorts."""
        return self._phrases.texts(interaction.locale.value)

    def for_guild(self, guild: discord.Guild | None) -> Texts:
        """The server's own language, where it has one; else DEFAULT_LOCALE.

        Only Community servers choose a language; Discord says `en-US` of all others. Source: Discord developer documentation,
        "Guild Object" (`preferred_locale`).
        """
        if guild is None:
            return self._phrases.texts(None)
        if "COMMUNITY" in guild.features:
            self._of_guilds[guild.id] = guild.preferred_locale.value
        elif not guild.unavailable:
            self._of_guilds.pop(guild.id, None)
        return self._phrases.texts(self._of_guilds.get(guild.id))

    def speaking(self, language: Language | str | None) -> Texts:
        """A language by its name, such as the one a job was asked in."""
        return self._phrases.texts(language)
