"""A process of its own that works on a store, for tests of several at once and of sudden deaths.

`python -m tests.support.store_process ROLE URL SEED`; it says `ready`, waits for a line, then prints one JSON value a line, each
only after the store has confirmed it.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path

import structlog

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import Attempt, JobRequest, ServerName
from modules.domain.people import MessageId
from modules.domain.records import Limits
from modules.utils.clock import SystemClock
from modules.utils.database import Database, open_database
from tests.support.builders import ROOMY, a_boot_id, a_person, a_recipe, a_report, a_request
from tests.support.queue_steps import oldest, pictures_for

GREEDY_USER = 4242
PEOPLE = 6


def say(**fact: object) -> None:
    """One confirmed fact; flushed, so that a kill loses none."""
    sys.stdout.write(json.dumps(fact) + "\n")
    sys.stdout.flush()


def _request(user_id: int, seed: int, number: int, count: int = 1) -> JobRequest:
    """Interaction ids are told apart by the seed of the process."""
    return a_request(a_person(user_id), interaction_id=seed * 1_000_000 + number, recipe=a_recipe(seed=number, count=count))


async def be_greedy(database: Database, seed: int) -> None:
    """One person asks for ten jobs at once, where two are allowed."""

    async def ask(number: int) -> None:
        try:
            job, _ = await database.jobs.accept(_request(GREEDY_USER, seed, number), Limits(active_per_person=2, queue_length=99))
        except FulletError as refused:
            say(refused=refused.code.value)
        else:
            say(accepted=str(job.id))

    await asyncio.gather(*(ask(number) for number in range(10)))


async def claim_everything(database: Database, seed: int) -> None:
    """Claim batches of three until nothing waits."""
    keys = await database.jobs.waiting_classes()
    boot_id, server = a_boot_id(), ServerName(f"gpu-{seed}")
    while (attempt := await database.jobs.claim(server, boot_id, keys, oldest(3))) is not None:
        say(claimed=[str(job.id) for job in attempt.jobs])


async def live(database: Database, seed: int) -> None:
    """Accept, claim, settle and deliver until killed."""
    dice, boot_id, number = random.Random(seed), a_boot_id(), 0
    while True:
        for _ in range(dice.randint(1, 3)):
            number += 1
            request = _request(dice.randrange(PEOPLE), seed, number, count=dice.randint(1, 2))
            job, _ = await database.jobs.accept(request, ROOMY)
            say(accepted=str(job.id), interaction=request.interaction_id)
        keys = await database.jobs.waiting_classes()
        attempt = await database.jobs.claim(ServerName(f"gpu-{seed}"), boot_id, keys, oldest(dice.randint(1, 4)))
        if attempt is not None:
            await _carry_out(database, attempt, dice)
        await _deliver(database)


async def _carry_out(database: Database, attempt: Attempt, dice: random.Random) -> None:
    await database.jobs.mark_submitted(attempt.id)
    if dice.random() < 0.2:
        await _take_back(database, attempt, dice)
        return
    for job in attempt.jobs:
        fate = dice.random()
        if fate < 0.7:
            if await database.jobs.settle_generated(attempt.id, job.id, pictures_for(job), a_report()):
                say(generated=str(job.id))
        elif fate < 0.8:
            if await database.jobs.settle_failed(job.id, ErrorCode.NODE_FAILED, {}, attempt_id=attempt.id):
                say(failed=str(job.id))
        elif fate < 0.9:
            if await database.jobs.cancel(job.id) is not None:
                say(cancelled=str(job.id))
        else:
            await database.jobs.requeue(attempt.id, [job.id], ErrorCode.SERVER_UNREACHABLE)
    await database.jobs.end_attempt(attempt.id, a_report())


async def _take_back(database: Database, attempt: Attempt, dice: random.Random) -> None:
    """It never began: some left it, the others wait again."""
    for job in attempt.jobs:
        if dice.random() < 0.5 and await database.jobs.cancel(job.id) is not None:
            say(cancelled=str(job.id))
    await database.jobs.requeue(attempt.id, [job.id for job in attempt.jobs], ErrorCode.INTERRUPTED, counts=False)
    await database.jobs.end_attempt(attempt.id, None, has_begun=False)


async def _deliver(database: Database) -> None:
    now = SystemClock().now()
    for item in await database.outbox.due(now):
        if await database.outbox.claim_send(item.job_id, item.kind, now, timedelta(minutes=5)) is not None:
            say(sent=[str(item.job_id), item.kind.value])
            if await database.outbox.delivered(item.job_id, item.kind, MessageId(1)):
                say(delivered=[str(item.job_id), item.kind.value])


ROLES: dict[str, Callable[[Database, int], Coroutine[object, object, None]]] = {
    "greedy": be_greedy,
    "claim": claim_everything,
    "live": live,
}


async def main(role: str, url: str, seed: int) -> None:
    """Open, wait for the word, do."""
    async with open_database(url, data_dir=Path(), clock=SystemClock()) as database:
        say(ready=True)
        await asyncio.to_thread(sys.stdin.readline)
        await ROLES[role](database, seed)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
