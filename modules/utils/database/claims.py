"""Claiming: load what the scheduler must see, let it decide, write the decision down, all in one exclusive transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, Integer, bindparam, func, insert, select, update

from modules.domain.jobs import Attempt, AttemptId, BootId, JobId, JobState, ServerName
from modules.domain.people import UserId
from modules.domain.ports import Decide
from modules.domain.queue import Account, Pick, QueueSnapshot, WaitingJob
from modules.utils.database.codecs import job_of
from modules.utils.database.conditions import IS_QUEUED
from modules.utils.database.steps import SOURCES, least_waiting_vt
from modules.utils.database.tables import account, attempt, attempt_job, fairness, job, lease
from modules.utils.database.wakeups import Topic, tell

_SEEN = (
    job.c.id,
    job.c.user_id,
    job.c.seq,
    job.c.exact_key,
    job.c.heavy_key,
    job.c.cost_s,
    job.c.picture_count,
    job.c.is_mergeable,
    job.c.skips,
    job.c.runs_alone,
)

# Built once: building a statement takes longer than running one like these.
_SNAPSHOT = (
    select(*_SEEN, account.c.vt, account.c.weight, select(fairness.c.floor).scalar_subquery().label("floor"))
    .join(account, account.c.user_id == job.c.user_id)
    .where(IS_QUEUED)
    .order_by(job.c.seq)
)
_LEASE_OF_ANOTHER = select(lease.c.boot_id).where(
    lease.c.server == bindparam("of_server"), lease.c.expires_at > bindparam("now"), lease.c.boot_id != bindparam("our_boot")
)
_LEAST_SERVED = (
    select(account.c.user_id)
    .join(job, job.c.user_id == account.c.user_id)
    .where(
        IS_QUEUED,
        job.c.exact_key.in_(bindparam("exact_keys", expanding=True)),
        job.c.id.not_in(bindparam("barred", expanding=True)),
    )
    .group_by(account.c.user_id, account.c.vt)
    .order_by(account.c.vt, func.min(job.c.seq))
    .limit(bindparam("at_most", type_=Integer))
)


class UnreadableJobsError(Exception):
    """A batch was chosen with jobs that nobody can draw; raised to undo the claim."""

    def __init__(self, job_ids: Sequence[JobId]) -> None:
        super().__init__()
        self.job_ids = job_ids


def claim(
    connection: Connection,
    server: ServerName,
    boot_id: BootId,
    exact_keys: Collection[str],
    decide: Decide,
    barred: Collection[JobId],
    max_people: int,
    now: datetime,
) -> Attempt | None:
    """See `JobStore.claim`; runs exclusively. None as well while another boot's lease on the server lives.

    Raises UnreadableJobsError.
    """
    if not exact_keys or _is_leased_to_another(connection, server, boot_id, now):
        return None
    people = _least_served(connection, exact_keys, barred, max_people)
    if not people:
        return None
    is_open = job.c.id.not_in(barred)
    snapshot = read_snapshot(connection, job.c.exact_key.in_(exact_keys), job.c.user_id.in_(people), is_open)
    pick = decide(snapshot)
    if pick is None or not pick.job_ids:
        return None
    return _carry_out(connection, pick, snapshot, server, boot_id, now)


def read_snapshot(connection: Connection, *conditions: ColumnElement[bool]) -> QueueSnapshot:
    """Waiting jobs, their people's accounts and the floor, in one statement and so from one moment."""
    rows = connection.execute(_SNAPSHOT.where(*conditions) if conditions else _SNAPSHOT).all()
    if not rows:
        return QueueSnapshot(jobs=(), accounts={}, floor=connection.execute(select(fairness.c.floor)).scalar_one())
    jobs: list[WaitingJob] = []
    accounts: dict[UserId, Account] = {}
    # by position: with thousands of rows, looking up each name takes longer than the query
    for *seen, vt, weight, _floor in rows:
        job_id, user_id, seq, exact_key, heavy_key, cost_s, pictures, is_mergeable, skips, runs_alone = seen
        jobs.append(
            WaitingJob(
                id=job_id,
                user_id=user_id,
                seq=seq,
                exact_key=exact_key,
                heavy_key=heavy_key,
                cost_s=cost_s,
                rows=pictures,
                is_mergeable=is_mergeable,
                skips=skips,
                runs_alone=runs_alone,
            )
        )
        if user_id not in accounts:
            accounts[user_id] = Account(user_id=user_id, vt=vt, weight=weight)
    return QueueSnapshot(jobs=tuple(jobs), accounts=accounts, floor=rows[0].floor)


def _is_leased_to_another(connection: Connection, server: ServerName, boot_id: BootId, now: datetime) -> bool:
    return connection.execute(_LEASE_OF_ANOTHER, {"of_server": server, "now": now, "our_boot": boot_id}).first() is not None


def _least_served(
    connection: Connection, exact_keys: Collection[str], barred: Collection[JobId], max_people: int
) -> Sequence[UserId]:
    """By `vt`, then by who has waited longest; only those with something that this server may run."""
    return (
        connection.execute(_LEAST_SERVED, {"exact_keys": list(exact_keys), "barred": list(barred), "at_most": max_people})
        .scalars()
        .all()
    )


def _carry_out(
    connection: Connection, pick: Pick, snapshot: QueueSnapshot, server: ServerName, boot_id: BootId, now: datetime
) -> Attempt:
    attempt_id = AttemptId(uuid4())
    charges = _charge_per_job(pick, snapshot)
    taken = connection.execute(
        update(job)
        .where(job.c.id.in_(pick.job_ids), job.c.state.in_(SOURCES[JobState.SUBMITTING]))
        .values(state=JobState.SUBMITTING, attempt_id=attempt_id, server=server, shared_by=len(pick.charges))
        .returning(job)
    ).all()
    if len(taken) != len(charges):
        raise ValueError("the pick names a job that does not wait")
    connection.execute(insert(attempt).values(id=attempt_id, server=server, boot_id=boot_id, claimed_at=now))
    connection.execute(
        insert(attempt_job),
        [
            {"attempt_id": attempt_id, "position": position, "job_id": job_id, "charge": charges[job_id]}
            for position, job_id in enumerate(pick.job_ids)
        ],
    )
    _book(connection, pick)
    tell(connection, Topic.QUEUE)
    jobs = {row.id: job_of(row) for row in taken}
    if unreadable := [job_id for job_id, taken_job in jobs.items() if not taken_job.is_readable]:
        raise UnreadableJobsError(unreadable)
    return Attempt(
        id=attempt_id, server=server, boot_id=boot_id, jobs=tuple(jobs[job_id] for job_id in pick.job_ids), claimed_at=now
    )


def _charge_per_job(pick: Pick, snapshot: QueueSnapshot) -> dict[JobId, float]:
    """What each person pays, split over their jobs by cost, so that one of two can be given back alone."""
    seen = {waiting.id: waiting for waiting in snapshot.jobs}
    if len(set(pick.job_ids)) != len(pick.job_ids) or not seen.keys() >= set(pick.job_ids):
        raise ValueError("the pick names a job twice, or one it was not shown")
    own: dict[UserId, list[WaitingJob]] = defaultdict(list)
    for job_id in pick.job_ids:
        own[seen[job_id].user_id].append(seen[job_id])
    charges: dict[JobId, float] = {}
    for user_id, jobs in own.items():
        due = pick.charges[user_id] - snapshot.accounts[user_id].vt
        if not due >= 0:
            raise ValueError("a claim gives nothing back")
        total_s = sum(waiting.cost_s for waiting in jobs)
        charges |= {waiting.id: due * waiting.cost_s / total_s if total_s else due / len(jobs) for waiting in jobs}
    return charges


def _book(connection: Connection, pick: Pick) -> None:
    """Accounts, skips, and the floor: never above anybody who waits, though the decision saw only this server's people."""
    connection.execute(
        update(account).where(account.c.user_id == bindparam("of_user")).values(vt=bindparam("new_vt")),
        [{"of_user": user_id, "new_vt": vt} for user_id, vt in pick.charges.items()],
    )
    if pick.skipped:
        connection.execute(update(job).where(job.c.id.in_(pick.skipped), IS_QUEUED).values(skips=job.c.skips + 1))
    least = least_waiting_vt(connection)
    floor = pick.floor if least is None else min(pick.floor, least)
    connection.execute(update(fairness).where(fairness.c.floor < floor).values(floor=floor))
