"""The `/gen` form as its person sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import discord
from discord import ui

from modules.discord.drafts import MAX_LORAS, Draft, takes_loras
from modules.discord.views.buttons import Act, button, row
from modules.discord.views.layout import Accent, Piece, card
from modules.discord.views.selects import Field, Look, field_select
from modules.discord.wording import plain, quoted, small
from modules.domain.catalogue import ModelSpec, WorkflowKind
from modules.domain.ports import Catalogue
from modules.utils.i18n import Texts

PROMPT_CHARS = 300


def generation_form(
    draft: Draft,
    spec: ModelSpec,
    models: Sequence[ModelSpec],
    catalogue: Catalogue,
    texts: Texts,
    *,
    faults: Sequence[str] = (),
    note: str = "",
    looks: Mapping[str, Look] | None = None,
) -> ui.LayoutView:
    """Selects, what was typed, buttons. `faults` say why Generate cannot be pressed; `note` what else happened."""
    pieces: list[Piece | str] = [
        f"### {texts('gen.title')}",
        f"ℹ️ {note}" if note else "",
        *_selects(draft, spec, models, catalogue, texts, looks or {}),
        _summary(draft, spec, texts),
        "\n".join(f"⚠️ {fault}" for fault in faults),
        row(
            button(Act.FORM_WORDS, texts("gen.words"), emoji="✍️"),
            *([button(Act.FORM_STRENGTHS, texts("gen.strengths"), emoji="🎚️")] if draft.loras else []),
            button(Act.FORM_GENERATE, texts("gen.generate"), style=discord.ButtonStyle.primary, is_disabled=bool(faults)),
            button(Act.FORM_DEFAULT, texts("gen.default")),
        ),
    ]
    return card(Accent.YELLOW if faults else Accent.BLURPLE, *pieces)


def _selects(
    draft: Draft, spec: ModelSpec, models: Sequence[ModelSpec], catalogue: Catalogue, texts: Texts, looks: Mapping[str, Look]
) -> list[Piece]:
    choices = catalogue.choices()

    def of(field: Field, names: Sequence[str], chosen: Sequence[str], **options: Any) -> Piece:
        kept = [name for name in chosen if name]
        return field_select(field, texts(f"gen.{field.value}"), names, kept, texts, look=looks.get(field.value), **options)

    labels = {model.name: model.label for model in models}
    rows = [
        of(Field.MODEL, list(labels), [spec.name], least=1, labels=labels),
        of(Field.SIZE, _sizes(draft, spec), [draft.size or str(spec.default_size)], has_window=True),
    ]
    if WorkflowKind.FORM in spec.workflows:
        for field, names, chosen in (
            (Field.CHECKPOINT, choices.checkpoints, draft.checkpoint),
            (Field.SAMPLER, choices.samplers, draft.sampler),
            (Field.SCHEDULER, choices.schedulers, draft.scheduler),
        ):
            if names or chosen:
                rows.append(of(field, names, [chosen]))
    if draft.loras or takes_loras(spec, catalogue):
        rows.append(of(Field.LORAS, choices.loras, draft.loras, most=MAX_LORAS))
    return rows


def _sizes(draft: Draft, spec: ModelSpec) -> list[str]:
    """The presets, the default first, and what was typed instead."""
    presets = (str(spec.default_size), *(str(size) for size in spec.sizes))
    return list(dict.fromkeys((*presets, *([draft.size] if draft.size else []))))


def _summary(draft: Draft, spec: ModelSpec, texts: Texts) -> str:
    lines = [quoted(draft.prompt, PROMPT_CHARS, texts)]
    if draft.negative_prompt:
        lines.append(small(texts("gen.negative", prompt=plain(draft.negative_prompt, 120))))
    facts = [
        texts("gen.steps", value=plain(draft.steps, 12) or str(round(spec.steps.default))),
        texts("gen.cfg", value=plain(draft.cfg, 12) or texts.number(spec.cfg.default)),
        texts("gen.seed", value=plain(draft.seed, 20) or texts("gen.random")),
        texts("gen.count", value=plain(draft.count, 4) or "1"),
    ]
    lines.append(small(*facts))
    if draft.loras:
        lines.append(small(*(f"{plain(name, 50)} × {plain(draft.strength_of(at), 8)}" for at, name in enumerate(draft.loras))))
    return "\n".join(lines)
