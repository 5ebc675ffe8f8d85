"""What the contract suites share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.databases import (
    clock,
    database,
    database_url,
    migrated_file,
    migrated_template,
    postgres_server,
    postgres_url,
    sqlite_url,
)
from tests.support.plans import Planners, Recorder

__all__ = [
    "clock",
    "database",
    "database_url",
    "migrated_file",
    "migrated_template",
    "postgres_server",
    "postgres_url",
    "sqlite_url",
]


@pytest.fixture(scope="session")
def recorder() -> Iterator[Recorder]:
    """Hears every statement of the session."""
    with Recorder().listening() as recorder:
        yield recorder


@pytest.fixture(scope="session")
def planners(tmp_path_factory: pytest.TempPathFactory) -> Planners:
    """Databases with many rows, to explain statements on."""
    return Planners(tmp_path_factory.mktemp("plans"))


@pytest.fixture(autouse=True)
def no_statement_reads_a_large_table_from_end_to_end(
    request: pytest.FixtureRequest, recorder: Recorder, planners: Planners
) -> Iterator[None]:
    """Whatever a contract test made the stores ask is explained afterwards, so no new statement can be forgotten."""
    has_postgres = request.node.get_closest_marker("postgres") is not None
    if has_postgres and planners.postgres is None:
        planners.postgres = request.getfixturevalue("postgres_server")
    yield
    kind = "postgresql" if has_postgres else "sqlite"
    if scans := planners.scans(kind, recorder.news(kind)):
        pytest.fail("these statements read a large table from end to end:\n" + "\n".join(scans), pytrace=False)
