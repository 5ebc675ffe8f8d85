"""Steps that tests of the queue take often: decide simply, claim, settle, deliver."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from modules.domain.images import Picture
from modules.domain.jobs import Attempt, BootId, Job, JobId, JobRequest, ServerName
from modules.domain.people import MessageId, UserId
from modules.domain.ports import Decide
from modules.domain.queue import Pick, QueueSnapshot
from modules.domain.records import MessageKind
from modules.utils.database import Database
from modules.utils.database.tables import outbox
from tests.support.builders import ROOMY, a_boot_id, a_picture, a_report, a_request, a_snowflake

THE_SERVER = ServerName("gpu-1")
THE_BOOT = a_boot_id()


def oldest(count: int) -> Decide:
    """Take the `count` oldest jobs; everyone pays the cost of theirs, divided by their weight."""
    return lambda snapshot: pick_of(snapshot, [job.id for job in snapshot.jobs[:count]]) if snapshot.jobs else None


def exactly(*job_ids: JobId) -> Decide:
    """Take these, in this order."""
    return lambda snapshot: pick_of(snapshot, job_ids)


def pick_of(snapshot: QueueSnapshot, job_ids: Sequence[JobId], skipped: Sequence[JobId] = ()) -> Pick:
    """An honest decision for these jobs: charges and floor as the scheduler computes them."""
    seen = {job.id: job for job in snapshot.jobs}
    vt: dict[UserId, float] = {}
    for job_id in job_ids:
        job = seen[job_id]
        account = snapshot.accounts[job.user_id]
        vt[job.user_id] = vt.get(job.user_id, account.vt) + job.cost_s / account.weight
    left = [vt.get(job.user_id, snapshot.accounts[job.user_id].vt) for job in snapshot.jobs if job.id not in job_ids]
    first = seen[job_ids[0]]
    return Pick(
        job_ids=tuple(job_ids),
        exact_key=first.exact_key,
        heavy_key=first.heavy_key,
        charges=vt,
        skipped=tuple(skipped),
        floor=max(snapshot.floor, min(left, default=snapshot.floor)),
    )


async def accepted(database: Database, *requests: JobRequest) -> list[Job]:
    """Accept these, without limits."""
    return [(await database.jobs.accept(request, ROOMY))[0] for request in requests or [a_request()]]


async def claimed(database: Database, decide: Decide, *, server: ServerName = THE_SERVER, boot_id: BootId = THE_BOOT) -> Attempt:
    """Claim from everything that waits."""
    keys = await database.jobs.waiting_classes()
    attempt = await database.jobs.claim(server, boot_id, keys, decide)
    assert attempt is not None
    return attempt


async def submitted(database: Database, decide: Decide) -> Attempt:
    """Claim, and let ComfyUI have taken it."""
    attempt = await claimed(database, decide)
    await database.jobs.mark_submitted(attempt.id)
    return attempt


def pictures_for(job: Job) -> list[Picture]:
    """As many as it asked for; each shows its own seed."""
    return [a_picture(job.recipe.seed_of(index)) for index in range(job.recipe.count)]


async def generated(database: Database, *requests: JobRequest) -> list[Job]:
    """Accept these and draw them in one attempt."""
    jobs = await accepted(database, *requests)
    attempt = await submitted(database, exactly(*(job.id for job in jobs)))
    for job in jobs:
        assert await database.jobs.settle_generated(attempt.id, job.id, pictures_for(job), a_report())
    await database.jobs.end_attempt(attempt.id, a_report())
    return jobs


async def delivered(database: Database, *requests: JobRequest) -> list[Job]:
    """Accept these, draw them, send them."""
    jobs = await generated(database, *requests)
    for job in jobs:
        item = next(item for item in await database.outbox.due(job.accepted_at + timedelta(days=1)) if item.job_id == job.id)
        assert await database.outbox.claim_send(job.id, item.kind, item.due_at, timedelta(minutes=1))
        assert await database.outbox.delivered(job.id, MessageKind.RESULT, MessageId(a_snowflake()))
    return jobs


async def next_due(database: Database) -> datetime | None:
    """When the first message that is owed becomes due, or became due; None when none is owed."""
    owed = select(func.min(outbox.c.due_at)).where(outbox.c.is_owed)
    return await database.engine.read(lambda connection: connection.execute(owed).scalar_one())


async def exported(database: Database, user_id: UserId) -> dict[str, list[dict[str, Any]]]:
    """All pages of an export together."""
    whole: dict[str, list[dict[str, Any]]] = {}
    async for name, page in database.people.export(user_id):
        whole.setdefault(name, []).extend(dict(row) for row in page)
    return {"jobs": [], "pictures": []} | whole


async def vt_of(database: Database, user_id: UserId) -> float:
    """A person's account, as an export shows it."""
    match await exported(database, user_id):
        case {"account": [{"vt": float(vt)}]}:
            return vt
        case other:
            pytest.fail(f"no account in {other}")
