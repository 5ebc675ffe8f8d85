"""Buttons and forms under a result: they work for their owner, for ever, and answer everybody kindly."""

from __future__ import annotations

import asyncio
import json
from uuid import uuid4

import pytest
from sqlalchemy import Connection, insert, select

from modules.ai.workflows.template import Library
from modules.domain.jobs import Job, JobId, JobState, Origin, base36
from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.world import Overwrite, OverwriteKind
from modules.utils.database.tables import job as job_table
from tests.support.front_side import Front, FrontDoor, a_png
from tests.support.person import Modal, People, Person, Seen
from tests.support.person_views import walk


async def delivered(front: Front, person: Person, **options: object) -> tuple[Job, Seen]:
    wanted: dict[str, object] = {"model": "z-image", "prompt": "a fox"} | options
    await person.slash("imagine", **wanted)  # type: ignore[arg-type] # command options
    job = await front.studio.only_job(int(person.id))
    await front.studio.draw(job)
    job = await front.until_state(job.id, JobState.DELIVERED)
    result = await person.wait_for_message(lambda m: m.id == str(job.result_message_id))
    return job, result


async def test_again_is_the_same_with_a_new_seed(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, result = await delivered(front, bruno, size="512x768")
    answer = await bruno.press(result, "Again")
    assert "on its way" in answer.text
    again = await front.studio.only_job()
    assert again.parent_id == job.id
    assert (again.recipe.prompt, again.recipe.size) == (job.recipe.prompt, job.recipe.size)
    assert again.recipe.seed != job.recipe.seed


async def test_buttons_work_after_a_restart(door: FrontDoor, people: People) -> None:
    bruno = await people.be("bruno")
    async with door.open() as first:
        job, result = await delivered(first, bruno)
    async with door.open() as second:
        await bruno.press(result, "Again")
        assert (await second.studio.only_job()).parent_id == job.id


async def test_a_form_that_was_open_over_a_restart_still_counts(door: FrontDoor, people: People) -> None:
    bruno = await people.be("bruno")
    async with door.open() as first:
        job, result = await delivered(first, bruno)
        opened = await bruno.press(result, "Remix")
        assert opened.modal is not None
    async with door.open() as second:
        answer = await bruno.submit(opened.modal, Prompt="an owl")
        assert "on its way" in answer.text
        remixed = await second.studio.only_job()
        assert (remixed.recipe.prompt, remixed.recipe.seed) == ("an owl", job.recipe.seed)


async def test_vary_asks_how_far_and_starts_from_the_picture_itself(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, result = await delivered(front, bruno, count=2)
    second = [button for button in result.buttons if button.custom_id == f"f1:vary:{base36(job.id)}:1"]
    assert second[0].custom_id is not None
    question = await bruno.press(result, second[0].custom_id)
    assert question.message is not None
    await bruno.press(question.message, "Subtle")
    varied = await front.studio.only_job()
    assert varied.recipe.source == (await front.database.blobs.of_job(job.id))[1]
    assert 0 < varied.recipe.denoise < 1


async def test_vary_of_an_edit_keeps_the_shape_of_that_very_picture(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    await bruno.slash("edit", prompt="at night", image=await bruno.upload("fox.png", a_png().data))
    job = await front.studio.only_job()
    await front.studio.draw(job, [a_png(1, 768, 512)])
    await front.until_state(job.id, JobState.DELIVERED)
    result = await bruno.wait_for_message(lambda m: bool(m.pictures))
    question = (await bruno.press(result, "Vary")).message
    assert question is not None
    await bruno.press(question, "Strong")
    varied = (await front.studio.only_job()).recipe
    assert (varied.workflow, str(varied.size)) == ("flux_vary", "768x512")


async def test_edit_takes_words_in_a_form_and_this_picture(front: Front, people: People) -> None:
    ana = await people.be("ana")
    job, result = await delivered(front, ana, prompt="un faro")
    opened = await ana.press(result, "Editar")
    assert opened.modal is not None
    assert opened.modal.title == "Editar la imagen"
    await ana.submit(opened.modal, prompt="de noche")
    edited = await front.studio.only_job()
    assert (edited.recipe.prompt, edited.recipe.source) == ("de noche", (await front.database.blobs.of_job(job.id))[0])
    assert edited.parent_id == job.id


async def test_upscale_makes_a_job_from_the_picture(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, result = await delivered(front, bruno)
    answer = await bruno.press(result, "Upscale")
    assert "on its way" in answer.text
    larger = await front.studio.only_job()
    assert larger.origin is Origin.UPSCALE
    assert larger.recipe.source == (await front.database.blobs.of_job(job.id))[0]


async def test_a_result_has_no_button_that_leads_nowhere(door: FrontDoor, people: People) -> None:
    """Without a template that enlarges, Upscale could only say that it is not available."""
    gone = ("upscale", "flux_edit")
    door.library = Library({name: template for name, template in door.library.templates.items() if name not in gone})
    async with door.open() as front:
        _, result = await delivered(front, await people.be("bruno"))
        message = front.sandbox.world.message(int(result.channel_id), int(result.id))
        acts = {shape["custom_id"].split(":")[1] for shape in walk(message.components) if shape.get("custom_id")}
    assert "vary" in acts
    assert not {"upscale", "edit"} & acts


async def test_remix_is_prefilled_and_says_which_field_is_wrong(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, result = await delivered(front, bruno, model="sdxl", prompt="a fox", negative_prompt="rain", size="768x512", steps=12)
    opened = await bruno.press(result, "Remix")
    assert opened.modal is not None
    assert opened.modal.typed == {
        "prompt": "a fox", "negative_prompt": "rain", "size": "768x512", "seed": str(job.recipe.seed), "steps": "12",
    }  # fmt: skip
    window = opened.modal
    for typed, sentence in (("1e9", "plain number"), ("NaN", "plain number"), ("0", "can be"), ("９９９", "can be")):
        answer = await bruno.submit(window, steps=typed)
        assert sentence in answer.text
        assert "steps" in answer.text
        window = await _open_again(bruno, result)
    await bruno.submit(window, steps="１５")
    assert (await front.studio.only_job()).recipe.steps == 15


async def test_a_remix_with_a_fault_opens_again_with_everything_that_was_typed(door: FrontDoor, people: People) -> None:
    ana = await people.be("ana")
    async with door.open() as front:
        _, result = await delivered(front, ana, model="sdxl", prompt="un faro")
        window = await _open_again(ana, result, "Rehacer")
        await ana.submit(window, prompt="un faro con niebla", seed="77", steps="1e9", size="64x2")
        export = await ana.slash("mydata export")
        assert export.message is not None
        assert json.loads(await ana.download(export.message.files[0].url))["typed"]["prompt"] == "un faro con niebla"
    async with door.open() as second:
        again = await _open_again(ana, result, "Rehacer")
        assert again.typed | {"prompt": "un faro con niebla", "seed": "77", "steps": "1e9", "size": "64x2"} == again.typed
        await ana.submit(again, steps="20", size="768x512")
        recipe = (await second.studio.only_job()).recipe
        assert (recipe.prompt, recipe.seed, recipe.steps) == ("un faro con niebla", 77, 20)
        assert (await _open_again(ana, result, "Rehacer")).typed["prompt"] == "un faro"


async def _open_again(person: Person, result: Seen, label: str = "Remix") -> Modal:
    opened = await person.press(result, label)
    assert opened.modal is not None
    return opened.modal


async def test_the_recipe_can_be_read_copied_and_kept(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, result = await delivered(front, bruno, prompt="a fox `with` ticks")
    answer = await bruno.press(result, "Recipe")
    assert answer.message is not None
    assert answer.message.is_ephemeral
    assert "a fox `with` ticks" in answer.text
    kept = json.loads(await bruno.download(answer.message.files[0].url))
    assert (kept["prompt"], kept["seed"]) == ("a fox `with` ticks", str(job.recipe.seed))
    assert bruno.id not in json.dumps(kept)


async def test_delete_asks_once_and_takes_message_and_pictures(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, result = await delivered(front, bruno)
    asked = await bruno.press(result, "Delete")
    assert asked.message is not None
    assert await front.database.blobs.of_job(job.id)
    await bruno.press(asked.message, "Delete for good")
    await bruno.wait_for("MESSAGE_DELETE", lambda d: d["id"] == result.id)
    assert not await front.database.blobs.of_job(job.id)


async def test_somebody_else_gets_a_kind_sentence_and_an_admin_may(front: Front, people: People) -> None:
    bruno, elena = await people.be("bruno"), await people.be("elena")
    job, result = await delivered(front, bruno)
    # The session is bruno's; an administrator sees every channel. Chloe is let in to press.
    chloe = await people.be("chloe")
    front.sandbox.world.guild(job.guild_id).members[int(chloe.id)].role_ids.append(_artist_that_sees(front, job))
    refused = await chloe.press(result, "Again")
    assert refused.text == "Only Bruno can do that here. Want one of your own? Use `/imagine`."
    allowed = await elena.press(result, "Again")
    assert "on its way" in allowed.text
    mine = await front.studio.only_job()
    assert mine.user_id == int(elena.id)


def _artist_that_sees(front: Front, job: Job) -> int:
    guild = front.sandbox.world.guild(job.guild_id)
    role = next(role for role in guild.roles.values() if role.name == "Artist")
    seen = int(Permission.VIEW_CHANNEL | Permission.READ_MESSAGE_HISTORY)
    front.sandbox.world.channel(job.channel_id).overwrites.append(
        Overwrite(target_id=role.id, kind=OverwriteKind.ROLE, allow=seen)
    )
    return role.id


async def test_a_double_press_is_one_press(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    _, result = await delivered(front, bruno)
    await asyncio.gather(bruno.press(result, "Again"), bruno.press(result, "Again"))
    assert len(await front.database.jobs.jobs()) == 2


@pytest.mark.parametrize("custom_id", ["f1:again:zzzzzzzzzzzzzzzzzzzzzzzzz", "f0:again:1", "f1:dance:1", "f1:again:1"])
async def test_stale_and_foreign_buttons_are_answered(front: Front, people: People, custom_id: str) -> None:
    bruno = await people.be("bruno")
    _, result = await delivered(front, bruno)
    shape = next(
        c for c in walk(front.sandbox.world.message(int(result.channel_id), int(result.id)).components) if c.get("custom_id")
    )
    shape["custom_id"] = custom_id
    answer = await bruno.press(await bruno.message(result), custom_id)
    assert not answer.failed
    assert answer.text == "This picture's settings are gone, but you can start from its prompt."


async def test_queue_lists_ones_own_and_cancels_there(front: Front, people: People) -> None:
    bruno, ana = await people.be("bruno"), await people.be("ana")
    await ana.slash("imagine", model="z-image", prompt="un faro")
    await bruno.slash("imagine", model="z-image", prompt="a fox")
    listed = await bruno.slash("queue")
    assert "1 job in the works" in listed.text
    assert "a fox" in listed.text
    assert "faro" not in listed.text
    assert listed.message is not None
    await bruno.press(listed.message, "Cancel")
    await bruno.wait_for_message(lambda m: "Nothing of yours is waiting" in m.text)
    assert (await front.studio.only_job(int(bruno.id))).state is JobState.CANCELLED


async def test_history_shows_pictures_page_by_page(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    empty = await bruno.slash("history")
    assert "nothing here yet" in empty.text
    for number in range(4):
        await delivered(front, bruno, prompt=f"fox {number}")
    page = await bruno.slash("history")
    assert page.message is not None
    assert len(page.message.pictures) == 3
    assert "fox 3" in page.text
    assert "fox 0" not in page.text
    assert not [button for button in page.message.buttons if button.label == "Newest"]  # it is the newest
    await bruno.press(page.message, "Older")
    older = await bruno.wait_for_message(lambda m: "Your pictures" in m.text and "fox 0" in m.text)
    assert "fox 3" not in older.text
    assert not [button for button in older.buttons if button.label == "Older"]
    await bruno.press(older, "Newest")
    await bruno.wait_for_message(lambda m: m.id == older.id and "fox 3" in m.text)


async def test_recall_finds_a_recipe_by_its_short_id_and_only_ones_own(front: Front, people: People) -> None:
    bruno, ana = await people.be("bruno"), await people.be("ana")
    job, _ = await delivered(front, bruno)
    found = await bruno.slash("recall", id=job.id.hex[:8])
    assert str(job.recipe.seed) in found.text
    refused = await ana.slash("recall", id=job.id.hex[:8])
    assert "No lo encuentro" in refused.text


async def test_settings_are_kept_and_used(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    shown = await bruno.slash("settings", size="512x768", count=2, language="es", quiet=True)
    assert "Tamaño: **512x768**" in shown.text
    answer = await bruno.slash("imagine", model="z-image", prompt="a fox")
    assert "Tus 2 imágenes están en camino" in answer.text
    recipe = (await front.studio.only_job()).recipe
    assert (str(recipe.size), recipe.count) == ("512x768", 2)
    reset = await bruno.slash("settings", reset=True)
    assert "Size: **as usual here**" in reset.text


async def test_after_erasing_a_cancelled_card_can_still_be_started_from(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    await bruno.slash("imagine", model="z-image", prompt="a fox in the snow")
    job = await front.studio.only_job()
    card = await bruno.wait_for_message(lambda m: "a fox in the snow" in m.text, channel=str(job.channel_id))
    await front.studio.start(job)
    asked = await bruno.slash("mydata erase")
    assert asked.message is not None
    await bruno.press(asked.message, "Erase everything")
    card = await bruno.wait_for_message(lambda m: m.id == card.id and "Cancelled" in m.text, channel=str(job.channel_id))
    await bruno.wait_for_message(lambda m: "Nothing about you is stored" in m.text)
    gone = await bruno.press(card, "Again")
    assert "settings are gone" in gone.text
    assert gone.message is not None
    form = await bruno.press(gone.message, "Remix")
    assert "a fox in the snow" in form.text


async def test_my_data_can_be_taken_and_erased(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, _ = await delivered(front, bruno)
    taken = await bruno.slash("mydata export")
    assert taken.message is not None
    assert "a fox" in (await bruno.download(taken.message.files[0].url)).decode()
    asked = await bruno.slash("mydata erase")
    assert asked.message is not None
    await bruno.press(asked.message, "Erase everything")
    await bruno.wait_for_message(lambda m: "Nothing about you is stored" in m.text)
    assert not await front.database.blobs.of_job(job.id)


async def test_an_export_too_large_for_one_file_comes_in_several_and_nothing_is_missing(
    door: FrontDoor, front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    job, _ = await delivered(front, bruno)
    count = 6_000
    await door.database.engine.write(copies_of, job.id, count)
    await bruno.slash("mydata export", timeout=60)
    last = await bruno.wait_for_message(lambda m: "This is everything stored about you" in m.text, timeout=60)
    assert last.is_ephemeral
    told = {event.d["id"]: Seen(event.d) for event in bruno.events if event.t in {"MESSAGE_CREATE", "MESSAGE_UPDATE"}}
    parts = [m for m in told.values() if any(file.filename.startswith("fullet-mydata-") for file in m.files)]
    assert len(parts) >= 2
    jobs: list[int] = []
    for part in parts:
        assert (part.files[0].size or 0) <= 10 * 1024 * 1024
        jobs += [row["seq"] for row in json.loads(await bruno.download(part.files[0].url)).get("jobs", [])]
    assert len(jobs) == len(set(jobs)) == count + 1


def copies_of(connection: Connection, job_id: JobId, count: int) -> None:
    """So many jobs as that one, each with a long prompt of its own."""
    [row] = connection.execute(select(job_table).where(job_table.c.id == job_id)).mappings()
    prompt = "a fox in the snow " * 100
    recipe = {**row["recipe"], "prompt": prompt}
    same = {**row, "recipe": recipe, "prompt": prompt}
    others = [{"id": uuid4(), "seq": row["seq"] + at, "interaction_id": row["interaction_id"] + at} for at in range(1, count + 1)]
    connection.execute(insert(job_table), [same | other for other in others])
