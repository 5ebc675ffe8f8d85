"""The real stores over a real SQLite that lives in memory: what was committed outlives the program, nothing else does."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.pool import StaticPool

from modules.domain.errors import ErrorCode, FulletError
from modules.utils.database import Database
from modules.utils.database.engine import DatabaseReport, Engine
from modules.utils.database.migrations import migrate
from modules.utils.database.wakeups import Hub, take_told
from tests.support.world.acts import Acts, Process

T = TypeVar("T")


class Disk:
    """One database for all runs of this process, emptied between them: SQLAlchemy compiles each statement once."""

    def __init__(self, path: Path | None = None) -> None:
        """In memory; a `path` is for so many jobs that the memory itself is what is measured."""
        self.engine = create_engine(
            f"sqlite:///{path}" if path else "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
        )
        event.listen(self.engine, "connect", _leave_transactions_to_us)
        event.listen(self.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        with self.engine.begin() as connection:
            migrate(connection)
        self._empty = sqlite3.connect(":memory:", check_same_thread=False)
        self._raw().backup(self._empty)

    def wipe(self) -> None:
        """As after the first migration."""
        self._empty.backup(self._raw())

    def read(self, work: Callable[[Connection], T]) -> T:
        """What anybody may look at, at any time."""
        with self.engine.connect() as connection:
            return work(connection)

    def _raw(self) -> sqlite3.Connection:
        with self.engine.connect() as connection:
            raw = connection.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            return raw


def _leave_transactions_to_us(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=OFF")  # the machine does not lose its power here


class InlineEngine(Engine):
    """Every transaction is one act of the process; it happens whole or not at all."""

    def __init__(self, disk: Disk, acts: Acts, process: Process) -> None:
        super().__init__(Hub())
        self._disk = disk
        self._acts = acts
        self._process = process
        self.is_away = False

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def notify(self, topic: str, payload: str) -> None:
        """Nobody else listens."""

    async def check(self) -> DatabaseReport:
        raise NotImplementedError

    async def _read(self, work: Callable[[Connection], T]) -> T:
        await asyncio.sleep(0)
        self._process.check()
        self._check_there()
        return self._disk.read(work)

    async def _write(self, work: Callable[[Connection], T], *, is_exclusive: bool) -> T:
        await asyncio.sleep(0)
        return self._acts.perform(self._process, f"store {_name_of(work)}", lambda: self._transact(work))

    def _transact(self, work: Callable[[Connection], T]) -> T:
        self._check_there()
        with self._disk.engine.begin() as connection:
            take_told(connection)
            result = work(connection)
            told = take_told(connection)
        self.hub.publish(told)
        return result

    def _check_there(self) -> None:
        if self.is_away:
            raise FulletError(ErrorCode.DATABASE_UNAVAILABLE, reason="locked")


def _name_of(work: object) -> str:
    """The transaction's function, inside the wrapping of `Engine.write`."""
    inner = getattr(work, "args", (work,))[0]
    return str(getattr(inner, "__name__", inner)).lstrip("_")


__all__ = ["Database", "Disk", "InlineEngine"]
