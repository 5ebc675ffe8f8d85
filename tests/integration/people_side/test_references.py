"""A second picture to look at: kept by a menu entry for the next edit, or attached to `/edit`."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from modules.ai.workflows.graph import to_api
from modules.ai.workflows.template import read_template
from modules.domain.jobs import Job, JobState
from modules.domain.people import UserId
from modules.domain.recipes import WorkflowName
from tests.support.front_side import Front, FrontDoor, a_png
from tests.support.graphs import ROOT
from tests.support.person import People, Person, Seen

STYLE = a_png(2, side_px=48)


async def a_result(front: Front, person: Person) -> tuple[Job, Seen]:
    await person.slash("imagine", model="z-image", prompt="a fox")
    job = await front.studio.only_job(int(person.id))
    await front.studio.draw(job)
    job = await front.until_state(job.id, JobState.DELIVERED)
    return job, await person.wait_for_message(lambda m: m.id == str(job.result_message_id))


async def kept(person: Person) -> Seen:
    """Somebody's picture in a channel, used as a reference."""
    shared = await person.say("", "general", files=[await person.upload("style.png", STYLE.data)])
    answer = await person.context_menu("Use as reference", shared)
    assert answer.message is not None
    return answer.message


async def looks_at(front: Front, job: Job) -> str:
    """The size of the reference tells which picture it is."""
    assert job.recipe.reference is not None
    picture = await front.database.blobs.get(job.recipe.reference)
    assert picture is not None
    return str(picture.size)


async def test_a_kept_reference_is_looked_at_by_the_next_edit_and_by_no_other(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    await a_result(front, bruno)
    last = await front.database.blobs.last_of(UserId(int(bruno.id)))
    card = await kept(bruno)
    assert card.is_ephemeral
    assert "Your next edit looks at this picture too" in card.text
    answer = await bruno.slash("edit", prompt="in this style")
    assert "Your reference picture is looked at too." in answer.text
    edited = await front.studio.only_job()
    assert (edited.recipe.source, await looks_at(front, edited)) == (last, "48x48")
    again = await bruno.slash("edit", prompt="brighter")
    assert "reference" not in again.text
    assert (await front.studio.only_job()).recipe.reference is None


async def test_its_button_edits_the_last_picture_also_after_a_restart(door: FrontDoor, people: People) -> None:
    bruno = await people.be("bruno")
    async with door.open() as first:
        await a_result(first, bruno)
        card = await kept(bruno)
    async with door.open() as second:
        opened = await bruno.press(card, "Edit my last picture")
        assert opened.modal is not None
        answer = await bruno.submit(opened.modal, prompt="in this style")
        assert "Your reference picture is looked at too." in answer.text
        job = await second.studio.only_job()
        assert (job.recipe.prompt, await looks_at(second, job)) == ("in this style", "48x48")


async def test_edit_under_a_result_takes_it_and_says_so_before(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, result = await a_result(front, bruno)
    await kept(bruno)
    opened = await bruno.press(result, "Edit")
    assert opened.modal is not None
    assert "Your reference picture is looked at too." in opened.modal.hints
    await bruno.submit(opened.modal, prompt="at night")
    edited = await front.studio.only_job()
    assert (edited.parent_id, await looks_at(front, edited)) == (job.id, "48x48")
    once_more = await bruno.press(result, "Edit")
    assert once_more.modal is not None
    assert not once_more.modal.hints


async def test_a_second_picture_attached_to_the_command_goes_before_the_kept_one(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    await a_result(front, bruno)
    await kept(bruno)
    beside = await bruno.upload("face.png", a_png(3, side_px=80).data)
    await bruno.slash("edit", prompt="with this face", reference=beside)
    assert await looks_at(front, await front.studio.only_job()) == "80x80"
    await bruno.slash("edit", prompt="in this style")
    assert await looks_at(front, await front.studio.only_job()) == "48x48"


async def test_one_that_is_not_wanted_or_an_hour_old_is_forgotten(front: Front, people: People) -> None:
    ana = await people.be("ana")
    await a_result(front, ana)
    card = await kept(ana)
    await ana.press(card, "Olvidarla")
    await ana.wait_for_message(lambda m: m.id == card.id and "Olvidada" in m.text and not m.buttons)
    await ana.slash("edit", prompt="de noche")
    assert (await front.studio.only_job()).recipe.reference is None
    await kept(ana)
    old = datetime.now(UTC) - timedelta(minutes=61)

    def age(connection: Connection) -> None:
        connection.execute(text("UPDATE reference_picture SET kept_at = :at"), {"at": f"{old:%Y-%m-%d %H:%M:%S.%f}"})

    await front.database.engine.write(age)
    await ana.slash("edit", prompt="de noche")
    assert (await front.studio.only_job()).recipe.reference is None


async def test_without_a_picture_to_edit_there_is_no_button_for_it(front: Front, people: People) -> None:
    chloe = await people.be("chloe")
    card = await kept(chloe)
    assert [button.label for button in card.buttons] == ["Forget it"]
    answer = await chloe.slash("edit", prompt="brighter")
    assert "There is no picture to edit yet" in answer.text
    mine = await chloe.upload("mine.png", a_png(4).data)
    await chloe.slash("edit", prompt="brighter", image=mine)
    assert await looks_at(front, await front.studio.only_job()) == "48x48"


async def test_the_newest_result_itself_is_kept_without_offering_to_edit_it_with_itself(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    _, older = await a_result(front, bruno)
    _, newest = await a_result(front, bruno)
    for result, buttons in ((newest, ["Forget it"]), (older, ["Edit my last picture", "Forget it"])):
        card = (await bruno.context_menu("Use as reference", result)).message
        assert card is not None
        assert [button.label for button in card.buttons] == buttons


async def test_what_was_refused_uses_nothing_up(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    await a_result(front, bruno)
    for prompt in ("one", "two"):
        await bruno.slash("edit", prompt=prompt)
    await kept(bruno)
    refused = await bruno.slash("edit", prompt="three")
    assert "You already have" in refused.text
    await front.studio.cancel((await front.studio.only_job()).id)
    await bruno.slash("edit", prompt="three")
    assert await looks_at(front, await front.studio.only_job()) == "48x48"


async def test_again_and_the_recipe_know_of_the_reference(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    await a_result(front, bruno)
    await kept(bruno)
    await bruno.slash("edit", prompt="in this style")
    edited = await front.studio.only_job()
    await front.studio.draw(edited)
    edited = await front.until_state(edited.id, JobState.DELIVERED)
    result = await bruno.wait_for_message(lambda m: m.id == str(edited.result_message_id))
    shown = (await bruno.press(result, "Recipe")).message
    assert shown is not None
    assert "Made from: a picture, with a reference" in shown.text
    recipe = (await bruno.download(shown.files[0].url)).decode()
    assert '"has_reference": true' in recipe
    await bruno.press(result, "Again")
    again = await front.studio.only_job()
    assert (again.recipe.source, again.recipe.reference) == (edited.recipe.source, edited.recipe.reference)


async def test_a_house_whose_templates_look_at_one_picture_says_so_at_once(door: FrontDoor, people: People) -> None:
    edit = door.library.templates[WorkflowName("flux_edit")]
    save = json.loads((ROOT / "flujos" / "flux_edit.json").read_text("utf-8"))["13"]
    one_picture = json.dumps({**to_api(edit.without_reference), "13": save})
    said = (ROOT / "flujos" / "flux_edit.manifest.toml").read_text("utf-8")
    said = said[: said.index("[roles.source]")] + said[said.index("[where]") :]
    templates = {**door.library.templates, edit.name: read_template(edit.name, one_picture, said)}
    door.library = replace(door.library, templates=templates)
    async with door.open() as front:
        bruno = await people.be("bruno")
        answer = await kept(bruno)
        assert "can't look at a second picture" in answer.text
        mine = await bruno.upload("mine.png", a_png(4).data)
        refused = await bruno.slash("edit", prompt="x", image=mine, reference=mine)
        assert "can't look at a second picture" in refused.text
        assert not await front.database.jobs.jobs()
