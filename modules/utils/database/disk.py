"""Room on the disk that an SQLite file lies on, and a reserve of it for the one work that makes room again."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import structlog

from modules.domain.records import DiskRoom

log = structlog.get_logger(__name__)

#: A full disk refuses even a deletion, since SQLite writes that into its log first (`-wal`, a few MB; the index it keeps in
#: memory, `-shm`, must be made at every start). So much is kept for it.
RESERVE_BYTES = 64 * 2**20
#: With less than this the reserve is given up.
TIGHT_BYTES = 32 * 2**20


def room_of(database: Path) -> DiskRoom:
    """What is free for this file, and what it takes by now."""
    sizes = [path.stat().st_size for suffix in ("", "-wal") if (path := database.with_name(database.name + suffix)).exists()]
    return DiskRoom(free_bytes=shutil.disk_usage(database.parent).free, used_bytes=sum(sizes))


class Reserve:
    """A file beside the database that takes room until the room is needed."""

    def __init__(self, database: Path) -> None:
        self._folder = database.parent
        self.path = database.with_name(database.name + ".reserve")

    def keep(self) -> None:
        """Take the room, where there is more than plenty of it."""
        if self.path.exists() or self._free() < 2 * RESERVE_BYTES + TIGHT_BYTES:
            return
        with contextlib.suppress(OSError), self.path.open("wb") as file:  # without a reserve everything else still works
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
            else:
                file.write(bytes(RESERVE_BYTES))

    def release_if_tight(self) -> None:
        """Give the room back when the disk is about to be full."""
        if self._free() < TIGHT_BYTES and self.path.exists():
            log.warning("disk_reserve_released", bytes=RESERVE_BYTES)
            self.path.unlink()

    def _free(self) -> int:
        return shutil.disk_usage(self._folder).free
