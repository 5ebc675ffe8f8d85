"""What every transaction on the queue is made of: a step from one state to another, an account, a slot, a refund."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Insert, Table, bindparam, case, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningUpdate

from modules.domain.jobs import AttemptId, JobId, JobState
from modules.domain.people import UserId
from modules.utils.database.conditions import IS_QUEUED
from modules.utils.database.tables import account, active_slot, attempt_job, fairness, job
from modules.utils.database.types import AnyRow

#: The states from which each state may be reached; everything else the stores refuse.
SOURCES: Mapping[JobState, tuple[JobState, ...]] = {
    later: tuple(state for state in JobState if state.may_become(later)) for later in JobState
}

# Statements of every day are built once: building one takes longer than running it.
_FREE = delete(active_slot).where(active_slot.c.job_id == bindparam("this_job"))
_FLOOR = select(fairness.c.floor)
_WAITING_PEOPLE = select(job.c.user_id).where(IS_QUEUED)
_LEAST_WAITING = select(func.min(account.c.vt)).where(account.c.user_id.in_(_WAITING_PEOPLE))
_LEAST_WAITING_WITH = select(func.min(account.c.vt)).where(
    account.c.user_id.in_(_WAITING_PEOPLE.where(job.c.exact_key.in_(bindparam("exact_keys", expanding=True))))
)


def move(
    connection: Connection,
    job_id: JobId,
    later: JobState,
    *,
    of_attempt: AttemptId | None = None,
    only_from: Collection[JobState] | None = None,
    **columns: object,
) -> AnyRow | None:
    """Compare and set: the job's row as it now is, or None when it stands where no legal step leads to `later`.

    `of_attempt`: only while this is the attempt it is in. `only_from`: fewer of the legal steps.
    """
    sources = tuple(state for state in SOURCES[later] if only_from is None or state in only_from)
    computed = {name: value for name, value in columns.items() if isinstance(value, ColumnElement)}
    given = {name: value for name, value in columns.items() if name not in computed}
    step = _step(later, sources, is_of_attempt=of_attempt is not None)
    if computed:
        step = step.values(computed)
    return connection.execute(step, {"this_job": job_id, "this_attempt": of_attempt, **given}).one_or_none()


@cache
def _step(later: JobState, sources: tuple[JobState, ...], *, is_of_attempt: bool) -> ReturningUpdate[*tuple[Any, ...]]:
    step = update(job).where(job.c.id == bindparam("this_job"), job.c.state.in_(sources)).values(state=later)
    if is_of_attempt:
        step = step.where(job.c.attempt_id == bindparam("this_attempt"))
    return step.returning(job)


def upsert(connection: Connection, table: Table, key: Mapping[str, object], columns: Mapping[str, object]) -> None:
    """Insert a row, or change these columns of the one with this key."""
    connection.execute(_upsert(connection.dialect.name, table, tuple(key), tuple(columns)), {**key, **columns})


@cache
def _upsert(dialect: str, table: Table, key: tuple[str, ...], columns: tuple[str, ...]) -> Insert:
    row = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    written: Insert = row.on_conflict_do_update(index_elements=list(key), set_={name: row.excluded[name] for name in columns})
    return written


def free_slot(connection: Connection, job_id: JobId) -> None:
    """The job is active no more; its person may ask for another."""
    connection.execute(_FREE, {"this_job": job_id})


def floor_of(connection: Connection) -> float:
    """V."""
    floor: float = connection.execute(_FLOOR).scalar_one()
    return floor


def least_waiting_vt(connection: Connection, exact_keys: Collection[str] | None = None) -> float | None:
    """The least `vt` of the people who wait (with one of these keys); None when nobody does."""
    if exact_keys is None:
        rows = connection.execute(_LEAST_WAITING)
    else:
        rows = connection.execute(_LEAST_WAITING_WITH, {"exact_keys": list(exact_keys)})
    least: float | None = rows.scalar_one()
    return least


def refund(connection: Connection, user_id: UserId, attempt_id: AttemptId, job_id: JobId, *, waits_again: bool) -> None:
    """Give back exactly what the claim charged for this job, once, never below the floor.

    Who `waits_again` stands at the floor at least, like everybody who waits; of an idle person a `vt` below it is left alone.
    """
    booked = (attempt_job.c.attempt_id == attempt_id, attempt_job.c.job_id == job_id)
    charge = select(attempt_job.c.charge).where(*booked).scalar_subquery()
    floor = select(fairness.c.floor).scalar_subquery()
    given_back = account.c.vt - charge
    back_or_floor = case((given_back < floor, floor), else_=given_back)
    vt = back_or_floor if waits_again else case((account.c.vt < floor, account.c.vt), else_=back_or_floor)
    connection.execute(update(account).where(account.c.user_id == user_id).values(vt=vt))
    connection.execute(update(attempt_job).where(*booked).values(charge=0.0))  # so a second refund gives nothing
