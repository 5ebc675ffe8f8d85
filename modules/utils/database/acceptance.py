"""Accepting a job: once per interaction, within the limits, and with an account that banked nothing while idle."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import uuid4

from sqlalchemy import Connection, bindparam, func, insert, select

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import Job, JobRequest, JobState
from modules.domain.people import Person, UserId
from modules.domain.records import Limits
from modules.utils.database.codecs import job_of, row_of_request
from modules.utils.database.conditions import IS_QUEUED
from modules.utils.database.steps import floor_of, least_waiting_vt, upsert
from modules.utils.database.tables import account, active_slot, job, person
from modules.utils.database.wakeups import Topic, tell

# Built once: acceptance is what people wait for, and building these statements takes longer than running them.
_EARLIER = select(job).where(job.c.interaction_id == bindparam("of_interaction"))
_IS_BANNED = select(person.c.is_banned).where(person.c.user_id == bindparam("of_user"))
_HELD = (
    select(active_slot.c.slot, job.c.state)
    .join(job, job.c.id == active_slot.c.job_id)
    .where(active_slot.c.user_id == bindparam("of_user"))
)
_WAITING = select(func.count()).select_from(job).where(IS_QUEUED)
_ACCOUNT = select(account.c.vt, account.c.weight).where(account.c.user_id == bindparam("of_user"))
_STORE = insert(job).returning(job)
_HOLD = insert(active_slot)


def accept(
    connection: Connection, request: JobRequest, limits: Limits, sharing: Collection[str] | None, now: datetime
) -> tuple[Job, bool]:
    """See `JobStore.accept`; runs exclusively."""
    earlier = connection.execute(_EARLIER, {"of_interaction": request.interaction_id}).one_or_none()
    if earlier is not None:
        return job_of(earlier), False
    user_id = request.person.user_id
    _check_not_banned(connection, user_id)
    active = _active_jobs(connection, user_id)
    slot = _free_slot(set(active), limits.active_per_person)
    _check_room(connection, limits.queue_length)
    _open_account(connection, request.person, sharing, was_waiting=JobState.QUEUED in active.values())
    row = {**row_of_request(request), "id": uuid4(), "state": JobState.QUEUED, "accepted_at": now}
    stored = connection.execute(_STORE, row).one()
    connection.execute(_HOLD, {"user_id": user_id, "slot": slot, "job_id": stored.id})
    tell(connection, Topic.QUEUE)
    return job_of(stored), True


def check_may_ask(connection: Connection, user_id: UserId, limits: Limits) -> None:
    """See `JobStore.check_may_ask`; only reads."""
    _check_not_banned(connection, user_id)
    _free_slot(set(_active_jobs(connection, user_id)), limits.active_per_person)
    _check_room(connection, limits.queue_length)


def _check_not_banned(connection: Connection, user_id: UserId) -> None:
    if connection.execute(_IS_BANNED, {"of_user": user_id}).scalar():
        raise FulletError(ErrorCode.PERSON_BANNED)


def _active_jobs(connection: Connection, user_id: UserId) -> dict[int, JobState]:
    """The person's taken slots and where the job in each stands."""
    return {row.slot: JobState(row.state) for row in connection.execute(_HELD, {"of_user": user_id})}


def _free_slot(taken: set[int], limit: int) -> int:
    """The lowest free slot; slots above a limit that was lowered meanwhile count, too."""
    if len(taken) >= limit:
        raise FulletError(ErrorCode.ACTIVE_LIMIT_REACHED, limit=limit)
    return next(slot for slot in range(1, limit + 1) if slot not in taken)


def _check_room(connection: Connection, queue_length: int) -> None:
    waiting = connection.execute(_WAITING).scalar_one()
    if waiting >= queue_length:
        raise FulletError(ErrorCode.QUEUE_FULL)


def _open_account(connection: Connection, asker: Person, sharing: Collection[str] | None, *, was_waiting: bool) -> None:
    """Note the weight of today's roles; lift who had nothing waiting to the least-served of those they now wait with."""
    known = connection.execute(_ACCOUNT, {"of_user": asker.user_id}).one_or_none()
    vt = 0.0 if known is None else known.vt
    if not was_waiting:
        least = least_waiting_vt(connection, sharing)
        vt = max(vt, floor_of(connection) if least is None else least)
    if known is None or (vt, asker.weight) != (known.vt, known.weight):
        upsert(connection, account, {"user_id": asker.user_id}, {"vt": vt, "weight": asker.weight})
