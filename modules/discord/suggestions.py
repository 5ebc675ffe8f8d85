"""What to offer while somebody types an option."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import discord
from discord import app_commands

from modules.domain.catalogue import FROM_WORDS, ModelSpec, WorkflowKind
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.people import UserId
from modules.domain.ports import Catalogue, PeopleStore
from modules.domain.recipes import ModelName
from modules.utils.i18n import Texts

#: Source: Discord developer documentation, "Application command option choice": names and values; and how many.
MAX_CHOICE_CHARS = 100
MAX_SUGGESTIONS = 25
#: Own prompts before ideas begin.
OWN_PROMPTS = 15
#: Suggestions that come late are of no use: Discord waits three seconds.
PATIENCE_S = 1.5


def model_choices(specs: Iterable[ModelSpec], typed: str = "") -> list[app_commands.Choice[str]]:
    """Models by what people read, those that contain what is typed."""
    wanted = typed.strip().casefold()
    return [app_commands.Choice(name=spec.label, value=spec.name) for spec in specs if wanted in spec.label.casefold()]


def default_models(catalogue: Catalogue) -> list[ModelSpec]:
    """What a person may choose to begin with: only what draws from words."""
    return [spec for spec in catalogue.models() if spec.draws_from_words]


def default_model(catalogue: Catalogue, typed: str) -> ModelName:
    """The one that is meant. Raises MODEL_UNKNOWN, MODEL_NO_DEFAULT."""
    spec = catalogue.model(typed, FROM_WORDS)
    if not spec.draws_from_words:
        known = ", ".join(spec.label for spec in default_models(catalogue))
        raise FulletError(ErrorCode.MODEL_NO_DEFAULT, model=spec.label, known=known)
    return spec.name


async def prompt_choices(
    interaction: discord.Interaction, typed: str, people: PeopleStore, texts: Texts
) -> list[app_commands.Choice[str]]:
    """The person's own prompts that contain what is typed, newest first, then ideas. What does not fit a choice is left out."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            own: Sequence[str] = await people.recent_prompts(UserId(interaction.user.id), typed, OWN_PROMPTS)
    except (FulletError, TimeoutError):
        own = ()
    wanted = typed.casefold()
    ideas = (idea for idea in texts.all_of("ideas") if wanted in idea.casefold())
    return [app_commands.Choice(name=text, value=text) for text in _distinct((*own, *ideas))]


def size_choices(catalogue: Catalogue, model: object, typed: str) -> list[app_commands.Choice[str]]:
    """The chosen model's presets, the default first; before a model is chosen, everybody's."""
    chosen = [spec for spec in default_models(catalogue) if isinstance(model, str) and spec.is_called(model)]
    chosen = chosen or list(catalogue.models(WorkflowKind.IMAGINE))
    sizes = _distinct(str(size) for spec in chosen for size in _presets(spec))
    wanted = typed.strip().casefold().replace("×", "x")
    return [app_commands.Choice(name=size, value=size) for size in sizes if wanted in size]


def _presets(spec: ModelSpec) -> Iterable[object]:
    return (spec.default_size, *spec.sizes)


def _distinct(texts: Iterable[str]) -> list[str]:
    kept = dict.fromkeys(text for text in texts if 1 <= len(text) <= MAX_CHOICE_CHARS)
    return list(kept)[:MAX_SUGGESTIONS]
