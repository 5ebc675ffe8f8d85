"""Place and time: the real scheduler run forward on a copy of the queue, with mean batch times. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from modules.domain.jobs import JobId, ServerName
from modules.domain.people import UserId
from modules.domain.queue import QueueSnapshot, WaitingJob
from modules.queue_manager.scheduler import Policy, Rates, ServerView, pick


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Of one waiting job: batches dispatched before its own, plus one; seconds from now until it starts and ends."""

    position: int
    starts_in_s: float
    ends_in_s: float


def forecast(
    snapshot: QueueSnapshot, servers: Sequence[ServerView], rates: Rates, policy: Policy, *, max_batches: int = 2_000
) -> Mapping[JobId, Forecast]:
    """Run `pick` forward until nothing is left (or `max_batches`). Jobs that no server can run are missing from the answer."""
    views = {server.name: server for server in servers}
    free = [(server.free_in_s, server.name) for server in servers]
    heapq.heapify(free)
    found: dict[JobId, Forecast] = {}
    position = 0
    parked: list[tuple[float, ServerName]] = []
    while free and snapshot.jobs and position < max_batches:
        now_s, name = heapq.heappop(free)
        server = replace(views[name], free_in_s=0.0)
        others = [replace(view, free_in_s=max(0.0, view.free_in_s - now_s)) for view in views.values() if view.name != name]
        choice = pick(snapshot, server, others, rates, policy)
        if choice is None:
            parked.append((now_s, name))
            continue
        chosen = set(choice.job_ids)
        jobs = [job for job in snapshot.jobs if job.id in chosen]
        rows = sum(job.rows for job in jobs)
        switch_s = 0.0 if server.loaded == choice.heavy_key else rates.switch_s(name, choice.heavy_key)
        ends_s = now_s + switch_s + rates.batch_s(name, jobs[0], rows)
        position += 1
        for job in jobs:
            found[job.id] = Forecast(position=position, starts_in_s=now_s, ends_in_s=ends_s)
        snapshot = _after(snapshot, chosen, choice.charges, choice.skipped, choice.floor)
        views[name] = replace(server, loaded=choice.heavy_key, free_in_s=ends_s)
        heapq.heappush(free, (ends_s, name))
        # A server that had nothing to do may have now: what others loaded changes who ends sooner.
        for since_s, idle in parked:
            heapq.heappush(free, (max(since_s, now_s), idle))
        parked = [] if position < max_batches else parked
        if len(free) == len(views) and all(_has_nothing(snapshot, other, rates) for _, other in free):
            break
    return found


def _has_nothing(snapshot: QueueSnapshot, server: ServerName, rates: Rates) -> bool:
    return not any(rates.can_run(server, job.exact_key) for job in snapshot.jobs)


def _after(
    snapshot: QueueSnapshot, chosen: set[JobId], charges: Mapping[UserId, float], skipped: Sequence[JobId], floor: float
) -> QueueSnapshot:
    """The queue once this batch was dispatched."""
    passed = set(skipped)
    jobs: list[WaitingJob] = [
        replace(job, skips=job.skips + 1) if job.id in passed else job for job in snapshot.jobs if job.id not in chosen
    ]
    accounts = dict(snapshot.accounts)
    for user, vt in charges.items():
        accounts[user] = replace(accounts[user], vt=vt)
    return QueueSnapshot(jobs=tuple(jobs), accounts=accounts, floor=floor)
