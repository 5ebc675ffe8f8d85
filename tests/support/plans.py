"""Asks the databases how they would carry out a statement, and finds what would read a large table from end to end."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # the driver ships no types
from sqlalchemy import Connection, Engine, event

import modules.utils.database
from modules.utils.clock import SystemClock
from modules.utils.database import open_database
from modules.utils.database.tables import metadata
from tests.support.full_database import Filling, analyze, fill
from tests.support.postgres import PostgresServer

#: Tables that grow with what people do. Those left out have one row a server, channel, guild or key.
LARGE = frozenset(metadata.tables) - {"active_slot", "control", "erasure", "fairness", "guild", "lease", "session"}
#: An index with a condition holds only the few rows that the condition lets in, so walking through it is no scan.
PARTIAL = frozenset(
    str(index.name)
    for table in metadata.tables.values()
    for index in table.indexes
    if index.dialect_options["sqlite"]["where"] is not None
)
#: PostgreSQL guesses; more than this share of a table is as good as all of it.
_TOO_MANY_ROWS = 0.2
#: Enough that every planner prefers an index where one serves.
_FILLING = Filling(finished=40_000, archived=20_000, people=60_000, heavy=200, waiting=100, pictures=15_000)

_READS_OR_CHANGES = re.compile(r"^\s*(WITH|SELECT|INSERT|UPDATE|DELETE)\b", re.IGNORECASE)
_SQLITE_SCAN = re.compile(r"^SCAN (?P<table>\w+)(?: USING (?:COVERING )?INDEX (?P<index>\w+))?")
#: The first rows of a table in the order of its key: no more of them are read than are wanted.
_IS_FIRST_FEW = re.compile(r"^SELECT (?:(?!\bWHERE\b).)*\bORDER BY\b.*\bLIMIT\b", re.DOTALL)
_PLACEHOLDER = re.compile(r"\$(\d+)")

#: Where the statements come from that are judged here.
STORES = Path(modules.utils.database.__file__).parent

Parameters = Sequence[Any]


class Recorder:
    """Every statement that the stores asked in this process, once, with the parameters of the first time."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()
        self._new: dict[str, dict[str, Parameters]] = {"sqlite": {}, "postgresql": {}}

    @contextmanager
    def listening(self) -> Iterator[Recorder]:
        """Hears every engine."""

        def note(connection: Connection, _cursor: object, sql: str, parameters: Any, _context: object, is_many: bool) -> None:
            if not _READS_OR_CHANGES.match(sql) or not _is_asked_by_a_store():
                return
            kind = connection.dialect.name
            if (kind, sql) not in self._seen:
                self._seen.add((kind, sql))
                self._new[kind][sql] = parameters[0] if is_many else parameters

        event.listen(Engine, "before_cursor_execute", note)
        try:
            yield self
        finally:
            event.remove(Engine, "before_cursor_execute", note)

    def news(self, kind: str) -> Mapping[str, Parameters]:
        """What was not handed out before."""
        new, self._new[kind] = self._new[kind], {}
        return new


def _is_asked_by_a_store() -> bool:
    """Whether the nearest frame outside of SQLAlchemy is one of our stores: a test or a migration may read all."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and "sqlalchemy" in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None and Path(frame.f_code.co_filename).parent == STORES


class Planners:
    """Filled databases of both kinds, made when the first statement is to be explained."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.postgres: PostgresServer | None = None

    def scans(self, kind: str, statements: Mapping[str, Parameters]) -> list[str]:
        """Each statement that reads a large table from end to end, with the part of the plan that does."""
        if not statements:
            return []
        found = self._in_sqlite(statements) if kind == "sqlite" else _aside(self._in_postgres(statements))
        return [f"{statement}\n    {scan}" for statement, scan in found]

    def _in_sqlite(self, statements: Mapping[str, Parameters]) -> Iterator[tuple[str, str]]:
        """Without statistics, as every file of the program is, and with them."""
        for path in self._sqlite_files:
            connection = sqlite3.connect(path)
            for statement, parameters in statements.items():
                plan = [line for *_, line in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
                is_sorted = any("TEMP B-TREE" in line for line in plan)
                if not (_IS_FIRST_FEW.search(statement) and not is_sorted):
                    yield from ((statement, f"{path.stem}: {line}") for line in plan if _is_scan(line))
            connection.close()

    @cached_property
    def _sqlite_files(self) -> tuple[Path, Path]:
        plain, analyzed = self._folder / "plain.db", self._folder / "analyzed.db"
        _aside(_filled(f"sqlite:///{plain}"))
        analyzed.write_bytes(plain.read_bytes())
        connection = sqlite3.connect(analyzed)
        connection.execute("ANALYZE")
        connection.close()
        return plain, analyzed

    async def _in_postgres(self, statements: Mapping[str, Parameters]) -> list[tuple[str, str]]:
        """A statement is planned without its parameters from the sixth time on, so both plans are asked for."""
        assert self.postgres is not None
        connection = await asyncpg.connect(self.postgres.url(self._postgres_database), timeout=10)
        try:
            query = "SELECT relname, reltuples FROM pg_class WHERE relkind = 'r'"
            rows = dict(await connection.fetch(query))
            await connection.execute("SET plan_cache_mode = force_generic_plan")
            found = []
            for statement, parameters in statements.items():
                plans = [await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters)]
                count = max(map(int, _PLACEHOLDER.findall(statement)), default=0)
                nulls = f"({', '.join(['NULL'] * count)})" if count else ""
                await connection.execute(f"PREPARE asked AS {statement}")
                plans.append(await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked{nulls}"))
                await connection.execute("DEALLOCATE asked")
                nodes = [json.loads(plan)[0]["Plan"] for plan in plans]
                found += [(statement, scan) for node in nodes for scan in _postgres_scans(node, rows)]
            return found
        finally:
            await connection.close()

    @cached_property
    def _postgres_database(self) -> str:
        assert self.postgres is not None
        name = self.postgres.create_database()
        _aside(_filled(self.postgres.url(name)))
        return name


async def _filled(url: str) -> None:
    async with open_database(url, data_dir=Path(), clock=SystemClock()) as database:
        await database.engine.write(fill, _FILLING)
        if not url.startswith("sqlite"):
            await database.engine.write(analyze)


def _aside(work: Any) -> Any:
    """Run a coroutine in a thread and a loop of its own, since the caller may be inside a loop already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def _is_scan(line: str) -> bool:
    found = _SQLITE_SCAN.match(line)
    return found is not None and _table(found["table"]) in LARGE and found["index"] not in PARTIAL


def _table(alias: str) -> str:
    """SQLAlchemy numbers aliases: `job_1`."""
    return re.sub(r"_\d+$", "", alias)


def _postgres_scans(node: Mapping[str, Any], rows: Mapping[str, float]) -> Iterator[str]:
    if node["Node Type"] == "Limit" and "Filter" not in (below := node["Plans"][0]) and "Index Name" in below:
        return  # the first few in the order of an index
    table = node.get("Relation Name", "")
    if table in LARGE and node.get("Index Name") not in PARTIAL and "Plan Rows" in node:
        is_ordered_walk = "Index Name" in node and "Index Cond" not in node
        is_scan = node["Node Type"] == "Seq Scan" or is_ordered_walk or node["Plan Rows"] > _TOO_MANY_ROWS * rows[table]
        if is_scan:
            yield f"{node['Node Type']} on {table} ({node['Plan Rows']} rows), index {node.get('Index Name')}"
    for below in node.get("Plans", ()):
        yield from _postgres_scans(below, rows)
