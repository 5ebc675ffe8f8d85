"""The arithmetic of a merged run: who shares a pass, how their conditionings are joined, what happens when memory runs out.

Pure torch and duck typing, nothing of ComfyUI is imported. "Rows" are slots: row i of every tensor belongs to slot i.
A conditioning entry is the dict that ComfyUI's samplers work with; its `model_conds` map names to objects that know how
to be joined (`can_concat`, `concat`), which is ComfyUI's own rule for batching positive with negative.
"""

import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

Entry = dict[str, Any]
Conds = list[list[Entry] | None]

#: Each makes an entry apply to a part of the picture or of the steps, or ties it to other models. ComfyUI handles
#: these for one picture at a time, so such a slot gets passes of its own.
SPECIAL = frozenset({
    "area", "mask", "strength", "default", "hooks", "control", "gligen",
    "timestep_start", "timestep_end", "start_percent", "end_percent", "clip_start_percent", "clip_end_percent",
})  # fmt: skip

#: Joining 77 tokens with many times 77 makes every row as long as the longest common multiple: past this factor
#: separate passes are cheaper. The same bound as ComfyUI's, held for the whole group instead of for pairs.
MAX_REPEATS = 4


class Joinable(Protocol):
    """One conditioning value of ComfyUI (comfy.conds): `cond` is a tensor, a list of tensors or a plain value."""

    cond: Any

    def __init__(self, cond: Any) -> None: ...
    def can_concat(self, other: Any) -> bool: ...
    def concat(self, others: Any) -> Any: ...
    def process_cond(self, batch_size: int, **kwargs: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class SlotConds:
    """What one person asked for, ready for the sampler; `negative` may be left out where nothing is subtracted."""

    positive: list[Entry]
    negative: list[Entry] | None
    cfg: float

    def wants_negative(self, always: bool) -> bool:
        """ComfyUI skips the negative at a scale of 1, unless the sampler asked for it (`always`)."""
        return self.negative is not None and (always or not math.isclose(self.cfg, 1.0))


class CalcConds(Protocol):
    """One run of the model: predictions for each list of entries, for these rows."""

    def __call__(self, conds: Conds, x: torch.Tensor, timestep: torch.Tensor) -> Sequence[torch.Tensor]: ...


@dataclass(slots=True)
class RowLimit:
    """How many rows a pass may have; halved for the rest of the run when memory runs out."""

    rows: int
    is_out_of_memory: Callable[[Exception], bool]
    release_memory: Callable[[], None]

    def run(self, rows: Sequence[int], one_pass: Callable[[tuple[int, ...]], None]) -> None:
        """Call `one_pass` for all rows in as few passes as fit; raises what it raises once a single row does not fit."""
        done = 0
        while done < len(rows):
            chunk = tuple(rows[done : done + self.rows])
            if self._fits(chunk, one_pass):
                done += len(chunk)
            else:  # outside the handler: its traceback would keep the tensors of the failed pass alive
                self.rows = len(chunk) // 2
                self.release_memory()

    def _fits(self, chunk: tuple[int, ...], one_pass: Callable[[tuple[int, ...]], None]) -> bool:
        try:
            one_pass(chunk)
        except Exception as error:
            if len(chunk) == 1 or not self.is_out_of_memory(error):
                raise
            return False
        return True


@dataclass(slots=True)
class MergedDenoiser:
    """Predictions for all slots at once; slots whose conditionings can be joined share a pass."""

    slots: Sequence[SlotConds]
    cross_attention: type
    limit: RowLimit
    _plans: dict[bool, list[tuple[int, ...]]] = field(default_factory=dict)
    _merged: dict[tuple[bool, tuple[int, ...]], Conds] = field(default_factory=dict)

    def predict(
        self, x: torch.Tensor, timestep: torch.Tensor, calc: CalcConds, *, always_negative: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Positive and negative predictions in slot order; a row without a negative has zeros there, as in ComfyUI."""
        positive, negative = torch.zeros_like(x), torch.zeros_like(x)

        def one_pass(rows: tuple[int, ...]) -> None:
            index = torch.tensor(rows, device=x.device)
            positive[index], negative[index] = calc(self._conds(rows, always_negative), x[index], timestep[index])

        for group in self._groups(always_negative):
            self.limit.run(group, one_pass)
        return positive, negative

    def _groups(self, always_negative: bool) -> list[tuple[int, ...]]:
        if always_negative not in self._plans:
            self._plans[always_negative] = plan_groups(self.slots, self.cross_attention, always_negative=always_negative)
        return self._plans[always_negative]

    def _conds(self, rows: tuple[int, ...], always_negative: bool) -> Conds:
        key = (always_negative, rows)
        if key not in self._merged:
            chosen = [self.slots[row] for row in rows]
            self._merged[key] = [
                merge_entries([slot.positive for slot in chosen]),
                merge_entries([slot.negative or [] for slot in chosen]) if chosen[0].wants_negative(always_negative) else None,
            ]
        return self._merged[key]


def plan_groups(slots: Sequence[SlotConds], cross_attention: type, *, always_negative: bool = False) -> list[tuple[int, ...]]:
    """Which rows share a pass: each row exactly once, in order, joined with the first group where it fits."""
    groups: list[list[int]] = []
    for row, slot in enumerate(slots):
        for group in groups:
            if _fits_together([*(slots[member] for member in group), slot], cross_attention, always_negative):
                group.append(row)
                break
        else:
            groups.append([row])
    return [tuple(group) for group in groups]


def merge_entries(slots: Sequence[list[Entry]]) -> list[Entry]:
    """The entries of one slot as they are, or one entry that holds the joined values of several slots."""
    if len(slots) == 1:
        return slots[0]
    first, *others = (one_row(entries[0]) for entries in slots)
    joined = {name: type(cond)(cond.concat([other[name] for other in others])) for name, cond in first.items()}
    return [{"model_conds": joined, "uuid": uuid.uuid4()}]


def one_row(entry: Entry) -> dict[str, Joinable]:
    """The values as a run with one picture would use them: whatever batch they came with, one row of it."""
    return {name: cond.process_cond(batch_size=1, area=None) for name, cond in entry["model_conds"].items()}


def scale_of(cfgs: Sequence[float], like: torch.Tensor) -> float | torch.Tensor:
    """The scale for all rows: a plain number if they agree, else a column that multiplies row by row."""
    if len(set(cfgs)) == 1:
        return cfgs[0]
    return torch.tensor(cfgs, dtype=like.dtype, device=like.device).reshape(-1, *[1] * (like.ndim - 1))


def preview_row(step: int, total_steps: int, slots: int) -> int:
    """The slot that a step's preview shows; `step` counts from 0. See PREVIEW_RULE: ComfyUI's counter is step + 1."""
    value = min(step + 1, total_steps)  # its progress bar never passes its end
    return (value - 1) % slots


class PreviewTurn:
    """A sampler's callback that shows each step another slot.

    ComfyUI previews row 0 only, so the rows are turned, never cut: the same tensor becomes `denoised_output`, and
    `settle` puts its rows back in order when sampling ends.
    """

    def __init__(self, callback: Callable[[int, torch.Tensor, torch.Tensor, int], object], slots: int) -> None:
        self._callback, self._slots = callback, slots
        self._last: tuple[torch.Tensor, int] | None = None

    def __call__(self, step: int, x0: torch.Tensor, x: torch.Tensor, total_steps: int) -> None:
        row = preview_row(step, total_steps, self._slots)
        turned = x0.roll(-row, dims=0)
        self._last = (turned, row)
        self._callback(step, turned, x, total_steps)

    def settle(self) -> None:
        if self._last is not None:
            turned, row = self._last
            turned.copy_(turned.roll(row, dims=0))
            self._last = None


def _fits_together(slots: Sequence[SlotConds], cross_attention: type, always_negative: bool) -> bool:
    wants = [slot.wants_negative(always_negative) for slot in slots]
    if wants[-1] != wants[0]:
        return False
    sides = [[slot.positive for slot in slots]] + ([[slot.negative or [] for slot in slots]] if wants[0] else [])
    return all(can_merge(side, cross_attention) for side in sides)


def can_merge(slots: Sequence[list[Entry]], cross_attention: type) -> bool:
    """Whether one joined entry can stand for these slots' entries, exactly."""
    if any(len(entries) != 1 or SPECIAL & entries[0].keys() for entries in slots):
        return False
    conds = [one_row(entries[0]) for entries in slots]
    first = conds[0]
    if any(other.keys() != first.keys() for other in conds[1:]):
        return False
    return all(_can_join([other[name] for other in conds], cross_attention) for name in first)


def _can_join(values: Sequence[Joinable], cross_attention: type) -> bool:
    first, *others = values
    if any(type(other) is not type(first) or not first.can_concat(other) for other in others):
        return False
    if not isinstance(first, cross_attention):
        return True
    lengths = [value.cond.shape[1] for value in values]
    return bool(math.lcm(*lengths) <= MAX_REPEATS * min(lengths))
