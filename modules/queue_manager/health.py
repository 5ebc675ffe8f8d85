"""Whether a server may be used: a breaker per server, and the batch sizes its memory taught us. Pure; the worker acts."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

#: Infrastructure failures within this many seconds that open the breaker. Source: docs/durability.md, "Faults".
FAILURE_WINDOW_S = 30.0
FAILURES_TO_OPEN = 3
#: First wait before a probe, and the longest; doubled in between.
FIRST_PROBE_S = 2.0
LONGEST_PROBE_S = 120.0
#: Clean batches after which one more picture may share an attempt again.
CLEAN_BATCHES_TO_GROW = 50


class BreakerState(StrEnum):
    """Closed lets work through; open waits; half-open lets one canary through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(slots=True)
class Breaker:
    """One server's breaker. `now` is monotonic seconds, given by the caller."""

    state: BreakerState = BreakerState.HALF_OPEN  #: a server must prove itself before it gets two batches
    _failures: deque[float] = field(default_factory=deque)
    _probes: int = 0

    def failed(self, now: float, *, at_once: bool = False) -> bool:
        """Note an infrastructure failure; True when this one opened the breaker."""
        self._failures.append(now)
        while self._failures and now - self._failures[0] > FAILURE_WINDOW_S:
            self._failures.popleft()
        opens = at_once or self.state is BreakerState.HALF_OPEN or len(self._failures) >= FAILURES_TO_OPEN
        if not opens or self.state is BreakerState.OPEN:
            return False
        self.state = BreakerState.OPEN
        return True

    def probe_in_s(self, rng: random.Random) -> float:
        """Seconds to wait before the next probe: full jitter between half and all of 2, 4, 8 ... 120 s."""
        longest = min(LONGEST_PROBE_S, FIRST_PROBE_S * 2.0**self._probes)
        self._probes += 1
        return longest * rng.uniform(0.5, 1.0)

    def probed(self) -> None:
        """A probe went well: let one canary through."""
        self.state = BreakerState.HALF_OPEN

    def succeeded(self) -> None:
        """A real job went well."""
        self.state = BreakerState.CLOSED
        self._failures.clear()
        self._probes = 0


@dataclass(slots=True)
class _Cap:
    rows: int
    clean: int = 0


class LearnedCaps:
    """Additive increase, multiplicative decrease of how many pictures fit one attempt, per model."""

    def __init__(self) -> None:
        self._caps: dict[str, _Cap] = {}

    def limit(self, heavy_key: str, configured: int) -> int:
        """The smaller of what the operator allows and what fitted."""
        cap = self._caps.get(heavy_key)
        return configured if cap is None else max(1, min(configured, cap.rows))

    def ran_out_of_memory(self, heavy_key: str, rows: int) -> int:
        """Halve; returns the new cap."""
        self._caps[heavy_key] = _Cap(rows=max(1, rows // 2))
        return self._caps[heavy_key].rows

    def ran_clean(self, heavy_key: str) -> None:
        """After enough clean batches try one more."""
        cap = self._caps.get(heavy_key)
        if cap is None:
            return
        cap.clean += 1
        if cap.clean >= CLEAN_BATCHES_TO_GROW:
            cap.rows, cap.clean = cap.rows + 1, 0

    def known(self) -> dict[str, int]:
        """For the operator."""
        return {key: cap.rows for key, cap in self._caps.items()}
