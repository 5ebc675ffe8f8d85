"""A queue in plain dictionaries and a table of rates: what scheduler tests and the simulation drive `pick` with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from modules.domain.jobs import JobId, ServerName
from modules.domain.people import UserId
from modules.domain.queue import Account, Pick, QueueSnapshot, WaitingJob


@dataclass(slots=True, kw_only=True)
class TableRates:
    """Rates from constants: `share` of a picture's time is saved by each further picture in a batch."""

    caps: Mapping[ServerName, int] = field(default_factory=dict)
    speeds: Mapping[ServerName, float] = field(default_factory=dict)
    switches: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    runs: Mapping[ServerName, frozenset[str]] | None = None

    def can_run(self, server: ServerName, exact_key: str) -> bool:
        return self.runs is None or exact_key in self.runs[server]

    def cap(self, server: ServerName, exact_key: str) -> int:
        return self.caps.get(server, 4)

    def batch_s(self, server: ServerName, job: WaitingJob, rows: int) -> float:
        share = self.shares.get(job.heavy_key, 0.4)
        return job.cost_s / job.rows * (share + (1 - share) * rows) / self.speeds.get(server, 1.0)

    def switch_s(self, server: ServerName, heavy_key: str) -> float:
        return self.switches.get(heavy_key, 10.0)


class ModelQueue:
    """Accepts and applies picks as the stores do, without a database."""

    def __init__(self) -> None:
        self.jobs: dict[JobId, WaitingJob] = {}
        self.accounts: dict[UserId, Account] = {}
        self.floor = 0.0
        self._seq = 0

    def accept(
        self, user: int, *, key: str = "flux", heavy: str | None = None, cost_s: float = 1.0, rows: int = 1, weight: float = 1.0
    ) -> WaitingJob:
        """A person back from idle is lifted to the least `vt` of those who wait: unused share is not banked."""
        self._seq += 1
        job = WaitingJob(
            id=JobId(UUID(int=self._seq)),
            user_id=UserId(user),
            seq=self._seq,
            exact_key=key,
            heavy_key=heavy or key,
            cost_s=cost_s,
            rows=rows,
        )
        waiting = {one.user_id for one in self.jobs.values()}
        account = self.accounts.get(job.user_id, Account(user_id=job.user_id, vt=0.0, weight=weight))
        if job.user_id not in waiting:
            least = min((self.accounts[one].vt for one in waiting), default=self.floor)
            account = replace(account, vt=max(account.vt, least), weight=weight)
        self.accounts[job.user_id] = account
        self.jobs[job.id] = job
        return job

    def snapshot(self) -> QueueSnapshot:
        waiting = {job.user_id for job in self.jobs.values()}
        return QueueSnapshot(
            jobs=tuple(sorted(self.jobs.values(), key=lambda job: job.seq)),
            accounts={user: self.accounts[user] for user in waiting},
            floor=self.floor,
        )

    def apply(self, choice: Pick) -> list[WaitingJob]:
        """Take the batch out and charge for it."""
        batch = [self.jobs.pop(job_id) for job_id in choice.job_ids]
        for user, vt in choice.charges.items():
            self.accounts[user] = replace(self.accounts[user], vt=vt)
        for job_id in choice.skipped:
            if job_id in self.jobs:
                self.jobs[job_id] = replace(self.jobs[job_id], skips=self.jobs[job_id].skips + 1)
        self.floor = choice.floor
        return batch

    def put_back(self, job: WaitingJob) -> None:
        """A lost attempt: the job keeps its place, the charge is returned, never below the floor."""
        account = self.accounts[job.user_id]
        self.accounts[job.user_id] = replace(account, vt=max(self.floor, account.vt - job.cost_s / account.weight))
        self.jobs[job.id] = job
