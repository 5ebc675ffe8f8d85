"""Forgetting pictures, oldest first: those over their days, and those over the room they may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Delete, Integer, bindparam, delete, exists, func, or_, select, tuple_

from modules.domain.jobs import ACTIVE_STATES, JobState
from modules.utils.database.conditions import is_in
from modules.utils.database.engine import Engine
from modules.utils.database.pieces import Pace, held
from modules.utils.database.tables import blob, job, last_picture
from modules.utils.database.types import AnySelect

#: Pictures that are looked at in one read.
LOOKED_AT_ONCE = 500
#: Bytes of pictures in one transaction, at least and at most. SQLite reads every page that it sets free.
_LEAST_BYTES, _MOST_BYTES = 4_000_000, 64_000_000
#: What a picture costs beside its bytes: its row, its places in the indexes, the questions whether it is needed.
_ROW_BYTES = 50_000

_SIZE = func.length(blob.c.data).label("size_bytes")  # neither database reads the bytes for this
_AGE = tuple_(blob.c.created_at, blob.c.id)
_AFTER = tuple_(bindparam("at", type_=blob.c.created_at.type), bindparam("id", type_=blob.c.id.type))
_OLDEST = (
    select(blob.c.created_at, blob.c.id, _SIZE)
    .where(_AGE > _AFTER)
    .order_by(blob.c.created_at, blob.c.id)
    .limit(bindparam("at_most", type_=Integer))
)
_NEWEST = (
    select(blob.c.created_at, blob.c.id, _SIZE)
    .where(_AGE < _AFTER)
    .order_by(blob.c.created_at.desc(), blob.c.id.desc())
    .limit(bindparam("at_most", type_=Integer))
)
_IS_WAITED_FOR = or_(
    exists().where(job.c.id == blob.c.job_id, is_in(JobState.GENERATED)),
    exists().where(job.c.source_id == blob.c.id, is_in(*ACTIVE_STATES)),
    exists().where(job.c.reference_id == blob.c.id, is_in(*ACTIVE_STATES)),
)
_FORGET = delete(blob).where(blob.c.id.in_(bindparam("these", expanding=True)), ~_IS_WAITED_FOR)
_FORGET_BUT_THE_LAST = _FORGET.where(~exists().where(last_picture.c.blob_id == blob.c.id))


@dataclass(frozen=True, slots=True)
class Age:
    """A picture's place in the order of age; the id tells apart those of one moment."""

    at: datetime
    id: str = ""


_BEFORE_ALL, _AFTER_ALL = Age(datetime(1970, 1, 1, tzinfo=UTC)), Age(datetime(9000, 1, 1, tzinfo=UTC))


async def sweep(engine: Engine, older_than: datetime, keep_bytes: int | None) -> int:
    """See `BlobStore.sweep`."""
    gone = await _forget(engine, Age(older_than), _FORGET_BUT_THE_LAST)
    if keep_bytes is not None and (oldest := await _oldest_within(engine, keep_bytes)) is not None:
        gone += await _forget(engine, oldest, _FORGET)
    return gone


async def _oldest_within(engine: Engine, keep_bytes: int) -> Age | None:
    """Before this age there is no room left, counted from the newest picture; None when all have room.

    Reads as many rows as may stay, so the bound on bytes also bounds the work.
    """
    oldest, kept_bytes = _AFTER_ALL, 0
    while rows := await engine.read(_look, _NEWEST, oldest):
        for age, size_bytes in rows:
            kept_bytes += size_bytes
            if kept_bytes > keep_bytes:
                return oldest
            oldest = age
    return None


async def _forget(engine: Engine, before: Age, forget: Delete) -> int:
    """Delete what is older, each picture looked at once."""
    age, gone, pace = _BEFORE_ALL, 0, Pace(least=_LEAST_BYTES, most=_MOST_BYTES)
    while rows := [row for row in await engine.read(_look, _OLDEST, age) if (row[0].at, row[0].id) < (before.at, before.id)]:
        age = rows[-1][0]
        while rows:
            piece, weight = _piece(rows, pace.size)
            del rows[: len(piece)]
            deleted, held_s = await held(engine, _delete, forget, piece)
            pace.note(weight, held_s)
            gone += deleted
    return gone


def _piece(rows: Sequence[tuple[Age, int]], size: int) -> tuple[list[str], int]:
    """The first of these whose weight is about that size, at least one; and what they weigh."""
    piece: list[str] = []
    weight = 0
    for age, size_bytes in rows:
        piece.append(age.id)
        weight += size_bytes + _ROW_BYTES
        if weight >= size:
            break
    return piece, weight


def _look(connection: Connection, query: AnySelect, age: Age) -> list[tuple[Age, int]]:
    rows = connection.execute(query, {"at": age.at, "id": age.id, "at_most": LOOKED_AT_ONCE})
    return [(Age(at, blob_id), size_bytes) for at, blob_id, size_bytes in rows]


def _delete(connection: Connection, forget: Delete, blob_ids: Sequence[str]) -> int:
    return connection.execute(forget, {"these": blob_ids}).rowcount
