"""Recipes that come to us in a file: inside a picture of ours, or as the JSON that the recipe card gives.

Whoever sends a file may have written it: nothing is believed. It only fills in a draft, which the form's own rules then check.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modules.discord.drafts import MAX_LORAS, Draft
from modules.domain.recipes import MAX_PROMPT_CHARS

#: Ours have at most two prompts and four names; the longest with every letter escaped is 50,000 characters.
MAX_RECIPE_CHARS = 64 * 1024
#: File names of checkpoints and LoRAs, folders included.
_MAX_NAME_CHARS = 300


@dataclass(frozen=True, slots=True)
class WrittenRecipe:
    """What a file said."""

    draft: Draft
    text: str  #: as it was written
    #: It began from another picture, which no file carries: only its words can be drawn again.
    had_picture: bool = False


def read_written(text: str) -> WrittenRecipe | None:
    """None when it is no recipe: not JSON, or without a model and a prompt."""
    if len(text) > MAX_RECIPE_CHARS:
        return None
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(told, Mapping):
        return None
    loras = _loras(told.get("loras"))
    draft = Draft(
        **{name: _text(told.get(name), _MAX_NAME_CHARS) for name in ("model", "size", "sampler", "scheduler", "checkpoint")},
        **{name: _text(told.get(name), MAX_PROMPT_CHARS) for name in ("prompt", "negative_prompt")},
        **{name: _number(told.get(name)) for name in ("steps", "cfg", "seed", "count")},
        loras=tuple(name for name, _ in loras),
        strengths=tuple(strength for _, strength in loras),
    )
    if not draft.model and not draft.prompt:
        return None
    return WrittenRecipe(draft, text, had_picture=told.get("is_edit") is True)


def _loras(told: object) -> list[tuple[str, str]]:
    if not isinstance(told, Sequence) or isinstance(told, str):
        return []
    entries = [entry for entry in told[:MAX_LORAS] if isinstance(entry, Mapping)]
    named = [(_text(entry.get("name"), _MAX_NAME_CHARS), _number(entry.get("strength"))) for entry in entries]
    return [(name, strength) for name, strength in named if name]


def _text(told: object, limit: int) -> str:
    """Without broken surrogates, which JSON can spell and UTF-8 cannot."""
    return told[:limit].encode("utf-8", "ignore").decode() if isinstance(told, str) else ""


def _number(told: object) -> str:
    """As somebody would have typed it into the form, right or wrong."""
    match told:
        case bool():
            return ""
        case int():
            # Python refuses to spell integers of thousands of digits; nothing of ours has more than twenty.
            return str(told) if abs(told) < 10**20 else "9" * 21
        case float():
            return f"{told:g}"
        case str():
            return _text(told, 20)
        case _:
            return ""
