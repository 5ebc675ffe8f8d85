"""Everything that is stored about a person, in pages: somebody with many thousand jobs takes no more memory than one page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, Integer, bindparam, exists, or_, select

from modules.domain.people import UserId
from modules.utils.database.engine import Engine
from modules.utils.database.erasing import is_being_erased
from modules.utils.database.tables import (
    account,
    archived_job,
    blob,
    job,
    last_picture,
    person,
    reference_picture,
    session,
)
from modules.utils.database.types import AnyRow, AnySelect

#: Jobs of one page, read in one go with their pictures.
PAGE = 500

Rows = Sequence[Mapping[str, object]]

_OF_PERSON = {name: select(table).where(table.c.user_id == bindparam("of_user")) for name, table in (
    ("settings", person), ("account", account), ("sessions", session),
)}  # fmt: skip
_SHOWN = [select(table.c.blob_id).where(table.c.user_id == bindparam("of_user")) for table in (last_picture, reference_picture)]
#: In this order a job that is being archived is found in one of them.
_JOBS: Sequence[AnySelect] = [
    select(table)
    .where(table.c.user_id == bindparam("of_user"), table.c.seq > bindparam("after"), ~is_being_erased(table))
    .order_by(table.c.seq)
    .limit(bindparam("at_most", type_=Integer))
    for table in (job, archived_job)
]
_PICTURE = select(
    blob.c.id, blob.c.job_id, blob.c.picture_index, blob.c.format, blob.c.width_px, blob.c.height_px, blob.c.created_at
)
_RESULTS = _PICTURE.where(blob.c.job_id.in_(bindparam("of_jobs", expanding=True)))
#: Own results are told of with their jobs.
_IS_OWN_RESULT = or_(
    *(exists().where(table.c.id == blob.c.job_id, table.c.user_id == bindparam("of_user")) for table in (job, archived_job))
)
_SOURCES = _PICTURE.where(blob.c.id.in_(bindparam("of_ids", expanding=True)), or_(blob.c.job_id.is_(None), ~_IS_OWN_RESULT))


async def export(engine: Engine, user_id: UserId) -> AsyncIterator[tuple[str, Rows]]:
    """See `PeopleStore.export`."""
    for name, rows in (await engine.read(_about, user_id)).items():
        yield name, rows
    told: set[str] = set()  # sources: many jobs may start from the same
    yield "pictures", await engine.read(_sources, user_id, await engine.read(_shown, user_id), told)
    after = 0
    while jobs := await engine.read(_page, user_id, after):
        after = jobs[-1].seq
        yield "jobs", [_json_ready(row) for row in jobs]
        yield "pictures", await engine.read(_pictures, user_id, jobs, told)


def _about(connection: Connection, user_id: UserId) -> Mapping[str, Rows]:
    of_user = {"of_user": user_id}
    return {name: [_json_ready(row) for row in connection.execute(query, of_user)] for name, query in _OF_PERSON.items()}


def _shown(connection: Connection, user_id: UserId) -> set[str]:
    return {blob_id for query in _SHOWN for blob_id in connection.execute(query, {"of_user": user_id}).scalars()}


def _page(connection: Connection, user_id: UserId, after: int) -> Sequence[AnyRow]:
    found: dict[int, AnyRow] = {}
    for query in _JOBS:
        found |= {row.seq: row for row in connection.execute(query, {"of_user": user_id, "after": after, "at_most": PAGE})}
    return [found[seq] for seq in sorted(found)[:PAGE]]


def _pictures(connection: Connection, user_id: UserId, jobs: Sequence[AnyRow], told: set[str]) -> Rows:
    """What these jobs became, and what they started from."""
    results = [_json_ready(row) for row in connection.execute(_RESULTS, {"of_jobs": [row.id for row in jobs]})]
    sources = {blob_id for row in jobs for blob_id in (row.source_id, row.reference_id) if blob_id is not None}
    return [*results, *_sources(connection, user_id, sources, told)]


def _sources(connection: Connection, user_id: UserId, blob_ids: set[str], told: set[str]) -> Rows:
    """Those not told of yet."""
    new = sorted(blob_ids - told)
    told.update(new)
    return [_json_ready(row) for row in connection.execute(_SOURCES, {"of_ids": new, "of_user": user_id})] if new else []


def _json_ready(row: AnyRow) -> dict[str, object]:
    """Instants in ISO 8601; ids as text, since JSON's usual readers cannot hold 64 bits."""
    ready: dict[str, object] = {}
    for name, value in row._mapping.items():
        match value:
            case datetime():
                ready[name] = value.isoformat()
            case None | bool() | float() | str() | list() | dict():
                ready[name] = value
            case int() if not name.endswith("_id"):
                ready[name] = value
            case _:
                ready[name] = str(value)
    return ready
