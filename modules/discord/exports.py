"""EXPORT_PATH: a copy of every delivered picture in a folder of the operator's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from modules.domain.images import Picture
from modules.domain.jobs import Job, short_id

log = structlog.get_logger(__name__)


class Exports:
    """Writes `<folder>/<day>/<job>-<picture>.<ext>`, off the loop; a copy that is there already is left alone."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    async def keep(self, job: Job, pictures: Sequence[Picture]) -> None:
        """Copy a job's pictures. A full disk is the operator's to see in the log; it keeps nobody from their picture."""
        if self._folder is None:
            return
        try:
            await asyncio.to_thread(_write_all, self._folder / job.accepted_at.date().isoformat(), short_id(job.id), pictures)
        except OSError as error:
            log.warning("export_failed", reason=type(error).__name__, errno=error.errno)


def _write_all(folder: Path, name: str, pictures: Sequence[Picture]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures, start=1):
        target = folder / f"{name}-{number}.{picture.format.extension}"
        if target.exists():
            continue
        unfinished = target.with_suffix(f".{os.getpid()}.part")  # never a half-written picture under its name
        unfinished.write_bytes(picture.data)
        unfinished.replace(target)
