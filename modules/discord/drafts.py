"""Drafts of the `/gen` form: one a person, kept in the database. Neither a bad value nor a restart loses what was typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any

from modules.discord.numbers import decimal_number, seed_number, whole_number
from modules.discord.warm_notes import WarmNotes
from modules.domain.catalogue import FROM_WORDS, ModelSpec, Wish, WorkflowKind
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.invisible import says_something
from modules.domain.jobs import Job
from modules.domain.people import UserId
from modules.domain.ports import Catalogue, ControlStore
from modules.domain.recipes import MAX_PICTURES_PER_JOB, Lora, ModelName, Seed
from modules.domain.records import FormDefaults, PersonSettings

MAX_LORAS = 4
#: What the modal's fields promise (cards.md); a model may allow less, which the catalogue says.
STEPS_RANGE = (1, 150)
CFG_RANGE = (1.0, 30.0)
STRENGTH_RANGE = (-4.0, 4.0)
#: What a person types, whatever the model.
_TYPED = ("negative_prompt", "steps", "cfg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a person chose and typed so far. Numbers are kept as typed, right or wrong."""

    model: str = ""
    size: str = ""
    sampler: str = ""
    scheduler: str = ""
    checkpoint: str = ""
    loras: tuple[str, ...] = ()
    strengths: tuple[str, ...] = ()  #: as typed, one for each LoRA
    prompt: str = ""
    negative_prompt: str = ""
    steps: str = ""
    cfg: str = ""
    seed: str = ""
    count: str = ""

    def strength_of(self, index: int) -> str:
        """As typed; 1 where nothing was."""
        return self.strengths[index] if index < len(self.strengths) and self.strengths[index] else "1"

    def with_loras(self, chosen: Sequence[str]) -> Draft:
        """Other LoRAs; those that stay keep their strength. More than MAX_LORAS are cut, those chosen last."""
        old = {name: self.strength_of(index) for index, name in enumerate(self.loras)}
        kept = tuple(chosen)[:MAX_LORAS]
        return replace(self, loras=kept, strengths=tuple(old.get(name, "1") for name in kept))


def form_models(catalogue: Catalogue) -> list[ModelSpec]:
    """What the form offers: its own templates first, then those of `/imagine`, each only while some server can run it."""
    specs = [spec for spec in catalogue.models() if spec.draws_from_words]
    runnable = [spec for spec in specs if (kind := kind_for(spec)) and catalogue.is_available(spec.name, kind)]
    return sorted(runnable or specs, key=lambda spec: kind_for(spec) is not WorkflowKind.FORM)


def kind_for(spec: ModelSpec) -> WorkflowKind | None:
    """How the form draws with this model."""
    return next((kind for kind in FROM_WORDS if kind in spec.workflows), None)


def wish_of(draft: Draft, spec: ModelSpec) -> Wish:
    """The draft as a wish. Raises VALUE_NOT_A_NUMBER and VALUE_OUT_OF_RANGE with the field's name."""
    kind = kind_for(spec)
    if kind is None:
        raise FulletError(ErrorCode.MODEL_UNAVAILABLE, model=spec.label, alternative="")
    return Wish(
        kind=kind,
        model=spec.name,
        prompt=draft.prompt,
        negative_prompt=draft.negative_prompt,
        size=draft.size or None,
        seed=seed_number(draft.seed),
        steps=whole_number(draft.steps, "steps", *STEPS_RANGE),
        cfg=decimal_number(draft.cfg, "cfg", *CFG_RANGE),
        sampler=draft.sampler or None,
        scheduler=draft.scheduler or None,
        checkpoint=draft.checkpoint or None,
        loras=tuple(
            Lora(name=name, strength=decimal_number(draft.strength_of(index), "strength", *STRENGTH_RANGE) or 0.0)
            for index, name in enumerate(draft.loras)
        ),
        count=whole_number(draft.count, "count", 1, MAX_PICTURES_PER_JOB) or 1,
    )


def faults_of(draft: Draft, spec: ModelSpec, catalogue: Catalogue) -> list[tuple[str, FulletError]]:
    """What keeps the draft from being drawn right now, each with what was typed there, if anything was.

    Every number that cannot be read; when all can, the first field that is wrong by the same rules as every wish.
    """
    faults: list[tuple[str, FulletError]] = []
    for typed, read in _typed_numbers(draft):
        try:
            read(typed)
        except FulletError as error:
            faults.append((typed, error))
    if not says_something(draft.prompt):
        faults.append(("", FulletError(ErrorCode.PROMPT_EMPTY)))
    if faults:
        return faults
    try:
        catalogue.resolve(wish_of(draft, spec))
    except FulletError as error:
        return [("", error)]
    return []


def _typed_numbers(draft: Draft) -> list[tuple[str, Callable[[str], object]]]:
    return [
        (draft.steps, lambda typed: whole_number(typed, "steps", *STEPS_RANGE)),
        (draft.cfg, lambda typed: decimal_number(typed, "cfg", *CFG_RANGE)),
        (draft.seed, seed_number),
        (draft.count, lambda typed: whole_number(typed, "count", 1, MAX_PICTURES_PER_JOB)),
        *(
            (draft.strength_of(index), lambda typed: decimal_number(typed, "strength", *STRENGTH_RANGE))
            for index in range(len(draft.loras))
        ),
    ]


def takes_loras(spec: ModelSpec, catalogue: Catalogue) -> bool:
    """Whether this model's template has a place for them."""
    kind, names = kind_for(spec), catalogue.choices().loras
    if kind is None or not names:
        return False
    trial = Wish(kind=kind, model=spec.name, prompt="a trial", seed=Seed(0), loras=(Lora(name=names[0]),))
    try:
        catalogue.resolve(trial)
    except FulletError as error:
        return error.params.get("field") != "loras"
    return True


def draft_of(job: Job) -> Draft:
    """A finished job's recipe, to go on from."""
    recipe = job.recipe
    return Draft(
        model=recipe.model,
        size=str(recipe.size) if recipe.size else "",
        sampler=recipe.sampler or "",
        scheduler=recipe.scheduler or "",
        checkpoint=recipe.checkpoint or "",
        loras=tuple(lora.name for lora in recipe.loras),
        strengths=tuple(f"{lora.strength:g}" for lora in recipe.loras),
        prompt=recipe.prompt,
        negative_prompt=recipe.negative_prompt,
        steps=str(recipe.steps),
        cfg=f"{recipe.cfg:g}",
        seed=str(recipe.seed),
        count=str(recipe.count),
    )


class Drafts:
    """Everybody's drafts, apart from each other."""

    def __init__(self, control: ControlStore) -> None:
        self._notes = WarmNotes(control, "draft")

    async def load(self, user_id: UserId, now: datetime) -> Draft | None:
        """The person's draft; None when there is none, it is too old, or another version wrote it."""
        note = await self._notes.load(user_id, now)
        try:
            return None if note is None else _draft_from(note)
        except (TypeError, KeyError):
            return None

    async def save(self, user_id: UserId, draft: Draft, now: datetime) -> None:
        """Keep it while it is warm."""
        await self._notes.save(user_id, asdict(draft), now)

    async def drop(self, user_id: UserId) -> None:
        """It became a job, or its person is to be forgotten."""
        await self._notes.drop(user_id)

    async def sweep(self, now: datetime) -> None:
        """Forget the drafts that nobody came back to."""
        await self._notes.sweep(now)


def _draft_from(kept: Mapping[str, Any]) -> Draft:
    """What `asdict` made. Raises KeyError and TypeError for what another version wrote."""
    known: dict[str, Any] = {field.name: kept[field.name] for field in fields(Draft)}
    return Draft(**known | {name: tuple(known[name]) for name in ("loras", "strengths")})


def first_draft(models: Sequence[ModelSpec], settings: PersonSettings) -> Draft:
    """An empty form with the person's own defaults."""
    names = [spec.name for spec in models]
    model = settings.model if settings.model in names else (names[0] if names else ModelName(""))
    empty = Draft(model=model or "", count=str(settings.count or ""))
    draft = with_model(empty, empty.model, settings.forms)
    return draft if draft.size else replace(draft, size=settings.size or "")


def with_model(draft: Draft, model: str, forms: Mapping[ModelName, FormDefaults]) -> Draft:
    """Another model: what belongs to the old one goes, what the person saved for the new one comes, what was typed stays."""
    old, new = (forms.get(ModelName(name), FormDefaults()) for name in (draft.model, model))
    typed = {name: value for name in _TYPED if (value := getattr(draft, name)) and value != getattr(old, name)}
    return replace(draft, **asdict(new) | typed | {"model": model})


def defaults_of(draft: Draft) -> FormDefaults:
    """What of a draft may be the beginning of the next: everything but the prompt and the seed."""
    return FormDefaults(**{each.name: getattr(draft, each.name) for each in fields(FormDefaults)})
