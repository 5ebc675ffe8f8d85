"""SQLite: one file, one writer, several readers.

Eight concurrent writers were measured at p99 448 ms against 9 ms for one: so there is one connection that writes, in a thread of
its own, behind a lock. Readers have a few threads and connections of their own, which may only read. A whole transaction, and a
whole read, is one hop to such a thread (measured: 0.5 ms for eight statements, where the same through aiosqlite, several hops a
statement, takes 2.7 ms; docs/decisions/0020 and 0061).
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import ParamSpec, Protocol, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine.url import URL

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.records import DiskRoom
from modules.utils.database.disk import Reserve, room_of
from modules.utils.database.engine import DatabaseReport, Engine, border, finished
from modules.utils.database.migrations import migrate, newest_revision, revision_of
from modules.utils.database.urls import SqliteTarget
from modules.utils.database.wakeups import Hub, Wakeup, take_told

P = ParamSpec("P")
T = TypeVar("T")

#: How long SQLite waits for another process that holds the lock.
BUSY_TIMEOUT_S = 5.0
#: How long a transaction waits for its turn in this process before it says so; a person waits no longer for an answer.
TURN_TIMEOUT_S = 10.0
READERS = 4
_PRAGMAS = (
    f"busy_timeout={BUSY_TIMEOUT_S * 1000:.0f}",  # first: the next one may have to wait
    "journal_mode=WAL",
    "synchronous=FULL",  # a commit is on the disk before anybody is told
    "foreign_keys=ON",  # off by default
)


class _Cursor(Protocol):
    def execute(self, statement: str) -> object: ...
    def close(self) -> None: ...


class _DriverConnection(Protocol):
    isolation_level: str | None

    def cursor(self) -> _Cursor: ...


class SqliteEngine(Engine):
    """One file."""

    def __init__(self, target: SqliteTarget, hub: Hub, *, is_read_only: bool = False) -> None:
        super().__init__(hub, is_read_only=is_read_only)
        self._target = target
        self._reserve = Reserve(target.path)
        self._turn = asyncio.Lock()
        self._writing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-writer")
        self._reading = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="sqlite-reader")
        url = URL.create("sqlite", database=str(target.path))
        if is_read_only:  # the file itself is opened so, and never made
            uri = f"file:{quote(str(target.path.absolute()))}"
            url = URL.create("sqlite", database=uri, query={"mode": "ro", "uri": "true"})
        # no parameters in errors: they are people's prompts
        self._writer = create_engine(url, hide_parameters=True, pool_size=1, max_overflow=0)
        event.listen(self._writer, "connect", _prepare)
        event.listen(self._writer, "begin", _begin_immediate)
        self._readers = create_engine(
            url,
            hide_parameters=True,
            isolation_level="AUTOCOMMIT",
            pool_size=READERS,
            max_overflow=0,
            pool_reset_on_return=None,  # in autocommit there is nothing to roll back
        )
        event.listen(self._readers, "connect", _prepare_looker if is_read_only else _prepare_reader)

    async def open(self) -> None:
        """Create the file for its owner's eyes only (it holds prompts), then bring the tables up to date."""
        if self.is_read_only:
            return
        with border():
            await asyncio.to_thread(self._create_file)
            await _on(self._writing, self._migrate)
            await asyncio.to_thread(self._reserve.keep)

    def _create_file(self) -> None:
        self._target.path.parent.mkdir(parents=True, exist_ok=True)
        self._reserve.release_if_tight()
        if not self._target.path.exists():
            self._target.path.touch(mode=0o600)

    async def room(self) -> DiskRoom | None:
        """Of the folder that the file lies in; None while there is no such folder."""
        with border():
            return await asyncio.to_thread(room_of, self._target.path) if self._target.path.parent.exists() else None

    @asynccontextmanager
    async def room_to_delete(self) -> AsyncIterator[None]:
        """Gives up the reserve where the disk is full, and takes it again where there is room."""
        with border():
            await asyncio.to_thread(self._reserve.release_if_tight)
        try:
            yield
        finally:
            with border():
                await asyncio.to_thread(self._reserve.keep)

    def _migrate(self) -> None:
        with self._writer.connect() as connection:
            if revision_of(connection) == newest_revision():
                return
            connection.rollback()
            # outside a transaction only: rebuilding a table drops it, and that would cascade
            driver = connection.connection.cursor()
            driver.execute("PRAGMA foreign_keys=OFF")
            try:
                with connection.begin():
                    migrate(connection)
                    if orphan := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                        raise ValueError(f"the migration leaves rows of {orphan[0]!r} that point nowhere")
            finally:
                driver.execute("PRAGMA foreign_keys=ON")
                driver.close()

    async def close(self) -> None:
        """Waits for the transaction and the reads under way."""
        async with self._turn:
            await asyncio.to_thread(self._reading.shutdown)
            self._readers.dispose()
            await _on(self._writing, self._writer.dispose)
            self._writing.shutdown(wait=False)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        return await _on(self._reading, self._look, work)

    def _look(self, work: Callable[[Connection], T]) -> T:
        with self._readers.connect() as connection:
            return work(connection)

    async def _write(self, work: Callable[[Connection], T], *, is_exclusive: bool) -> T:
        """Every write is exclusive here."""
        try:
            async with asyncio.timeout(TURN_TIMEOUT_S):
                await self._turn.acquire()
        except TimeoutError as error:
            raise FulletError(ErrorCode.DATABASE_UNAVAILABLE, reason="locked") from error
        return await finished(self._write_and_pass_on(work))

    async def _write_and_pass_on(self, work: Callable[[Connection], T]) -> T:
        try:
            result, told = await _on(self._writing, self._transact, work)
        finally:
            self._turn.release()
        self.hub.publish(told)
        return result

    def _transact(self, work: Callable[[Connection], T]) -> tuple[T, tuple[Wakeup, ...]]:
        with self._writer.begin() as connection:
            take_told(connection)
            return work(connection), take_told(connection)

    async def notify(self, topic: str, payload: str) -> None:
        """This process only: an SQLite file belongs to one program."""
        self.hub.publish([Wakeup(topic, payload)])

    async def check(self) -> DatabaseReport:
        """Also writes, which is the only way to know that one can; a database that is only looked at is asked for its rights."""
        write_s = None
        if self.is_read_only:
            if not self._target.path.exists():
                return self._report(sqlite3.sqlite_version, None, write_s, is_durable=True)
            if not (os.access(self._target.path, os.W_OK) and os.access(self._target.path.parent, os.W_OK)):
                raise FulletError(ErrorCode.DATABASE_UNAVAILABLE, reason="read_only")
        else:
            began = time.perf_counter()
            await self.write(_touch)
            write_s = time.perf_counter() - began
        version, revision, journal = await self.read(_facts)
        return self._report(version, revision, write_s, is_durable=journal == "wal")

    def _report(self, version: str, revision: str | None, write_s: float | None, *, is_durable: bool) -> DatabaseReport:
        return DatabaseReport(
            kind="sqlite",
            location=self._target.location,
            version=version,
            revision=revision,
            newest_revision=newest_revision(),
            write_s=write_s,
            is_durable=is_durable,
            ignored=self._target.ignored,
        )


async def _on(threads: ThreadPoolExecutor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, partial(call, *args, **kwargs))


def _prepare(connection: _DriverConnection, _record: object) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _prepare_reader(connection: _DriverConnection, record: object) -> None:
    _prepare(connection, record)
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def _prepare_looker(connection: _DriverConnection, _record: object) -> None:
    """Asks for nothing that would change the file: not even its journal."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (_PRAGMAS[0], "query_only=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(connection: Connection) -> None:
    """A transaction that reads first and writes later would fail at once when another wrote in between."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _touch(connection: Connection) -> None:
    connection.exec_driver_sql("UPDATE fairness SET floor = floor")


def _facts(connection: Connection) -> tuple[str, str | None, str]:
    version = connection.exec_driver_sql("SELECT sqlite_version()").scalar_one()
    journal = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    return str(version), revision_of(connection), str(journal)
