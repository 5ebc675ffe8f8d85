"""What every transaction on the queue is made of: a step from one state to another, an account, a slot, a refund."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, Table, case, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from modules.domain.jobs import AttemptId, JobId, JobState
from modules.domain.people import UserId
from modules.utils.database.tables import account, active_slot, attempt_job, fairness, job
from modules.utils.database.types import AnyRow

#: The states from which each state may be reached; everything else the stores refuse.
SOURCES: Mapping[JobState, tuple[JobState, ...]] = {
    later: tuple(state for state in JobState if state.may_become(later)) for later in JobState
}


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
    sources = [state for state in SOURCES[later] if only_from is None or state in only_from]
    step = update(job).where(job.c.id == job_id, job.c.state.in_(sources)).values(state=later, **columns)
    if of_attempt is not None:
        step = step.where(job.c.attempt_id == of_attempt)
    return connection.execute(step.returning(job)).one_or_none()


def upsert(connection: Connection, table: Table, key: Mapping[str, object], columns: Mapping[str, object]) -> None:
    """Insert a row, or change these columns of the one with this key."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = dialect.insert(table).values({**key, **columns})
    connection.execute(row.on_conflict_do_update(index_elements=list(key), set_=dict(columns)))


def free_slot(connection: Connection, job_id: JobId) -> None:
    """The job is active no more; its person may ask for another."""
    connection.execute(delete(active_slot).where(active_slot.c.job_id == job_id))


def floor_of(connection: Connection) -> float:
    """V."""
    floor: float = connection.execute(select(fairness.c.floor)).scalar_one()
    return floor


def least_waiting_vt(connection: Connection, exact_keys: Collection[str] | None = None) -> float | None:
    """The least `vt` of the people who wait (with one of these keys); None when nobody does."""
    waiting = select(job.c.user_id).where(job.c.state == JobState.QUEUED)
    if exact_keys is not None:
        waiting = waiting.where(job.c.exact_key.in_(exact_keys))
    least: float | None = connection.execute(select(func.min(account.c.vt)).where(account.c.user_id.in_(waiting))).scalar_one()
    return least


def refund(connection: Connection, user_id: UserId, attempt_id: AttemptId, job_id: JobId, *, waits_again: bool) -> None:
    """Give back exactly what the claim charged for this job, never below the floor.

    Who `waits_again` stands at the floor at least, like everybody who waits; of an idle person a `vt` below it is left alone.
    """
    charge = (
        select(attempt_job.c.charge)
        .where(attempt_job.c.attempt_id == attempt_id, attempt_job.c.job_id == job_id)
        .scalar_subquery()
    )
    floor = select(fairness.c.floor).scalar_subquery()
    given_back = account.c.vt - charge
    back_or_floor = case((given_back < floor, floor), else_=given_back)
    vt = back_or_floor if waits_again else case((account.c.vt < floor, account.c.vt), else_=back_or_floor)
    connection.execute(update(account).where(account.c.user_id == user_id).values(vt=vt))
