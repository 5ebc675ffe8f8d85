"""Jobs that were over a while ago, out of the way of those that are not (docs/decisions/0076)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Integer, and_, bindparam, delete, exists, insert, or_, select

from modules.domain.jobs import JobState
from modules.utils.database.conditions import IS_OWED, is_in
from modules.utils.database.engine import Engine
from modules.utils.database.pieces import Pace, held
from modules.utils.database.tables import archived_job, attempt, attempt_job, blob, job, outbox

#: Jobs that are looked at in one read.
LOOKED_AT_ONCE = 500
_LEAST_JOBS, _MOST_JOBS = 20, 500

_THESE = job.c.seq.in_(bindparam("these", expanding=True))
_OLDEST = (
    select(job.c.seq, job.c.accepted_at)
    .where(job.c.seq > bindparam("after"))
    .order_by(job.c.seq)
    .limit(bindparam("at_most", type_=Integer))
)
#: The batch order of an open attempt decides whose picture is whose: its jobs keep their rows until it ends.
IS_IN_OPEN_ATTEMPT = exists().where(
    attempt_job.c.job_id == job.c.id, attempt.c.id == attempt_job.c.attempt_id, attempt.c.ended_at.is_(None)
)
_IS_OWED = exists().where(outbox.c.job_id == job.c.id, IS_OWED)
_CAN_BE_SENT_AGAIN = and_(is_in(JobState.UNDELIVERABLE), exists().where(blob.c.job_id == job.c.id))
_IS_CLOSED: ColumnElement[bool] = and_(
    is_in(JobState.DELIVERED, JobState.FAILED, JobState.CANCELLED, JobState.UNDELIVERABLE),
    ~or_(_IS_OWED, _CAN_BE_SENT_AGAIN, IS_IN_OPEN_ATTEMPT),
)
_IS_ERASED = job.c.display_name == ""
_CLOSED = select(job.c.seq, job.c.id).where(_THESE, _IS_CLOSED).with_for_update()
_NAMES = [column.name for column in archived_job.columns]
_KEEP = insert(archived_job).from_select(_NAMES, select(*(job.c[name] for name in _NAMES)).where(_THESE, ~_IS_ERASED))
_REMOVE = delete(job).where(job.c.id.in_(bindparam("these_jobs", expanding=True)))
_ATTEMPTS = select(attempt_job.c.attempt_id).where(attempt_job.c.job_id.in_(bindparam("these_jobs", expanding=True))).distinct()
_FORGET_ATTEMPTS = delete(attempt).where(
    attempt.c.id.in_(bindparam("these_attempts", expanding=True)),
    attempt.c.ended_at.is_not(None),
    ~exists().where(attempt_job.c.attempt_id == attempt.c.id),
)


async def archive(engine: Engine, accepted_before: datetime) -> int:
    """See `JobStore.archive`."""
    moved, after, pace = 0, 0, Pace(least=_LEAST_JOBS, most=_MOST_JOBS)
    while seqs := await engine.read(_look, after, accepted_before):
        after = seqs[-1]
        while seqs:
            piece = seqs[: pace.size]
            del seqs[: len(piece)]
            done, held_s = await held(engine, _move, piece)
            pace.note(len(piece), held_s)
            moved += done
    return moved


def _look(connection: Connection, after: int, accepted_before: datetime) -> list[int]:
    rows = connection.execute(_OLDEST, {"after": after, "at_most": LOOKED_AT_ONCE})
    return [seq for seq, accepted_at in rows if accepted_at < accepted_before]


def _move(connection: Connection, seqs: Sequence[int]) -> int:
    """What names the job from outside stays true: its id is the same, and its pictures are found by it."""
    closed = connection.execute(_CLOSED, {"these": seqs}).all()
    if closed:
        connection.execute(_KEEP, {"these": [row.seq for row in closed]})
        remove_jobs(connection, [row.id for row in closed])
    return len(closed)


def remove_jobs(connection: Connection, job_ids: Sequence[UUID]) -> None:
    """Out of `job`, with their messages and their places in attempts; an attempt that is left without any job goes, too."""
    attempts = connection.execute(_ATTEMPTS, {"these_jobs": job_ids}).scalars().all()
    connection.execute(_REMOVE, {"these_jobs": job_ids})
    if attempts:
        connection.execute(_FORGET_ATTEMPTS, {"these_attempts": attempts})
