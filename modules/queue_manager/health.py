"""What keeps the fleet healthy: a breaker per server, the batch sizes its memory taught us, and a budget for retries.

Pure: the moments come from the caller, and the worker acts.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum

from modules.domain.jobs import JobId
from modules.domain.people import UserId

#: Infrastructure failures within this many seconds that open the breaker. Source: docs/durability.md, "Faults".
FAILURE_WINDOW_S = 30.0
FAILURES_TO_OPEN = 3
#: Runs in a row that end in a node's error, no person having a part in all of them, that open it. Two could be two bad wishes.
NODE_ERRORS_TO_OPEN = 3
#: First wait before a probe, and the longest; doubled in between.
FIRST_PROBE_S = 2.0
LONGEST_PROBE_S = 120.0
#: Clean batches after which one more picture may share an attempt again.
CLEAN_BATCHES_TO_GROW = 50
#: Retries earned by every first dispatch, so that a sick fleet is not buried under repeated work.
RETRY_SHARE = 0.2
#: Retries that a quiet fleet may make at once, and how often it earns another when nothing else is dispatched.
RETRY_RESERVE = 10.0
RETRY_TRICKLE_S = 15.0


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
        longest = min(LONGEST_PROBE_S, FIRST_PROBE_S * 2.0 ** min(self._probes, 10))
        self._probes += 1
        return longest * rng.uniform(0.5, 1.0)

    def probed(self) -> None:
        """A probe went well: let one canary through, unless the server is proven anyway."""
        if self.state is BreakerState.OPEN:
            self.state = BreakerState.HALF_OPEN

    def succeeded(self) -> None:
        """A real job went well."""
        self.state = BreakerState.CLOSED
        self._failures.clear()
        self._probes = 0


class NodeErrors:
    """The runs of one server that ended in a node's error, one after another, with no good one between."""

    def __init__(self) -> None:
        self._people: deque[frozenset[UserId]] = deque(maxlen=NODE_ERRORS_TO_OPEN)

    def failed(self, people: Collection[UserId]) -> bool:
        """Note one, and whose jobs may have caused it; whether the server itself is the likely cause by now.

        One person may send the same broken wish again and again, so somebody who had a part in all of them is blamed first.
        """
        self._people.append(frozenset(people))
        return len(self._people) == NODE_ERRORS_TO_OPEN and not frozenset.intersection(*self._people)

    def succeeded(self) -> None:
        """A run went well."""
        self._people.clear()


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
        """Halve; returns the new cap, never a higher one: a batch posted before, or one large job, may exceed it by far."""
        halved = max(1, rows // 2)
        self._caps[heavy_key] = _Cap(rows=self.limit(heavy_key, halved))
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


class RetryBudget:
    """At most a fifth of what is dispatched are retries; those over the budget wait in the queue, at their place.

    A bucket of tokens: first dispatches and the passing of time fill it, every retry takes one. Each process keeps its own; what
    holds for each of them holds for the fleet.
    """

    def __init__(self, now: float) -> None:
        self._tokens = RETRY_RESERVE
        self._filled_at = now
        self._owed: dict[JobId, None] = {}

    def is_owed(self, job_id: JobId) -> None:
        """This job went back to the queue because an attempt came to nothing: its next dispatch is a retry."""
        self._owed[job_id] = None

    def is_over(self, job_id: JobId) -> None:
        """The job needs no more dispatches."""
        self._owed.pop(job_id, None)

    def held_back(self, now: float) -> Collection[JobId]:
        """The jobs that must wait for the budget; empty while it has room."""
        self._fill((now - self._filled_at) / RETRY_TRICKLE_S)
        self._filled_at = now
        return self._owed.keys() if self._tokens < 1.0 else ()

    def dispatched(self, job_ids: Collection[JobId]) -> None:
        """These went to a server. A batch may take the budget below zero; it then waits the longer."""
        for job_id in job_ids:
            if job_id in self._owed:
                del self._owed[job_id]
                self._tokens -= 1.0
            else:
                self._fill(RETRY_SHARE)

    def _fill(self, tokens: float) -> None:
        self._tokens = min(RETRY_RESERVE, self._tokens + tokens)


class Tally:
    """How many pictures came in the last minute."""

    def __init__(self) -> None:
        self._moments: deque[tuple[float, int]] = deque()

    def add(self, now: float, pictures: int) -> None:
        """So many just came."""
        self._moments.append((now, pictures))
        self._forget(now)

    def last_minute(self, now: float) -> int:
        """Their number."""
        self._forget(now)
        return sum(pictures for _, pictures in self._moments)

    def _forget(self, now: float) -> None:
        while self._moments and now - self._moments[0][0] > 60.0:
            self._moments.popleft()
