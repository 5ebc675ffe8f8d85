"""Modals. They keep nothing: the `custom_id` says what for, so one that was open over a restart still works."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import discord
from discord import ui

from modules.discord.views.buttons import to_base36
from modules.domain.catalogue import Detail, ModelSpec
from modules.domain.jobs import Job, JobId, base36, from_base36
from modules.domain.recipes import MAX_PICTURES_PER_JOB, MAX_PROMPT_CHARS
from modules.utils.i18n import Texts

#: discord.py keeps an open modal in memory for so long; the submission needs nothing of it.
OPEN_FOR_S = 15 * 60
#: Source: Discord developer documentation, "Modal": titles and labels.
MAX_LABEL_CHARS = 45
#: The same, "Label": description.
MAX_HINT_CHARS = 100

_FORM_ID = re.compile(r"m1:(?P<form>[a-z_]{1,20})(?::(?P<job>[0-9a-z]{0,25}))?(?::(?P<argument>[0-9a-z]{1,20}))?")


class FormName(StrEnum):
    """What a submitted modal is for. Stands in open windows: add, never rename."""

    EDIT = "edit"
    REMIX = "remix"
    WORDS = "gen_words"
    STRENGTHS = "gen_loras"
    FIND = "gen_find"  #: argument: the field whose list is looked through
    EDIT_MESSAGE = "edit_msg"  #: argument: the message's id, base 36
    REFERENCE = "reference"  #: the session's last picture, with the kept reference beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A modal as it came back."""

    form: FormName
    job_id: JobId | None
    argument: str
    answers: Mapping[str, str]

    @classmethod
    def read(cls, data: Mapping[str, object]) -> Submission | None:
        """From an interaction's data; None when it is not one of ours."""
        found = _FORM_ID.fullmatch(str(data.get("custom_id", "")))
        if found is None or found["form"] not in {form.value for form in FormName}:
            return None
        return cls(
            form=FormName(found["form"]),
            job_id=from_base36(found["job"]) if found["job"] else None,
            argument=found["argument"] or "",
            answers=dict(_answers(data.get("components"))),
        )

    def text(self, field: str) -> str:
        """What was typed into a field; empty when the field is not there."""
        return self.answers.get(field, "")


class Form(ui.Modal):
    """A modal whose submission is read from the interaction itself (`FulletBot.on_interaction`)."""

    def __init__(self, name: FormName, title: str, job_id: JobId | None = None, argument: str = "") -> None:
        parts = ["m1", name.value, base36(job_id) if job_id else "", argument]
        super().__init__(title=title[:MAX_LABEL_CHARS], custom_id=":".join(parts).rstrip(":"), timeout=OPEN_FOR_S)

    def line(self, field: str, label: str, value: str = "", *, required: bool = False, limit: int = 40) -> None:
        """A short field."""
        self._add(field, label, value, discord.TextStyle.short, required=required, limit=limit)

    def paragraph(self, field: str, label: str, value: str = "", *, required: bool = False, hint: str = "") -> None:
        """A prompt."""
        self._add(field, label, value, discord.TextStyle.paragraph, required=required, limit=MAX_PROMPT_CHARS, hint=hint)

    def choice(self, field: str, label: str, options: Sequence[tuple[str, str]], chosen: str) -> None:
        """One of a few: (value, label)."""
        select: ui.Select[ui.Modal] = ui.Select(
            custom_id=field,
            options=[discord.SelectOption(value=value, label=text, default=value == chosen) for value, text in options],
        )
        self.add_item(ui.Label(text=label[:MAX_LABEL_CHARS], component=select))

    def _add(
        self, field: str, label: str, value: str, style: discord.TextStyle, *, required: bool, limit: int, hint: str = ""
    ) -> None:
        typed: ui.TextInput[ui.Modal] = ui.TextInput(
            custom_id=field, style=style, default=value[:limit] or None, required=required, max_length=limit
        )
        self.add_item(ui.Label(text=label[:MAX_LABEL_CHARS], component=typed, description=hint[:MAX_HINT_CHARS] or None))


def edit_form(job: Job, index: int | None, texts: Texts, *, has_reference: bool = False) -> Form:
    """What should change? With several pictures and none chosen, also: in which."""
    form = Form(FormName.EDIT, texts("form.edit.title"), job.id, "" if index is None else str(index))
    form.paragraph("prompt", texts("form.edit.prompt"), required=True, hint=_hint(texts, has_reference=has_reference))
    if index is None and job.recipe.count > 1:
        numbers = [(str(at), texts("form.picture", number=at + 1)) for at in range(job.recipe.count)]
        form.choice("picture", texts("form.edit.picture"), numbers, "0")
    return form


def remix_form(job: Job, spec: ModelSpec, texts: Texts, typed: Mapping[str, str] | None = None) -> Form:
    """What the recipe's template takes, in at most five fields, prefilled; with what was `typed` before where there is any."""
    recipe = job.recipe
    takes = spec.details_of(recipe.workflow)

    def now(field: str, value: object) -> str:
        return (typed or {}).get(field, str(value))

    form = Form(FormName.REMIX, texts("form.remix.title"), job.id)
    if Detail.PROMPT in takes:
        form.paragraph("prompt", texts("form.prompt"), now("prompt", recipe.prompt), required=True)
    if Detail.NEGATIVE_PROMPT in takes:
        form.paragraph("negative_prompt", texts("form.negative_prompt"), now("negative_prompt", recipe.negative_prompt))
    if Detail.SIZE in takes:
        form.line("size", texts("form.size"), now("size", recipe.size or ""))
    if Detail.SEED in takes:
        form.line("seed", texts("form.seed"), now("seed", recipe.seed), limit=20)
    if Detail.STEPS in takes and spec.shows_steps:
        form.line(
            "steps",
            texts("form.steps", low=round(spec.steps.low), high=round(spec.steps.high)),
            now("steps", recipe.steps),
            limit=4,
        )
    elif Detail.SEED in takes:  # without one, two pictures would be the same
        form.line("count", texts("form.count", high=MAX_PICTURES_PER_JOB), now("count", recipe.count), limit=1)
    return form


def picture_form(name: FormName, message_id: int | None, texts: Texts, *, has_reference: bool = False) -> Form:
    """What should change in the picture of a message, or in the session's last one."""
    title = texts("form.edit_msg") if name is FormName.EDIT_MESSAGE else texts("form.reference")
    form = Form(name, title, argument="" if message_id is None else to_base36(message_id))
    form.paragraph("prompt", texts("form.edit.prompt"), required=True, hint=_hint(texts, has_reference=has_reference))
    return form


def _hint(texts: Texts, *, has_reference: bool) -> str:
    return texts("answer.reference") if has_reference else ""


def words_form(typed: Mapping[str, str], texts: Texts) -> Form:
    """`/gen`: prompt and numbers, prefilled with what was typed last, right or wrong."""
    form = Form(FormName.WORDS, texts("gen.words"))
    form.paragraph("prompt", texts("form.prompt"), typed["prompt"], required=True)
    form.paragraph("negative_prompt", texts("form.negative_prompt"), typed["negative_prompt"])
    form.line("steps", texts("form.steps", low=1, high=150), typed["steps"])
    form.line("cfg", texts("form.cfg", low=1, high=30), typed["cfg"])
    form.line("seed", texts("form.seed"), typed["seed"])
    return form


def find_form(field: str, query: str, texts: Texts) -> Form:
    """`/gen`: look for something in a long list, or type a size that is in no list."""
    form = Form(FormName.FIND, texts(f"gen.{field}"), argument=field)
    form.line("query", texts("form.size" if field == "size" else "gen.find"), query, limit=60)
    return form


def strengths_form(names: Sequence[str], strengths: Sequence[str], texts: Texts) -> Form:
    """`/gen`: how strongly each LoRA is applied."""
    form = Form(FormName.STRENGTHS, texts("gen.strengths"))
    for name, strength in zip(names, strengths, strict=True):
        form.line(strength_field(name), name.rsplit("/", 1)[-1], strength, limit=8)
    return form


def strength_field(name: str) -> str:
    """The field of a LoRA by its name: the list may be another one by the time the window comes back."""
    return f"lora_{hashlib.blake2b(name.encode(), digest_size=12).hexdigest()}"


def typed_in(data: Mapping[str, object]) -> Mapping[str, str]:
    """Everything typed into a window, of whatever version."""
    return dict(_answers(data.get("components")))


def _answers(components: object) -> Iterator[tuple[str, str]]:
    """Every field's value, whether it sits in a label or, as older clients send it, in a row."""
    if not isinstance(components, list):
        return
    for component in components:
        if not isinstance(component, dict):
            continue
        inner = component.get("component")
        yield from _answers([inner] if inner else component.get("components"))
        field = component.get("custom_id")
        if isinstance(field, str):
            value, values = component.get("value"), component.get("values")
            if isinstance(value, str):
                yield field, value
            elif isinstance(values, list) and values:
                yield field, str(values[0])
