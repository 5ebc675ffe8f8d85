"""How fast each server really is: learned from its own clock, with a sensible guess before the first measurement."""

from __future__ import annotations

import statistics
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from modules.domain.jobs import ServerName
from modules.domain.queue import WaitingJob

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
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
    """An exponentially weighted mean. `count` 0: only guessed so far, so the first measurement replaces it."""

    value: float
    count: int = 1

    def add(self, measured: float) -> None:
        self.count += 1
        self.value += max(_ALPHA, 1 / self.count) * (measured - self.value)


class Calibration:
    """Rolling quantiles of actual / predicted waiting time; turns a mean forecast into a likely and a safe moment."""

    def __init__(self, window: int = CALIBRATION_WINDOW) -> None:
        self._ratios: deque[float] = deque(maxlen=window)

    def __len__(self) -> int:
        """Forecasts that were compared, and still count."""
        return len(self._ratios)

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
    batches: dict[str, dict[int, _Average]] = field(default_factory=dict)  #: exact key -> rows -> seconds
    switches: dict[str, _Average] = field(default_factory=dict)  #: heavy key -> seconds
    errors: deque[float] = field(default_factory=lambda: deque(maxlen=50))  #: |actual - predicted| of batches, seconds

    def batch_s(self, exact_key: str, rows: int) -> float | None:
        """Measured here: for just this, else along the line of the two nearest numbers of rows; None for work never met."""
        known = self.batches.get(exact_key)
        if not known:
            return None
        if rows in known:
            return known[rows].value
        nearest, *further = sorted(known, key=lambda count: abs(count - rows))
        seconds = known[nearest].value
        one_more_s = seconds / nearest  # rows share something or nothing, so one more costs at most what each cost so far
        if further:
            slope = (known[further[0]].value - seconds) / (further[0] - nearest)
            one_more_s = min(max(slope, 0.0), one_more_s)
        return seconds + one_more_s * (rows - nearest)


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
        """Seconds for `rows` pictures: measured here, else on other servers and scaled by speed, else by cost and speed."""
        measured = self._servers[server].batch_s(job.exact_key, rows)
        if measured is not None:
            return measured
        speed = self._speed(server)
        elsewhere = [
            seconds * speed / self._speed(other)
            for other, record in self._others(server)
            if (seconds := record.batch_s(job.exact_key, rows)) is not None
        ]
        return statistics.fmean(elsewhere) if elsewhere else job.cost_s * rows / max(1, job.rows) * speed

    def switch_s(self, server: ServerName, heavy_key: str) -> float:
        """Seconds to load this model: measured here, else elsewhere, else the mean of what was measured here, else a guess."""
        here = self._servers[server].switches
        if heavy_key in here:
            return here[heavy_key].value
        elsewhere = [record.switches for _, record in self._others(server)]
        known = [one[heavy_key].value for one in elsewhere if heavy_key in one] or _values(here)
        known = known or [seconds for one in elsewhere for seconds in _values(one)]
        return statistics.fmean(known) if known else FIRST_SWITCH_S

    def _speed(self, server: ServerName) -> float:
        """Seconds per reference second; a server that has shown nothing yet is taken for one like the others."""
        own = self._servers[server].speed
        if own is not None:
            return own.value
        others = [record.speed.value for _, record in self._others(server) if record.speed is not None]
        return statistics.fmean(others) if others else 1.0

    def _others(self, server: ServerName) -> Iterator[tuple[ServerName, _ServerRecord]]:
        """Copied first: forecasts read in a thread while new servers are met."""
        return ((name, record) for name, record in tuple(self._servers.items()) if name != server)

    def lead_s(self, server: ServerName) -> float:
        """The 95th percentile of how wrong batch predictions were on this server."""
        ordered = sorted(self._servers[server].errors)
        return ordered[int(0.95 * len(ordered))] if ordered else 0.0

    def learn(
        self,
        server: ServerName,
        *,
        job: WaitingJob,
        rows: int,
        worked_s: float,
        was_loaded: bool,
        reference_s: float,
        loading_s: float | None = None,
    ) -> None:
        """Note one finished attempt.

        `reference_s`: the sum of its jobs' costs; `worked_s` includes loading when the model was not loaded, and `loading_s` is
        that part of it where somebody saw it.
        """
        record = self._servers[server]
        expected_s = self.batch_s(server, job, rows)
        if not was_loaded:
            self._learn_loading(server, job.heavy_key, worked_s, expected_s, reference_s, loading_s)
            return
        record.errors.append(abs(worked_s - expected_s))
        _make_room(record.batches, job.exact_key)
        _note(record.batches.setdefault(job.exact_key, {}), rows, worked_s)
        if reference_s > 0:
            record.speed = _with(record.speed, worked_s / reference_s)

    def _learn_loading(
        self,
        server: ServerName,
        heavy_key: str,
        worked_s: float,
        expected_s: float,
        reference_s: float,
        loading_s: float | None,
    ) -> None:
        """Loading as it was seen, else what is left of the whole once we know how long drawing takes here.

        Of a first run nobody may know either: both guesses are corrected by the same factor, and hold until each is measured.
        """
        record = self._servers[server]
        is_seen = loading_s is not None or record.speed is not None
        if loading_s is None:
            guessed_s = self.switch_s(server, heavy_key)
            loading_s = worked_s - expected_s if is_seen else worked_s * guessed_s / (guessed_s + expected_s)
        loading_s = min(max(0.0, loading_s), worked_s)
        if is_seen:
            _note(record.switches, heavy_key, loading_s)
        else:
            record.switches[heavy_key] = _Average(loading_s, count=0)
        if record.speed is None and reference_s > 0 and loading_s < worked_s:
            record.speed = _Average((worked_s - loading_s) / reference_s, count=0)


def _values(averages: Mapping[_Key, _Average]) -> list[float]:
    return [average.value for average in tuple(averages.values())]


def _with(average: _Average | None, measured: float) -> _Average:
    if average is None:
        return _Average(measured)
    average.add(measured)
    return average


def _note(averages: dict[_Key, _Average], key: _Key, measured: float) -> None:
    _make_room(averages, key)
    averages[key] = _with(averages.get(key), measured)


def _make_room(kept: dict[_Key, _Value], key: _Key) -> None:
    """The oldest goes when another would be one too many."""
    if key not in kept and len(kept) >= MAX_KINDS:
        del kept[next(iter(kept))]
