"""The database of the house: one door, six stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

import structlog

from modules.domain.ports import Clock
from modules.utils.database.blob_store import SqlBlobStore
from modules.utils.database.control_store import SqlControlStore
from modules.utils.database.engine import DatabaseReport, Engine
from modules.utils.database.job_store import SqlJobStore
from modules.utils.database.outbox import SqlOutbox
from modules.utils.database.people_store import SqlPeopleStore
from modules.utils.database.postgres_engine import PostgresEngine
from modules.utils.database.session_store import SqlSessionStore
from modules.utils.database.sqlite_engine import SqliteEngine
from modules.utils.database.urls import SqliteTarget, read_database_url
from modules.utils.database.wakeups import Hub, Wakeup

log = structlog.get_logger(__name__)


class Database:
    """The stores, all over one engine."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.engine = engine
        self.jobs = SqlJobStore(engine, clock)
        self.outbox = SqlOutbox(engine, clock)
        self.blobs = SqlBlobStore(engine, clock)
        self.sessions = SqlSessionStore(engine)
        self.people = SqlPeopleStore(engine, clock)
        self.control = SqlControlStore(engine)

    def wakeups(self) -> AbstractContextManager[AsyncIterator[Wakeup]]:
        """A stream of hints, from the moment the context is entered: of this process, and on PostgreSQL of every other one.

        Hints may be lost: wait with a time-out, then look.
        """
        return self.engine.hub.stream()

    async def notify(self, topic: str, payload: str = "") -> None:
        """Put something into every stream of wake-ups: here, and on PostgreSQL everywhere.

        At most 7,900 bytes in UTF-8, else ValueError. Raises DATABASE_UNAVAILABLE.
        """
        await self.engine.notify(topic, payload)

    async def check(self) -> DatabaseReport:
        """What the doctor wants to know. Raises DATABASE_UNAVAILABLE with a `reason`."""
        return await self.engine.check()


@asynccontextmanager
async def open_database(url: str | None, *, data_dir: Path, clock: Clock, is_read_only: bool = False) -> AsyncIterator[Database]:
    """Connect, bring the tables up to date, and close again at the end.

    `is_read_only`: change nothing, neither tables nor rows, and make no file; for whoever looks at a database that may be in use.
    Every store then refuses to write with DATABASE_UNAVAILABLE (reason `read_only`).

    An empty `url` means the file `bot_data.db` in `data_dir`. Raises ValueError for a URL we cannot read and
    DATABASE_UNAVAILABLE for a database we cannot use.
    """
    target = read_database_url(url, data_dir)
    if target.ignored:
        log.warning("database_url_parameters_ignored", parameters=target.ignored)
    hub = Hub()
    if isinstance(target, SqliteTarget):
        engine: Engine = SqliteEngine(target, hub, is_read_only=is_read_only)
    else:
        engine = PostgresEngine(target, hub, is_read_only=is_read_only)
    try:
        await engine.open()
        yield Database(engine, clock)
    finally:
        await engine.close()
