"""The scheduling policy in its plainest words: the oracle that the fast one is held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from modules.domain.people import UserId
from modules.domain.queue import Pick, QueueSnapshot, WaitingJob
from modules.queue_manager.scheduler import Policy, Rates, ServerView


def naive_pick(  # noqa: C901 (one page, in the order of the specification)
    snapshot: QueueSnapshot, server: ServerView, others: Sequence[ServerView], rates: Rates, policy: Policy
) -> Pick | None:
    """docs/scheduling.md, "Algorithm", line by line; quadratic and proud of it."""
    vt = {user: account.vt for user, account in snapshot.accounts.items()}
    waiting = [job for job in snapshot.jobs if job.id not in server.refused]

    def runs(job: WaitingJob) -> bool:
        return rates.can_run(server.name, job.exact_key)

    def eligible(user: UserId) -> list[WaitingJob]:
        own = sorted((job for job in waiting if job.user_id == user and runs(job)), key=lambda job: job.seq)
        return own[:1] if own and own[0].skips >= policy.max_skips else own

    def offers(key: str | None = None) -> list[tuple[float, int, WaitingJob]]:
        """Each person's oldest eligible job of each key this server can run, least-served person first."""
        found = []
        for user in {job.user_id for job in waiting}:
            seen = set()
            for job in eligible(user):
                if job.exact_key not in seen and key in (None, job.exact_key):
                    seen.add(job.exact_key)
                    found.append((vt[user], job.seq, job))
        return sorted(found, key=lambda offer: offer[:2])

    on_offer = offers()
    if not on_offer:
        return None
    keys = {job.exact_key for _, _, job in on_offer}
    edge = on_offer[0][0] + policy.window * max(job.cost_s for job in waiting if job.exact_key in keys)
    inside = [job for level, _, job in on_offer if level <= edge]

    def ends_in(view: ServerView, job: WaitingJob, rows: int) -> float:
        cap = rates.cap(view.name, job.exact_key)
        load = 0.0 if view.loaded == job.heavy_key else rates.switch_s(view.name, job.heavy_key)
        return view.free_in_s + load + max(1.0, rows / cap) * rates.batch_s(view.name, job, min(rows, cap))

    def sooner_elsewhere(job: WaitingJob) -> bool:
        rows = sum(one.rows for one in waiting if one.heavy_key == job.heavy_key and runs(one))
        here = ends_in(server, job, min(rows, rates.cap(server.name, job.exact_key)))
        for other in others:
            if job.id in other.refused or not rates.can_run(other.name, job.exact_key):
                continue
            there = ends_in(other, job, rows)
            is_warmer = other.loaded == job.heavy_key != server.loaded
            is_idler = other.free_in_s == 0 < server.free_in_s
            if (is_warmer and there <= here) or (is_idler and there < here):
                return True
        return False

    free = [job for job in inside if not sooner_elsewhere(job)]
    warm = [job for job in free if job.heavy_key == server.loaded]
    lead = next(iter(warm), None) or next(iter(free), None)
    if lead is None:
        return None
    others_waiting = [job for job in snapshot.jobs if job.id in server.refused]
    floor = min(vt[job.user_id] for job in snapshot.jobs)
    cap, taken, skipped = rates.cap(server.name, lead.exact_key), list[WaitingJob](), list[WaitingJob]()
    while not taken or (sum(job.rows for job in taken) < cap and _shares(taken[-1])):
        room = cap - sum(job.rows for job in taken)
        fitting = [
            (level, seq, job)
            for level, seq, job in offers(lead.exact_key)
            if level <= edge and (not taken or (_shares(job) and job.rows <= room))
        ]
        if not fitting:
            break
        job = fitting[0][2]
        passed = [one for one in waiting if one.user_id == job.user_id and one.seq < job.seq and runs(one)]
        skipped += passed
        waiting = [replace(one, skips=one.skips + 1) if one in passed else one for one in waiting if one.id != job.id]
        vt[job.user_id] += job.cost_s / snapshot.accounts[job.user_id].weight
        taken.append(job)
    floor = max(floor, min((vt[job.user_id] for job in [*waiting, *others_waiting]), default=floor))
    return Pick(
        job_ids=tuple(job.id for job in taken),
        exact_key=lead.exact_key,
        heavy_key=lead.heavy_key,
        charges={job.user_id: vt[job.user_id] for job in taken},
        skipped=tuple(job.id for job in skipped),
        floor=max(snapshot.floor, floor),
    )


def _shares(job: WaitingJob) -> bool:
    return job.is_mergeable and not job.runs_alone
