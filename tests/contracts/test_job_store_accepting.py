"""The JobStore's contract, on every database: accepted once and within the limits, and the accounts that opens."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import Dimensions
from modules.domain.jobs import JobState
from modules.domain.people import Language
from modules.domain.recipes import MAX_SEED, Lora
from modules.domain.records import Limits, PersonSettings
from modules.utils.database import Database
from tests.support.builders import (
    FIRST_MOMENT,
    ROOMY,
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
    delivered,
    exactly,
    generated,
    oldest,
    submitted,
    vt_of,
)

TWO_EACH = Limits(active_per_person=2, queue_length=100)


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


async def test_who_would_be_refused_is_refused_before_anything_is_asked_for_and_nobody_else(database: Database) -> None:
    banned, busy, other = a_person(), a_person(), a_person()
    await database.people.save_settings(PersonSettings(user_id=banned.user_id, is_banned=True))
    await accepted(database, a_request(busy), a_request(busy))
    full = Limits(active_per_person=2, queue_length=2)
    for person, limits, code in (
        (banned, TWO_EACH, ErrorCode.PERSON_BANNED),
        (busy, TWO_EACH, ErrorCode.ACTIVE_LIMIT_REACHED),
        (other, full, ErrorCode.QUEUE_FULL),
    ):
        with pytest.raises(FulletError) as early:
            await database.jobs.check_may_ask(person.user_id, limits)
        with pytest.raises(FulletError) as late:
            await database.jobs.accept(a_request(person), limits)
        assert (early.value.code, early.value.params) == (late.value.code, late.value.params)
        assert early.value.code is code
    await database.jobs.check_may_ask(other.user_id, TWO_EACH)
    assert await database.jobs.active_count(other.user_id) == 0
