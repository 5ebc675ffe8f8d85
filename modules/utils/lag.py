"""How late the event loop runs: the first thing to look at when answers become slow."""

from __future__ import annotations

import asyncio
from collections import deque

import structlog

log = structlog.get_logger(__name__)

TICK_S = 0.02
#: Ten minutes of ticks.
KEPT = 30_000


class LoopLag:
    """Sleeps for a tick again and again, and notes by how much it woke too late."""

    def __init__(self) -> None:
        self._lags_s: deque[float] = deque(maxlen=KEPT)

    async def run(self) -> None:
        """Measure until cancelled, then say what was seen."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                due = loop.time() + TICK_S
                await asyncio.sleep(TICK_S)
                self._lags_s.append(max(0.0, loop.time() - due))
        finally:
            if self._lags_s:
                log.info(
                    "loop_lag_measured", p50_ms=self.quantile_ms(0.5), p99_ms=self.quantile_ms(0.99), max_ms=self.quantile_ms(1.0)
                )

    def quantile_ms(self, share: float) -> float:
        """Milliseconds that this share of the ticks stayed under."""
        ordered = sorted(self._lags_s)
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000, 1)
