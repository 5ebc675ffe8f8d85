"""One node about to be evaluated, and what evaluating it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from modules.sandbox.comfy_server.models import Family
from modules.sandbox.comfy_server.storage import Storage
from modules.sandbox.comfy_server.values import Picture

T = TypeVar("T")


class NodeFailedError(Exception):
    """A node raised while it ran; becomes an `execution_error` with this type and message."""

    def __init__(self, message: str, exception_type: str = "RuntimeError") -> None:
        super().__init__(message)
        self.message = message
        self.exception_type = exception_type


@dataclass(frozen=True, slots=True)
class Sampling:
    """A pass of a sampler: `rows` rows walk through `steps` steps together."""

    family: Family
    file: str  #: of the weights
    steps: int
    rows: int
    rows_a_pass: int  #: fewer than `rows` when the pack was told to go in groups
    megapixels: float
    evaluations: int  #: model calls per row and step: 2 with a cfg other than 1
    shown: tuple[Picture, ...]  #: what previews show in turn: row 0 on the stock server, every slot with our pack
    merged: bool

    @property
    def groups(self) -> list[int]:
        """How many rows each pass of the model takes."""
        whole, rest = divmod(self.rows, max(self.rows_a_pass, 1))
        return [self.rows_a_pass] * whole + [rest] * (rest > 0)


@dataclass(frozen=True, slots=True)
class Saving:
    """Pictures an output node wants on disk, one prefix each, or on the websocket."""

    pictures: tuple[Picture, ...]
    prefixes: tuple[str, ...]
    to: Literal["output", "temp", "websocket"]
    with_graph: bool = True  #: put the whole graph into the files, as SaveImage does
    labels: tuple[Mapping[str, object], ...] = ()  #: what each picture's entry in the output says besides its file


@dataclass(frozen=True, slots=True)
class Result:
    """What a node did: its outputs, and how long that takes at `speed=1.0`."""

    outputs: tuple[object, ...] = ()
    seconds: float = 0.0
    load_s: float = 0.0  #: reading weights; counted as switch time in the log
    sampling: Sampling | None = None
    saving: Saving | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A node with its inputs resolved: literals as posted, links as the values that came over them."""

    node_id: str
    class_type: str
    inputs: Mapping[str, object]
    storage: Storage

    def value(self, name: str, kind: type[T]) -> T:
        """An input that came over a link. Validation has checked its type, so anything else is a mistake in the stand-in."""
        value = self.inputs.get(name)
        if not isinstance(value, kind):
            raise NodeFailedError(f"{self.class_type}.{name}: expected {kind.__name__}, got {type(value).__name__}", "TypeError")
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        return self.value(name, kind) if name in self.inputs else None

    def text(self, name: str, default: str = "") -> str:
        return str(self.inputs.get(name, default))

    def integer(self, name: str, default: int = 0) -> int:
        value = self.inputs.get(name, default)
        return int(value) if isinstance(value, int | float | str) else default

    def number(self, name: str, default: float = 0.0) -> float:
        value = self.inputs.get(name, default)
        return float(value) if isinstance(value, int | float | str) else default


Evaluator = Callable[[Call], Result]
