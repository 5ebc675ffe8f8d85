"""What can be asked for: models, their limits, and a wish before it is complete."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from modules.domain.images import BlobId, Dimensions
from modules.domain.recipes import Lora, ModelName, Seed, WorkflowName


class WorkflowKind(StrEnum):
    """What a template does."""

    IMAGINE = "imagine"
    EDIT = "edit"
    VARY = "vary"  #: image to image with a denoise below 1
    UPSCALE = "upscale"
    FORM = "form"  #: the `/gen` form's multisampler


class Detail(StrEnum):
    """What a person may say about a picture. Which of them a workflow takes depends on its template."""

    PROMPT = "prompt"
    NEGATIVE_PROMPT = "negative_prompt"
    SIZE = "size"
    SEED = "seed"
    STEPS = "steps"


#: A side that is meant to lie on the grid may come out of a division this little below it.
_ROUNDING = 1e-9
#: Whoever asks for one of these gives a picture; the others keep whatever pictures their template loads.
KINDS_WITH_SOURCE = frozenset({WorkflowKind.EDIT, WorkflowKind.VARY, WorkflowKind.UPSCALE})
#: How a model draws from words alone, as the form prefers it.
FROM_WORDS = (WorkflowKind.FORM, WorkflowKind.IMAGINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """An inclusive range with its default."""

    low: float
    high: float
    default: float

    def holds(self, value: float) -> bool:
        """Whether the value is allowed (NaN never is)."""
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One choice of `/imagine`, from the manifests in `flujos/`."""

    name: ModelName
    label: str  #: a proper name such as "Z-Image (Turbo)"; not translated
    workflows: dict[WorkflowKind, WorkflowName]
    default_size: Dimensions
    sizes: tuple[Dimensions, ...]  #: presets, the default first
    grid_px: int  #: sides are multiples of this (the latent's grid)
    min_side_px: int
    max_side_px: int
    max_megapixels: float
    steps: Range
    cfg: Range
    takes: Mapping[WorkflowKind, frozenset[Detail]]
    takes_reference: frozenset[WorkflowKind] = frozenset()  #: what it can do with a second picture to look at
    is_age_restricted: bool = False
    shows_steps: bool = True  #: whether steps and cfg mean something to a person here

    def is_called(self, typed: str) -> bool:
        """Whether a person means this one: by its name or its label, in whatever case and with spaces around it."""
        return typed.strip().casefold() in {self.name.casefold(), self.label.casefold()}

    def details_of(self, workflow: WorkflowName) -> frozenset[Detail]:
        """What can be said to one of its workflows; nothing to one that it no longer has."""
        return next((self.takes[kind] for kind, name in self.workflows.items() if name == workflow), frozenset())

    def size_like(self, shape: Dimensions) -> Dimensions:
        """The size nearest to this shape that it draws; its default where the shape is too long and narrow for it."""
        short_px, long_px = sorted((shape.width_px, shape.height_px))
        shrink = min(1.0, self.max_side_px / long_px, math.sqrt(self.max_megapixels / shape.megapixels))
        scale = shrink if short_px * shrink >= self.min_side_px else self.min_side_px / short_px
        sides = [math.floor(side * scale / self.grid_px + _ROUNDING) * self.grid_px for side in (shape.width_px, shape.height_px)]
        fitted = Dimensions(*sides)
        is_drawn = self.min_side_px <= min(sides) and max(sides) <= self.max_side_px and fitted.megapixels <= self.max_megapixels
        return fitted if is_drawn else self.default_size

    @property
    def draws_from_words(self) -> bool:
        """Whether `/imagine` or `/gen` can draw with it."""
        return any(kind in self.workflows for kind in FROM_WORDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a person typed, before defaults and limits; the catalogue turns it into a Recipe or says what is wrong."""

    kind: WorkflowKind
    model: ModelName | None = None
    prompt: str = ""
    negative_prompt: str = ""
    size: str | Dimensions | None = None
    seed: Seed | None = None  #: None: the catalogue chooses one
    steps: int | None = None
    cfg: float | None = None
    sampler: str | None = None
    scheduler: str | None = None
    denoise: float | None = None
    checkpoint: str | None = None
    loras: tuple[Lora, ...] = ()
    count: int = 1
    source: BlobId | None = None
    source_size: Dimensions | None = None  #: None: not known; the result is then neither limited nor priced by it
    reference: BlobId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What the healthy servers offer right now, for the form. Sorted, without duplicates."""

    checkpoints: tuple[str, ...] = ()
    unets: tuple[str, ...] = ()
    loras: tuple[str, ...] = ()
    samplers: tuple[str, ...] = ()
    schedulers: tuple[str, ...] = ()
    upscalers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateProblem:
    """Why a template cannot run on a server; shown by the doctor and the start-up report."""

    workflow: WorkflowName
    server: str | None  #: None: wrong on every server (the file itself)
    what: str  #: `node_missing`, `file_missing`, `role_missing`, `field_missing`, `not_api_format` ...
    name: str  #: the class, file, role or field
    field: str = ""
    available: tuple[str, ...] = ()  #: the names the server does have, closest first
