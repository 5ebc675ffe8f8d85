"""The JobStore's contract, on every database: accepting, claiming, settling, giving back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import Dimensions
from modules.domain.jobs import AttemptId, JobId, JobState, ServerName
from modules.domain.people import ChannelId, Language, MessageId, UserId
from modules.domain.queue import Pick, QueueSnapshot
from modules.domain.recipes import MAX_SEED, Lora
from modules.domain.records import Limits, MessageKind, PersonSettings
from modules.domain.servers import RunFailure, RunPhase, RunReport
from modules.utils.database import Database
from tests.support.builders import (
    FIRST_MOMENT,
    ROOMY,
    SteeredClock,
    a_boot_id,
    a_job_id,
    a_person,
    a_picture,
    a_recipe,
    a_report,
    a_request,
    a_work_class,
)
from tests.support.queue_steps import (
    THE_BOOT,
    THE_SERVER,
    accepted,
    claimed,
    delivered,
    exactly,
    generated,
    oldest,
    pick_of,
    pictures_for,
    submitted,
)

TWO_EACH = Limits(active_per_person=2, queue_length=100)


async def vt_of(database: Database, user_id: UserId) -> float:
    """A person's account, as an export shows it."""
    match await database.people.export(user_id):
        case {"account": [{"vt": float(vt)}]}:
            return vt
        case other:
            pytest.fail(f"no account in {other}")


# --- accepting ----------------------------------------------------------------------------------------------------------


async def test_an_accepted_job_is_read_back_as_it_was_asked_for(database: Database) -> None:
    recipe = a_recipe(
        "ein Löwe 🦁 — «ñandú»",
        negative_prompt="шум",
        size=Dimensions(1216, 832),
        seed=MAX_SEED,
        steps=25,
        cfg=7.25,
        guidance=2.5,
        sampler="dpmpp_2m",
        scheduler="karras",
        denoise=0.55,
        checkpoint="sd_xl_base_1.0.safetensors",
        loras=(Lora(name="ink.safetensors", strength=-0.5), Lora(name="film.safetensors")),
        count=4,
    )
    person = a_person(display_name="Zoë ✨", language=Language.SPANISH)
    parent = a_job_id()
    request = a_request(person, recipe=recipe, work=a_work_class(needs=frozenset({"class:A", "file:x=y"})), parent_id=parent)

    job, is_new = await database.jobs.accept(request, TWO_EACH)

    assert is_new
    assert job.recipe == recipe
    assert job.work == request.work
    assert (job.user_id, job.guild_id, job.display_name, job.language) == (person.user_id, person.guild_id, "Zoë ✨", "es")
    assert (job.state, job.accepted_at, job.parent_id) == (JobState.QUEUED, FIRST_MOMENT, parent)
    assert await database.jobs.job(job.id) == job


async def test_the_same_interaction_is_accepted_once(database: Database) -> None:
    request = a_request()
    first, _ = await database.jobs.accept(request, TWO_EACH)

    again, is_new = await database.jobs.accept(request, TWO_EACH)

    assert (again, is_new) == (first, False)
    assert await database.jobs.active_count(first.user_id) == 1


async def test_the_same_interaction_at_the_same_time_is_accepted_once(database: Database) -> None:
    request = a_request()
    answers = await asyncio.gather(*(database.jobs.accept(request, TWO_EACH) for _ in range(8)))
    assert len({job.id for job, _ in answers}) == 1
    assert [is_new for _, is_new in answers].count(True) == 1


async def test_an_interaction_replayed_after_its_job_is_over_still_gives_that_job(database: Database) -> None:
    request = a_request()
    [job] = await delivered(database, request)
    again, is_new = await database.jobs.accept(request, TWO_EACH)
    assert (again.id, again.state, is_new) == (job.id, JobState.DELIVERED, False)


@pytest.mark.parametrize("seed", [0, 2**31, 2**63 - 1, 2**63, MAX_SEED])
async def test_every_seed_comfyui_takes_survives(database: Database, seed: int) -> None:
    [job] = await accepted(database, a_request(recipe=a_recipe(seed=seed, count=2)))
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert (stored.recipe.seed, stored.recipe.seed_of(1)) == (seed, (seed + 1) % 2**64)


@pytest.mark.parametrize(
    "prompt", ["nul \x00 inside", "half a pair \ud83e", "right-to-left عربى", "𝔘𝔫𝔦", "' ; DROP TABLE job; --"]
)
async def test_no_prompt_is_too_strange_to_keep(database: Database, prompt: str) -> None:
    [job] = await accepted(database, a_request(a_person(display_name=prompt[:6]), recipe=a_recipe(prompt)))
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert stored.recipe.prompt == prompt
    assert len(await database.people.recent_prompts(job.user_id, "", 10)) == 1


async def test_waiting_and_running_jobs_count_against_the_limit(database: Database) -> None:
    person = a_person()
    await accepted(database, a_request(person), a_request(person))
    await submitted(database, oldest(1))

    with pytest.raises(FulletError) as refused:
        await database.jobs.accept(a_request(person), TWO_EACH)

    assert (refused.value.code, refused.value.params) == (ErrorCode.ACTIVE_LIMIT_REACHED, {"limit": 2})
    assert await database.jobs.active_count(person.user_id) == 2


async def test_a_generated_job_frees_its_place_before_it_is_delivered(database: Database) -> None:
    person = a_person()
    await generated(database, a_request(person), a_request(person))
    assert await database.jobs.active_count(person.user_id) == 0
    assert (await database.jobs.accept(a_request(person), TWO_EACH))[1]


async def test_a_limit_that_was_lowered_holds_at_once(database: Database) -> None:
    person = a_person()
    first, second, _third = await accepted(database, a_request(person), a_request(person), a_request(person))
    await database.jobs.cancel(first.id)
    await database.jobs.cancel(second.id)

    one_each = Limits(active_per_person=1, queue_length=100)
    with pytest.raises(FulletError) as refused:
        await database.jobs.accept(a_request(person), one_each)

    assert refused.value.code is ErrorCode.ACTIVE_LIMIT_REACHED


async def test_a_refused_job_leaves_nothing_behind(database: Database) -> None:
    person = a_person()
    await accepted(database, a_request(person))
    refused = a_request(person)
    one_each = Limits(active_per_person=1, queue_length=100)
    with pytest.raises(FulletError):
        await database.jobs.accept(refused, one_each)

    job, is_new = await database.jobs.accept(refused, TWO_EACH)

    assert is_new
    assert [stored.id for stored in await database.jobs.jobs(user_id=person.user_id, limit=1)] == [job.id]


async def test_the_queue_is_full_of_waiting_jobs_not_of_running_ones(database: Database) -> None:
    three = Limits(active_per_person=9, queue_length=3)
    await accepted(database, a_request(), a_request(), a_request())
    with pytest.raises(FulletError) as refused:
        await database.jobs.accept(a_request(), three)
    assert refused.value.code is ErrorCode.QUEUE_FULL

    await claimed(database, oldest(1))

    assert (await database.jobs.accept(a_request(), three))[1]


async def test_a_banned_person_is_refused(database: Database) -> None:
    person = a_person()
    await database.people.save_settings(PersonSettings(user_id=person.user_id, is_banned=True))
    with pytest.raises(FulletError) as refused:
        await database.jobs.accept(a_request(person), TWO_EACH)
    assert refused.value.code is ErrorCode.PERSON_BANNED


async def test_a_cancelled_acceptance_is_stored_whole_or_not_at_all(database: Database) -> None:
    person = a_person()
    for turns in range(12):
        request = a_request(person)
        task = asyncio.ensure_future(database.jobs.accept(request, ROOMY))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        job, _ = await database.jobs.accept(request, ROOMY)
        assert job.state is JobState.QUEUED
    jobs = await database.jobs.jobs(user_id=person.user_id)
    assert len(jobs) == await database.jobs.active_count(person.user_id) == 12


# --- accounts -----------------------------------------------------------------------------------------------------------


async def test_who_comes_new_starts_at_the_least_served_of_those_who_wait(database: Database) -> None:
    ana, ben, new = a_person(), a_person(), a_person()
    await accepted(database, *(a_request(person, work=a_work_class(cost_s=5)) for person in (ana, ben, ana, ben)))
    await claimed(database, oldest(2))
    await claimed(database, oldest(1))  # ana has received 10, ben 5, and only ben still waits
    await accepted(database, a_request(new))
    assert await vt_of(database, new.user_id) == 5.0


async def test_only_people_who_wait_for_the_same_servers_count_for_the_lift(database: Database) -> None:
    here, there = a_work_class("here", cost_s=3), a_work_class("there", cost_s=50)
    ana, ben, cai = a_person(), a_person(), a_person()
    await accepted(database, *(a_request(person, work=work) for person, work in ((ana, here), (ben, there)) for _ in range(2)))
    await database.jobs.claim(THE_SERVER, THE_BOOT, ["there"], oldest(1))
    await database.jobs.claim(THE_SERVER, THE_BOOT, ["here"], oldest(1))

    await database.jobs.accept(a_request(cai, work=there), ROOMY, sharing={"there"})

    assert await vt_of(database, cai.user_id) == 50.0


async def test_who_finds_an_empty_queue_starts_at_the_floor(database: Database) -> None:
    ana, ben = a_person(), a_person()
    await accepted(database, *(a_request(ana, work=a_work_class(cost_s=8)) for _ in range(3)))
    await claimed(database, oldest(1))
    await claimed(database, oldest(1))
    assert (await database.jobs.snapshot()).floor == 16.0
    await claimed(database, oldest(1))

    await accepted(database, a_request(ben))

    assert await vt_of(database, ben.user_id) == 16.0


async def test_the_floor_never_rises_above_somebody_who_waits_elsewhere(database: Database) -> None:
    here, there = a_work_class("here", cost_s=40), a_work_class("there")
    ana, ben = a_person(), a_person()
    await accepted(database, a_request(ana, work=here), a_request(ana, work=here), a_request(ben, work=there))
    await database.jobs.claim(THE_SERVER, THE_BOOT, ["here"], oldest(1))
    snapshot = await database.jobs.snapshot()
    assert snapshot.accounts[ana.user_id].vt == 40.0
    assert snapshot.floor == 0.0


async def test_a_weight_is_that_of_the_roles_at_the_last_asking(database: Database) -> None:
    person = a_person(weight=1.0)
    await accepted(database, a_request(person))
    await accepted(database, a_request(replace(person, weight=4.0)))
    assert (await database.jobs.snapshot()).accounts[person.user_id].weight == 4.0


async def test_somebody_still_waiting_is_not_lifted_again(database: Database) -> None:
    ana, ben = a_person(), a_person()
    await accepted(database, a_request(ana), a_request(ben), a_request(ben))
    await claimed(database, exactly((await database.jobs.jobs(user_id=ben.user_id))[1].id))
    await accepted(database, a_request(ana))
    assert await vt_of(database, ana.user_id) == 0.0


# --- claiming -----------------------------------------------------------------------------------------------------------


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


# --- submitted, generated -----------------------------------------------------------------------------------------------


async def test_only_jobs_still_in_the_attempt_become_submitted(database: Database) -> None:
    gone, here = await accepted(database, a_request(), a_request())
    attempt = await claimed(database, oldest(2))
    await database.jobs.cancel(gone.id)
    await database.jobs.mark_submitted(attempt.id)
    await database.jobs.mark_submitted(attempt.id)
    again = await database.jobs.attempt(attempt.id)
    assert again is not None
    assert [(job.id, job.state) for job in again.jobs] == [(gone.id, JobState.CANCELLED), (here.id, JobState.SUBMITTED)]


async def test_a_result_is_stored_whole(database: Database, clock: SteeredClock) -> None:
    job, _other = await accepted(database, a_request(recipe=a_recipe(count=3, seed=40)), a_request())
    attempt = await submitted(database, oldest(2))
    clock.advance(20)
    report = a_report(worked_s=6.5, started_at=FIRST_MOMENT + timedelta(seconds=5))

    assert await database.jobs.settle_generated(attempt.id, job.id, pictures_for(job), report)

    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert stored.state is JobState.GENERATED
    assert (stored.started_at, stored.worked_s, stored.waited_s) == (report.started_at, 6.5, 5.0)
    assert (stored.generated_at, stored.shared_by, stored.server) == (clock.now(), 2, THE_SERVER)
    blob_ids = await database.blobs.of_job(job.id)
    assert [await database.blobs.get(blob_id) for blob_id in blob_ids] == [a_picture(40), a_picture(41), a_picture(42)]
    assert await database.blobs.last_of(job.user_id) == blob_ids[-1]
    assert await database.jobs.active_count(job.user_id) == 0
    [owed] = await database.outbox.due(clock.now())
    assert (owed.job_id, owed.kind, owed.tries, owed.first_try_at) == (job.id, MessageKind.RESULT, 0, None)


async def test_the_first_result_wins(database: Database) -> None:
    [job] = await accepted(database)
    attempt = await submitted(database, oldest(1))
    answers = await asyncio.gather(
        *(database.jobs.settle_generated(attempt.id, job.id, [a_picture(seed)], a_report()) for seed in range(4))
    )
    assert sorted(answers) == [False, False, False, True]
    assert len(await database.blobs.of_job(job.id)) == 1
    assert len(await database.outbox.due(FIRST_MOMENT)) == 1


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_wrong_number_of_pictures_is_a_bug_and_stores_nothing(database: Database, count: int) -> None:
    [job] = await accepted(database, a_request(recipe=a_recipe(count=2)))
    attempt = await submitted(database, oldest(1))
    with pytest.raises(ValueError, match="pictures"):
        await database.jobs.settle_generated(attempt.id, job.id, [a_picture()] * count, a_report())
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert stored.state is JobState.SUBMITTED
    assert await database.blobs.of_job(job.id) == []


async def test_a_result_of_an_attempt_the_job_was_never_in_is_refused(database: Database) -> None:
    mine, yours = await accepted(database, a_request(), a_request())
    attempt = await submitted(database, exactly(mine.id))
    await submitted(database, exactly(yours.id))
    with pytest.raises(ValueError, match="never part"):
        await database.jobs.settle_generated(attempt.id, yours.id, [a_picture()], a_report())


async def test_a_late_result_of_an_earlier_attempt_counts_when_it_is_the_first(database: Database) -> None:
    [job] = await accepted(database)
    early = await submitted(database, oldest(1))
    await database.jobs.requeue(early.id, [job.id], ErrorCode.SERVER_UNREACHABLE)
    assert not await database.jobs.settle_generated(early.id, job.id, [a_picture(1)], a_report())
    late = await claimed(database, oldest(1), server=ServerName("gpu-2"))

    assert await database.jobs.settle_generated(early.id, job.id, [a_picture(1)], a_report())
    assert not await database.jobs.settle_generated(late.id, job.id, [a_picture(2)], a_report())

    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert stored.server == THE_SERVER
    await database.jobs.end_attempt(late.id, a_report())


async def test_times_that_come_after_the_pictures_are_added_at_the_end(database: Database) -> None:
    [job] = await accepted(database)
    attempt = await submitted(database, oldest(1))
    await database.jobs.settle_generated(attempt.id, job.id, [a_picture()], RunReport(phase=RunPhase.RUNNING))
    await database.jobs.end_attempt(attempt.id, a_report(worked_s=3.0), "solo")
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert (stored.started_at, stored.worked_s) == (FIRST_MOMENT, 3.0)


# --- failed, requeued, cancelled ----------------------------------------------------------------------------------------


async def test_a_failed_job_is_refunded_and_owes_a_message(database: Database) -> None:
    [job] = await accepted(database)
    attempt = await submitted(database, oldest(1))

    assert await database.jobs.settle_failed(job.id, ErrorCode.TIMED_OUT, {"limit_s": 300}, attempt_id=attempt.id)
    assert not await database.jobs.settle_failed(job.id, ErrorCode.NODE_FAILED, {})

    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert (stored.state, stored.error_code, stored.error_params) == (JobState.FAILED, "timed_out", {"limit_s": 300})
    assert await vt_of(database, job.user_id) == 0.0
    assert await database.jobs.active_count(job.user_id) == 0
    [owed] = await database.outbox.due(FIRST_MOMENT)
    assert owed.kind is MessageKind.FAILURE


async def test_a_job_can_fail_while_it_waits(database: Database) -> None:
    [job] = await accepted(database)
    assert await database.jobs.settle_failed(job.id, ErrorCode.MODEL_UNAVAILABLE, {})
    assert (await database.jobs.snapshot()).jobs == ()


async def test_an_old_attempt_cannot_fail_a_job_that_has_moved_on(database: Database) -> None:
    [job] = await accepted(database)
    old = await claimed(database, oldest(1))
    await database.jobs.requeue(old.id, [job.id], ErrorCode.INTERRUPTED)
    assert not await database.jobs.settle_failed(job.id, ErrorCode.NODE_FAILED, {}, attempt_id=old.id)
    await claimed(database, oldest(1))
    assert not await database.jobs.settle_failed(job.id, ErrorCode.NODE_FAILED, {}, attempt_id=old.id)


async def test_a_requeued_job_keeps_its_place_and_gets_its_charge_back(database: Database) -> None:
    first, second = await accepted(database, a_request(), a_request())
    attempt = await submitted(database, oldest(1))

    moved = await database.jobs.requeue(attempt.id, [first.id, second.id], ErrorCode.SERVER_UNREACHABLE, server_died=True)

    assert moved == [first.id]
    snapshot = await database.jobs.snapshot()
    assert [job.id for job in snapshot.jobs] == [first.id, second.id]
    assert snapshot.accounts[first.user_id].vt == 0.0
    stored = await database.jobs.job(first.id)
    assert stored is not None
    assert (stored.failed_attempts, stored.server_deaths, stored.server, stored.shared_by) == (1, 1, None, 1)
    assert stored.seq == first.seq


async def test_requeueing_through_no_fault_of_the_server_costs_no_attempt(database: Database) -> None:
    [job] = await accepted(database)
    attempt = await claimed(database, oldest(1))
    await database.jobs.requeue(attempt.id, [job.id], ErrorCode.INTERRUPTED, counts=False)
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert (stored.failed_attempts, stored.server_deaths) == (0, 0)


async def test_a_job_told_to_run_alone_does_so_from_then_on(database: Database) -> None:
    [job] = await accepted(database)
    for alone in (False, True, False):
        attempt = await submitted(database, oldest(1))
        await database.jobs.requeue(attempt.id, [job.id], ErrorCode.SERVER_UNREACHABLE, server_died=True, alone=alone)
    [waiting] = (await database.jobs.snapshot()).jobs
    stored = await database.jobs.job(job.id)
    assert stored is not None
    assert (waiting.runs_alone, stored.runs_alone, stored.server_deaths) == (True, True, 3)


async def test_a_refund_never_goes_below_the_floor(database: Database) -> None:
    ana, ben = a_person(), a_person()
    await accepted(database, a_request(ana, work=a_work_class(cost_s=10)))
    attempt = await claimed(database, oldest(1))  # ana stands at 10
    await accepted(database, *(a_request(ben, work=a_work_class(cost_s=6)) for _ in range(2)))
    await claimed(database, oldest(1))  # ben waits on at 6, and so does the floor
    assert (await database.jobs.snapshot()).floor == 6.0

    await database.jobs.requeue(attempt.id, [job.id for job in attempt.jobs], ErrorCode.SERVER_UNREACHABLE)

    assert await vt_of(database, ana.user_id) == 6.0


async def test_cancelling_gives_the_charge_back_at_once_only_before_comfyui_had_the_job(database: Database) -> None:
    waiting, taken, running = await accepted(database, a_request(), a_request(), a_request())
    await submitted(database, exactly(running.id))
    await claimed(database, exactly(taken.id))

    before = [await database.jobs.cancel(job.id) for job in (waiting, taken, running)]

    assert [answer and answer[1] for answer in before] == [JobState.QUEUED, JobState.SUBMITTING, JobState.SUBMITTED]
    assert [answer and answer[0].state for answer in before] == [JobState.CANCELLED] * 3
    assert [await vt_of(database, job.user_id) for job in (waiting, taken, running)] == [0.0, 0.0, 8.0]
    assert [await database.jobs.active_count(job.user_id) for job in (waiting, taken, running)] == [0, 0, 0]
    assert await database.outbox.next_due() is None


@pytest.mark.parametrize(("has_begun", "charged"), [(False, 8.0), (True, 16.0)])
async def test_who_was_cancelled_pays_exactly_if_the_attempt_began(database: Database, has_begun: bool, charged: float) -> None:
    person = a_person()
    [gone] = await accepted(database, a_request(person))
    attempt = await submitted(database, oldest(1))
    await accepted(database, a_request(person))
    beside = await submitted(database, oldest(1))
    await database.jobs.cancel(gone.id)
    assert await vt_of(database, person.user_id) == 16.0

    await asyncio.gather(*(database.jobs.end_attempt(attempt.id, None, has_begun=has_begun) for _ in range(3)))

    assert await vt_of(database, person.user_id) == charged
    assert [open_one.id for open_one in await database.jobs.unfinished_attempts(THE_SERVER)] == [beside.id]


async def test_what_was_given_back_before_is_not_given_back_at_the_end_of_the_attempt(database: Database) -> None:
    person = a_person()
    failed, requeued, early = await accepted(database, *(a_request(person) for _ in range(3)))
    attempt = await claimed(database, oldest(3))
    await accepted(database, a_request(person))
    await submitted(database, oldest(1))
    await database.jobs.cancel(early.id)  # before ComfyUI had it
    await database.jobs.mark_submitted(attempt.id)
    await database.jobs.settle_failed(failed.id, ErrorCode.NODE_FAILED, {}, attempt_id=attempt.id)
    await database.jobs.requeue(attempt.id, [requeued.id], ErrorCode.INTERRUPTED)
    await database.jobs.cancel(requeued.id)  # while it waited again
    assert await vt_of(database, person.user_id) == 8.0

    await database.jobs.end_attempt(attempt.id, None, has_begun=False)

    assert await vt_of(database, person.user_id) == 8.0


async def test_a_picture_from_an_earlier_attempt_is_paid_for_in_the_later_one_that_never_began(database: Database) -> None:
    [job] = await accepted(database)
    early = await submitted(database, oldest(1))
    await database.jobs.requeue(early.id, [job.id], ErrorCode.SERVER_UNREACHABLE)
    late = await submitted(database, oldest(1))
    await database.jobs.settle_generated(early.id, job.id, [a_picture()], a_report())

    await database.jobs.end_attempt(late.id, None, has_begun=False)

    assert await vt_of(database, job.user_id) == 8.0


async def test_what_the_end_of_an_attempt_gives_back_never_goes_below_the_floor(database: Database) -> None:
    ana, ben = a_person(), a_person()
    [gone] = await accepted(database, a_request(ana, work=a_work_class(cost_s=10)))
    attempt = await submitted(database, oldest(1))  # ana stands at 10
    await accepted(database, *(a_request(ben, work=a_work_class(cost_s=6)) for _ in range(2)))
    await claimed(database, oldest(1))  # ben waits on at 6, and so does the floor
    await database.jobs.cancel(gone.id)

    await database.jobs.end_attempt(attempt.id, None, has_begun=False)

    assert await vt_of(database, ana.user_id) == 6.0


async def test_what_is_over_or_unknown_cannot_be_cancelled(database: Database) -> None:
    [job] = await generated(database)
    assert await database.jobs.cancel(job.id) is None
    assert await database.jobs.cancel(JobId(uuid4())) is None


async def test_a_cancelled_job_drops_its_late_picture(database: Database) -> None:
    [job] = await accepted(database)
    attempt = await submitted(database, oldest(1))
    await database.jobs.cancel(job.id)
    assert not await database.jobs.settle_generated(attempt.id, job.id, [a_picture()], a_report())
    assert await database.blobs.of_job(job.id) == []


# --- attempts -----------------------------------------------------------------------------------------------------------


async def test_an_attempt_ends_only_after_its_jobs(database: Database) -> None:
    [job] = await accepted(database)
    attempt = await submitted(database, oldest(1))
    with pytest.raises(ValueError, match="after the last"):
        await database.jobs.end_attempt(attempt.id, None)
    assert [open_one.id for open_one in await database.jobs.unfinished_attempts(THE_SERVER)] == [attempt.id]

    await database.jobs.settle_failed(job.id, ErrorCode.NODE_FAILED, {})
    failure = RunFailure(code=ErrorCode.NODE_FAILED, slots=frozenset({0}), node="KSampler")
    await database.jobs.end_attempt(attempt.id, RunReport(phase=RunPhase.FAILED, failure=failure), "stacked")

    assert await database.jobs.unfinished_attempts(THE_SERVER) == []


async def test_unfinished_attempts_are_found_by_server_and_by_earlier_starts(database: Database, clock: SteeredClock) -> None:
    old_boot, new_boot, elsewhere = a_boot_id(), a_boot_id(), ServerName("gpu-2")
    await accepted(database, *(a_request() for _ in range(3)))
    first = await claimed(database, oldest(1), boot_id=old_boot)
    clock.advance(1)
    second = await claimed(database, oldest(1), boot_id=new_boot)
    third = await claimed(database, oldest(1), server=elsewhere, boot_id=old_boot)

    assert await database.jobs.unfinished_attempts(THE_SERVER) == [first, second]
    assert await database.jobs.unfinished_attempts(THE_SERVER, except_boot=new_boot) == [first]
    assert await database.jobs.unfinished_attempts(elsewhere) == [third]
    assert await database.jobs.attempt(AttemptId(uuid4())) is None


async def test_what_an_attempt_still_owes_is_counted_without_the_cancelled_the_settled_and_those_that_left(
    database: Database,
) -> None:
    jobs = await accepted(database, *(a_request() for _ in range(5)))
    shared = await submitted(database, exactly(*(job.id for job in jobs[:4])))
    alone = await claimed(database, exactly(jobs[4].id))
    unknown = AttemptId(uuid4())
    assert await database.jobs.owed_counts([shared.id, alone.id, unknown]) == {shared.id: 4, alone.id: 1, unknown: 0}

    await database.jobs.cancel(jobs[0].id)
    await database.jobs.settle_generated(shared.id, jobs[1].id, [a_picture()], a_report())
    await database.jobs.requeue(shared.id, [jobs[2].id], ErrorCode.INTERRUPTED)
    assert await database.jobs.owed_counts([shared.id, alone.id]) == {shared.id: 1, alone.id: 1}

    again = await claimed(database, exactly(jobs[2].id))
    assert await database.jobs.owed_counts([shared.id, again.id]) == {shared.id: 1, again.id: 1}
    assert await database.jobs.owed_counts([]) == {}


async def test_attempts_of_servers_nobody_drives_any_more_are_found(database: Database, clock: SteeredClock) -> None:
    life, driven, left = timedelta(seconds=30), ServerName("driven"), ServerName("left")
    await accepted(database, *(a_request() for _ in range(3)))
    for server in (driven, left):
        await database.jobs.take_lease(server, THE_BOOT, life)
        await claimed(database, oldest(1), server=server)
    done = await claimed(database, oldest(1), server=left)
    await database.jobs.cancel(done.jobs[0].id)
    clock.advance(20)
    await database.jobs.take_lease(driven, THE_BOOT, life)
    clock.advance(20)

    abandoned = await database.jobs.abandoned_attempts(clock.now())

    assert [attempt.server for attempt in abandoned] == [left]
    assert [job.state for attempt in abandoned for job in attempt.jobs] == [JobState.SUBMITTING]
    assert await database.jobs.abandoned_attempts(clock.now() - timedelta(seconds=15)) == []


async def test_the_order_of_a_batch_survives_everything_that_happens_to_its_jobs(database: Database) -> None:
    jobs = await accepted(database, *(a_request(recipe=a_recipe(count=count)) for count in (2, 1, 3)))
    attempt = await submitted(database, exactly(*(job.id for job in reversed(jobs))))
    await database.jobs.cancel(jobs[1].id)
    await database.jobs.requeue(attempt.id, [jobs[0].id], ErrorCode.NODE_FAILED)
    await database.people.erase(jobs[1].user_id)

    again = await database.jobs.attempt(attempt.id)

    assert again is not None
    assert again.slots == attempt.slots
    assert again.jobs[1].recipe.prompt == ""


# --- leases -------------------------------------------------------------------------------------------------------------


async def test_a_lease_is_one_boots_until_it_runs_out(database: Database, clock: SteeredClock) -> None:
    mine, yours = a_boot_id(), a_boot_id()
    life = timedelta(seconds=30)
    assert await database.jobs.take_lease(THE_SERVER, mine, life)
    assert not await database.jobs.take_lease(THE_SERVER, yours, life)
    clock.advance(20)
    assert await database.jobs.take_lease(THE_SERVER, mine, life)
    clock.advance(29)
    assert not await database.jobs.take_lease(THE_SERVER, yours, life)
    clock.advance(1)
    assert await database.jobs.take_lease(THE_SERVER, yours, life)
    assert not await database.jobs.take_lease(THE_SERVER, mine, life)


async def test_a_released_lease_is_free_and_only_its_holder_releases_it(database: Database) -> None:
    mine, yours = a_boot_id(), a_boot_id()
    life = timedelta(seconds=30)
    await database.jobs.take_lease(THE_SERVER, mine, life)
    await database.jobs.release_lease(THE_SERVER, yours)
    assert not await database.jobs.take_lease(THE_SERVER, yours, life)
    await database.jobs.release_lease(THE_SERVER, mine)
    assert await database.jobs.take_lease(THE_SERVER, yours, life)


async def test_a_living_lease_can_be_taken_by_who_knows_its_holder_is_dead(database: Database) -> None:
    dead, mine = a_boot_id(), a_boot_id()
    life = timedelta(seconds=30)
    await database.jobs.take_lease(THE_SERVER, dead, life)
    assert await database.jobs.take_lease(THE_SERVER, mine, life, steal=True)
    assert not await database.jobs.take_lease(THE_SERVER, dead, life)


async def test_of_many_who_want_a_server_one_gets_it(database: Database) -> None:
    answers = await asyncio.gather(*(database.jobs.take_lease(THE_SERVER, a_boot_id(), timedelta(seconds=30)) for _ in range(8)))
    assert answers.count(True) == 1


async def test_whose_lease_was_stolen_claims_nothing_more_but_what_it_drew_still_counts(
    database: Database, clock: SteeredClock
) -> None:
    robbed, thief = a_boot_id(), a_boot_id()
    first, _second = await accepted(database, a_request(), a_request())
    await database.jobs.take_lease(THE_SERVER, robbed, timedelta(seconds=30))
    attempt = await claimed(database, oldest(1), boot_id=robbed)
    clock.advance(31)
    assert await database.jobs.take_lease(THE_SERVER, thief, timedelta(seconds=30))

    keys = await database.jobs.waiting_classes()
    assert await database.jobs.claim(THE_SERVER, robbed, keys, oldest(1)) is None
    assert await database.jobs.settle_generated(attempt.id, first.id, [a_picture()], a_report())
    assert await database.jobs.requeue(attempt.id, [first.id], ErrorCode.INTERRUPTED) == []
    assert await database.jobs.claim(THE_SERVER, thief, keys, oldest(1)) is not None


# --- looking ------------------------------------------------------------------------------------------------------------


async def test_jobs_are_found_by_owner_and_state_page_by_page(database: Database) -> None:
    ana = a_person()
    jobs = await accepted(database, *(a_request(ana) for _ in range(5)), a_request())
    await database.jobs.cancel(jobs[1].id)

    mine = await database.jobs.jobs(user_id=ana.user_id, limit=3)
    rest = await database.jobs.jobs(user_id=ana.user_id, limit=3, before_seq=mine[-1].seq)
    waiting = await database.jobs.jobs(states={JobState.QUEUED}, newest_first=False)

    assert [job.id for job in [*mine, *rest]] == [job.id for job in reversed(jobs[:5])]
    assert [job.id for job in waiting] == [jobs[0].id, *(job.id for job in jobs[2:])]
    assert await database.jobs.jobs(states=set()) == []


async def test_the_classes_that_wait_are_told_once_each(database: Database) -> None:
    flux, edit = a_work_class("flux"), a_work_class("edit", needs=frozenset({"class:LoadImage"}), is_mergeable=False)
    await accepted(database, a_request(work=flux), a_request(work=flux), a_request(work=edit))
    assert await database.jobs.waiting_classes() == {"flux": flux, "edit": edit}
    await claimed(database, oldest(2))
    assert await database.jobs.waiting_classes() == {"edit": edit}


async def test_a_snapshot_can_be_of_some_keys(database: Database) -> None:
    await accepted(database, a_request(work=a_work_class("a")), a_request(work=a_work_class("b")))
    assert [job.exact_key for job in (await database.jobs.snapshot(["b"])).jobs] == ["b"]
    assert len((await database.jobs.snapshot()).jobs) == 2
    assert (await database.jobs.snapshot([])).jobs == ()


async def test_a_card_is_remembered_and_forgotten_with_its_channel(database: Database) -> None:
    person = a_person()
    waiting, over = await accepted(database, a_request(person), a_request(person))
    await database.jobs.cancel(over.id)
    await database.jobs.set_card(waiting.id, MessageId(77))
    card = await database.jobs.job(waiting.id)
    assert card is not None
    assert card.card_message_id == 77

    await database.jobs.move_channel(person.user_id, ChannelId(5))

    moved, stayed = await database.jobs.job(waiting.id), await database.jobs.job(over.id)
    assert moved is not None
    assert stayed is not None
    assert (moved.channel_id, moved.card_message_id) == (5, None)
    assert stayed.channel_id == over.channel_id


async def test_results_and_bad_news_still_owed_move_to_the_new_channel(database: Database) -> None:
    person, other = a_person(), a_person()
    drawn, _ = await generated(database, a_request(person), a_request(other))
    [failed] = await accepted(database, a_request(person))
    await database.jobs.settle_failed(failed.id, ErrorCode.NODE_FAILED, {})
    await database.jobs.move_channel(person.user_id, ChannelId(5))
    mine = await database.jobs.jobs(user_id=person.user_id)
    assert {job.id: job.channel_id for job in mine} == {drawn.id: 5, failed.id: 5}
    [theirs] = await database.jobs.jobs(user_id=other.user_id)
    assert theirs.channel_id != 5
