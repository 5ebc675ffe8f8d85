"""Forgetting a person: at once for everybody who looks, then row by row in short transactions, also after a restart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Integer, Table, bindparam, delete, exists, func, or_, select, update

from modules.domain.errors import FulletError
from modules.domain.jobs import ACTIVE_STATES, JobId, JobState
from modules.domain.people import UserId
from modules.utils.database.archive import IS_IN_OPEN_ATTEMPT, remove_jobs
from modules.utils.database.codecs import recipe_from_json, recipe_to_json
from modules.utils.database.conditions import IS_OWED, is_in
from modules.utils.database.engine import Engine
from modules.utils.database.pieces import Pace, held
from modules.utils.database.steps import move, upsert
from modules.utils.database.tables import (
    archived_job,
    attempt,
    attempt_job,
    blob,
    erasure,
    job,
    last_picture,
    outbox,
    person,
    reference_picture,
)
from modules.utils.database.types import AnyRow, AnySelect, JsonValue

#: Jobs that are looked at in one read.
LOOKED_AT_ONCE = 500
_LEAST_JOBS, _MOST_JOBS = 10, 100

_OF_USER = job.c.user_id == bindparam("of_user")
_IS_OVER = ~is_in(*ACTIVE_STATES)
_UNFINISHED = select(erasure.c.user_id, erasure.c.up_to_seq).order_by(erasure.c.user_id)


#: What was owed when the erasure began is owed no more: this was still drawn at that time, and ended since.
_IS_STILL_OWED = exists().where(outbox.c.job_id == job.c.id, IS_OWED).correlate_except(outbox)


def is_being_erased(jobs: Table) -> Any:
    """Whether a row of `job` or `archived_job` is only waiting to be deleted.

    What an open attempt still needs is no such row: nothing of its person is left in it. Nor is a job that was active when the
    erasure began, until its message is delivered.
    """
    conditions = [
        erasure.c.user_id == jobs.c.user_id,
        jobs.c.seq <= erasure.c.up_to_seq,
        jobs.c.display_name != "",
        jobs.c.state.not_in(sorted(ACTIVE_STATES)),
    ]
    if jobs is job:  # nothing is owed for what is archived
        conditions.append(~_IS_STILL_OWED)
    return exists().where(*conditions)


async def erase(engine: Engine, user_id: UserId, now: datetime) -> None:
    """See `PeopleStore.erase`."""
    await engine.exclusive(_begin, user_id, now)
    await finish(engine)


async def finish(engine: Engine) -> int:
    """See `PeopleStore.finish_erasures`."""
    unfinished = await engine.read(_unfinished)
    for user_id, up_to_seq in unfinished:
        await _erase_jobs(engine, job, user_id, up_to_seq)
        await _erase_jobs(engine, archived_job, user_id, up_to_seq)
        await engine.exclusive(_end, user_id, up_to_seq)
    return len(unfinished)


def _unfinished(connection: Connection) -> list[tuple[UserId, int]]:
    return [(UserId(user_id), up_to_seq) for user_id, up_to_seq in connection.execute(_UNFINISHED)]


# --- the first transaction: nothing of the person is seen or sent from here on --------------------------------------------


def _begin(connection: Connection, user_id: UserId, now: datetime) -> None:
    up_to_seq = max(connection.execute(_newest(jobs), {"of_user": user_id}).scalar_one() or 0 for jobs in (job, archived_job))
    upsert(connection, erasure, {"user_id": user_id}, {"up_to_seq": up_to_seq, "asked_at": now})
    for row in connection.execute(_STILL_NEEDED, {"of_user": user_id}).all():
        _scrub(connection, row)
    uploads = connection.execute(_SHOWN_PICTURES, {"of_user": user_id}).scalars().all()
    connection.execute(delete(last_picture).where(last_picture.c.user_id == user_id))
    connection.execute(delete(reference_picture).where(reference_picture.c.user_id == user_id))
    _delete_unused(connection, uploads)
    banned = connection.execute(select(person.c.is_banned).where(person.c.user_id == user_id)).scalar()
    connection.execute(delete(person).where(person.c.user_id == user_id))
    if banned:  # or it could be shaken off
        upsert(connection, person, {"user_id": user_id}, {"is_banned": True})


def _newest(jobs: Table) -> AnySelect:
    return select(func.max(jobs.c.seq)).where(jobs.c.user_id == bindparam("of_user"))


#: Jobs that are over but that a courier or the batch of an open attempt still looks at: few.
_STILL_NEEDED = select(job).where(
    _OF_USER,
    _IS_OVER,
    or_(
        job.c.id.in_(select(outbox.c.job_id).where(IS_OWED)),
        job.c.id.in_(
            select(attempt_job.c.job_id)
            .join(attempt, attempt.c.id == attempt_job.c.attempt_id)
            .where(attempt.c.ended_at.is_(None))
        ),
    ),
)
_SHOWN_PICTURES = (
    select(last_picture.c.blob_id)
    .where(last_picture.c.user_id == bindparam("of_user"))
    .union(select(reference_picture.c.blob_id).where(reference_picture.c.user_id == bindparam("of_user")))
)


def _scrub(connection: Connection, row: AnyRow) -> None:
    """Take everything out of a job that must stay but what its attempt needs: how many pictures, and where."""
    connection.execute(
        update(job)
        .where(job.c.id == row.id)
        .values(recipe=_without_person(row.recipe), prompt="", display_name="", source_id=None, reference_id=None)
    )
    connection.execute(delete(blob).where(blob.c.job_id == row.id))
    connection.execute(delete(outbox).where(outbox.c.job_id == row.id))
    move(connection, JobId(row.id), JobState.UNDELIVERABLE)  # where a result was still owed; elsewhere no legal step
    _delete_unused(connection, [blob_id for blob_id in (row.source_id, row.reference_id) if blob_id])


def _without_person(recipe: JsonValue) -> JsonValue:
    """Of a recipe that cannot be read nothing is needed, as nothing can be drawn by it."""
    try:
        return recipe_to_json(replace(recipe_from_json(recipe), prompt="", negative_prompt="", source=None, reference=None))
    except FulletError:
        return {}


# --- the rest, piece by piece ----------------------------------------------------------------------------------------------


async def _erase_jobs(engine: Engine, jobs: Table, user_id: UserId, up_to_seq: int) -> None:
    after, pace = 0, Pace(least=_LEAST_JOBS, most=_MOST_JOBS)
    remove = _remove if jobs is job else _remove_archived
    while rows := await engine.read(_look, _of_person(jobs), user_id, after, up_to_seq):
        after = rows[-1].seq
        while rows:
            piece = rows[: pace.size]
            del rows[: len(piece)]
            _, held_s = await held(engine, _remove_piece, remove, piece)
            pace.note(len(piece), held_s)


def _of_person(jobs: Table) -> AnySelect:
    return (
        select(jobs.c.seq, jobs.c.id, jobs.c.source_id, jobs.c.reference_id)
        .where(jobs.c.user_id == bindparam("of_user"), jobs.c.seq > bindparam("after"), jobs.c.seq <= bindparam("up_to"))
        .order_by(jobs.c.seq)
        .limit(bindparam("at_most", type_=Integer))
    )


def _look(connection: Connection, query: AnySelect, user_id: UserId, after: int, up_to_seq: int) -> list[AnyRow]:
    asked = {"of_user": user_id, "after": after, "up_to": up_to_seq, "at_most": LOOKED_AT_ONCE}
    return list(connection.execute(query, asked).all())


def _remove_piece(
    connection: Connection, remove: Callable[[Connection, Sequence[UUID]], Sequence[UUID]], rows: Sequence[AnyRow]
) -> None:
    removed = set(remove(connection, [row.id for row in rows]))
    connection.execute(_FORGET_RESULTS, {"these_jobs": list(removed)})
    uploads = {blob_id for row in rows if row.id in removed for blob_id in (row.source_id, row.reference_id) if blob_id}
    _delete_unused(connection, sorted(uploads))


_REMOVABLE = (
    select(job.c.id)
    .where(job.c.id.in_(bindparam("these_jobs", expanding=True)), _IS_OVER, ~IS_IN_OPEN_ATTEMPT, ~_IS_STILL_OWED)
    .with_for_update()
)
_REMOVE_ARCHIVED = delete(archived_job).where(archived_job.c.id.in_(bindparam("these_jobs", expanding=True)))
_FORGET_RESULTS = delete(blob).where(blob.c.job_id.in_(bindparam("these_jobs", expanding=True)))
_FORGET_UPLOADS = delete(blob).where(
    blob.c.id.in_(bindparam("these_blobs", expanding=True)),
    blob.c.job_id.is_(None),
    *(
        ~exists().where(column == blob.c.id)
        for column in (job.c.source_id, job.c.reference_id, archived_job.c.source_id, archived_job.c.reference_id)
    ),
)


def _remove(connection: Connection, job_ids: Sequence[UUID]) -> Sequence[UUID]:
    removable = connection.execute(_REMOVABLE, {"these_jobs": job_ids}).scalars().all()
    remove_jobs(connection, removable)
    return removable


def _remove_archived(connection: Connection, job_ids: Sequence[UUID]) -> Sequence[UUID]:
    connection.execute(_REMOVE_ARCHIVED, {"these_jobs": job_ids})
    return job_ids


def _delete_unused(connection: Connection, uploads: Sequence[str]) -> None:
    """Uploads, unless a job that is there starts from them: another person's, an active one, or one that is deleted later."""
    if uploads:
        connection.execute(_FORGET_UPLOADS, {"these_blobs": uploads})


def _end(connection: Connection, user_id: UserId, up_to_seq: int) -> None:
    """Unless they asked once more meanwhile."""
    connection.execute(delete(erasure).where(erasure.c.user_id == user_id, erasure.c.up_to_seq == up_to_seq))
