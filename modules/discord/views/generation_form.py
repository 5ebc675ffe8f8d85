"""The `/gen` form as its person sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import discord
from discord import ui

from modules.discord.drafts import Draft, takes_loras
from modules.discord.views.buttons import Act, button, row
from modules.discord.views.layout import Accent, Piece, card
from modules.discord.views.selects import Field, field_select
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
    fault: str = "",
    pages: Mapping[str, int] | None = None,
) -> ui.LayoutView:
    """Selects, what was typed, buttons. `fault` says why Generate cannot be pressed; empty: it can."""
    pieces: list[Piece | str] = [
        f"### {texts('gen.title')}",
        *_selects(draft, spec, models, catalogue, texts, pages or {}),
        _summary(draft, spec, texts),
        f"⚠️ {fault}" if fault else "",
        row(
            button(Act.FORM_WORDS, texts("gen.words"), emoji="✍️"),
            *([button(Act.FORM_STRENGTHS, texts("gen.strengths"), emoji="🎚️")] if draft.loras else []),
            button(Act.FORM_GENERATE, texts("gen.generate"), style=discord.ButtonStyle.primary, is_disabled=bool(fault)),
            button(Act.FORM_DEFAULT, texts("gen.default")),
        ),
    ]
    return card(Accent.YELLOW if fault else Accent.BLURPLE, *pieces)


def _selects(
    draft: Draft, spec: ModelSpec, models: Sequence[ModelSpec], catalogue: Catalogue, texts: Texts, pages: Mapping[str, int]
) -> list[Piece]:
    choices = catalogue.choices()

    def of(field: Field, names: Sequence[tuple[str, str]], chosen: Sequence[str], most: int = 1) -> Piece:
        page = pages.get(field.value, 0)
        return field_select(field, texts(f"gen.{field.value}"), names, chosen, page=page, most=most, more=texts("gen.more"))

    sizes = dict.fromkeys([str(spec.default_size), *(str(size) for size in spec.sizes), *([draft.size] if draft.size else [])])
    rows = [
        of(Field.MODEL, [(model.name, model.label) for model in models], [spec.name]),
        of(Field.SIZE, [(size, size) for size in sizes], [draft.size or str(spec.default_size)]),
    ]
    if WorkflowKind.FORM in spec.workflows:
        for field, names, chosen in (
            (Field.CHECKPOINT, choices.checkpoints, draft.checkpoint),
            (Field.SAMPLER, choices.samplers, draft.sampler),
            (Field.SCHEDULER, choices.schedulers, draft.scheduler),
        ):
            if names:
                rows.append(of(field, [(name, name) for name in names], [chosen]))
    if takes_loras(spec, catalogue):
        rows.append(of(Field.LORAS, [(name, name) for name in choices.loras], draft.loras, most=4))
    return rows


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
