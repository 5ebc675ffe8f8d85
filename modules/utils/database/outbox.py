"""Messages owed: written with the fact they tell, and struck off once Discord has them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, Integer, bindparam, exists, func, or_, select, update

from modules.domain.jobs import JobId, JobState
from modules.domain.people import MessageId
from modules.domain.ports import Clock
from modules.domain.records import MessageKind, OutboxItem
from modules.utils.database.codecs import outbox_item_of
from modules.utils.database.conditions import IS_OWED
from modules.utils.database.engine import Engine
from modules.utils.database.steps import move
from modules.utils.database.tables import job, outbox
from modules.utils.database.wakeups import Topic, tell

#: Nothing is put off for longer at once. What is due later than that was written before the clock was set back: it is due.
FURTHEST = timedelta(minutes=10)

# Built once: building a statement takes longer than running one like these.
_IS_THIS = (outbox.c.job_id == bindparam("this_job")) & (outbox.c.kind == bindparam("this_kind"))
_IS_DUE = or_(outbox.c.due_at <= bindparam("now"), outbox.c.due_at > bindparam("furthest"))
_DUE = (
    select(outbox)
    .where(IS_OWED, _IS_DUE)
    .order_by(outbox.c.due_at, outbox.c.created_at)
    .limit(bindparam("at_most", type_=Integer))
)
_INTEND = (
    update(outbox)
    .where(_IS_THIS, IS_OWED, _IS_DUE)
    .values(
        due_at=bindparam("held_until"),
        tries=outbox.c.tries + 1,
        first_try_at=func.coalesce(outbox.c.first_try_at, bindparam("now", type_=outbox.c.first_try_at.type)),
    )
    .returning(outbox)
)
_STRIKE_OFF = update(outbox).where(_IS_THIS, outbox.c.sent_at.is_(None)).values(is_owed=False)
_NEXT = select(func.min(outbox.c.due_at)).where(IS_OWED, outbox.c.due_at > bindparam("now"))


class SqlOutbox:
    """Implements the `Outbox` port."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def due(self, now: datetime, limit: int = 20) -> Sequence[OutboxItem]:
        """What may be tried now, oldest first."""
        return await self._engine.read(_due, now, limit)

    async def look(self, now: datetime, limit: int = 20) -> tuple[Sequence[OutboxItem], datetime | None]:
        """The same, and when the next becomes due of what may not be tried yet."""
        return await self._engine.read(_look, now, limit)

    async def claim_send(self, job_id: JobId, kind: MessageKind, now: datetime, hold: timedelta) -> OutboxItem | None:
        """Write the intent before the send; None if it is not due or done. `first_try_at == now` on the very first."""
        return await self._engine.write(_claim_send, job_id, kind, now, hold)

    async def delivered(self, job_id: JobId, kind: MessageKind, message_id: MessageId | None) -> bool:
        """Sent, even if it had been given up. False when it was noted before."""
        return await self._engine.write(_delivered, job_id, kind, message_id, self._clock.now())

    async def postpone(self, job_id: JobId, kind: MessageKind, until: datetime) -> None:
        """Try again then, in ten minutes at the latest; nothing changes for what is not owed."""
        await self._engine.write(_postpone, job_id, kind, min(until, self._clock.now() + FURTHEST))

    async def release(self, now: datetime) -> None:
        """Everything owed is due now."""
        await self._engine.write(_release, now)

    async def undeliverable(self, job_id: JobId, kind: MessageKind) -> None:
        """Give up; the pictures are kept."""
        await self._engine.write(_undeliverable, job_id, kind)

    async def send_again(self, job_id: JobId) -> bool:
        """Owe a RESULT once more that had been given up: UNDELIVERABLE -> GENERATED; False for any other, also a moment later."""
        return await self._engine.write(_send_again, job_id, self._clock.now())


def _this(job_id: JobId, kind: MessageKind) -> ColumnElement[bool]:
    return (outbox.c.job_id == job_id) & (outbox.c.kind == kind)


def _due(connection: Connection, now: datetime, limit: int) -> Sequence[OutboxItem]:
    rows = connection.execute(_DUE, {"now": now, "furthest": now + FURTHEST, "at_most": limit})
    return [outbox_item_of(row) for row in rows]


def _claim_send(connection: Connection, job_id: JobId, kind: MessageKind, now: datetime, hold: timedelta) -> OutboxItem | None:
    intent = {"this_job": job_id, "this_kind": kind, "now": now, "furthest": now + FURTHEST, "held_until": now + hold}
    row = connection.execute(_INTEND, intent).one_or_none()
    return None if row is None else outbox_item_of(row)


def _delivered(connection: Connection, job_id: JobId, kind: MessageKind, message_id: MessageId | None, now: datetime) -> bool:
    sent = {"this_job": job_id, "this_kind": kind, "sent_at": now, "message_id": message_id}
    if connection.execute(_STRIKE_OFF, sent).rowcount == 0:
        return False
    if kind is MessageKind.RESULT:
        move(connection, job_id, JobState.DELIVERED, result_message_id=message_id)
    return True


def _postpone(connection: Connection, job_id: JobId, kind: MessageKind, until: datetime) -> None:
    connection.execute(update(outbox).where(_this(job_id, kind), outbox.c.is_owed).values(due_at=until))
    tell(connection, Topic.OUTBOX)


def _release(connection: Connection, now: datetime) -> None:
    """Pauses begin short again, too: what an earlier start met says little of now."""
    connection.execute(update(outbox).where(IS_OWED).values(due_at=now, tries=0))


def _undeliverable(connection: Connection, job_id: JobId, kind: MessageKind) -> None:
    given_up = update(outbox).where(_this(job_id, kind), outbox.c.is_owed).values(is_owed=False)
    if connection.execute(given_up).rowcount and kind is MessageKind.RESULT:
        move(connection, job_id, JobState.UNDELIVERABLE)


def _send_again(connection: Connection, job_id: JobId, now: datetime) -> bool:
    """The old intent stays: should one of the first tries have arrived after all, it is found and not sent a second time."""
    given_up = exists().where(job.c.id == job_id, job.c.state == JobState.UNDELIVERABLE)
    again = update(outbox).where(_this(job_id, MessageKind.RESULT), ~outbox.c.is_owed, outbox.c.sent_at.is_(None), given_up)
    if connection.execute(again.values(is_owed=True, due_at=now, created_at=now, tries=0)).rowcount == 0:
        return False
    move(connection, job_id, JobState.GENERATED)
    tell(connection, Topic.OUTBOX)
    return True


def _look(connection: Connection, now: datetime, limit: int) -> tuple[Sequence[OutboxItem], datetime | None]:
    next_due: datetime | None = connection.execute(_NEXT, {"now": now}).scalar_one()
    return _due(connection, now, limit), next_due
