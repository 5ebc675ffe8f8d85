"""The small TOML file beside a template: what people and the planner must know that the graph does not say."""

from __future__ import annotations

import tomllib
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from modules.ai.workflows.graph import GraphError
from modules.ai.workflows.role_inputs import Role
from modules.ai.workflows.roles import Lock
from modules.domain.catalogue import Range, WorkflowKind
from modules.domain.images import Dimensions


class Family(StrEnum):
    """Kinds of diffusion models, as far as merging and cost differ (docs/merging.md)."""

    SD15 = "sd15"
    SDXL = "sdxl"
    FLUX1 = "flux1"
    FLUX2 = "flux2"
    Z_IMAGE = "z-image"
    OTHER = "other"


class MergeLevel(StrEnum):
    """The closest in which jobs of this template may share a workflow."""

    NEVER = "never"
    STACKED = "stacked"
    BATCHED = "batched"


class LoraPlace(StrEnum):
    """What a LoRA is applied to."""

    NONE = "none"
    MODEL = "model"
    MODEL_AND_CLIP = "model_and_clip"


def _read_size(value: object) -> object:
    """`"1024x768"` as people write it."""
    if isinstance(value, Dimensions):
        return value
    if isinstance(value, str) and (size := Dimensions.parse(value)):
        return size
    raise ValueError("a size is written like 1024x768")


Size = Annotated[Dimensions, BeforeValidator(_read_size)]


class Section(BaseModel):
    """Base of all parts: what is misspelt is an error, not silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class SizeSection(Section):
    """`[size]`, in pixels."""

    default: Size
    presets: tuple[Size, ...] = ()
    grid: int = Field(default=16, ge=1)
    min_side: int = Field(default=256, ge=16)
    max_side: int = Field(default=2048, le=16384)  # ComfyUI's MAX_RESOLUTION
    max_megapixels: float = Field(default=2.0, gt=0)

    @model_validator(mode="after")
    def _sizes_are_possible(self) -> Self:
        for size in (self.default, *self.presets):
            if not self.allows(size):
                raise ValueError(f"{size} is outside its own limits or off the grid of {self.grid}")
        return self

    def allows(self, size: Dimensions) -> bool:
        """Whether a size lies on the grid and inside the limits."""
        sides = (size.width_px, size.height_px)
        fits = all(self.min_side <= side <= self.max_side and side % self.grid == 0 for side in sides)
        return fits and size.megapixels <= self.max_megapixels


class RangeSection(Section):
    """`[steps]`, `[cfg]`, `[guidance]`, `[denoise]`: inclusive, with a default."""

    low: float
    high: float
    default: float

    @model_validator(mode="after")
    def _default_is_inside(self) -> Self:
        if not self.low <= self.default <= self.high:
            raise ValueError("the default lies outside low..high")
        return self

    @property
    def range(self) -> Range:
        """As the domain has it."""
        return Range(low=self.low, high=self.high, default=self.default)


class CostSection(Section):
    """`[cost]`: how long one picture takes, relative to other templates."""

    #: Reference GPU-seconds of one picture at default size and steps. Only proportions matter: speeds are learned.
    seconds: float = Field(gt=0)


class NodesSection(Section):
    """`[nodes]`: which node is meant where a graph has several; ids as in the exported file."""

    sampler: str | None = None
    output: str | None = None
    #: These must exist, checked in this order.
    locked: tuple[str, ...] = ()
    #: Nodes whose own texts are meant to be in every picture, such as a style or a quality suffix.
    fixed_text: tuple[str, ...] = ()


class RoleSection(Section):
    """`[roles.<role>]`: where a value goes, when walking the graph would not find it (or would find too much)."""

    node: str | None = None
    nodes: tuple[str, ...] = ()
    title: str | None = None
    class_type: str | None = Field(default=None, alias="class")
    input: str | None = None
    inputs: tuple[str, ...] = ()  #: several of each node, all of which get the same value

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if sum(map(bool, (self.node, self.nodes, self.title, self.class_type))) != 1:
            raise ValueError("say exactly one of node, nodes, title, class")
        if self.input and self.inputs:
            raise ValueError("say input or inputs, not both")
        return self

    @property
    def lock(self) -> Lock:
        """For the walk."""
        nodes = (self.node,) if self.node else self.nodes
        inputs = (self.input,) if self.input else self.inputs
        return Lock(nodes=nodes, title=self.title, class_type=self.class_type, inputs=inputs)


class Manifest(Section):
    """One `<name>.manifest.toml`."""

    model: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")
    kind: WorkflowKind
    label: str = Field(default="", max_length=45)  # Discord's select and modal labels: 45 characters
    order: int = 100  #: lowest first in lists; the first one that can do a thing is the default for it
    family: Family = Family.OTHER
    merge: MergeLevel = MergeLevel.STACKED
    lora: LoraPlace | None = None  #: None: model and text encoder when one loader gives both, else the model alone
    nsfw: bool = False
    shows_steps: bool = True
    picks_checkpoint: bool = False  #: people may choose another model file

    size: SizeSection | None = None  #: None: the picture follows its input
    steps: RangeSection | None = None
    cfg: RangeSection | None = None
    guidance: RangeSection | None = None
    denoise: RangeSection | None = None
    cost: CostSection
    nodes: NodesSection = NodesSection()
    roles: dict[Role, RoleSection] = {}
    #: Chains of node classes: a node of one of them becomes, on each server, the first of the chain that is there.
    fallbacks: tuple[tuple[str, ...], ...] = ()
    #: Class or file -> where an operator gets it.
    where: dict[str, str] = {}


def read_manifest(text: str) -> Manifest:
    """Parse a manifest. Raises GraphError naming the first field that is wrong."""
    try:
        return Manifest.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise GraphError("manifest_invalid", "the file", str(error)[:80]) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise GraphError("manifest_invalid", ".".join(map(str, first["loc"])) or "the file", first["msg"][:80]) from error
