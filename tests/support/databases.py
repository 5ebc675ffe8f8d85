"""Fixtures: a real, empty database for every test, SQLite and PostgreSQL alike. A `conftest.py` imports the ones it wants."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from modules.utils.clock import SystemClock
from modules.utils.database import Database, open_database
from tests.support.builders import SteeredClock
from tests.support.postgres import PostgresMissingError, PostgresServer, is_required, running_postgres

KINDS = [pytest.param("sqlite", id="sqlite"), pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for the whole session. Without any the test is skipped and says so; where one is required, it fails."""
    try:
        with running_postgres() as server:
            yield server
    except PostgresMissingError as missing:
        if is_required():
            pytest.fail(f"PostgreSQL is required here: {missing}")
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> Iterator[str]:
    """A PostgreSQL database with all tables and nothing in them, to be copied."""
    name = postgres_server.create_database()

    async def migrate() -> None:
        async with open_database(postgres_server.url(name), data_dir=Path(), clock=SystemClock()):
            pass

    asyncio.run(migrate())
    yield name
    _drop(postgres_server, name)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """A PostgreSQL database of this test's own, migrated."""
    name = postgres_server.create_database(template=migrated_template)
    yield postgres_server.url(name)
    _drop(postgres_server, name)


def _drop(server: PostgresServer, name: str) -> None:
    """Only where we are guests: our own server goes as a whole."""
    if server.data_dir is None:
        server.drop_database(name)


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with all tables and nothing in them, to be copied."""
    path = tmp_path_factory.mktemp("template") / "fullet.db"

    async def migrate() -> None:
        async with open_database(f"sqlite:///{path}", data_dir=Path(), clock=SystemClock()):
            pass

    asyncio.run(migrate())
    return path


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    """A file of this test's own, migrated."""
    path = tmp_path / "fullet.db"
    shutil.copyfile(migrated_file, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest) -> str:
    """A database of this test's own, once of each kind."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture
def clock() -> SteeredClock:
    """Stands still until moved."""
    return SteeredClock()


@pytest.fixture
async def database(database_url: str, clock: SteeredClock, tmp_path: Path) -> AsyncIterator[Database]:
    """The stores, open."""
    async with open_database(database_url, data_dir=tmp_path, clock=clock) as opened:
        yield opened
