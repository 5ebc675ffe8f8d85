"""How fast the durable queue is: `python tools/bench_store.py [sqlite] [postgresql]`.

Every write is on the disk before it counts (SQLite: WAL with synchronous=FULL; PostgreSQL: fsync on). The disk's own share is
printed beside the figures, since a busy or slow disk decides most of them.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog

sys.path.insert(0, str(Path(__file__).parents[1]))

from modules.domain.images import Dimensions, Picture, PictureFormat
from modules.domain.jobs import Attempt, JobRequest, ServerName
from modules.utils.clock import SystemClock
from modules.utils.database import Database, open_database
from tests.support.builders import ROOMY, a_boot_id, a_person, a_report, a_request, a_work_class
from tests.support.postgres import PostgresMissingError, running_postgres
from tests.support.queue_steps import oldest

ACCEPTANCES = 600
BURST = 100
PEOPLE_WAITING = 1_000
CLAIMS = 120
#: A PNG of one megapixel, as the models here draw them.
PICTURE_BYTES = 1_500_000
#: p99 of one acceptance. Source: the figures of the durable queue in docs/operations.md.
GATES_MS = {("sqlite", "accept"): 5.0, ("postgresql", "accept"): 15.0}


@dataclass(frozen=True, slots=True)
class Figure:
    """Times of one kind of act, in milliseconds."""

    name: str
    times_ms: list[float]

    def at(self, share: float) -> float:
        """The time that this share of the acts did not exceed."""
        ranked = sorted(self.times_ms)
        return ranked[min(len(ranked) - 1, int(len(ranked) * share))]


async def timed(acts: list[Callable[[], Awaitable[object]]], name: str, *, at_once: bool = False) -> Figure:
    """Run the acts one after another, or all at once as when a crowd arrives."""
    times_ms: list[float] = []

    async def one(act: Callable[[], Awaitable[object]]) -> None:
        began = time.perf_counter()
        await act()
        times_ms.append((time.perf_counter() - began) * 1000)

    if at_once:
        await asyncio.gather(*(one(act) for act in acts))
    else:
        for act in acts:
            await one(act)
    return Figure(name, times_ms)


def request(number: int) -> JobRequest:
    """Of one of many people, for one of twelve exact keys."""
    return a_request(a_person(1 + number % PEOPLE_WAITING), work=a_work_class(f"key-{number % 12}", cost_s=3.0))


def accepting(database: Database, number: int) -> Callable[[], Awaitable[object]]:
    """One acceptance, ready to run."""
    asked = request(number)
    return lambda: database.jobs.accept(asked, ROOMY)


async def measure(database: Database) -> list[Figure]:
    """Everything, in the order that fills the queue as it goes."""
    jobs = database.jobs
    await timed([accepting(database, number) for number in range(20)], "warm-up")
    figures = [await timed([accepting(database, number) for number in range(20, ACCEPTANCES)], "accept")]
    burst = [accepting(database, number) for number in range(ACCEPTANCES, ACCEPTANCES + BURST)]
    figures.append(await timed(burst, f"accept, {BURST} people at once", at_once=True))
    await timed([accepting(database, number) for number in range(ACCEPTANCES + BURST, 2 * PEOPLE_WAITING)], "fill")
    keys = await jobs.waiting_classes()
    attempts: list[Attempt] = []

    async def claim() -> None:
        attempt = await jobs.claim(ServerName("gpu"), boot_id, keys, oldest(4))
        assert attempt is not None
        attempts.append(attempt)

    boot_id = a_boot_id()
    figures.append(await timed([jobs.snapshot] * 20, f"snapshot of {2 * PEOPLE_WAITING} waiting jobs"))
    figures.append(await timed([claim] * CLAIMS, f"claim, {PEOPLE_WAITING} people waiting"))
    picture = Picture(data=os.urandom(PICTURE_BYTES), format=PictureFormat.PNG, size=Dimensions(1024, 1024))
    settling: list[Callable[[], Awaitable[object]]] = [
        lambda attempt=attempt, job=job: jobs.settle_generated(attempt.id, job.id, [picture], a_report())  # type: ignore[misc]
        for attempt in attempts[:30]
        for job in attempt.jobs
    ]
    figures.append(await timed(settling, f"settle, a picture of {PICTURE_BYTES / 1e6:.1f} MB"))
    return figures


def disk_ms(folder: Path) -> float:
    """Median time to append 50 kB and have them on the disk."""
    times: list[float] = []
    with (folder / "probe").open("wb", buffering=0) as probe:
        for _ in range(100):
            began = time.perf_counter()
            probe.write(b"x" * 50_000)
            os.fdatasync(probe.fileno())
            times.append((time.perf_counter() - began) * 1000)
    return sorted(times)[50]


async def bench(kind: str, url: str, folder: Path) -> bool:
    """Print one database's table; whether it keeps its gate."""
    async with open_database(url, data_dir=folder, clock=SystemClock()) as database:
        report = await database.check()
        figures = await measure(database)
    print(f"\n{kind} {report.version}, durable: {report.is_durable}; the disk alone needs {disk_ms(folder):.2f} ms a write")
    print(f"{'':38} {'p50 ms':>8} {'p99 ms':>8} {'gate':>8}")
    is_kept = True
    for figure in figures:
        gate = GATES_MS.get((kind, figure.name))
        is_kept &= gate is None or figure.at(0.99) <= gate
        print(f"{figure.name:38} {figure.at(0.5):8.2f} {figure.at(0.99):8.2f} {'' if gate is None else f'<= {gate:.0f}':>8}")
    return is_kept


def main(kinds: list[str]) -> int:
    """0 when every gate is kept."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    is_kept = True
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fullet-bench-")))
        if "sqlite" in kinds:
            is_kept &= asyncio.run(bench("sqlite", f"sqlite:///{folder / 'bench.db'}", folder))
        if "postgresql" in kinds:
            try:
                server = stack.enter_context(running_postgres(is_durable=True))
            except PostgresMissingError as missing:
                print(f"\npostgresql: not measured ({missing})")
            else:
                is_kept &= asyncio.run(bench("postgresql", server.url(server.create_database(), "sslmode=disable"), folder))
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["sqlite", "postgresql"]))
