"""The queue with a million finished jobs and 100,000 people: what people wait for stays as quick as with none.

All finished jobs stand in the table of the queue, as on the day after an upgrade from a version without an archive: the worst
case. Each act is timed by the clock and, beside it, in processor time of this process (PostgreSQL's own is not in it), which
tells a slow program from a busy machine.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Pool, create_engine, event
from sqlalchemy.ext.asyncio import create_async_engine

from modules.domain.images import Dimensions, Picture, PictureFormat
from modules.domain.jobs import Attempt, JobState, ServerName
from modules.domain.people import UserId
from modules.utils.clock import SystemClock
from modules.utils.database import Database, open_database
from tests.support.builders import ROOMY, THE_GUILD, a_boot_id, a_person, a_report, a_request, a_work_class
from tests.support.full_database import FIRST_USER, HEAVY_USER, Filling, analyze, fill
from tests.support.postgres import PostgresMissingError, running_postgres
from tests.support.queue_steps import oldest

#: Milliseconds on SQLite and on PostgreSQL, and the share of the acts that must keep them. Source: the table in
#: docs/scheduling.md, "Targets".
GATES = {
    "accept": (10.0, 20.0, 0.99),
    "claim": (25.0, 40.0, 0.95),
    "end of an attempt": (10.0, 15.0, 0.95),
    "look at the outbox": (2.0, 2.0, 0.95),
    "sweep of sessions": (50.0, 50.0, 0.95),
    "page of history": (5.0, 5.0, 0.95),
    "longest hold of the writer while erasing": (100.0, 100.0, 1.0),
    "longest hold of the writer while archiving": (100.0, 100.0, 1.0),
}
KINDS = ("sqlite", "postgresql")
ACCEPTANCES, CLAIMS, LOOKS = 400, 60, 60
WAITING = 1_000
HEAVY_JOBS = 50_000
#: A page of `/history` and the one entry more that tells whether there is a next.
HISTORY = 6
SHOWN = {JobState.GENERATED, JobState.DELIVERED, JobState.UNDELIVERABLE}
#: For so long the archive is watched; with a million jobs it has days.
ARCHIVING_S = 20.0


@dataclass(slots=True)
class Times:
    """Of one kind of act, in milliseconds."""

    wall_ms: list[float] = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)

    def at(self, share: float) -> float:
        """The time that this share of the acts did not exceed."""
        ranked = sorted(self.wall_ms)
        return ranked[min(len(ranked) - 1, int(len(ranked) * share))]

    async def of(self, act: Callable[[], Awaitable[object]]) -> None:
        """Carry out one act."""
        began, used = time.perf_counter(), time.process_time()
        await act()
        self.processor_ms.append((time.process_time() - used) * 1000)
        self.wall_ms.append((time.perf_counter() - began) * 1000)


def measure(folder: Path, finished: int, people: int, kinds: Collection[str] = KINDS) -> bool:
    """Print a table for each database; whether every gate was kept. Without PostgreSQL that half is said to be missing."""
    filling = Filling(
        finished=max(1, finished - HEAVY_JOBS), heavy=HEAVY_JOBS, people=people, waiting=WAITING, now=datetime.now(UTC)
    )
    is_kept = True
    if "sqlite" in kinds:
        is_kept = asyncio.run(_bench("sqlite", f"sqlite:///{folder / 'million.db'}", filling))
    if "postgresql" not in kinds:
        return is_kept
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running_postgres(is_durable=True))
        except PostgresMissingError as missing:
            print(f"postgresql: not measured ({missing})")
            return is_kept
        url = server.url(server.create_database(), "sslmode=disable")
        return asyncio.run(_bench("postgresql", url, filling)) and is_kept


async def _bench(kind: str, url: str, filling: Filling) -> bool:
    async with open_database(url, data_dir=Path(), clock=SystemClock()):
        pass  # only makes the tables
    began = time.perf_counter()
    await (_fill_sqlite(url, filling) if kind == "sqlite" else _fill_postgres(url, filling))
    total = filling.finished + filling.heavy
    made_s = time.perf_counter() - began
    print(f"\n{kind}: {total:,} finished jobs of {filling.people:,} people, made in {made_s:.0f} s", flush=True)
    async with open_database(url, data_dir=Path(), clock=SystemClock()) as database:
        times = await _measure(database, filling)
    return _print(kind, times)


def _print(kind: str, times: dict[str, Times]) -> bool:
    print(f"{'':44} {'p50 ms':>8} {'p99 ms':>8} {'processor':>10} {'gate':>16}")
    is_kept = True
    for name, taken in times.items():
        gate, line = GATES.get(name), ""
        if gate is not None:
            bound_ms, share = gate[0 if kind == "sqlite" else 1], gate[2]
            is_met = taken.at(share) <= bound_ms
            is_kept &= is_met
            line = f"p{share * 100:.0f} <= {bound_ms:g} {'ok' if is_met else 'MISSED'}"
        processor_ms = sorted(taken.processor_ms)[len(taken.processor_ms) // 2]
        print(f"{name:44} {taken.at(0.5):8.2f} {taken.at(0.99):8.2f} {processor_ms:10.2f} {line:>16}", flush=True)
    return is_kept


async def _fill_sqlite(url: str, filling: Filling) -> None:
    def run() -> None:
        engine = create_engine(url)
        event.listen(engine, "connect", _be_quick)
        with engine.begin() as connection:
            fill(connection, filling)
        engine.dispose()

    await asyncio.to_thread(run)


def _be_quick(connection: Any, _record: object) -> None:
    for pragma in ("synchronous=OFF", "foreign_keys=OFF", "cache_size=-200000", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")


async def _fill_postgres(url: str, filling: Filling) -> None:
    """Without looking for the row that every foreign key names; the filling is right by itself."""
    address = url.replace("postgresql://", "postgresql+asyncpg://").replace("?sslmode=disable", "?ssl=disable")
    engine = create_async_engine(address)
    async with engine.begin() as connection:
        await connection.exec_driver_sql("SET session_replication_role = replica")
        await connection.exec_driver_sql("SET synchronous_commit = off")
        await connection.run_sync(fill, filling)
        await connection.run_sync(analyze)
    await engine.dispose()


# --- the acts ---------------------------------------------------------------------------------------------------------------


async def _measure(database: Database, filling: Filling) -> dict[str, Times]:
    times: dict[str, Times] = {name: Times() for name in GATES}
    jobs, newcomers = database.jobs, iter(range(FIRST_USER + filling.people // 2, FIRST_USER + filling.people))

    async def accept() -> None:
        work = a_work_class(f"key-{len(times['accept'].wall_ms) % 12}", cost_s=3.0)
        await jobs.accept(a_request(a_person(next(newcomers)), work=work), ROOMY)

    for _ in range(20):
        await accept()  # warms up caches and connections
    for _ in range(ACCEPTANCES):
        await times["accept"].of(accept)
    times["snapshot"] = Times()
    for _ in range(20):
        await times["snapshot"].of(jobs.snapshot)
    await _draw(database, times)
    for number in range(LOOKS):
        await times["look at the outbox"].of(lambda: database.outbox.due(datetime.now(UTC)))
        await times["sweep of sessions"].of(lambda: database.sessions.idle(THE_GUILD, datetime.now(UTC) - timedelta(minutes=30)))
        reader = UserId(FIRST_USER + number) if number % 2 else HEAVY_USER
        await times["page of history"].of(lambda reader=reader: jobs.jobs(user_id=reader, states=SHOWN, limit=HISTORY))  # type: ignore[misc]
    with _holds(times["longest hold of the writer while archiving"]):
        archiving = asyncio.create_task(jobs.archive(datetime.now(UTC) - timedelta(days=3)))
        began = time.perf_counter()
        await asyncio.wait({archiving}, timeout=ARCHIVING_S)
        archiving.cancel()
        await asyncio.wait({archiving})
    archived = await database.engine.read(_count, "archived_job")
    print(f"archived {archived:,} jobs in {time.perf_counter() - began:.0f} s")
    began = time.perf_counter()
    with _holds(times["longest hold of the writer while erasing"]):
        await database.people.erase(HEAVY_USER)
    print(f"erased {HEAVY_JOBS:,} jobs of one person in {time.perf_counter() - began:.0f} s")
    assert await jobs.jobs(user_id=HEAVY_USER) == []
    return times


async def _draw(database: Database, times: dict[str, Times]) -> None:
    """Claim, settle and end as many attempts."""
    jobs, boot_id = database.jobs, a_boot_id()
    keys = await jobs.waiting_classes()
    picture = Picture(data=os.urandom(200_000), format=PictureFormat.PNG, size=Dimensions(1024, 1024))
    attempts: list[Attempt] = []

    async def claim() -> None:
        attempt = await jobs.claim(ServerName("gpu"), boot_id, keys, oldest(4))
        assert attempt is not None
        attempts.append(attempt)

    for _ in range(CLAIMS):
        await times["claim"].of(claim)
    times["settle, a picture of 0.2 MB"] = Times()
    for attempt in attempts:
        for job in attempt.jobs:
            await times["settle, a picture of 0.2 MB"].of(
                lambda attempt=attempt, job=job: jobs.settle_generated(attempt.id, job.id, [picture], a_report())  # type: ignore[misc]
            )
        await times["end of an attempt"].of(lambda attempt=attempt: jobs.end_attempt(attempt.id, a_report()))  # type: ignore[misc]


def _count(connection: Connection, table: str) -> int:
    count: int = connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
    return count


@contextmanager
def _holds(times: Times) -> Iterator[None]:
    """Notes from its beginning to the return of its connection how long each transaction lasts; nothing else writes meanwhile."""

    def begin(connection: Connection) -> None:
        connection.info["began"] = (time.perf_counter(), time.process_time())

    def end(_connection: object, record: Any) -> None:
        began = record.info.pop("began", None)
        if began is not None:
            times.wall_ms.append((time.perf_counter() - began[0]) * 1000)
            times.processor_ms.append((time.process_time() - began[1]) * 1000)

    event.listen(Engine, "begin", begin)
    event.listen(Pool, "checkin", end)
    try:
        yield
    finally:
        event.remove(Engine, "begin", begin)
        event.remove(Pool, "checkin", end)
