"""Place and time: the real scheduler run forward on a copy of the queue, with mean batch times. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from modules.domain.jobs import JobId, ServerName
from modules.domain.queue import Pick, QueueSnapshot, WaitingJob
from modules.queue_manager.scheduler import Line, Policy, Rates, ServerView

#: Batches looked ahead; with a queue that long nobody cares for seconds.
MAX_BATCHES = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Of one waiting job: batches dispatched before its own, plus one; seconds from now until it starts and ends."""

    position: int
    starts_in_s: float
    ends_in_s: float


def forecast(snapshot: QueueSnapshot, servers: Sequence[ServerView], rates: Rates, policy: Policy) -> Mapping[JobId, Forecast]:
    """Run `pick` forward until nothing is left. Jobs that no server can run are missing from the answer."""
    line = Line(snapshot, policy)
    jobs = {job.id: job for job in snapshot.jobs}
    views = {server.name: server for server in servers}
    free = [(server.free_in_s, at, server.name) for at, server in enumerate(servers)]
    heapq.heapify(free)
    found: dict[JobId, Forecast] = {}
    idle: list[tuple[float, int, ServerName]] = []
    for position in range(1, MAX_BATCHES + 1):
        choice: Pick | None = None
        while free and choice is None:
            now_s, at, name = heapq.heappop(free)
            server = replace(views[name], free_in_s=0.0)
            others = [replace(one, free_in_s=max(0.0, one.free_in_s - now_s)) for one in views.values() if one.name != name]
            choice = line.pick(server, others, rates)
            if choice is None:
                idle.append((now_s, at, name))
        if choice is None:
            break
        batch = [jobs[job_id] for job_id in choice.job_ids]
        ends_s = now_s + run_s(server, batch, rates)
        for job in batch:
            found[job.id] = Forecast(position=position, starts_in_s=now_s, ends_in_s=ends_s)
        views[name] = replace(server, loaded=choice.heavy_key, free_in_s=ends_s)
        heapq.heappush(free, (ends_s, at, name))
        # What this server loaded may change who ends sooner, so those that had nothing to do look again.
        for since_s, other_at, other in idle:
            if line.has_work_for(other, rates):
                heapq.heappush(free, (max(since_s, now_s), other_at, other))
        idle.clear()
    return found


def run_s(server: ServerView, batch: Sequence[WaitingJob], rates: Rates) -> float:
    """Seconds that this batch takes once the server is free, with loading its model where another one is loaded."""
    switch_s = 0.0 if server.loaded == batch[0].heavy_key else rates.switch_s(server.name, batch[0].heavy_key)
    return switch_s + rates.batch_s(server.name, batch[0], sum(job.rows for job in batch))
