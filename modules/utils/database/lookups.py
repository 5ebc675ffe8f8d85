"""Reading jobs and attempts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import Connection, Integer, Table, bindparam, func, or_, select

from modules.domain.jobs import ACTIVE_STATES, Attempt, AttemptId, BootId, Job, JobId, JobState, ServerName, WorkClass
from modules.domain.people import UserId
from modules.utils.database.codecs import job_of, work_of
from modules.utils.database.conditions import IS_IN_FLIGHT, IS_QUEUED, is_in_given
from modules.utils.database.erasing import is_being_erased
from modules.utils.database.tables import active_slot, archived_job, attempt, attempt_job, job, lease
from modules.utils.database.types import AnyRow, AnySelect

# Built once: building a statement takes longer than running one like these.
#: Looked for in this order: a job moves from the first table to the second only, so it is never missed on its way.
_TABLES = (job, archived_job)
_THE_JOB = tuple(select(jobs).where(jobs.c.id == bindparam("this_job"), ~is_being_erased(jobs)) for jobs in _TABLES)
#: States in which a job is never archived.
_IN_SIGHT = ACTIVE_STATES | {JobState.GENERATED}
_ACTIVE = select(func.count()).where(active_slot.c.user_id == bindparam("of_user"))
_OLDEST_OF_EACH = select(func.min(job.c.seq)).where(IS_QUEUED).group_by(job.c.exact_key)
_WAITING_CLASSES = select(job.c.exact_key, job.c.heavy_key, job.c.needs, job.c.is_mergeable, job.c.cost_s).where(
    job.c.seq.in_(_OLDEST_OF_EACH)
)
_OWED = (
    select(job.c.attempt_id, func.count())
    .where(job.c.attempt_id.in_(bindparam("these_attempts", expanding=True)), IS_IN_FLIGHT)
    .group_by(job.c.attempt_id)
)

#: Between two machines of the house; an attempt from further ahead was written by a clock that is wrong.
CLOCKS_MAY_DIFFER = timedelta(minutes=1)


def read_job(connection: Connection, job_id: JobId) -> Job | None:
    """See `JobStore.job`."""
    for query in _THE_JOB:
        row = connection.execute(query, {"this_job": job_id}).one_or_none()
        if row is not None:
            return job_of(row)
    return None


def read_jobs(
    connection: Connection,
    *,
    user_id: UserId | None,
    states: Collection[JobState] | None,
    before_seq: int | None,
    limit: int,
    newest_first: bool,
) -> Sequence[Job]:
    """See `JobStore.jobs`."""
    is_all_in_job = user_id is None or (states is not None and _IN_SIGHT.issuperset(states))
    of = {"of_user": user_id, "before": before_seq, "at_most": limit}
    given = None if states is None else frozenset(states)
    found: dict[int, AnyRow] = {}
    for jobs in _TABLES[:1] if is_all_in_job else _TABLES:
        query = _some_jobs(
            jobs, given, of_person=user_id is not None, is_going_on=before_seq is not None, newest_first=newest_first
        )
        found |= {row.seq: row for row in connection.execute(query, of)}
    return [job_of(found[seq]) for seq in sorted(found, reverse=newest_first)[:limit]]


@cache
def _some_jobs(
    jobs: Table, states: frozenset[JobState] | None, *, of_person: bool, is_going_on: bool, newest_first: bool
) -> AnySelect:
    """Built once for each of the few ways in which people and services ask: building it takes longer than running it."""
    query = select(jobs).order_by(jobs.c.seq.desc() if newest_first else jobs.c.seq)
    if of_person:
        query = query.where(jobs.c.user_id == bindparam("of_user"), ~is_being_erased(jobs))
    if states is not None:
        query = query.where(is_in_given(jobs, states))
    if is_going_on:
        query = query.where(jobs.c.seq < bindparam("before"))
    return query.limit(bindparam("at_most", type_=Integer))


def count_active(connection: Connection, user_id: UserId) -> int:
    """See `JobStore.active_count`."""
    return connection.execute(_ACTIVE, {"of_user": user_id}).scalar_one()


def read_waiting_classes(connection: Connection) -> Mapping[str, WorkClass]:
    """See `JobStore.waiting_classes`; of jobs with the same key, the oldest speaks for all."""
    return {row.exact_key: work_of(row) for row in connection.execute(_WAITING_CLASSES)}


def read_attempt(connection: Connection, attempt_id: AttemptId) -> Attempt | None:
    """See `JobStore.attempt`."""
    row = connection.execute(select(attempt).where(attempt.c.id == attempt_id)).one_or_none()
    return None if row is None else _with_jobs(connection, row)


def count_owed(connection: Connection, attempt_ids: Collection[AttemptId]) -> Mapping[AttemptId, int]:
    """See `JobStore.owed_counts`."""
    rows = connection.execute(_OWED, {"these_attempts": list(attempt_ids)})
    found = {AttemptId(attempt_id): count for attempt_id, count in rows}
    return {attempt_id: found.get(attempt_id, 0) for attempt_id in attempt_ids}


def read_unfinished_attempts(connection: Connection, server: ServerName, except_boot: BootId | None) -> Sequence[Attempt]:
    """See `JobStore.unfinished_attempts`; oldest first."""
    query = select(attempt).where(attempt.c.server == server, attempt.c.ended_at.is_(None)).order_by(attempt.c.claimed_at)
    if except_boot is not None:
        query = query.where(attempt.c.boot_id != except_boot)
    return [_with_jobs(connection, row) for row in connection.execute(query).all()]


def read_abandoned_attempts(connection: Connection, since: datetime) -> Sequence[Attempt]:
    """See `JobStore.abandoned_attempts`."""
    is_held = select(lease.c.server).where(lease.c.server == attempt.c.server, lease.c.expires_at > since).exists()
    is_wanted = select(job.c.id).where(job.c.attempt_id == attempt.c.id, IS_IN_FLIGHT).exists()
    # What was claimed later than now was claimed by a clock that goes ahead, and says nothing of how long ago that was.
    is_old = or_(attempt.c.claimed_at < since, attempt.c.claimed_at > since + CLOCKS_MAY_DIFFER)
    query = select(attempt).where(attempt.c.ended_at.is_(None), is_old, ~is_held, is_wanted)
    return [_with_jobs(connection, row) for row in connection.execute(query).all()]


def _with_jobs(connection: Connection, row: AnyRow) -> Attempt:
    members = connection.execute(
        select(job)
        .join(attempt_job, attempt_job.c.job_id == job.c.id)
        .where(attempt_job.c.attempt_id == row.id)
        .order_by(attempt_job.c.position)
    )
    return Attempt(
        id=AttemptId(row.id),
        server=ServerName(row.server),
        boot_id=BootId(row.boot_id),
        jobs=tuple(job_of(member) for member in members),
        claimed_at=row.claimed_at,
    )
