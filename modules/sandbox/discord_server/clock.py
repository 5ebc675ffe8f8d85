"""The world's clock and the ids that carry its time."""

import time
from datetime import UTC, datetime, timedelta

#: First millisecond of 2015. Source: developer docs, "Snowflakes".
DISCORD_EPOCH_MS = 1_420_070_400_000
#: The 22 low bits hold worker, process and a counter; the rest is time.
TIME_SHIFT = 22


class WorldClock:
    """Real time plus an offset that tests may grow, so that a message can be an hour old at once."""

    def __init__(self) -> None:
        self.offset_s = 0.0

    def now(self) -> datetime:
        """The moment it is in this world, aware UTC."""
        return datetime.fromtimestamp(self.timestamp(), UTC)

    def timestamp(self) -> float:
        """Seconds since 1970 in this world."""
        return time.time() + self.offset_s

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self.offset_s += seconds

    def in_(self, seconds: float) -> datetime:
        """A moment from now."""
        return self.now() + timedelta(seconds=seconds)


class Snowflakes:
    """Hands out ids that grow strictly and carry the world's time, as Discord's do."""

    def __init__(self, clock: WorldClock) -> None:
        self._clock = clock
        self._last = 0

    def next(self) -> int:
        """A fresh id."""
        candidate = (int(self._clock.timestamp() * 1000) - DISCORD_EPOCH_MS) << TIME_SHIFT
        self._last = max(candidate, self._last + 1)
        return self._last


def snowflake_time(snowflake: int) -> datetime:
    """When an id was made."""
    return datetime.fromtimestamp(((snowflake >> TIME_SHIFT) + DISCORD_EPOCH_MS) / 1000, UTC)


def iso(moment: datetime | None) -> str | None:
    """Discord's way to write a moment: `2026-01-31T12:00:00.123000+00:00`."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="microseconds")
