"""Tidying up behind ourselves: pictures of attempts that are over, and old uploads, leave the disks of the GPUs' machines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import structlog

from modules.domain.errors import FulletError
from modules.domain.jobs import AttemptId, JobState, ServerName
from modules.domain.ports import JobStore

log = structlog.get_logger(__name__)

#: Outputs and uploads are kept so long after they were last written: looking into what just happened stays possible.
KEPT_S = 3600.0
#: What the database does not know was erased or archived, was drawn before it was lost, or is another bot's. By then nobody waits
#: for it: a courier gives up after a day.
UNKNOWN_KEPT_S = 7 * 24 * 3600.0
TIDY_EVERY_S = 600.0
#: After it nobody looks for a picture on the server any more: it is stored here, or never will be.
OVER = frozenset({JobState.DELIVERED, JobState.UNDELIVERABLE, JobState.FAILED, JobState.CANCELLED})


class FilesOnServer(Protocol):
    """What a server can tell and remove of our files."""

    async def old_outputs(self, after: str, older_than_s: float) -> Sequence[AttemptId] | None: ...
    async def remove_outputs(self, attempt_ids: Sequence[AttemptId]) -> int: ...
    async def remove_uploads(self, older_than_s: float) -> int: ...


class Driver(Protocol):
    """Of a worker, what matters here."""

    @property
    def is_up(self) -> bool: ...
    @property
    def is_driving(self) -> bool: ...


class Tidying:
    """Removes files only on servers that this process drives, and of attempts that the database calls over.

    What the database does not know may be another bot's, so it goes only after a week. Recovery looks for files of open attempts
    (durability.md), so an attempt that is still open keeps them, whatever became of its jobs.
    """

    def __init__(self, drivers: Mapping[ServerName, Driver], files: Mapping[ServerName, FilesOnServer], jobs: JobStore) -> None:
        self._drivers = drivers
        self._files = files
        self._jobs = jobs

    async def run(self) -> None:
        """For ever, one server after the other."""
        while True:
            await asyncio.sleep(TIDY_EVERY_S)
            for name, driver in self._drivers.items():
                if driver.is_driving and driver.is_up:
                    await self.tidy(name)

    async def tidy(self, name: ServerName) -> None:
        """Once over one server; what does not succeed is left to the next time."""
        try:
            outputs = await self._remove_outputs(name, KEPT_S, self._is_over)
            if outputs is None:
                return
            outputs += await self._remove_outputs(name, UNKNOWN_KEPT_S, self._is_unknown) or 0
            uploads = await self._files[name].remove_uploads(KEPT_S)
        except FulletError as error:
            log.info("server_not_tidied", server=name, error=error.code.value)
            return
        if outputs or uploads:
            log.info("server_tidied", server=name, attempts=outputs, uploads=uploads)

    async def _remove_outputs(
        self, name: ServerName, older_than_s: float, may_go: Callable[[AttemptId], Awaitable[bool]]
    ) -> int | None:
        """How many; None where the server cannot."""
        removed, after = 0, ""
        while found := await self._files[name].old_outputs(after, older_than_s):
            free = [attempt_id for attempt_id in found if await may_go(attempt_id)]
            removed += await self._files[name].remove_outputs(free) if free else 0
            if str(found[-1]) <= after:
                break  # no pages in order: not ours to guess
            after = str(found[-1])
        return None if found is None else removed

    async def _is_unknown(self, attempt_id: AttemptId) -> bool:
        return await self._jobs.attempt(attempt_id) is None

    async def _is_over(self, attempt_id: AttemptId) -> bool:
        attempt = await self._jobs.attempt(attempt_id)
        if attempt is None or not attempt.jobs or any(job.state not in OVER for job in attempt.jobs):
            return False
        return all(one.id != attempt_id for one in await self._jobs.unfinished_attempts(attempt.server))
