"""Pieces of text that several views share. Whatever a person typed passes through `plain` before it is shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from modules.domain.catalogue import Detail, ModelSpec
from modules.domain.invisible import says_something
from modules.domain.jobs import Job
from modules.domain.recipes import ModelName, Recipe
from modules.utils.i18n import Texts

#: Everything that starts Markdown, a mention, a timestamp or an emoji in Discord's client.
_MEANT = re.compile(r"[\\`*_~|<>\[\]@#]")
#: At the start of a line a hyphen, plus or `1.` makes a list, when a space follows.
_LIST_START = re.compile(r"^(\d*)([-+.])(?=\s|$)")
_SPACES = re.compile(r"\s+")
_BAR_CELLS = 8


def plain(text: str, limit: int = 300) -> str:
    """What somebody typed, as one line that shows exactly that: at most `limit` characters, Markdown and mentions dead.

    The answer is at most twice as long as `limit`, plus two.
    """
    line = _SPACES.sub(" ", text).strip()
    if len(line) > limit:
        line = line[: limit - 1].rstrip() + "…"
    line = _MEANT.sub(lambda found: "\\" + found[0], line)
    line = _LIST_START.sub(r"\1\\\2", line)
    return line.replace("://", ":\\//")


def alt_text(prompt: str, limit: int = 300) -> str:
    """A prompt as the description of its picture: one line as it was typed, for alt text knows no Markdown.

    Source: Discord developer documentation, "Media Gallery Item Structure", `description`.
    """
    line = _SPACES.sub(" ", prompt).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def quoted(prompt: str, limit: int, texts: Texts) -> str:
    """A prompt as a quotation, or a word for its absence."""
    return f"> {plain(prompt, limit)}" if says_something(prompt) else f"> -# {texts('card.no_prompt')}"


def small(*facts: str) -> str:
    """Facts in Discord's small print, with dots between; empty ones are left out."""
    return "-# " + " · ".join(fact for fact in facts if fact)


def moment(at: datetime) -> str:
    """A moment that the reader's client counts down by itself and writes in their language."""
    return f"<t:{round(at.timestamp())}:R>"


def clock_time(at: datetime) -> str:
    """The same as the time on the reader's clock: for what is not edited, since "in 10 s" becomes "10 minutes ago"."""
    return f"<t:{round(at.timestamp())}:T>"


def date_and_time(at: datetime) -> str:
    """The same in full, for what reads "since ..."."""
    return f"<t:{round(at.timestamp())}:f>"


def mention(user_id: int) -> str:
    """A person; whether it pings is decided by `AllowedMentions`, not by the text."""
    return f"<@{user_id}>"


def channel_link(channel_id: int) -> str:
    """A channel; clickable for those who may see it."""
    return f"<#{channel_id}>"


def bar(done: int, of: int) -> str:
    """Progress in eight cells."""
    filled = min(_BAR_CELLS, max(0, round(_BAR_CELLS * done / of))) if of > 0 else 0
    return "▰" * filled + "▱" * (_BAR_CELLS - filled)


def size_fact(recipe: Recipe) -> str:
    """`1024x1024`, or nothing where the workflow follows its input."""
    return str(recipe.size) if recipe.size else ""


def described(recipe: Recipe, limit: int, spec: ModelSpec | None, texts: Texts, *more: str) -> str:
    """The prompt, at most `limit` characters of it, and below it the facts and `more` of them; not what says nothing here."""
    facts = small(*recipe_facts(recipe, spec, texts), *more)
    return "\n".join((quoted(recipe.prompt, limit, texts), facts)) if says(Detail.PROMPT, recipe, spec) else facts


def recipe_facts(recipe: Recipe, spec: ModelSpec | None, texts: Texts) -> tuple[str, ...]:
    """Model, size and, where they mean something, seed and steps."""
    facts = [model_label(recipe.model, spec), size_fact(recipe)]
    if says(Detail.SEED, recipe, spec):
        facts.append(texts("card.seed", seed=str(recipe.seed)))
    if says(Detail.STEPS, recipe, spec) and (spec is None or spec.shows_steps):
        facts.append(texts("card.steps", count=recipe.steps))
    if recipe.count > 1:
        facts.append(texts("card.pictures", count=recipe.count))
    return tuple(fact for fact in facts if fact)


def says(detail: Detail, recipe: Recipe, spec: ModelSpec | None) -> bool:
    """Whether the template takes this, so that the recipe's value means something; yes where the template is no longer known."""
    if spec is None or recipe.workflow not in spec.workflows.values():
        return True
    return detail in spec.details_of(recipe.workflow)


def model_label(name: ModelName, spec: ModelSpec | None) -> str:
    """The model's proper name; its short name when it is no longer on offer."""
    return spec.label if spec else plain(name, 60)


def spec_of(models: Sequence[ModelSpec], job: Job) -> ModelSpec | None:
    """The model of a job, if it is still on offer."""
    return next((spec for spec in models if spec.name == job.recipe.model), None)
