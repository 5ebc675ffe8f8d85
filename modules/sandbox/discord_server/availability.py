"""What the gateway counts and holds back: how often a bot may identify, and which guilds it has not been told of yet."""

import math
from collections import deque
from typing import Literal

from modules.sandbox.discord_server.clock import WorldClock
from modules.sandbox.discord_server.wire import Json

#: IDENTIFYs a day over all processes of one token; at the next one Discord resets the token. Source: developer docs, "Gateway",
#: "Identifying" ("session start limit").
SESSION_STARTS_A_DAY = 1_000
DAY_S = 24 * 3600.0
#: What the gateway says of a guild in an outage after READY. Source: developer docs, "Guild Create" and "Guild Delete": both may
#: come with `unavailable: true`.
OutageEvent = Literal["GUILD_DELETE", "GUILD_CREATE"]


class SessionStarts:
    """Counts IDENTIFYs over the last 24 hours."""

    def __init__(self, clock: WorldClock) -> None:
        self._clock = clock
        self._moments: deque[float] = deque()
        self.total = SESSION_STARTS_A_DAY

    def count(self) -> bool:
        """Count one more; `False` when it was one too many."""
        self._forget_old()
        self._moments.append(self._clock.timestamp())
        return len(self._moments) <= self.total

    @property
    def remaining(self) -> int:
        """How many are left for now."""
        self._forget_old()
        return max(0, self.total - len(self._moments))

    def shape(self) -> Json:
        """The `session_start_limit` object of `GET /gateway/bot`."""
        remaining = self.remaining
        oldest = self._moments[0] if self._moments else self._clock.timestamp()
        reset_after_ms = math.ceil((oldest + DAY_S - self._clock.timestamp()) * 1000) if self._moments else 0
        return {"total": self.total, "remaining": remaining, "reset_after": reset_after_ms, "max_concurrency": 1}

    def _forget_old(self) -> None:
        now = self._clock.timestamp()
        while self._moments and now - self._moments[0] >= DAY_S:
            self._moments.popleft()


class GuildAvailability:
    """How guilds come after a READY, in which all of them are unavailable.

    Source: developer docs, "Ready" and "Guild Create"; that it may take minutes or hours: discord-api-docs #5054.
    """

    def __init__(self) -> None:
        self.late_s = 0.0  #: from READY to GUILD_CREATE; infinite: not before `Gateway.release_guilds`
        self.away: set[int] = set()  #: guilds in an outage
        self.outage_event: OutageEvent = "GUILD_DELETE"

    def outage(self, guild_id: int) -> tuple[str, Json]:
        """The event that tells of a guild's outage."""
        return self.outage_event, {"id": str(guild_id), "unavailable": True}
