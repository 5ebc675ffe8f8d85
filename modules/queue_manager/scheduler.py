"""Who is next: fair to people, kind to loaded models, filling batches. Pure and synchronous.

Every person has a virtual time `vt` (GPU-seconds received / weight). A server that needs work looks at the *window*: people
whose `vt` is at most Δ above the least. Inside it, work for the loaded model goes first; a batch is filled one job at a time,
always from the least-served person with a fitting job, charging as it goes. A server takes nothing that another one, which would
take this very job, should be through with sooner. Source: docs/scheduling.md.

`Line` keeps the waiting people in one heap per exact key, so that a decision costs O(keys + batch * log people) and the
forecast can make thousands of them. `tests/support/naive_scheduler.py` says the same in the plainest words; a property test
holds the two together.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from modules.domain.jobs import JobId, ServerName
from modules.domain.people import UserId
from modules.domain.queue import Account, Pick, QueueSnapshot, WaitingJob


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The two constants of the policy."""

    #: Δ in units of the dearest waiting job: how far affinity may bend turn-taking. 0 is strict turns.
    window: float = 1.0
    #: K: how many newer jobs of the same person may go before one of theirs, on servers that could draw either.
    max_skips: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerView:
    """A server as the scheduler sees it."""

    name: ServerName
    #: The model that will be in memory when it is free: that of the batch ahead, else of the running one, else the last.
    loaded: str | None
    #: Seconds until it could begin something new; 0 when idle.
    free_in_s: float = 0.0
    #: Waiting jobs that it leaves to others: it could not do them before. Nobody may count on it for these.
    refused: Collection[JobId] = frozenset()


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


def pick(snapshot: QueueSnapshot, server: ServerView, others: Sequence[ServerView], rates: Rates, policy: Policy) -> Pick | None:
    """Choose the next batch for `server`, or None when nothing waits for it (or others would end it sooner).

    `others` are the other servers that are up.
    """
    return Line(snapshot, policy).pick(server, others, rates)


@dataclass(slots=True)
class _Waiter:
    """A waiting person: their account as charged so far, and their jobs, oldest first."""

    account: Account
    jobs: list[WaitingJob]
    version: int = 0  #: entries of heaps with another version are stale


@dataclass(slots=True)
class _Class:
    """Everyone who waits with an eligible job of one exact key."""

    sample: WaitingJob
    heap: list[tuple[float, int, UserId, int]]  #: (vt, seq of that job, person, version)
    rows: int = 0  #: pictures waiting
    costs: Counter[float] = field(default_factory=Counter)  #: of the jobs waiting; few differ

    @property
    def dearest_s(self) -> float:
        return max(self.costs)

    def count(self, job: WaitingJob, change: int) -> None:
        """One job more or less."""
        self.rows += change * job.rows
        self.costs[job.cost_s] += change
        if not self.costs[job.cost_s]:
            del self.costs[job.cost_s]


class Line:
    """The queue, arranged for decisions. `pick` takes what it chose out of the line and charges for it."""

    def __init__(self, snapshot: QueueSnapshot, policy: Policy) -> None:
        self._policy = policy
        self._floor = snapshot.floor
        self._waiters: dict[UserId, _Waiter] = {}
        self._classes: dict[str, _Class] = {}
        self._owners: dict[JobId, UserId] = {job.id: job.user_id for job in snapshot.jobs}
        self._aside: list[tuple[_Waiter, WaitingJob]] = []  #: what one server must not see, while it decides
        self._beyond: frozenset[str] = frozenset()  #: keys that it cannot draw, while it decides
        self._entered: dict[UserId, _Waiter] = {}  #: people whose entries are those of this one server
        self._passed_over: set[UserId] = set()  #: people with a job that may not be passed over again
        for job in snapshot.jobs:
            waiter = self._waiters.get(job.user_id)
            if waiter is None:
                self._waiters[job.user_id] = _Waiter(snapshot.accounts[job.user_id], [job])
            else:
                waiter.jobs.append(job)
            self._count_in(job)
        for user, waiter in self._waiters.items():
            self._note_passed_over(waiter)
            for job in self._eligible(waiter):
                self._classes[job.exact_key].heap.append((waiter.account.vt, job.seq, user, 0))
        for one in self._classes.values():
            heapq.heapify(one.heap)

    @property
    def is_empty(self) -> bool:
        """Nobody waits."""
        return not self._waiters

    def has_work_for(self, server: ServerName, rates: Rates) -> bool:
        """Whether anything waits that this server could run."""
        return any(rates.can_run(server, key) for key in self._classes)

    def pick(self, server: ServerView, others: Sequence[ServerView], rates: Rates) -> Pick | None:
        """The next batch for `server`, taken out of the line; None leaves it as it is."""
        self._look_as(server, rates)
        try:
            return self._pick(server, others, rates)
        finally:
            self._look_as_nobody()

    def _pick(self, server: ServerView, others: Sequence[ServerView], rates: Rates) -> Pick | None:
        heads = sorted(self._heads(server.name, rates))
        if not heads:
            return None
        edge = heads[0][0] + self._policy.window * max(self._classes[key].dearest_s for _, _, key in heads)
        key = self._choose([key for vt, _, key in heads if vt <= edge], edge, server, others, rates)
        if key is None:
            return None
        sample = self._classes[key].sample
        self._raise_floor()  # before and after: the last one to leave an empty queue sets the level for whoever comes next
        taken, skipped = self._fill(key, edge, rates.cap(server.name, key))
        charges = {user: waiter.account.vt for user, waiter in taken.charged.items()}
        self._raise_floor()
        return Pick(
            job_ids=tuple(job.id for job in taken.jobs),
            exact_key=key,
            heavy_key=sample.heavy_key,
            charges=charges,
            skipped=tuple(skipped),
            floor=self._floor,
        )

    # --- choosing the key ---------------------------------------------------------------------------------------------

    def _heads(self, server: ServerName, rates: Rates) -> Iterator[tuple[float, int, str]]:
        """(vt, seq, key) of the least-served waiter of every key this server can run."""
        for key, one in self._classes.items():
            if rates.can_run(server, key) and (top := self._top(one)) is not None:
                yield top[0], top[1], key

    def _choose(
        self, keys: Sequence[str], edge: float, server: ServerView, others: Sequence[ServerView], rates: Rates
    ) -> str | None:
        """Warm work first, else the least-served person's; of both only what no other server would end sooner."""
        offers = []
        for key in keys:
            first = self._first_for(key, edge, server, others, rates)
            if first is not None:
                is_cold = self._classes[key].sample.heavy_key != server.loaded
                offers.append((is_cold, *first, key))
        return min(offers)[-1] if offers else None

    def _first_for(
        self, key: str, edge: float, server: ServerView, others: Sequence[ServerView], rates: Rates
    ) -> tuple[float, int] | None:
        """(vt, seq) of the least-served waiter of this key inside the window whose job this server does not leave to another."""
        one = self._classes[key]
        sooner = self._sooner_elsewhere(one.sample, server, others, rates)
        if not sooner:
            top = self._top(one)
            return None if top is None else top[:2]
        refused = frozenset(sooner[0].refused).intersection(*(view.refused for view in sooner[1:]))
        owners = {self._owners[job_id] for job_id in refused if job_id in self._owners}
        return min(
            (
                (waiter.account.vt, job.seq)
                for waiter in (self._waiters[user] for user in owners if user in self._waiters)
                for job in self._eligible(waiter)
                if job.id in refused and job.exact_key == key and waiter.account.vt <= edge
            ),
            default=None,
        )

    def _sooner_elsewhere(
        self, sample: WaitingJob, server: ServerView, others: Sequence[ServerView], rates: Rates
    ) -> Sequence[ServerView]:
        """The servers that can do this share and would be through with it before this one could be.

        Those that have the model, where this server would have to load it; and those that stand idle, while this one is busy.
        """
        able = [view for view in others if _may_be_sooner(view, server, sample) and rates.can_run(view.name, sample.exact_key)]
        if not able:
            return []
        rows = sum(
            one.rows
            for key, one in self._classes.items()
            if one.sample.heavy_key == sample.heavy_key and rates.can_run(server.name, key)
        )
        here_s = ends_in_s(server, sample, min(rows, rates.cap(server.name, sample.exact_key)), rates)
        return [view for view in able if _is_sooner(ends_in_s(view, sample, rows, rates), here_s, view, server, sample)]

    # --- filling the batch --------------------------------------------------------------------------------------------

    def _fill(self, key: str, edge: float, cap: int) -> tuple[_Taken, list[JobId]]:
        """Take jobs of this key, always from the least-served waiter whose job still fits."""
        taken, skipped = _Taken(), list[JobId]()
        too_large: list[tuple[float, int, UserId, int]] = []
        one = self._classes[key]
        while taken.has_room(cap) and (top := self._top(one)) is not None and top[0] <= edge:
            waiter = self._waiters[top[2]]
            job = next(job for job in waiter.jobs if job.seq == top[1])
            if taken.jobs and (not _may_share(job) or job.rows > cap - taken.rows):
                too_large.append(heapq.heappop(one.heap))
                continue
            skipped.extend(self._take(waiter, job))
            taken.add(job, waiter)
        for entry in too_large:
            heapq.heappush(one.heap, entry)
        for waiter in taken.charged.values():
            if not waiter.jobs:
                del self._waiters[waiter.account.user_id]
        self._classes = {other: left for other, left in self._classes.items() if left.rows}
        return taken, skipped

    def _take(self, waiter: _Waiter, job: WaitingJob) -> list[JobId]:
        """Remove the job, charge its owner, and note which of their own it overtook that could have been drawn here, too."""
        at = waiter.jobs.index(job)
        passed = [older.id for older in waiter.jobs[:at] if older.exact_key not in self._beyond]
        waiter.jobs[:at] = [replace(older, skips=older.skips + (older.id in passed)) for older in waiter.jobs[:at]]
        del waiter.jobs[at]
        waiter.account = replace(waiter.account, vt=waiter.account.vt + job.cost_s / waiter.account.weight)
        del self._owners[job.id]
        self._classes[job.exact_key].count(job, -1)
        self._enter(waiter)
        return passed

    # --- the heaps ----------------------------------------------------------------------------------------------------

    def _look_as(self, server: ServerView, rates: Rates) -> None:
        """Until `_look_as_nobody`, what this server refuses does not wait, and what it cannot draw has no turn."""
        self._beyond = frozenset(key for key in self._classes if not rates.can_run(server.name, key))
        self._set_aside(server.refused)
        if self._beyond:
            for user in tuple(self._passed_over):
                self._enter(self._waiters[user])

    def _look_as_nobody(self) -> None:
        self._beyond = frozenset()
        for waiter, job in self._aside:
            insort(waiter.jobs, job, key=lambda one: one.seq)
            self._waiters[waiter.account.user_id] = waiter
            self._count_in(job)
            self._entered[waiter.account.user_id] = waiter
        self._aside.clear()
        for waiter in self._entered.values():
            self._enter(waiter)
        self._entered.clear()

    def _note_passed_over(self, waiter: _Waiter) -> None:
        if any(job.skips >= self._policy.max_skips for job in waiter.jobs):
            self._passed_over.add(waiter.account.user_id)
        else:
            self._passed_over.discard(waiter.account.user_id)

    def _set_aside(self, job_ids: Collection[JobId]) -> None:
        """Take these jobs out for one decision, as if they did not wait."""
        for job_id in dict.fromkeys(one for one in job_ids if one in self._owners):
            waiter = self._waiters[self._owners[job_id]]
            job = next(one for one in waiter.jobs if one.id == job_id)
            waiter.jobs.remove(job)
            self._classes[job.exact_key].count(job, -1)
            self._enter(waiter)
            self._aside.append((waiter, job))

    def _enter(self, waiter: _Waiter) -> None:
        """Enter what the person may have drawn next; their earlier entries hold no more."""
        waiter.version += 1
        self._note_passed_over(waiter)
        if self._beyond:
            self._entered[waiter.account.user_id] = waiter
        for job in self._eligible(waiter):
            entry = (waiter.account.vt, job.seq, waiter.account.user_id, waiter.version)
            heapq.heappush(self._classes[job.exact_key].heap, entry)

    def _top(self, one: _Class) -> tuple[float, int, UserId, int] | None:
        """The least entry that still holds."""
        while one.heap:
            _, _, user, version = one.heap[0]
            waiter = self._waiters.get(user)
            if waiter is not None and waiter.version == version:
                return one.heap[0]
            heapq.heappop(one.heap)
        return None

    def _eligible(self, waiter: _Waiter) -> list[WaitingJob]:
        """The oldest job of each key; only the oldest of all once it was passed over K times, which bounds overtaking."""
        jobs = [job for job in waiter.jobs if job.exact_key not in self._beyond] if self._beyond else waiter.jobs
        if not jobs or jobs[0].skips >= self._policy.max_skips:
            return jobs[:1]
        oldest: dict[str, WaitingJob] = {}
        for job in jobs:
            oldest.setdefault(job.exact_key, job)
        return list(oldest.values())

    def _count_in(self, job: WaitingJob) -> None:
        one = self._classes.get(job.exact_key)
        if one is None:
            one = self._classes[job.exact_key] = _Class(sample=job, heap=[])
        one.count(job, +1)

    def _raise_floor(self) -> None:
        """To the least `vt` of those who wait; it never falls."""
        tops = [top[0] for one in self._classes.values() if (top := self._top(one)) is not None]
        tops += [waiter.account.vt for waiter, _ in self._aside]
        tops += [waiter.account.vt for waiter in self._entered.values() if waiter.jobs]
        self._floor = max(self._floor, min(tops, default=self._floor))


class _Taken:
    """A batch being filled."""

    def __init__(self) -> None:
        self.jobs: list[WaitingJob] = []
        self.charged: dict[UserId, _Waiter] = {}
        self.rows = 0

    def has_room(self, cap: int) -> bool:
        """A job larger than any batch still goes, alone."""
        return not self.jobs or (self.rows < cap and _may_share(self.jobs[-1]))

    def add(self, job: WaitingJob, waiter: _Waiter) -> None:
        self.jobs.append(job)
        self.charged[job.user_id] = waiter
        self.rows += job.rows


def _may_share(job: WaitingJob) -> bool:
    return job.is_mergeable and not job.runs_alone


def _may_be_sooner(view: ServerView, server: ServerView, sample: WaitingJob) -> bool:
    """Whether the other server has an advantage at all: the model, or that it stands idle."""
    return (view.loaded == sample.heavy_key != server.loaded) or (view.free_in_s <= 0 < server.free_in_s)


def _is_sooner(there_s: float, here_s: float, view: ServerView, server: ServerView, sample: WaitingJob) -> bool:
    """With a draw, the one that has the model takes it. So of any number of servers one never leaves a job to another."""
    return there_s < here_s or (there_s == here_s and view.loaded == sample.heavy_key != server.loaded)


def ends_in_s(view: ServerView, sample: WaitingJob, rows: int, rates: Rates) -> float:
    """When this server would be through with `rows` pictures of this class, with loading the model where it has another."""
    cap = rates.cap(view.name, sample.exact_key)
    switch_s = 0.0 if view.loaded == sample.heavy_key else rates.switch_s(view.name, sample.heavy_key)
    return view.free_in_s + switch_s + max(1.0, rows / cap) * rates.batch_s(view.name, sample, min(rows, cap))
