"""The JobStore's contract, on every database: a claim shows the scheduler what it must see, and writes down what it decides."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from modules.domain.errors import ErrorCode
from modules.domain.jobs import JobState, ServerName
from modules.domain.queue import Pick, QueueSnapshot
from modules.utils.database import Database
from tests.support.builders import (
    SteeredClock,
    a_job_id,
    a_person,
    a_recipe,
    a_request,
    a_work_class,
)
from tests.support.queue_steps import (
    THE_BOOT,
    THE_SERVER,
    accepted,
    claimed,
    exactly,
    oldest,
    pick_of,
    vt_of,
)


async def test_a_claim_shows_the_queue_and_carries_out_the_decision(database: Database, clock: SteeredClock) -> None:
    ana, ben = a_person(weight=2.0), a_person()
    first, second, third = await accepted(
        database,
        a_request(ana, recipe=a_recipe(count=2)),
        a_request(ben),
        a_request(ana, work=a_work_class(is_mergeable=False, cost_s=3)),
    )
    seen: list[QueueSnapshot] = []

    def decide(snapshot: QueueSnapshot) -> Pick:
        seen.append(snapshot)
        return pick_of(snapshot, [second.id, first.id])

    clock.advance(60)
    attempt = await claimed(database, decide)

    [snapshot] = seen
    assert [(job.id, job.user_id, job.rows, job.is_mergeable, job.cost_s) for job in snapshot.jobs] == [
        (first.id, ana.user_id, 2, True, 8.0),
        (second.id, ben.user_id, 1, True, 8.0),
        (third.id, ana.user_id, 1, False, 3.0),
    ]
    assert {user_id: account.weight for user_id, account in snapshot.accounts.items()} == {ana.user_id: 2.0, ben.user_id: 1.0}
    assert [job.id for job in attempt.jobs] == [second.id, first.id]
    assert [slot.job_id for slot in attempt.slots] == [second.id, first.id, first.id]
    assert {(job.state, job.server, job.shared_by) for job in attempt.jobs} == {(JobState.SUBMITTING, THE_SERVER, 2)}
    assert (attempt.server, attempt.boot_id, attempt.claimed_at) == (THE_SERVER, THE_BOOT, clock.now())
    assert await database.jobs.attempt(attempt.id) == attempt
    assert (await vt_of(database, ana.user_id), await vt_of(database, ben.user_id)) == (4.0, 8.0)
    assert [job.id for job in (await database.jobs.snapshot()).jobs] == [third.id]


async def test_a_claim_sees_only_the_keys_its_server_can_run(database: Database) -> None:
    await accepted(database, a_request(work=a_work_class("a")), a_request(work=a_work_class("b")))
    seen: list[QueueSnapshot] = []
    assert await database.jobs.claim(THE_SERVER, THE_BOOT, ["b", "c"], lambda snapshot: seen.append(snapshot)) is None
    [snapshot] = seen
    assert [job.exact_key for job in snapshot.jobs] == ["b"]
    assert await database.jobs.claim(THE_SERVER, THE_BOOT, ["c"], oldest(1)) is None
    assert await database.jobs.claim(THE_SERVER, THE_BOOT, [], oldest(1)) is None


async def test_a_claim_loads_the_least_served_people_first_and_all_their_jobs(database: Database) -> None:
    people = [a_person() for _ in range(6)]
    for person in people:
        await accepted(database, a_request(person), a_request(person))
    for person in people[:3]:  # these have received something
        await claimed(database, exactly((await database.jobs.jobs(user_id=person.user_id))[0].id))
    seen: list[QueueSnapshot] = []
    keys = await database.jobs.waiting_classes()
    await database.jobs.claim(THE_SERVER, THE_BOOT, keys, lambda snapshot: seen.append(snapshot), max_people=4)
    [snapshot] = seen
    assert list(dict.fromkeys(job.user_id for job in snapshot.jobs)) == [p.user_id for p in (people[0], *people[3:])]
    assert [job.user_id for job in snapshot.jobs].count(people[5].user_id) == 2


async def test_barred_jobs_keep_their_people_from_nobodys_sight(database: Database) -> None:
    """Who may not be served now must not fill the places of those who may."""
    people = [a_person() for _ in range(4)]
    barred = [(await accepted(database, a_request(person)))[0].id for person in people[:3]]
    [free] = await accepted(database, a_request(people[3]))
    keys = await database.jobs.waiting_classes()
    seen: list[QueueSnapshot] = []
    await database.jobs.claim(THE_SERVER, THE_BOOT, keys, lambda snapshot: seen.append(snapshot), barred=barred, max_people=2)
    assert [job.id for snapshot in seen for job in snapshot.jobs] == [free.id]
    assert await database.jobs.claim(THE_SERVER, THE_BOOT, keys, oldest(1), barred=[*barred, free.id]) is None


async def test_passed_over_jobs_remember_it(database: Database) -> None:
    person = a_person()
    old, new = await accepted(database, a_request(person), a_request(person, work=a_work_class("other")))
    await claimed(database, lambda snapshot: pick_of(snapshot, [new.id], skipped=[old.id]))
    [waiting] = (await database.jobs.snapshot()).jobs
    assert (waiting.id, waiting.skips) == (old.id, 1)


async def test_a_decision_for_nothing_changes_nothing(database: Database) -> None:
    [job] = await accepted(database)
    keys = await database.jobs.waiting_classes()
    assert await database.jobs.claim(THE_SERVER, THE_BOOT, keys, lambda _: None) is None
    assert await database.jobs.job(job.id) == job
    assert await database.jobs.unfinished_attempts(THE_SERVER) == []


async def test_a_decision_that_fails_changes_nothing(database: Database) -> None:
    [job] = await accepted(database)

    def fail(_: QueueSnapshot) -> Pick:
        raise LookupError("a bug in the scheduler")

    with pytest.raises(LookupError):
        await claimed(database, fail)

    assert await database.jobs.job(job.id) == job
    assert await vt_of(database, job.user_id) == 0.0


@pytest.mark.parametrize("fault", ["unknown job", "job twice", "gives back"])
async def test_an_impossible_decision_is_a_bug_and_changes_nothing(database: Database, fault: str) -> None:
    [job] = await accepted(database)

    def decide(snapshot: QueueSnapshot) -> Pick:
        good = pick_of(snapshot, [job.id])
        if fault == "unknown job":
            return replace(good, job_ids=(job.id, a_job_id()))
        if fault == "job twice":
            return replace(good, job_ids=(job.id, job.id))
        return replace(good, charges={job.user_id: -1.0})

    with pytest.raises(ValueError, match=r"the pick|gives nothing back"):
        await claimed(database, decide)
    assert await database.jobs.job(job.id) == job


async def test_many_claims_at_once_take_no_job_twice(database: Database) -> None:
    jobs = await accepted(database, *(a_request() for _ in range(30)))
    keys = await database.jobs.waiting_classes()
    attempts = await asyncio.gather(
        *(database.jobs.claim(ServerName(f"gpu-{number}"), THE_BOOT, keys, oldest(4)) for number in range(10))
    )
    taken = [job.id for attempt in attempts if attempt for job in attempt.jobs]
    assert sorted(taken) == sorted(job.id for job in jobs)


async def test_two_jobs_of_one_person_in_a_batch_are_charged_apart(database: Database) -> None:
    person = a_person(weight=2.0)
    cheap, dear = await accepted(
        database, a_request(person, work=a_work_class(cost_s=2)), a_request(person, work=a_work_class(cost_s=6))
    )
    attempt = await claimed(database, oldest(2))
    assert await vt_of(database, person.user_id) == 4.0
    await database.jobs.requeue(attempt.id, [dear.id], ErrorCode.OUT_OF_MEMORY)
    assert await vt_of(database, person.user_id) == 1.0
    await database.jobs.settle_failed(cheap.id, ErrorCode.NODE_FAILED, {})
    assert await vt_of(database, person.user_id) == 0.0
