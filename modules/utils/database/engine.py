"""What the stores stand on: transactions as plain functions of a connection, and the border where foreign errors end.

A transaction is an ordinary function `work(connection, ...)`: it can wait for nothing but the database, it can be run again when
the connection broke before the commit, and on SQLite it runs whole in one hop to the writer's thread. Once begun it goes to its
end even if the caller is cancelled; the cancellation passes on afterwards. So do reads: a driver that is stopped in the middle of
an answer loses its connection.
"""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

import asyncpg  # type: ignore[import-untyped]  # the driver ships no types
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, SQLAlchemyError

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.records import DiskRoom
from modules.utils.database.migrations import is_known
from modules.utils.database.wakeups import Hub

P = ParamSpec("P")
T = TypeVar("T")

#: `reason` of DATABASE_UNAVAILABLE, by the name of SQLite's error or by PostgreSQL's SQLSTATE (or its class).
_REASONS = {
    "SQLITE_BUSY": "locked",
    "SQLITE_LOCKED": "locked",
    "SQLITE_FULL": "full",
    "SQLITE_READONLY": "read_only",
    "SQLITE_CANTOPEN": "unreachable",
    "SQLITE_CORRUPT": "damaged",
    "SQLITE_NOTADB": "damaged",
    "SQLITE_PERM": "unauthorised",
    "SQLITE_AUTH": "unauthorised",
    "55P03": "locked",
    "57014": "locked",
    "53100": "full",
    "25006": "read_only",
    "3D000": "unauthorised",
    "28": "unauthorised",
    "42501": "unauthorised",
    "XX": "damaged",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseReport:
    """What the doctor says of the database."""

    kind: str  #: `sqlite` or `postgresql`
    location: str  #: without user or password
    version: str
    revision: str | None
    newest_revision: str
    write_s: float | None  #: one durable transaction, there and back; None when the database was only looked at
    is_durable: bool  #: a commit survives a power cut (WAL + FULL; synchronous_commit and fsync)
    is_encrypted: bool | None = None  #: TLS; None for a file
    ignored: tuple[str, ...] = ()  #: parameters of DATABASE_URL that were not understood

    @property
    def is_current(self) -> bool:
        """Whether the tables are those this program knows."""
        return self.revision == self.newest_revision

    @property
    def is_newer(self) -> bool:
        """Whether a program newer than this one has made its tables."""
        return self.revision is not None and not is_known(self.revision)

    @property
    def is_new(self) -> bool:
        """Whether there are no tables yet."""
        return self.revision is None


class Engine(ABC):
    """A database that runs transactions."""

    def __init__(self, hub: Hub, *, is_read_only: bool = False) -> None:
        self.hub = hub
        self.is_read_only = is_read_only

    async def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a reading function; each of its statements sees what is committed by then."""
        with border():
            return await finished(self._read(partial(_call, work, args, kwargs)))

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function as one durable transaction; its rows' locks are its own business."""
        self._refuse_if_read_only()
        with border():
            return await self._write(partial(_call, work, args, kwargs), is_exclusive=False)

    async def exclusive(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Like `write`, and no other exclusive transaction of any process runs meanwhile: for whatever decides on the queue."""
        self._refuse_if_read_only()
        with border():
            return await self._write(partial(_call, work, args, kwargs), is_exclusive=True)

    def _refuse_if_read_only(self) -> None:
        if self.is_read_only:
            raise FulletError(ErrorCode.DATABASE_UNAVAILABLE, reason="read_only")

    async def room(self) -> DiskRoom | None:
        """The disk of the database; None where it is another machine's."""
        return None

    @asynccontextmanager
    async def room_to_delete(self) -> AsyncIterator[None]:
        """While the context is open, deleting works even on a disk that is full."""
        yield

    @abstractmethod
    async def _read(self, work: Callable[[Connection], T]) -> T: ...

    @abstractmethod
    async def _write(self, work: Callable[[Connection], T], *, is_exclusive: bool) -> T: ...

    @abstractmethod
    async def open(self) -> None:
        """Connect and bring the tables up to date, or only look, when read-only. Raises DATABASE_UNAVAILABLE."""

    @abstractmethod
    async def close(self) -> None:
        """Let running transactions end, then let go of every connection."""

    @abstractmethod
    async def notify(self, topic: str, payload: str) -> None:
        """Say something to every stream of wake-ups, in every process where the database carries it."""

    @abstractmethod
    async def check(self) -> DatabaseReport:
        """Look at everything the doctor wants to know. Raises DATABASE_UNAVAILABLE."""


def _call(
    work: Callable[Concatenate[Connection, P], T], args: tuple[object, ...], kwargs: dict[str, object], connection: Connection
) -> T:
    return work(connection, *args, **kwargs)  # type: ignore[arg-type]  # checked where `read` and `write` took them


async def finished(work: Coroutine[object, object, T]) -> T:
    """Await work that must not stop half-way: a cancelled caller waits for its end, then is cancelled.

    A transaction is bounded by the database's own time-outs, so this wait is, too.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:  # once more: still not before the end; the `raise` below honours both
                continue
        if not task.cancelled():
            task.exception()  # seen: whoever is cancelled asks for no outcome
        raise


@contextmanager
def border() -> Iterator[None]:
    """Where the errors of SQLAlchemy and the drivers become ours. A broken constraint is a bug of ours, hence a ValueError."""
    try:
        yield
    except (IntegrityError, DataError) as error:
        raise ValueError(f"the database refused a value: {type(error.orig).__name__}") from error
    except (SQLAlchemyError, sqlite3.Error, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise FulletError(ErrorCode.DATABASE_UNAVAILABLE, reason=reason_of(error)) from error


def reason_of(error: BaseException) -> str:
    """One word for why the database did not do it."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, OSError):
        return "unreachable"
    name = getattr(original, "sqlite_errorname", None) or getattr(original, "sqlstate", None) or ""
    for known, reason in _REASONS.items():
        if name == known or name.startswith((f"{known}_", known) if len(known) == 2 else f"{known}_"):
            return reason
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return "unreachable"
    return "failed"
