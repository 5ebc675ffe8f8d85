"""PostgreSQL: many processes, one queue."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from modules.domain.errors import ErrorCode, FulletError
from modules.utils.database.engine import DatabaseReport, Engine, border, finished, reason_of
from modules.utils.database.listening import CHANNEL, Listener, packed
from modules.utils.database.migrations import migrate, newest_revision, revision_of
from modules.utils.database.urls import PostgresTarget
from modules.utils.database.wakeups import Hub, Wakeup, take_told

T = TypeVar("T")

#: Connections of one process: the gateway asks, workers settle, the courier sends. The listener's comes on top.
POOL_SIZE = 5
POOL_TIMEOUT_S = 10
CONNECT_TIMEOUT_S = 10
#: One statement; storing four large pictures over a slow line takes longest.
COMMAND_TIMEOUT_S = 20
#: Firewalls and poolers drop silent connections after a few minutes.
RECYCLE_S = 240
#: "FuLLet" in ASCII: the key of the advisory lock that makes a transaction exclusive, for every process of one database.
EXCLUSIVE_KEY = int.from_bytes(b"FuLLet", "big")
#: A process that stops in the middle (SIGSTOP, a lost host) must not hold everybody else for ever. Set per transaction: poolers
#: refuse them as start-up parameters.
_TAKE_LOCK = text(
    "SELECT set_config('lock_timeout', '8s', true), set_config('idle_in_transaction_session_timeout', '20s', true),"
    f" pg_advisory_xact_lock({EXCLUSIVE_KEY})"
)
#: Serialization failure, deadlock: PostgreSQL itself says "try again".
_AGAIN = frozenset({"40001", "40P01"})


class PostgresEngine(Engine):
    """A server."""

    def __init__(self, target: PostgresTarget, hub: Hub, *, is_read_only: bool = False) -> None:
        super().__init__(hub, is_read_only=is_read_only)
        self._target = target
        connect: dict[str, object] = {"timeout": CONNECT_TIMEOUT_S, "command_timeout": COMMAND_TIMEOUT_S, **target.connect}
        self._listener = Listener(connect, hub)
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            connect_args=connect | (_without_prepared_statements() if target.is_pooled else {}),
            hide_parameters=True,  # they are people's prompts
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_S,
            pool_recycle=RECYCLE_S,
        )
        self._autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    async def open(self) -> None:
        """Bring the tables up to date (one process at a time), then listen."""
        if self.is_read_only:
            return
        with border():
            async with self._engine.begin() as connection:
                await connection.run_sync(_migrate)
        await self._listener.start()

    async def close(self) -> None:
        """Ends the listener and the pool."""
        await self._listener.stop()
        await self._engine.dispose()

    async def _read(self, work: Callable[[Connection], T]) -> T:
        return await _twice_if_cut(lambda: self._look(work))

    async def _look(self, work: Callable[[Connection], T]) -> T:
        async with self._autocommit.connect() as connection:
            return await connection.run_sync(work)

    async def _write(self, work: Callable[[Connection], T], *, is_exclusive: bool) -> T:
        return await finished(_twice_if_cut(lambda: self._transact(work, is_exclusive)))

    async def _transact(self, work: Callable[[Connection], T], is_exclusive: bool) -> T:
        async with self._engine.connect() as connection, connection.begin() as transaction:
            result, told = await connection.run_sync(self._work_and_tell, work, is_exclusive)
            with _outcome_unknown():
                await transaction.commit()
        self.hub.publish(told)
        return result

    def _work_and_tell(
        self, connection: Connection, work: Callable[[Connection], T], is_exclusive: bool
    ) -> tuple[T, tuple[Wakeup, ...]]:
        take_told(connection)
        if is_exclusive:
            connection.execute(_TAKE_LOCK)
        result = work(connection)
        told = take_told(connection)
        for wakeup in told:  # delivered by PostgreSQL when, and only when, this commits
            connection.execute(select(func.pg_notify(CHANNEL, packed(wakeup, self._listener.origin))))
        return result, told

    async def notify(self, topic: str, payload: str) -> None:
        """To every process that listens; at most 7,900 bytes, else ValueError."""
        wakeup = Wakeup(topic, payload)
        message = packed(wakeup, self._listener.origin)
        with border():
            async with self._autocommit.connect() as connection:
                await connection.execute(select(func.pg_notify(CHANNEL, message)))
        self.hub.publish([wakeup])

    async def check(self) -> DatabaseReport:
        """Also writes, which is the only way to know that one can; a database that is only looked at is asked for its rights."""
        write_s = None
        if not self.is_read_only:
            began = time.perf_counter()
            await self.write(_touch)
            write_s = time.perf_counter() - began
        with border():
            async with self._autocommit.connect() as connection:
                facts = await _facts(connection)
                revision = await connection.run_sync(revision_of)
                if not await _may_write(connection, has_tables=revision is not None):
                    raise FulletError(ErrorCode.DATABASE_UNAVAILABLE, reason="read_only")
        return DatabaseReport(
            kind="postgresql",
            location=self._target.location,
            version=facts["version"],
            revision=revision,
            newest_revision=newest_revision(),
            write_s=write_s,
            is_durable=facts["is_durable"],
            is_encrypted=facts["is_encrypted"],
            ignored=self._target.ignored,
        )


async def _twice_if_cut(attempt: Callable[[], Awaitable[T]]) -> T:
    """Whatever broke before the commit left nothing behind, so one more try is safe. It often helps: idle connections get cut."""
    try:
        return await attempt()
    except DBAPIError as error:
        if not _may_succeed_later(error):
            raise
    return await attempt()


@contextmanager
def _outcome_unknown() -> Iterator[None]:
    """A commit that failed may yet have been stored: never to be tried again, unlike everything before it."""
    try:
        yield
    except DBAPIError as error:
        raise FulletError(ErrorCode.DATABASE_UNAVAILABLE, reason=reason_of(error)) from error


def _may_succeed_later(error: DBAPIError) -> bool:
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _AGAIN


def _without_prepared_statements() -> dict[str, object]:
    """Behind a transaction pooler the next transaction may meet another server process, which knows none of our statements."""
    return {
        "statement_cache_size": 0,
        "prepared_statement_cache_size": 0,
        "prepared_statement_name_func": lambda: f"__fullet_{uuid4().hex}__",
    }


def _migrate(connection: Connection) -> None:
    connection.execute(_TAKE_LOCK)
    if revision_of(connection) != newest_revision():
        migrate(connection)


def _touch(connection: Connection) -> None:
    connection.execute(text("UPDATE fairness SET floor = floor"))


async def _may_write(connection: AsyncConnection, *, has_tables: bool) -> bool:
    """Whether this account may change the tables, or make them, on a server that is no standby."""
    right = "has_table_privilege('job', 'INSERT')" if has_tables else "has_schema_privilege(current_schema(), 'CREATE')"
    asked = text(f"SELECT NOT pg_is_in_recovery() AND {right}")
    return bool((await connection.execute(asked)).scalar_one())


async def _facts(connection: AsyncConnection) -> dict[str, Any]:
    row = (
        await connection.execute(
            text(
                "SELECT current_setting('server_version') AS version,"
                " current_setting('fsync') = 'on' AND current_setting('synchronous_commit') <> 'off' AS is_durable,"
                " coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false) AS is_encrypted"
            )
        )
    ).one()
    return dict(row._mapping)
