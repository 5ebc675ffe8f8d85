"""Small facts that every process of the house shares, and the audit trail."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection, bindparam, delete, insert, select

from modules.domain.people import UserId
from modules.domain.records import AuditEntry
from modules.utils.database.engine import Engine
from modules.utils.database.steps import upsert
from modules.utils.database.tables import audit, control
from modules.utils.database.wakeups import Topic, tell

_VALUE = select(control.c.value).where(control.c.key == bindparam("of_key"))


class SqlControlStore:
    """Implements the `ControlStore` port. A change wakes every process under the topic `control`, with its key."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def get(self, key: str) -> str | None:
        """None when it is not set."""
        return await self._engine.read(_get, key)

    async def set(self, key: str, value: str | None) -> None:
        """None unsets it."""
        await self._engine.exclusive(_set, key, value)

    async def set_if(self, key: str, expected: str | None, value: str | None) -> bool:
        """Compare and set: False, and nothing changed, when the value is another one by now."""
        return await self._engine.exclusive(_set_if, key, expected, value)

    async def with_prefix(self, prefix: str) -> Mapping[str, str]:
        """Everything whose key starts so."""
        return await self._engine.read(_with_prefix, prefix)

    async def keys(self, prefix: str) -> Sequence[str]:
        """The keys that start so, without their values."""
        return await self._engine.read(_keys, prefix)

    async def remove(self, keys: Collection[str]) -> None:
        """Unset all of these; wakes nobody."""
        if keys:
            await self._engine.write(_remove, tuple(keys))

    async def audit(self, entry: AuditEntry) -> None:
        """Kept for ever."""
        await self._engine.write(_audit, entry)

    async def audit_trail(self, limit: int = 50) -> Sequence[AuditEntry]:
        """Newest first."""
        return await self._engine.read(_audit_trail, limit)


def _get(connection: Connection, key: str) -> str | None:
    return connection.execute(_VALUE, {"of_key": key}).scalar_one_or_none()


def _set(connection: Connection, key: str, value: str | None) -> None:
    if value is None:
        connection.execute(delete(control).where(control.c.key == key))
    else:
        upsert(connection, control, {"key": key}, {"value": value})
    tell(connection, Topic.CONTROL, key)


def _set_if(connection: Connection, key: str, expected: str | None, value: str | None) -> bool:
    if _get(connection, key) != expected:
        return False
    _set(connection, key, value)
    return True


def _with_prefix(connection: Connection, prefix: str) -> Mapping[str, str]:
    query = select(control).where(control.c.key.startswith(prefix, autoescape=True)).order_by(control.c.key)
    return {row.key: row.value for row in connection.execute(query) if row.key.startswith(prefix)}


def _keys(connection: Connection, prefix: str) -> Sequence[str]:
    query = select(control.c.key).where(control.c.key.startswith(prefix, autoescape=True)).order_by(control.c.key)
    return [key for key in connection.execute(query).scalars() if key.startswith(prefix)]


def _remove(connection: Connection, keys: Sequence[str]) -> None:
    connection.execute(delete(control).where(control.c.key.in_(bindparam("keys", expanding=True))), {"keys": list(keys)})


def _audit(connection: Connection, entry: AuditEntry) -> None:
    connection.execute(
        insert(audit).values(
            at=entry.at, actor_id=entry.actor_id, act=entry.act, subject=entry.subject, details=dict(entry.details)
        )
    )


def _audit_trail(connection: Connection, limit: int) -> Sequence[AuditEntry]:
    rows = connection.execute(select(audit).order_by(audit.c.id.desc()).limit(limit))
    return [
        AuditEntry(at=row.at, actor_id=UserId(row.actor_id), act=row.act, subject=row.subject, details=row.details)
        for row in rows
    ]
