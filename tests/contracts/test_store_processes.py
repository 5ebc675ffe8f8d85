"""Several real processes on one database, and what is left when they are killed in the middle."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from modules.domain.errors import ErrorCode
from modules.domain.jobs import ACTIVE_STATES, JobState, ServerName
from modules.domain.people import UserId
from modules.utils.database import Database
from tests.support.builders import a_request
from tests.support.queue_integrity import broken_rules
from tests.support.queue_steps import accepted
from tests.support.store_process import GREEDY_USER

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60


class StoreProcess:
    """A process and what it said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._stdin, self._stdout = process, process.stdin, process.stdout
        self.said: list[dict[str, object]] = []

    async def begin(self) -> None:
        """Give the word."""
        self._stdin.write(b"go\n")
        await self._stdin.drain()

    async def hear(self, count: int | None = None) -> None:
        """Read until it has said so many things, or (None) until it ends."""
        while (count is None or len(self.said) < count) and (line := await self._stdout.readline()):
            self.said.append(json.loads(line))

    async def kill(self) -> None:
        """SIGKILL, then read what it still got out."""
        self._process.kill()
        await self.hear()
        await self._process.wait()

    async def end(self) -> None:
        """Wait for it to finish, well."""
        await self.hear()
        assert await self._process.wait() == 0

    def heard(self, word: str) -> list[object]:
        """All values it said under this word."""
        return [fact[word] for fact in self.said if word in fact]


@asynccontextmanager
async def processes(role: str, url: str, seeds: range) -> AsyncIterator[list[StoreProcess]]:
    """So many, all open and begun at the same time; dead at the end."""
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, "-W", "error", "-m", "tests.support.store_process", role, url]
    raw = [await asyncio.create_subprocess_exec(*command, str(seed), stdin=pipe, stdout=pipe, cwd=ROOT) for seed in seeds]
    started = [StoreProcess(process) for process in raw]
    try:
        async with asyncio.timeout(PATIENCE_S):
            for process in started:
                await process.hear(1)
            for process in started:
                await process.begin()
            yield started
    finally:
        for each in raw:
            if each.returncode is None:
                each.kill()
            await each.communicate()


async def test_the_limit_holds_when_several_processes_accept_at_once(database: Database, database_url: str) -> None:
    async with processes("greedy", database_url, range(1, 4)) as asking:
        for process in asking:
            await process.end()
    answers = [fact for process in asking for fact in process.said[1:]]
    assert Counter(next(iter(fact)) for fact in answers) == {"accepted": 2, "refused": 28}
    assert {fact["refused"] for fact in answers if "refused" in fact} == {"active_limit_reached"}
    assert await database.jobs.active_count(UserId(GREEDY_USER)) == 2
    assert await broken_rules(database) == []


async def test_several_processes_claiming_at_once_take_no_job_twice(database: Database, database_url: str) -> None:
    jobs = await accepted(database, *(a_request() for _ in range(40)))
    async with processes("claim", database_url, range(1, 4)) as claiming:
        for process in claiming:
            await process.end()
    taken = [job_id for process in claiming for batch in process.heard("claimed") for job_id in batch]  # type: ignore[attr-defined]
    assert sorted(taken) == sorted(str(job.id) for job in jobs)
    assert {job.state for job in await database.jobs.jobs()} == {JobState.SUBMITTING}
    assert await broken_rules(database) == []


@pytest.mark.parametrize("seed", [1, 2])
async def test_what_a_killed_process_confirmed_is_there_and_nothing_is_half_done(
    database: Database, database_url: str, seed: int
) -> None:
    dice = random.Random(seed)
    async with processes("live", database_url, range(10 * seed, 10 * seed + 3)) as living:
        for process in living:  # kill one after another, each somewhere in its work
            await process.hear(dice.randint(20, 60))
            await process.kill()
        said = [fact for process in living for fact in process.said]

    assert await broken_rules(database) == []
    states = {str(job.id): job.state for job in await database.jobs.jobs(limit=10_000)}
    confirmed = [fact["accepted"] for fact in said if "accepted" in fact]
    assert len(confirmed) == len(set(confirmed))
    assert set(confirmed) <= states.keys()
    assert all(states[str(fact["cancelled"])] is JobState.CANCELLED for fact in said if "cancelled" in fact)
    assert all(states[str(fact["failed"])] is JobState.FAILED for fact in said if "failed" in fact)
    drawn = {JobState.GENERATED, JobState.DELIVERED}
    assert all(states[str(fact["generated"])] in drawn for fact in said if "generated" in fact)
    sent = Counter(str(fact["sent"]) for fact in said if "sent" in fact)
    assert all(times == 1 for times in sent.values()), "two couriers sent the same message"

    await recover(database)

    assert await broken_rules(database) == []
    left = await database.jobs.jobs(states=ACTIVE_STATES, limit=10_000)
    assert {job.state for job in left} <= {JobState.QUEUED}
    assert len(states) == len(await database.jobs.jobs(limit=10_000)), "a job got lost"


async def recover(database: Database) -> None:
    """What recovery does where the servers know nothing of the attempts any more."""
    for job in await database.jobs.jobs(states=ACTIVE_STATES, limit=10_000):
        for attempt in await database.jobs.unfinished_attempts(ServerName(job.server)) if job.server else ():
            await database.jobs.requeue(attempt.id, [member.id for member in attempt.jobs], ErrorCode.INTERRUPTED)
            await database.jobs.end_attempt(attempt.id, None)
