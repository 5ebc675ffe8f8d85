"""Opening, migrating, waking, checking and failing: what every store stands on."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import JobId, JobState
from modules.domain.people import UserId
from modules.domain.records import MessageKind
from modules.utils.clock import SystemClock
from modules.utils.database import MAX_PAYLOAD_BYTES, Database, Topic, Wakeup, open_database
from modules.utils.database.migrations import newest_revision
from modules.utils.database.sqlite_engine import SqliteEngine
from modules.utils.database.tables import metadata
from tests.support.builders import ROOMY, SteeredClock, a_picture, a_recipe, a_report, a_request
from tests.support.postgres import PostgresMissingError, PostgresServer, is_required, running_postgres
from tests.support.queue_integrity import broken_rules
from tests.support.queue_steps import THE_BOOT, THE_SERVER, accepted, claimed, delivered, exactly, generated, oldest, submitted

ROOT = Path(__file__).parents[2]
PATIENCE_S = 20


# --- opening and migrating ----------------------------------------------------------------------------------------------


@pytest.fixture(params=[pytest.param("sqlite"), pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without any tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'a new folder' / 'fullet.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.url(server.create_database())


async def test_an_empty_database_gets_its_tables_and_keeps_what_is_in_them(empty_url: str, tmp_path: Path) -> None:
    async with open_database(empty_url, data_dir=tmp_path, clock=SystemClock()) as first:
        [job] = await accepted(first)
    async with open_database(empty_url, data_dir=tmp_path, clock=SystemClock()) as again:
        assert await again.jobs.job(job.id) == job
        assert (await again.check()).is_current


async def test_the_tables_are_those_the_program_thinks_it_has(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))

    assert await database.engine.read(differences) == []


async def test_several_processes_may_open_an_empty_database_at_once(empty_url: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    asyncio.create_subprocess_exec(
                        *(sys.executable, "-W", "error", "-m", "tests.support.store_process", "greedy", empty_url, str(seed)),
                        stdin=asyncio.subprocess.PIPE,
                        stdout=asyncio.subprocess.PIPE,
                        cwd=ROOT,
                    )
                )
                for seed in range(3)
            ]
        processes = [task.result() for task in tasks]
        for process in processes:
            stack.push_async_callback(process.wait)
        async with asyncio.timeout(PATIENCE_S):
            for process in processes:
                out, _ = await process.communicate(b"go\n")
                assert (process.returncode, out.startswith(b'{"ready": true}')) == (0, True)


async def test_a_database_of_a_newer_program_is_left_alone(database_url: str, tmp_path: Path) -> None:
    async with open_database(database_url, data_dir=tmp_path, clock=SystemClock()) as old:
        await old.engine.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(FulletError) as refused:
        async with open_database(database_url, data_dir=tmp_path, clock=SystemClock()):
            pytest.fail("opened")
    assert (refused.value.code, refused.value.params) == (ErrorCode.DATABASE_UNAVAILABLE, {"reason": "newer"})


async def test_the_migrations_are_found_from_anywhere(tmp_path: Path) -> None:
    script = (
        "import asyncio, sys; from pathlib import Path; from modules.utils.clock import SystemClock;"
        "from modules.utils.database import open_database\n"
        "async def main():\n"
        "    async with open_database(None, data_dir=Path(sys.argv[1]), clock=SystemClock()) as database:\n"
        "        print((await database.check()).revision)\n"
        "asyncio.run(main())"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", script, str(tmp_path / "data")),
        cwd=tmp_path,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert (process.returncode, out.decode().strip()) == (0, newest_revision())
    assert (tmp_path / "data" / "bot_data.db").exists()


async def test_a_migration_goes_down_as_well(sqlite_url: str, tmp_path: Path) -> None:
    from alembic import command

    from modules.utils.database.migrations import _config

    def down(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")

    async with open_database(sqlite_url, data_dir=tmp_path, clock=SystemClock()) as database:
        await database.engine.write(down)
        tables = await database.engine.read(
            lambda connection: connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        )
    assert set(tables) <= {"alembic_version", "sqlite_sequence"}


async def test_a_database_of_the_first_tables_is_brought_up_to_date_with_what_is_in_it(database_url: str, tmp_path: Path) -> None:
    from alembic import command

    from modules.utils.database.migrations import _config

    def down(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
        connection.execute(text("INSERT INTO person (user_id, model, size) VALUES (7, 'sdxl', '512x768')"))

    async with open_database(database_url, data_dir=tmp_path, clock=SystemClock()) as database:
        await accepted(database)
        await database.engine.exclusive(down)
    async with open_database(database_url, data_dir=tmp_path, clock=SystemClock()) as database:
        settings = await database.people.settings(UserId(7))
        assert (settings.model, settings.size, settings.forms, settings.is_quiet) == ("sdxl", "512x768", {}, False)
        assert len(await database.jobs.jobs()) == 1
        upload = await database.blobs.put(a_picture(1))
        await database.blobs.keep_reference(UserId(7), upload)
        assert (await database.check()).is_current


async def test_a_database_from_before_the_archive_keeps_jobs_in_every_state(
    database_url: str, tmp_path: Path, clock: SteeredClock
) -> None:
    """Downgraded to what the last revision without an archive left, then opened as that would be."""
    from alembic import command

    from modules.utils.database.migrations import _config

    def down(connection: Connection) -> None:
        config = _config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")

    def references(connection: Connection) -> set[str]:
        connection.execute(text("SELECT id FROM blob LIMIT 1"))  # SQLite looks at its schema anew for this, and not for a PRAGMA
        return {str(key["referred_table"]) for key in inspect(connection).get_foreign_keys("blob")}

    async with open_database(database_url, data_dir=tmp_path, clock=clock) as before:
        source = await before.blobs.put(a_picture(5))
        [old] = await delivered(before, a_request(recipe=a_recipe(source=source)))
        clock.advance(7 * 24 * 3600)
        assert await before.jobs.archive(clock.now() - timedelta(days=1)) == 1  # to come back by the downgrade
        [delivered_one] = await delivered(before)
        [owed] = await generated(before)
        [lost] = await generated(before)
        await before.outbox.undeliverable(lost.id, MessageKind.RESULT)
        failed, cancelled, flying, claimed_one, waiting = await accepted(before, *(a_request() for _ in range(5)))
        await before.jobs.settle_failed(failed.id, ErrorCode.NODE_FAILED, {})
        await before.jobs.cancel(cancelled.id)
        open_attempt = await submitted(before, exactly(flying.id))
        await claimed(before, exactly(claimed_one.id))
        ids = [job.id for job in (old, delivered_one, owed, lost, failed, cancelled, flying, claimed_one, waiting)]
        jobs = [await before.jobs.job(job_id) for job_id in ids]
        assert {job.state for job in jobs if job is not None} == set(JobState)
        pictures = [await before.blobs.of_job(job_id) for job_id in ids]
        due = await before.outbox.due(clock.now())
        await before.engine.exclusive(down)
        assert await before.engine.read(references) == {"job"}

    async with open_database(database_url, data_dir=tmp_path, clock=clock) as after:
        assert (await after.check()).is_current
        assert await after.engine.read(references) == set()
        assert [await after.jobs.job(job_id) for job_id in ids] == jobs
        assert [await after.blobs.of_job(job_id) for job_id in ids] == pictures
        assert await after.outbox.due(clock.now()) == due
        assert await _rules_broken_by_others_than(after, old.id) == []
        assert await after.jobs.settle_generated(open_attempt.id, flying.id, [a_picture()], a_report())
        assert await after.jobs.archive(clock.now() - timedelta(days=1)) == 1
        clock.advance(7 * 24 * 3600)
        assert await after.jobs.archive(clock.now()) == 2  # the delivered and the cancelled one; bad news are owed
        assert [await after.jobs.job(job_id) for job_id in ids[:2]] == jobs[:2]
        assert [await after.blobs.of_job(job_id) for job_id in ids[:2]] == pictures[:2]  # no row went with its job's row
        assert (await accepted(after))[0].seq > waiting.seq
        assert await broken_rules(after) == []


async def _rules_broken_by_others_than(database: Database, job_id: JobId) -> list[str]:
    """A downgrade cannot bring back the outbox row of a job that had been archived."""
    return [rule for rule in await broken_rules(database) if job_id.hex not in rule.replace("-", "")]


async def test_the_file_is_its_owners_only_and_durable(tmp_path: Path) -> None:
    async with open_database(None, data_dir=tmp_path / "database", clock=SystemClock()) as database:
        report = await database.check()
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        pragmas = await database.engine.exclusive(
            lambda connection: [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]
        )
    path = tmp_path / "database" / "bot_data.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert pragmas == ["wal", 2, 1, 5000]
    assert (report.kind, report.location, report.is_durable, report.is_current) == ("sqlite", str(path), True, True)


async def test_what_was_confirmed_is_readable_by_sqlite_itself_without_a_clean_end(tmp_path: Path) -> None:
    async with open_database(None, data_dir=tmp_path, clock=SystemClock()) as database:
        await accepted(database)
        other = sqlite3.connect(tmp_path / "bot_data.db")
        assert other.execute("SELECT count(*) FROM job").fetchone() == (1,)
        other.close()


# --- cancelling ---------------------------------------------------------------------------------------------------------


async def test_a_cancelled_caller_leaves_the_store_usable(database: Database) -> None:
    [job] = await accepted(database, a_request(recipe=a_recipe(count=4)))
    attempt = await database.jobs.claim(THE_SERVER, THE_BOOT, [job.work.exact_key], oldest(1))
    assert attempt is not None
    pictures = [a_picture(number, side_px=400) for number in range(4)]
    for turns in range(6):
        settling = asyncio.ensure_future(database.jobs.settle_generated(attempt.id, job.id, pictures, a_report()))
        for _ in range(turns):
            await asyncio.sleep(0)
        settling.cancel()
        await asyncio.wait([settling])
        stored = await database.jobs.job(job.id)
        assert stored is not None
        blobs = await database.blobs.of_job(job.id)
        assert (stored.state, len(blobs)) in {(JobState.SUBMITTING, 0), (JobState.GENERATED, 4)}
    await accepted(database)


async def test_a_cancelled_transaction_ends_before_its_caller_does(database: Database) -> None:
    entered, go_on = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    def work(connection: Connection) -> None:
        loop.call_soon_threadsafe(entered.set)
        for _ in range(20):
            connection.execute(text("UPDATE fairness SET floor = floor + 1"))
        go_on.append("done")

    task = asyncio.ensure_future(database.engine.exclusive(work))
    await entered.wait()
    task.cancel()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert go_on == ["done"]
    assert (await database.jobs.snapshot()).floor == 20.0


async def test_cancelled_readers_cost_no_connection(database: Database) -> None:
    """Run with warnings as errors: a driver stopped in the middle of an answer complains about futures nobody fetched."""
    await accepted(database, *(a_request() for _ in range(5)))
    for turns in range(30):
        looking = [asyncio.ensure_future(database.jobs.jobs()) for _ in range(6)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in looking:
            task.cancel()
        await asyncio.wait(looking)
    assert [len(jobs) for jobs in await asyncio.gather(*(database.jobs.jobs() for _ in range(6)))] == [5] * 6


# --- wake-ups -----------------------------------------------------------------------------------------------------------


async def test_accepting_and_drawing_wake_this_process(database: Database) -> None:
    with database.wakeups() as wakeups:
        async with asyncio.timeout(PATIENCE_S):
            [job] = await accepted(database)
            assert await anext(wakeups) == Wakeup(Topic.QUEUE)
            attempt = await database.jobs.claim(THE_SERVER, THE_BOOT, [job.work.exact_key], oldest(1))
            assert attempt is not None
            assert await anext(wakeups) == Wakeup(Topic.QUEUE)
            await database.jobs.settle_generated(attempt.id, job.id, [a_picture()], a_report())
            assert await anext(wakeups) == Wakeup(Topic.OUTBOX)


async def test_what_is_rolled_back_wakes_nobody(database: Database) -> None:
    request = a_request()
    await database.jobs.accept(request, ROOMY)
    with database.wakeups() as wakeups:
        await database.jobs.accept(request, ROOMY)
        with pytest.raises(ValueError, match="never part"):
            await database.jobs.settle_generated(THE_BOOT, a_request().parent_id, [], a_report())  # type: ignore[arg-type]
        await database.notify("end")
        assert await anext(wakeups) == Wakeup("end")


async def test_a_stream_nobody_reads_stays_small_and_keeps_the_newest(database: Database) -> None:
    hub = database.engine.hub
    with database.wakeups() as wakeups:
        hub.publish(Wakeup("progress", str(number)) for number in range(5_000))
        hub.publish(Wakeup(Topic.QUEUE) for _ in range(5_000))
        async with asyncio.timeout(PATIENCE_S):
            heard = [await anext(wakeups) for _ in range(1_000)]
    assert heard[-1] == Wakeup(Topic.QUEUE)
    assert heard[0] == Wakeup("progress", "4001")


@pytest.mark.postgres
async def test_other_processes_are_woken_and_ones_own_are_marked(postgres_url: str, tmp_path: Path) -> None:
    async with (
        open_database(postgres_url, data_dir=tmp_path, clock=SystemClock()) as here,
        open_database(postgres_url, data_dir=tmp_path, clock=SystemClock()) as there,
    ):
        with here.wakeups() as mine, there.wakeups() as theirs:
            async with asyncio.timeout(PATIENCE_S):
                await accepted(here)
                assert await anext(mine) == Wakeup(Topic.QUEUE, is_own=True)
                assert await anext(theirs) == Wakeup(Topic.QUEUE, is_own=False)
                progress = "ñ" * (MAX_PAYLOAD_BYTES // 2)
                await there.notify("progress", progress)
                assert await anext(theirs) == Wakeup("progress", progress, is_own=True)
                assert await anext(mine) == Wakeup("progress", progress, is_own=False)
                await here.notify("empty")
                assert await anext(mine) == Wakeup("empty", is_own=True)
                assert await anext(theirs) == Wakeup("empty", is_own=False)


@pytest.mark.postgres
async def test_a_payload_that_postgresql_would_refuse_is_a_bug(postgres_url: str, tmp_path: Path) -> None:
    async with open_database(postgres_url, data_dir=tmp_path, clock=SystemClock()) as database:
        with pytest.raises(ValueError, match="at most"):
            await database.notify("progress", "x" * (MAX_PAYLOAD_BYTES + 1))


# --- a server that comes and goes ---------------------------------------------------------------------------------------


@pytest.mark.postgres
async def test_a_postgresql_that_dies_and_comes_back_is_used_again(tmp_path: Path) -> None:
    try:
        with running_postgres() as server:
            if server.data_dir is None:
                pytest.skip("TEST_POSTGRES_URL names a server that is not ours to kill")
            async with open_database(server.url("postgres"), data_dir=tmp_path, clock=SystemClock()) as database:
                [job] = await accepted(database)
                with database.wakeups() as wakeups:
                    await asyncio.to_thread(server.kill)
                    with pytest.raises(FulletError) as down:
                        await accepted(database)
                    assert (down.value.code, down.value.params["reason"]) == (ErrorCode.DATABASE_UNAVAILABLE, "unreachable")
                    with pytest.raises(FulletError, match="database_unavailable"):
                        await database.jobs.job(job.id)
                    await asyncio.to_thread(server.start)
                    async with asyncio.timeout(PATIENCE_S):
                        # once it listens again, everybody is told to look
                        assert {(await anext(wakeups)).topic for _ in Topic} == {topic.value for topic in Topic}
                assert await database.jobs.job(job.id) == job
                await accepted(database)
    except PostgresMissingError as missing:
        if is_required():
            pytest.fail(f"PostgreSQL is required here: {missing}")
        pytest.skip(str(missing))


@pytest.mark.postgres
async def test_connections_that_were_cut_are_replaced_without_anybody_noticing(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    async with open_database(postgres_url, data_dir=tmp_path, clock=SystemClock()) as database:
        await asyncio.gather(*(accepted(database) for _ in range(5)))
        others = "datname = current_database() AND pid <> pg_backend_pid()"
        cut = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"
        await asyncio.to_thread(postgres_server.execute, cut, postgres_url.rsplit("/", 1)[1])
        assert len(await database.jobs.jobs()) == 5
        await asyncio.to_thread(postgres_server.execute, cut, postgres_url.rsplit("/", 1)[1])
        assert len(await accepted(database)) == 1
        assert len(await database.jobs.jobs()) == 6


# --- addresses and TLS --------------------------------------------------------------------------------------------------


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("query", "is_encrypted"),
    [
        ("sslmode=require", True),
        ("sslmode=require&channel_binding=prefer&pgbouncer=true", True),
        ("ssl=true", True),
        ("sslmode=disable", False),
        ("options=-c%20search_path%3Dpublic&application_name=fullet", True),
    ],
)
async def test_every_sslmode_against_a_server_with_tls(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path, query: str, is_encrypted: bool
) -> None:
    _needs_tls(postgres_server)
    url = f"{postgres_url.replace('postgresql://', 'postgres://')}?{query}"
    async with open_database(url, data_dir=tmp_path, clock=SystemClock()) as database:
        report = await database.check()
        await accepted(database)
    assert (report.kind, report.is_encrypted, report.is_current) == ("postgresql", is_encrypted, True)
    assert "postgres@" not in report.location


@pytest.mark.postgres
async def test_a_verified_certificate_must_be_for_this_host(
    postgres_server: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    _needs_tls(postgres_server)
    verified = f"sslmode=verify-full&sslrootcert={postgres_server.ca_file}"
    by_name = postgres_url.replace("127.0.0.1", "localhost")
    async with open_database(f"{by_name}?{verified}", data_dir=tmp_path, clock=SystemClock()) as database:
        assert (await database.check()).is_encrypted
    as_libpq = f"sslmode=require&sslrootcert={postgres_server.ca_file}"  # checks who signed it, not for which host
    async with open_database(f"{postgres_url}?{as_libpq}", data_dir=tmp_path, clock=SystemClock()) as database:
        assert (await database.check()).is_encrypted
    stranger = _another_root(tmp_path)
    for bad in (
        f"{by_name}?sslmode=require&sslrootcert={stranger}",
        f"{postgres_url}?{verified}",
        f"{by_name}?sslmode=verify-full&sslrootcert=system",
    ):
        with pytest.raises(FulletError, match="database_unavailable"):
            async with open_database(bad, data_dir=tmp_path, clock=SystemClock()):
                pytest.fail("trusted")


def _another_root(folder: Path) -> Path:
    """Of an authority that signed nothing here."""
    root = folder / "stranger.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x"]
    subprocess.run([*command, "-keyout", str(folder / "stranger.key"), "-out", str(root)], check=True, capture_output=True)
    return root


def _needs_tls(server: PostgresServer) -> None:
    if server.ca_file is None:
        if is_required():
            pytest.fail("openssl is missing, so the server has no certificate")
        pytest.skip("openssl is missing, so the server has no certificate")


@pytest.mark.postgres
async def test_a_server_that_is_not_there_is_said_to_be_unreachable(tmp_path: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"postgres://u:hunter2@127.0.0.1:{reserved.getsockname()[1]}/x"
        with pytest.raises(FulletError) as down:
            async with open_database(url, data_dir=tmp_path, clock=SystemClock()):
                pytest.fail("opened")
    assert (down.value.code, down.value.params) == (ErrorCode.DATABASE_UNAVAILABLE, {"reason": "unreachable"})
    assert "hunter2" not in repr(down.value)


@pytest.mark.postgres
async def test_a_database_that_does_not_exist_is_told_from_one_that_is_down(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    # without TLS: asyncpg ends that of a refused connection in the background, and this loop does not live long enough
    nowhere = postgres_server.url("nowhere", "sslmode=disable")
    with pytest.raises(FulletError) as missing:
        async with open_database(nowhere, data_dir=tmp_path, clock=SystemClock()):
            pytest.fail("opened")
    assert missing.value.params == {"reason": "unauthorised"}


# --- SQLite: locked, full, read-only, damaged ---------------------------------------------------------------------------


async def test_a_locked_file_acknowledges_nothing(sqlite_url: str, tmp_path: Path) -> None:
    request = a_request()
    async with open_database(sqlite_url, data_dir=tmp_path, clock=SteeredClock()) as database:
        await database.engine.exclusive(lambda connection: connection.exec_driver_sql("PRAGMA busy_timeout=50"))
        holder = sqlite3.connect(tmp_path / "fullet.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(FulletError) as locked:
            await database.jobs.accept(request, ROOMY)
        assert (locked.value.code, locked.value.params) == (ErrorCode.DATABASE_UNAVAILABLE, {"reason": "locked"})
        assert await database.jobs.jobs() == []  # readers go on
        holder.execute("ROLLBACK")
        holder.close()
        assert (await database.jobs.accept(request, ROOMY))[1]


async def test_a_full_disk_acknowledges_nothing_and_works_again_when_there_is_room(sqlite_url: str, tmp_path: Path) -> None:
    async with open_database(sqlite_url, data_dir=tmp_path, clock=SteeredClock()) as database:
        [job] = await accepted(database)
        attempt = await database.jobs.claim(THE_SERVER, THE_BOOT, [job.work.exact_key], oldest(1))
        assert attempt is not None
        picture = a_picture(1, side_px=16)
        big = type(picture)(data=os.urandom(500_000), format=picture.format, size=picture.size)
        # SQLite's own limit on the size of the file gives the very error of a full disk
        pages = await database.engine.exclusive(lambda connection: connection.exec_driver_sql("PRAGMA page_count").scalar_one())
        await database.engine.exclusive(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 8}"))
        with pytest.raises(FulletError) as full:
            await database.jobs.settle_generated(attempt.id, job.id, [big], a_report())
        assert full.value.params == {"reason": "full"}
        stored = await database.jobs.job(job.id)
        assert stored is not None
        assert stored.state is JobState.SUBMITTING
        await database.engine.exclusive(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=1000000"))
        assert await database.jobs.settle_generated(attempt.id, job.id, [big], a_report())


@pytest.fixture
def read_only_file(migrated_file: Path) -> Iterator[Path]:
    """A database that others may read and nobody but root may write; not in pytest's own folder, which is closed to others."""
    with tempfile.TemporaryDirectory(prefix="fullet-read-only-") as name:
        folder = Path(name)
        path = folder / "fullet.db"
        shutil.copyfile(migrated_file, path)
        path.chmod(0o444)
        folder.chmod(0o555)
        yield path
        folder.chmod(0o755)


OPEN_AS_NOBODY = """
import asyncio, os, sys
from pathlib import Path
import sqlalchemy.dialects.sqlite.pysqlite  # while whoever we become may still read them
from modules.domain.errors import FulletError
from modules.utils.clock import SystemClock
from modules.utils.database import open_database

async def main():
    try:
        async with open_database(sys.argv[1], data_dir=Path("/"), clock=SystemClock()) as database:
            await database.check()
    except FulletError as error:
        print(repr(error))

if os.geteuid() == 0:
    os.setuid(65534)
asyncio.run(main())
"""


async def test_a_read_only_file_is_said_to_be_so(read_only_file: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OPEN_AS_NOBODY, f"sqlite:///{read_only_file}"), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().strip() == "FulletError(database_unavailable, reason='read_only')"


async def test_a_file_that_is_no_database_is_said_to_be_damaged(tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    path.write_bytes(b"Dear diary, " * 1000)
    with pytest.raises(FulletError) as damaged:
        async with open_database(f"sqlite:///{path}", data_dir=tmp_path, clock=SystemClock()):
            pytest.fail("opened")
    assert damaged.value.params == {"reason": "damaged"}
    assert path.read_bytes().startswith(b"Dear diary")


async def test_waiting_for_ones_turn_has_an_end(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modules.utils.database.sqlite_engine.TURN_TIMEOUT_S", 0.05)
    async with open_database(sqlite_url, data_dir=tmp_path, clock=SystemClock()) as database:
        assert isinstance(database.engine, SqliteEngine)
        async with database.engine._turn:
            with pytest.raises(FulletError) as busy:
                await accepted(database)
        assert busy.value.params == {"reason": "locked"}
        await accepted(database)
