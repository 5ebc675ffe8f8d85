"""Jobs that were over a while ago, out of the way of those that are not (docs/decisions/0076)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, Connection, Integer, bindparam, delete, exists, insert, select

from modules.domain.jobs import JobState
from modules.utils.database.conditions import IS_OWED, is_in
from modules.utils.database.engine import Engine
from modules.utils.database.pieces import Pace, held
from modules.utils.database.tables import archived_job, attempt, attempt_job, blob, job, outbox
from modules.utils.database.types import AnyRow, AnySelect

#: Jobs that are looked at in one read.
LOOKED_AT_ONCE = 500
_LEAST_JOBS, _MOST_JOBS = 20, 100

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
# Asked one by one: PostgreSQL answers an OR of EXISTS by reading the whole of each table.
_THESE_JOBS: BindParameter[Any] = bindparam("these_jobs", expanding=True)
_OVER = (
    select(job.c.seq, job.c.id, job.c.state)
    .where(_THESE, is_in(JobState.DELIVERED, JobState.FAILED, JobState.CANCELLED, JobState.UNDELIVERABLE))
    .with_for_update()
)
_OWED = select(outbox.c.job_id).where(outbox.c.job_id.in_(_THESE_JOBS), IS_OWED)
_WITH_PICTURES = select(blob.c.job_id).where(blob.c.job_id.in_(_THESE_JOBS))
_IN_OPEN_ATTEMPT = (
    select(attempt_job.c.job_id)
    .join(attempt, attempt.c.id == attempt_job.c.attempt_id)
    .where(attempt_job.c.job_id.in_(_THESE_JOBS), attempt.c.ended_at.is_(None))
)
_IS_ERASED = job.c.display_name == ""
_NAMES = [column.name for column in archived_job.columns]
_KEEP = insert(archived_job).from_select(_NAMES, select(*(job.c[name] for name in _NAMES)).where(_THESE, ~_IS_ERASED))
_REMOVE = delete(job).where(job.c.id.in_(bindparam("these_jobs", expanding=True)))
_ATTEMPTS = select(attempt_job.c.attempt_id).where(attempt_job.c.job_id.in_(bindparam("these_jobs", expanding=True))).distinct()
_STILL_USED = select(attempt_job.c.attempt_id).where(attempt_job.c.attempt_id.in_(bindparam("these_attempts", expanding=True)))
_FORGET_ATTEMPTS = delete(attempt).where(
    attempt.c.id.in_(bindparam("these_attempts", expanding=True)), attempt.c.ended_at.is_not(None)
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
    over = connection.execute(_OVER, {"these": seqs}).all()
    kept = _needed(connection, _OWED, over) | _needed(connection, _IN_OPEN_ATTEMPT, over)
    # what could not be delivered can be sent again while there are pictures
    kept |= _needed(connection, _WITH_PICTURES, [row for row in over if row.state == JobState.UNDELIVERABLE])
    closed = [row for row in over if row.id not in kept]
    if closed:
        connection.execute(_KEEP, {"these": [row.seq for row in closed]})
        remove_jobs(connection, [row.id for row in closed])
    return len(closed)


def _needed(connection: Connection, query: AnySelect, rows: Sequence[AnyRow]) -> set[UUID]:
    return set(connection.execute(query, {"these_jobs": [row.id for row in rows]}).scalars()) if rows else set()


def remove_jobs(connection: Connection, job_ids: Sequence[UUID]) -> None:
    """Out of `job`, with their messages and their places in attempts; an attempt that is left without any job goes, too."""
    attempts = connection.execute(_ATTEMPTS, {"these_jobs": job_ids}).scalars().all()
    connection.execute(_REMOVE, {"these_jobs": job_ids})
    if attempts:
        used = set(connection.execute(_STILL_USED, {"these_attempts": attempts}).scalars())
        if unused := [attempt_id for attempt_id in attempts if attempt_id not in used]:
            connection.execute(_FORGET_ATTEMPTS, {"these_attempts": unused})
