"""Who asks: people, where they ask, and the language they read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

UserId = NewType("UserId", int)
GuildId = NewType("GuildId", int)
ChannelId = NewType("ChannelId", int)
MessageId = NewType("MessageId", int)
InteractionId = NewType("InteractionId", int)


class Language(StrEnum):
    """The languages our sentences exist in; each has a file in `utils/locales/`."""

    ENGLISH = "en"
    SPANISH = "es"

    @classmethod
    def from_locale(cls, locale: str | None, default: Language) -> Language:
        """Read a Discord locale such as `es-ES` or `en-US`; anything we do not speak becomes `default`."""
        head = (locale or "").split("-", 1)[0].lower()
        return next((language for language in cls if language.value == head), default)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A member as we knew them when they asked."""

    user_id: UserId
    guild_id: GuildId
    display_name: str
    language: Language
    #: Share of the GPUs relative to a plain member (1.0); priority is weight, never a strict tier. Always > 0.
    weight: float = 1.0
    is_admin: bool = False
