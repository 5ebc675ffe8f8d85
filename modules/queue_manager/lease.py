"""The lease on a server: which start of which process may drive it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import ServerName
from modules.domain.records import HeldLease
from modules.queue_manager.crew import Crew


class LeaseLostError(Exception):
    """Another process drives this server now, or we can no longer be sure that none does."""


class Lease:
    """Taken, kept and given up by one worker."""

    def __init__(self, server: ServerName, crew: Crew) -> None:
        self._server = server
        self._crew = crew
        self._life_s = crew.intervals.lease_life_s
        self._renewal_s = crew.intervals.lease_renewal_s
        self.is_ours = False  #: as far as we know
        self._held_until = float("-inf")  #: on the monotonic clock

    async def take(self) -> bool:
        """Own the server or renew it. False while another start owns it, or while the database does not answer."""
        try:
            return await self._take(steal=False)
        except FulletError as error:
            if error.code is not ErrorCode.DATABASE_UNAVAILABLE:
                raise
            return False

    async def take_first(self) -> bool:
        """At the start: where no other process can be alive, what an earlier start left behind does not count."""
        if not self._crew.is_alone:
            return await self.take()
        return await self._take(steal=True)

    async def _take(self, *, steal: bool) -> bool:
        asked_at = self._crew.clock.monotonic()  # the lease counts from here, however long the answer takes
        life = timedelta(seconds=self._life_s)
        is_granted = await self._crew.jobs.take_lease(self._server, self._crew.boot_id, life, steal=steal)
        if is_granted:
            self._held_until = asked_at + self._life_s
        self.is_ours = is_granted and self._left_s() > 0
        return self.is_ours

    async def keep(self) -> None:
        """Renew for ever. Raises LeaseLostError while there is still time to stop before anybody else may begin."""
        while True:
            await asyncio.sleep(self._renewal_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._left_s()):
                    await self.take()
            if not self.is_ours or self._left_s() <= 0:
                self.is_ours = False
                raise LeaseLostError

    def _left_s(self) -> float:
        """Seconds in which we may count on it; one renewal before its end we stop, so that nobody begins beside us."""
        return self._held_until - self._renewal_s - self._crew.clock.monotonic()

    async def release(self) -> None:
        """Give it up, if it is ours."""
        self.is_ours = False
        await self._crew.jobs.release_lease(self._server, self._crew.boot_id)


class LeaseWatch:
    """Which leases are renewed, by our own clock: a lease counts for its life from when we first saw it as it is.

    So one that was written by a clock that goes ahead blocks a server no longer than any other after its process died.
    """

    def __init__(self, life_s: float) -> None:
        self._life_s = life_s
        self._seen: dict[ServerName, tuple[HeldLease, float]] = {}

    def dead(self, leases: Mapping[ServerName, HeldLease], now: float) -> Mapping[ServerName, HeldLease]:
        """Those that were not renewed for a lease's life; `now`: seconds by the monotonic clock."""
        self._seen = {
            server: self._seen[server] if server in self._seen and self._seen[server][0] == held else (held, now)
            for server, held in leases.items()
        }
        return {server: held for server, (held, since) in self._seen.items() if now - since >= self._life_s}
