"""Recipes: everything that decides how a picture looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from modules.domain.images import BlobId, Dimensions

#: Short name of a choice in `/imagine` such as `flux` or `z-image`: one per manifest in `flujos/`.
ModelName = NewType("ModelName", str)
#: Name of a template in `flujos/`, the file name without `.json`, such as `flux_image`.
WorkflowName = NewType("WorkflowName", str)
#: 0 .. 2**64 - 1, ComfyUI's own range.
Seed = NewType("Seed", int)

#: ComfyUI's KSampler and RandomNoise: `"max": 0xffffffffffffffff`. Source: recorded `/object_info`.
MAX_SEED = 2**64 - 1
#: Seeds that we choose ourselves are short enough to read aloud and fit an integer option of a slash command (2**53).
MAX_CHOSEN_SEED = 2**32 - 1
#: Our limit; Discord lets a modal carry 4,000 characters and a slash option 6,000.
MAX_PROMPT_CHARS = 2_000
MAX_PICTURES_PER_JOB = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """One LoRA file and how strongly it is applied (-4 .. 4, 1 = as trained)."""

    name: str
    strength: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to draw, complete: the same recipe on the same model files gives the same pictures.

    A recipe asks for `count` pictures; picture `i` uses seed `seed + i` (modulo 2**64), so each can be drawn again alone.
    """

    workflow: WorkflowName
    model: ModelName
    prompt: str  #: cleaned (no control characters), at most MAX_PROMPT_CHARS; may be empty only where the workflow needs none
    negative_prompt: str = ""
    size: Dimensions | None  #: None: the workflow follows its input picture (edit, upscale)
    seed: Seed
    steps: int
    cfg: float
    guidance: float | None = None  #: Flux guidance where the workflow has it
    sampler: str | None = None  #: None: as the template has it
    scheduler: str | None = None
    denoise: float = 1.0  #: 0 .. 1; below 1 only with a source picture
    checkpoint: str | None = None  #: another model file than the template's own; None: the template's
    loras: tuple[Lora, ...] = ()
    count: int = 1
    source: BlobId | None = None  #: the picture to edit, vary or upscale
    reference: BlobId | None = None  #: a second picture ("use as reference")

    def seed_of(self, index: int) -> Seed:
        """Seed of picture `index` (0-based)."""
        return Seed((self.seed + index) % (MAX_SEED + 1))
