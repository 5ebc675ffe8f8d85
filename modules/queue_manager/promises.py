"""What a waiting person was told, so that no moment that passed unfulfilled is followed by one as near. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from modules.domain.jobs import JobId, ServerName
from modules.queue_manager.forecast import Forecast


@dataclass(slots=True)
class _Moment:
    """One moment told of one job, by the monotonic clock."""

    due: float  #: as told first since the queue last moved ahead
    latest: float  #: as told last

    def keep(self, moment: float, now: float) -> float:
        """Not earlier than told before; when what was promised is overdue, at least as far away as it is overdue."""
        overdue = now + (now - self.due)
        self.latest = max(moment, self.latest, overdue if now > self.due else moment)
        return self.latest


@dataclass(slots=True)
class _Promise:
    ahead: int  #: jobs that must be drawn or begun before it
    starts: _Moment
    ends: _Moment


class Promises:
    """Of everybody who waits. A job is never promised an earlier moment, unless the queue before it really moved ahead.

    It did when fewer jobs stand before it, or when a server came. A promise that passes unfulfilled is followed by one that is
    at least as far away as it is overdue, so there are few: each is twice as long as the one before.
    """

    def __init__(self) -> None:
        self._made: dict[JobId, _Promise] = {}
        self._servers: frozenset[ServerName] = frozenset()

    def kept(
        self, found: Mapping[JobId, Forecast], *, now: float, in_flight: int, servers: Collection[ServerName]
    ) -> dict[JobId, Forecast]:
        """The forecasts as they may be told. `in_flight`: jobs that servers have; `servers`: those that are up."""
        if not self._servers.issuperset(servers):
            self._made.clear()
        self._servers = frozenset(servers)
        before = _jobs_before(found)
        self._made = {job_id: self._promise(job_id, one, now, in_flight + before[one.position]) for job_id, one in found.items()}
        return {job_id: self._told(self._made[job_id], one, now) for job_id, one in found.items()}

    def _promise(self, job_id: JobId, one: Forecast, now: float, ahead: int) -> _Promise:
        earlier = self._made.get(job_id)
        if earlier is None or ahead < earlier.ahead:
            starts, ends = now + one.starts_in_s, now + one.ends_in_s
            return _Promise(ahead, _Moment(starts, starts), _Moment(ends, ends))
        earlier.ahead = ahead
        return earlier

    def _told(self, promise: _Promise, one: Forecast, now: float) -> Forecast:
        starts = promise.starts.keep(now + one.starts_in_s, now)
        ends = promise.ends.keep(max(now + one.ends_in_s, starts + one.ends_in_s - one.starts_in_s), now)
        return replace(one, starts_in_s=starts - now, ends_in_s=ends - now)


def _jobs_before(found: Mapping[JobId, Forecast]) -> dict[int, int]:
    """Position -> how many jobs stand in earlier batches."""
    counts: dict[int, int] = {}
    for one in found.values():
        counts[one.position] = counts.get(one.position, 0) + 1
    before, passed = dict[int, int](), 0
    for position in sorted(counts):
        before[position] = passed
        passed += counts[position]
    return before
