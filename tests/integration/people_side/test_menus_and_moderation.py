"""Context menus of messages, recipes inside files, and what administrators may forbid."""

from __future__ import annotations

from typing import Any

from modules.domain.jobs import Job, JobState
from modules.domain.people import UserId
from modules.utils.images import finish_output
from tests.support.front_side import Front, a_png
from tests.support.person import People, Person, Seen


async def delivered(front: Front, person: Person, **options: Any) -> tuple[Job, Seen]:
    await person.slash("imagine", **({"model": "z-image", "prompt": "a fox"} | options))
    job = await front.studio.only_job(int(person.id))
    await front.studio.draw(job)
    job = await front.until_state(job.id, JobState.DELIVERED)
    return job, await person.wait_for_message(lambda m: m.id == str(job.result_message_id))


async def test_edit_this_picture_works_on_a_result_of_ours(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, result = await delivered(front, bruno)
    opened = await bruno.context_menu("Edit this picture", result)
    assert opened.modal is not None
    await bruno.submit(opened.modal, prompt="at night")
    edited = await front.studio.only_job()
    assert (edited.parent_id, edited.recipe.prompt) == (job.id, "at night")


async def test_edit_this_picture_works_on_anybodys_attachment(front: Front, people: People) -> None:
    bruno, ana = await people.be("bruno"), await people.be("ana")
    shared = await ana.say("look", "general", files=[await ana.upload("mine.png", a_png(4).data)])
    opened = await bruno.context_menu("Edit this picture", shared)
    assert opened.modal is not None
    await bruno.submit(opened.modal, prompt="brighter")
    edited = await front.studio.only_job()
    assert edited.user_id == int(bruno.id)
    assert edited.recipe.source is not None
    kept = await front.database.blobs.get(edited.recipe.source)
    assert kept is not None
    assert str(kept.size) == "64x64"


async def test_a_message_without_a_picture_is_answered(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    said = await bruno.say("just words", "general")
    answer = await bruno.context_menu("Edit this picture", said)
    assert "isn't a picture I can read" in answer.text


async def test_a_recipe_comes_out_of_the_file_itself(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    carrying = finish_output(a_png(1).data, recipe='{"prompt": "a whale", "seed": 5}')
    shared = await bruno.say("", "general", files=[await bruno.upload("whale.png", carrying.data)])
    menu = await bruno.context_menu("Recipe", shared)
    assert "a whale" in menu.text
    recalled = await bruno.slash("recall", file=await bruno.upload("whale.png", carrying.data))
    assert "a whale" in recalled.text
    plain = await bruno.slash("recall", file=await bruno.upload("plain.png", a_png(1).data))
    assert "There is no recipe of mine in that file" in plain.text


async def test_blocked_words_are_refused_until_they_are_allowed_again(front: Front, people: People) -> None:
    elena, bruno = await people.be("elena"), await people.be("bruno")
    shown = await elena.slash("admin words", action="add", word="  Gore ")
    assert shown.text == "Blocked here: gore"
    refused = await bruno.slash("imagine", model="z-image", prompt="a lot of GORE")
    assert "doesn't allow some of the words" in refused.text
    shown = await elena.slash("admin words", action="remove", word="GORE")
    assert shown.text == "No word is blocked here."
    allowed = await bruno.slash("imagine", model="z-image", prompt="a lot of gore")
    assert "on its way" in allowed.text


async def test_who_is_banned_waits_for_nothing_and_gets_nothing_until_unbanned(front: Front, people: People) -> None:
    elena, bruno = await people.be("elena"), await people.be("bruno")
    await bruno.slash("imagine", model="z-image", prompt="a fox")
    job = await front.studio.only_job()
    await elena.slash("admin ban", member=bruno.id)
    await front.until_state(job.id, JobState.CANCELLED)
    refused = await bruno.slash("imagine", model="z-image", prompt="a fox")
    assert "You can't make pictures on this server" in refused.text
    await elena.slash("admin unban", member=bruno.id)
    allowed = await bruno.slash("imagine", model="z-image", prompt="a fox")
    assert "on its way" in allowed.text


async def test_acts_are_kept_in_a_trail_and_told_where_the_admins_want(front: Front, people: People) -> None:
    elena, bruno = await people.be("elena"), await people.be("bruno")
    showcase = await elena.channel("showcase")
    await elena.slash("admin audit", told_in=showcase.id)
    await elena.slash("admin ban", member=bruno.id)
    line = await elena.wait_for_message(lambda m: m.by_bot and "can't make pictures any more" in m.text, channel="showcase")
    assert line.mentions == []
    trail = await elena.slash("admin audit")
    assert f"{elena.mention} · banned {bruno.mention}" in trail.text
    assert f"chose <#{showcase.id}> for these lines" in trail.text


async def test_a_roles_weight_reaches_the_jobs_of_its_people(front: Front, people: People) -> None:
    elena = await people.be("elena")
    guild = front.sandbox.world.guilds[next(iter(front.sandbox.world.guilds))]
    booster = next(role for role in guild.roles.values() if role.is_booster)
    answer = await elena.slash("admin weight", role=str(booster.id), times=2.5)
    assert "counts 2.5 times" in answer.text
    chloe = await people.be("chloe")
    await chloe.slash("imagine", model="z-image", prompt="a fox")
    snapshot = await front.database.jobs.snapshot()
    assert snapshot.accounts[UserId(int(chloe.id))].weight == 2.5
