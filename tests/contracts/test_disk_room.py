"""A disk that is full, and a database that is only looked at."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from modules.diagnosis import inspect_database
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import Dimensions, Picture, PictureFormat
from modules.domain.records import SHORT_BYTES, DiskRoom
from modules.utils.clock import SystemClock
from modules.utils.database import Database, open_database
from modules.utils.database.disk import RESERVE_BYTES
from modules.utils.database.migrations import newest_revision
from tests.support.builders import ROOMY, SteeredClock, a_request
from tests.support.queue_steps import accepted

DISK_BYTES = 240 * 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own that a test can fill."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small disk needs the rights of root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill_up(folder: Path) -> None:
    """Until not a byte is left, as another program's log would."""
    with (folder / "somebody else's log").open("ab", buffering=0) as log:
        for size in (2**20, 2**12, 1):
            try:
                while True:
                    log.write(os.urandom(size))
            except OSError:
                continue


def a_large_picture() -> Picture:
    return Picture(data=os.urandom(2_000_000), format=PictureFormat.PNG, size=Dimensions(1024, 1024))


async def _put_until_refused(database: Database) -> None:
    while True:
        await database.blobs.put(a_large_picture())


async def test_a_disk_that_gives_no_room_back_is_told_as_any_trouble_of_the_database(
    small_disk: Path, clock: SteeredClock
) -> None:
    """The tidying waits then for its next turn; an error of the operating system would end the program."""
    async with open_database(None, data_dir=small_disk, clock=clock) as database:
        reserve = small_disk / "bot_data.db.reserve"
        reserve.unlink()
        reserve.mkdir()  # as a disk that was remounted read-only, it refuses to be removed
        fill_up(small_disk)
        with pytest.raises(FulletError) as refused:
            await database.blobs.sweep(clock.now())
        assert refused.value.code is ErrorCode.DATABASE_UNAVAILABLE


async def test_with_a_full_disk_the_program_starts_and_makes_room(small_disk: Path, clock: SteeredClock) -> None:
    path = small_disk / "bot_data.db"
    async with open_database(None, data_dir=small_disk, clock=clock) as database:
        reserve = path.with_name("bot_data.db.reserve")
        assert reserve.stat().st_blocks * 512 >= RESERVE_BYTES  # really taken, not only promised
        for _ in range(10):
            await database.blobs.put(a_large_picture())
            clock.advance(1)
        [waiting] = await accepted(database)
        fill_up(small_disk)
        with pytest.raises(FulletError) as full:
            await _put_until_refused(database)
        assert full.value.params == {"reason": "full"}
    fill_up(small_disk)  # what SQLite gave back at the end

    async with open_database(None, data_dir=small_disk, clock=clock) as again:
        assert not reserve.exists()
        assert await again.blobs.sweep(clock.now() - timedelta(days=1), keep_bytes=4_000_000) >= 8
        await again.blobs.put(a_large_picture())  # into the room that was made
        assert await again.jobs.job(waiting.id) == waiting
        assert (await again.jobs.accept(a_request(), ROOMY))[1]
        room = await again.blobs.room()
        assert room is not None
        assert room.is_short
        (small_disk / "somebody else's log").unlink()
        await again.blobs.sweep(clock.now() - timedelta(days=1))
        assert reserve.exists()  # there is room for it again


async def test_room_is_known_where_the_disk_is_ours(database: Database) -> None:
    room = await database.blobs.room()
    if database.engine.__class__.__name__ == "PostgresEngine":
        assert room is None
    else:
        assert room is not None
        assert room.used_bytes > 0
    assert DiskRoom(free_bytes=SHORT_BYTES - 1, used_bytes=0).is_short
    assert not DiskRoom(free_bytes=SHORT_BYTES, used_bytes=0).is_short


def tables(connection: Connection) -> list[str]:
    return [str(revision) for revision in connection.execute(text("SELECT version_num FROM alembic_version")).scalars()]


def _say_revision(connection: Connection, revision: str) -> None:
    connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


async def test_looking_at_a_database_neither_migrates_nor_changes_it(database_url: str, tmp_path: Path) -> None:
    async with open_database(database_url, data_dir=tmp_path, clock=SystemClock()) as running:
        await running.engine.write(_say_revision, "0003")
        async with open_database(database_url, data_dir=tmp_path, clock=SystemClock(), is_read_only=True) as looked_at:
            [found, *_] = await inspect_database(looked_at, 0.001)
            with pytest.raises(FulletError) as refused:
                await looked_at.jobs.accept(a_request(), ROOMY)
            with pytest.raises(FulletError):
                await looked_at.control.set("a", "b")
        assert found.code == "migration_waiting"
        assert (refused.value.code, refused.value.params) == (ErrorCode.DATABASE_UNAVAILABLE, {"reason": "read_only"})
        assert await running.engine.read(tables) == ["0003"]
        for revision, codes in (("9999", {"database_newer"}), (newest_revision(), {"database_good", "not_durable"})):
            await running.engine.write(_say_revision, revision)
            async with open_database(database_url, data_dir=tmp_path, clock=SystemClock(), is_read_only=True) as looked_at:
                assert (await inspect_database(looked_at, 0.001))[0].code in codes  # the tests' PostgreSQL is without fsync
        await accepted(running)


async def test_looking_leaves_every_byte_of_the_file_and_makes_none(sqlite_url: str, tmp_path: Path) -> None:
    path = tmp_path / "fullet.db"
    before = hashlib.sha256(path.read_bytes()).digest()
    async with open_database(sqlite_url, data_dir=tmp_path, clock=SystemClock(), is_read_only=True) as looked_at:
        assert (await inspect_database(looked_at, 0.001))[0].code == "database_good"
    assert hashlib.sha256(path.read_bytes()).digest() == before

    nowhere = f"sqlite:///{tmp_path / 'nothing yet' / 'fullet.db'}"
    async with open_database(nowhere, data_dir=tmp_path, clock=SystemClock(), is_read_only=True) as looked_at:
        assert [found.code for found in await inspect_database(looked_at, 20)] == ["database_new"]
    assert not (tmp_path / "nothing yet").exists()


async def test_more_pictures_than_the_disk_can_hold_are_told(sqlite_url: str, tmp_path: Path) -> None:
    async with open_database(sqlite_url, data_dir=tmp_path, clock=SystemClock(), is_read_only=True) as looked_at:
        found = await inspect_database(looked_at, 10**9)
    assert found[-1].code in {"pictures_too_many", "disk_short"}
