"""How fast each server really is: learned from its own clock, with a sensible guess before the first measurement."""

from __future__ import annotations

import bisect
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from modules.domain.jobs import ServerName
from modules.domain.queue import WaitingJob

_Key = TypeVar("_Key")
#: Weight of the newest measurement in every moving average.
_ALPHA = 0.3
#: Seconds to load a model before it was ever measured. Disk to GPU of 4-12 GB takes 5-60 s; docs/scheduling.md.
FIRST_SWITCH_S = 10.0
#: Ratios of actual to predicted kept for the calibration; docs/scheduling.md, "Position and ETA".
CALIBRATION_WINDOW = 300
#: Batches remembered per server; every size and number of steps is a kind of its own.
MAX_KINDS = 500
#: With fewer ratios than this the prediction is used as it is.
_CALIBRATION_MIN = 20


@dataclass(slots=True)
class _Average:
    """An exponentially weighted mean."""

    value: float
    count: int = 1

    def add(self, measured: float) -> None:
        self.count += 1
        self.value += max(_ALPHA, 1 / self.count) * (measured - self.value)


class Calibration:
    """Rolling quantiles of actual / predicted waiting time; turns a mean forecast into a likely and a safe moment."""

    def __init__(self, window: int = CALIBRATION_WINDOW) -> None:
        self._ratios: deque[float] = deque(maxlen=window)

    def add(self, predicted_s: float, actual_s: float) -> None:
        """Note how one forecast turned out. Forecasts under a second say nothing about calibration."""
        if predicted_s >= 1.0:
            self._ratios.append(actual_s / predicted_s)

    def quantile(self, share: float) -> float:
        """The ratio that `share` of the forecasts stayed under; 1.0 until enough are known."""
        if len(self._ratios) < _CALIBRATION_MIN:
            return 1.0 if share <= 0.5 else 1.0 + share / 2
        ordered = sorted(self._ratios)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass(slots=True)
class _ServerRecord:
    speed: _Average | None = None  #: seconds per reference second
    batches: dict[tuple[str, int], _Average] = field(default_factory=dict)  #: (exact key, rows) -> seconds
    switches: dict[str, _Average] = field(default_factory=dict)  #: heavy key -> seconds
    errors: deque[float] = field(default_factory=lambda: deque(maxlen=50))  #: |actual - predicted| of batches, seconds


class LearnedRates:
    """Implements the scheduler's `Rates` over what the fleet can run and what was measured."""

    def __init__(self, can_run: Callable[[ServerName, str], bool], cap: Callable[[ServerName, str], int]) -> None:
        self._can_run = can_run
        self._cap = cap
        self._servers: dict[ServerName, _ServerRecord] = defaultdict(_ServerRecord)

    def can_run(self, server: ServerName, exact_key: str) -> bool:
        """Whether the server has everything this work needs."""
        return self._can_run(server, exact_key)

    def cap(self, server: ServerName, exact_key: str) -> int:
        """How many pictures may share one attempt there."""
        return max(1, self._cap(server, exact_key))

    def batch_s(self, server: ServerName, job: WaitingJob, rows: int) -> float:
        """Seconds for `rows` pictures: measured for just this, else for the nearest number of rows, else by cost and speed."""
        record = self._servers[server]
        measured = record.batches.get((job.exact_key, rows))
        if measured is not None:
            return measured.value
        known = sorted((count, average.value) for (key, count), average in record.batches.items() if key == job.exact_key)
        if known:
            at = min(bisect.bisect_left(known, (rows, 0.0)), len(known) - 1)
            count, seconds = known[at]
            return seconds * rows / count
        speed = record.speed.value if record.speed else 1.0
        return job.cost_s * rows / max(1, job.rows) * speed

    def switch_s(self, server: ServerName, heavy_key: str) -> float:
        """Seconds to load this model: measured, else the mean of what was measured here, else a guess."""
        switches = self._servers[server].switches
        if heavy_key in switches:
            return switches[heavy_key].value
        return sum(average.value for average in switches.values()) / len(switches) if switches else FIRST_SWITCH_S

    def lead_s(self, server: ServerName) -> float:
        """The 95th percentile of how wrong batch predictions were on this server."""
        ordered = sorted(self._servers[server].errors)
        return ordered[int(0.95 * len(ordered))] if ordered else 0.0

    def learn(
        self, server: ServerName, *, job: WaitingJob, rows: int, worked_s: float, was_loaded: bool, reference_s: float
    ) -> None:
        """Note one finished attempt.

        `reference_s`: the sum of its jobs' costs; `worked_s` includes loading when the model was not loaded.
        """
        record = self._servers[server]
        expected = self.batch_s(server, job, rows)
        if not was_loaded:
            loading = max(0.0, worked_s - expected) if (job.exact_key, rows) in record.batches or record.speed else None
            if loading is not None:
                _note(record.switches, job.heavy_key, loading)
            return
        record.errors.append(abs(worked_s - expected))
        _note(record.batches, (job.exact_key, rows), worked_s)
        if reference_s > 0:
            if record.speed is None:
                record.speed = _Average(worked_s / reference_s)
            else:
                record.speed.add(worked_s / reference_s)


def _note(averages: dict[_Key, _Average], key: _Key, measured: float) -> None:
    if key in averages:
        averages[key].add(measured)
        return
    if len(averages) >= MAX_KINDS:
        del averages[next(iter(averages))]
    averages[key] = _Average(measured)
