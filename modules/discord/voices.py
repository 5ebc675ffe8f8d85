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
        """The server's own language."""
        return self._phrases.texts(guild.preferred_locale.value if guild else None)

    def speaking(self, language: Language | str | None) -> Texts:
        """A language by its name, such as the one a job was asked in."""
        return self._phrases.texts(language)
