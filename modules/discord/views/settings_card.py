"""`/settings`: what a person chose, and what the house does where they did not."""

from __future__ import annotations

from collections.abc import Sequence

from discord import ui

from modules.discord.views.layout import Accent, card
from modules.discord.wording import model_label, plain, small
from modules.domain.catalogue import ModelSpec
from modules.domain.recipes import ModelName
from modules.domain.records import FormDefaults, PersonSettings
from modules.utils.i18n import Texts

#: A line may have 500 characters and a card 4,000.
_MOST_FORMS = 6


def settings_card(settings: PersonSettings, models: Sequence[ModelSpec], texts: Texts) -> ui.LayoutView:
    """One line a setting."""
    house = texts("settings.house")
    language = texts(f"language.{settings.language}") if settings.language in {"en", "es"} else texts("settings.client")
    lines = [
        texts("settings.model", value=_model(settings.model, models, texts)),
        texts("settings.size", value=settings.size or house),
        texts("settings.count", value=str(settings.count or house)),
        texts("settings.language", value=language),
        texts("settings.quiet", value=texts("word.yes" if settings.is_quiet else "word.no")),
        texts("settings.spoiler", value=texts("word.yes" if settings.is_spoiler else "word.no")),
    ]
    forms = [_form_line(name, kept, models, texts) for name, kept in list(settings.forms.items())[:_MOST_FORMS]]
    if len(settings.forms) > _MOST_FORMS:
        forms.append(small(texts("queue.more", count=len(settings.forms) - _MOST_FORMS)))
    return card(Accent.GREY, f"### {texts('settings.title')}", "\n".join(lines), "\n".join(forms))


def _model(name: ModelName | None, models: Sequence[ModelSpec], texts: Texts) -> str:
    """The default; one that is not on offer any more is told, with what happens instead."""
    if not name:
        return texts("settings.house")
    spec = next((spec for spec in models if spec.name == name and spec.draws_from_words), None)
    return spec.label if spec else texts("settings.model_gone", model=plain(name, 60))


def _form_line(name: ModelName, kept: FormDefaults, models: Sequence[ModelSpec], texts: Texts) -> str:
    """What the form begins with for one model."""
    spec = next((spec for spec in models if spec.name == name), None)
    facts = [
        plain(kept.size, 20),
        *(plain(choice, 60) for choice in (kept.checkpoint, kept.sampler, kept.scheduler)),
        texts("gen.steps", value=plain(kept.steps, 12)) if kept.steps else "",
        texts("gen.cfg", value=plain(kept.cfg, 12)) if kept.cfg else "",
        *(f"{plain(lora, 40)} × {plain(strength, 8)}" for lora, strength in zip(kept.loras, kept.strengths, strict=False)),
        texts("gen.negative", prompt=plain(kept.negative_prompt, 80)) if kept.negative_prompt else "",
    ]
    said = " · ".join(fact for fact in facts if fact) or texts("settings.house")
    return small(texts("settings.form", model=model_label(name, spec), value=said))
