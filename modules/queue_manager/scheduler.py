"""Who is next: fair to people, kind to loaded models, filling batches. Pure and synchronous.

Every person has a virtual time `vt` (GPU-seconds received / weight). A server that needs work looks at the *window*: people
whose `vt` is at most Δ above the least. Inside it, work for the loaded model goes first; a batch is filled one job at a time,
always from the least-served person with a fitting job, charging as it goes. Source: docs/scheduling.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from modules.domain.jobs import JobId, ServerName
from modules.domain.people import UserId
from modules.domain.queue import Account, Pick, QueueSnapshot, WaitingJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The two constants of the policy."""

    #: Δ in units of the dearest waiting job: how far affinity may bend turn-taking. 0 is strict turns.
    window: float = 1.0
    #: K: how many newer jobs of the same person may go before one of theirs.
    max_skips: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerView:
    """A server as the scheduler sees it."""

    name: ServerName
    #: The model that will be in memory when it is free: that of the batch ahead, else of the running one, else the last.
    loaded: str | None
    #: Seconds until it could begin something new; 0 when idle.
    free_in_s: float = 0.0


class Rates(Protocol):
    """How fast servers are and what they can take; learned elsewhere."""

    def can_run(self, server: ServerName, exact_key: str) -> bool:
        """Whether the server has everything this work needs."""
        ...

    def cap(self, server: ServerName, exact_key: str) -> int:
        """How many pictures may share one attempt there; at least 1."""
        ...

    def batch_s(self, server: ServerName, job: WaitingJob, rows: int) -> float:
        """Expected seconds for `rows` pictures of this job's class in one attempt, the model being loaded."""
        ...

    def switch_s(self, server: ServerName, heavy_key: str) -> float:
        """Expected seconds to load this model."""
        ...


@dataclass(slots=True)
class _Person:
    """A person inside one decision: their account as charged so far, and their jobs, oldest first."""

    user_id: UserId
    vt: float
    weight: float
    jobs: list[WaitingJob]

    def eligible(self, max_skips: int) -> list[WaitingJob]:
        """Only the oldest once it has been passed over `max_skips` times: that bounds overtaking."""
        return self.jobs[:1] if self.jobs and self.jobs[0].skips >= max_skips else self.jobs


def pick(
    snapshot: QueueSnapshot,
    server: ServerView,
    others: Sequence[ServerView],
    rates: Rates,
    policy: Policy,
) -> Pick | None:
    """Choose the next batch for `server`, or None when nothing waits for it (or a warmer server will take it sooner).

    `others` are the other servers that are up.
    """
    runnable = [job for job in snapshot.jobs if rates.can_run(server.name, job.exact_key)]
    if not runnable:
        return None
    people = _people(runnable, snapshot.accounts)
    least = min(person.vt for person in people)
    edge = least + policy.window * max(job.cost_s for job in runnable)
    window = sorted((person for person in people if person.vt <= edge), key=lambda person: (person.vt, person.jobs[0].seq))
    lead = _choose_key(window, server, others, rates, policy, runnable)
    if lead is None:
        return None
    taken, skipped = _fill(lead, window, edge, rates.cap(server.name, lead.exact_key), policy)
    return Pick(
        job_ids=tuple(job.id for job in taken),
        exact_key=lead.exact_key,
        heavy_key=lead.heavy_key,
        charges={person.user_id: person.vt for person in window if any(job.user_id == person.user_id for job in taken)},
        skipped=tuple(skipped),
        floor=max(snapshot.floor, _floor_after(snapshot, taken, window)),
    )


def _people(jobs: Iterable[WaitingJob], accounts: Mapping[UserId, Account]) -> list[_Person]:
    by_user: dict[UserId, list[WaitingJob]] = defaultdict(list)
    for job in jobs:
        by_user[job.user_id].append(job)
    return [
        _Person(user_id=user, vt=accounts[user].vt, weight=accounts[user].weight, jobs=sorted(own, key=lambda job: job.seq))
        for user, own in by_user.items()
    ]


def _choose_key(
    window: Sequence[_Person],
    server: ServerView,
    others: Sequence[ServerView],
    rates: Rates,
    policy: Policy,
    runnable: Sequence[WaitingJob],
) -> WaitingJob | None:
    """The job whose exact key the batch will have: warm work first, else the least-served person's that no other ends sooner."""
    heads: dict[str, WaitingJob] = {}
    for person in window:  # in (vt, seq) order, so the first job seen of a key is its least-served
        for job in person.eligible(policy.max_skips):
            heads.setdefault(job.exact_key, job)
    warm = next((job for job in heads.values() if job.heavy_key == server.loaded), None)
    if warm is not None:
        return warm
    waiting_rows: dict[str, int] = defaultdict(int)
    for job in runnable:
        waiting_rows[job.heavy_key] += job.rows
    return next(
        (job for job in heads.values() if not _ends_sooner_elsewhere(job, server, others, rates, waiting_rows[job.heavy_key])),
        None,
    )


def _ends_sooner_elsewhere(
    job: WaitingJob, server: ServerView, others: Sequence[ServerView], rates: Rates, waiting_rows: int
) -> bool:
    """Whether a server that already has this model would finish this share before we could load it and do so."""
    rows_here = min(waiting_rows, rates.cap(server.name, job.exact_key))
    here_s = server.free_in_s + rates.switch_s(server.name, job.heavy_key) + rates.batch_s(server.name, job, rows_here)
    for other in others:
        if other.loaded != job.heavy_key or not rates.can_run(other.name, job.exact_key):
            continue
        cap = rates.cap(other.name, job.exact_key)
        batches = max(1.0, waiting_rows / cap)
        there_s = other.free_in_s + batches * rates.batch_s(other.name, job, min(waiting_rows, cap))
        if there_s <= here_s:
            return True
    return False


def _fill(
    lead: WaitingJob, window: Sequence[_Person], edge: float, cap: int, policy: Policy
) -> tuple[list[WaitingJob], list[JobId]]:
    """Take jobs of the lead's exact key, always from the least-served person who has one that still fits."""
    taken: list[WaitingJob] = []
    skipped: list[JobId] = []
    rows = 0
    while rows < cap or not taken:
        room = cap - rows
        offers = [
            (person.vt, job.seq, person, job)
            for person in window
            if person.vt <= edge and (job := _first_fitting(person, lead, room, bool(taken), policy)) is not None
        ]
        if not offers:
            break
        _, _, person, job = min(offers, key=lambda offer: offer[:2])
        skipped.extend(older.id for older in person.jobs[: person.jobs.index(job)])
        person.jobs.remove(job)
        person.vt += job.cost_s / person.weight
        taken.append(job)
        rows += job.rows
        if job.runs_alone or not job.is_mergeable:
            break
    return taken, skipped


def _first_fitting(person: _Person, lead: WaitingJob, room: int, is_shared: bool, policy: Policy) -> WaitingJob | None:
    """This person's oldest job of the lead's key; a job too large for any batch still goes, alone."""
    for job in person.eligible(policy.max_skips):
        if job.exact_key != lead.exact_key:
            continue
        if is_shared and (job.runs_alone or not job.is_mergeable or job.rows > room):
            continue
        return job
    return None


def _floor_after(snapshot: QueueSnapshot, taken: Sequence[WaitingJob], window: Sequence[_Person]) -> float:
    """The least `vt` of those who still wait once `taken` is gone; the old floor when nobody does."""
    gone = {job.id for job in taken}
    charged = {person.user_id: person.vt for person in window}
    left = [charged.get(job.user_id, snapshot.accounts[job.user_id].vt) for job in snapshot.jobs if job.id not in gone]
    return min(left, default=snapshot.floor)
