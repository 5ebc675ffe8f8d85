"""Pictures whose job is gone, and recipes that come back in a file: what can still be done with them."""

from __future__ import annotations

import json
from typing import Any

from modules.domain.images import Picture
from modules.domain.jobs import Job, JobState, Origin, base36
from modules.domain.people import GuildId, UserId
from modules.domain.records import Limits
from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.world import Overwrite, OverwriteKind
from modules.utils.images import finish_output, fit_under
from tests.support.builders import a_person, a_request
from tests.support.front_side import Front, FrontDoor, a_png
from tests.support.person import Modal, People, Person, Seen
from tests.support.person_views import walk

RECIPE = {
    "version": 1, "model": "sdxl", "prompt": "a *whale*", "negative_prompt": "rain", "size": "768x512", "seed": 2**64 - 1,
    "steps": 12, "cfg": 6.5, "is_edit": False,
}  # fmt: skip


def carrying(recipe: dict[str, object]) -> Picture:
    """A picture as we deliver it."""
    return finish_output(a_png(1).data, recipe=json.dumps(recipe))


async def delivered(front: Front, person: Person, picture: Picture, prompt: str = "a *whale*") -> tuple[Job, Seen]:
    await person.slash("imagine", model="z-image", prompt=prompt)
    job = await front.studio.only_job(int(person.id))
    await front.studio.draw(job, [picture])
    job = await front.until_state(job.id, JobState.DELIVERED)
    return job, await person.wait_for_message(lambda m: m.id == str(job.result_message_id))


async def forgotten(front: Front, person: Person, picture: Picture, prompt: str = "a *whale*") -> Seen:
    """A result whose job was erased; the message stays where it is."""
    _, result = await delivered(front, person, picture, prompt)
    await front.database.people.erase(UserId(int(person.id)))
    return result


async def typed_into(person: Person, form: Seen) -> dict[str, Any]:
    pressed = await person.press(form, "f1:gen_words")
    assert isinstance(pressed.modal, Modal)
    return pressed.modal.typed


async def test_a_picture_whose_job_was_erased_can_be_started_from_what_its_file_says(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    result = await forgotten(front, bruno, carrying(RECIPE))
    refused = await bruno.press(result, "Again")
    assert refused.text == "This picture's settings are gone, but you can start from its prompt."
    assert refused.message is not None
    form = await bruno.press(refused.message, "Remix")
    assert form.message is not None
    assert form.message.select("Model").chosen == ("sdxl",)
    assert form.message.select("Size").chosen == ("768x512",)
    assert await typed_into(bruno, form.message) == {
        "prompt": "a *whale*", "negative_prompt": "rain", "steps": "12", "cfg": "6.5", "seed": str(2**64 - 1),
    }  # fmt: skip


async def test_without_a_recipe_in_the_file_the_words_on_the_message_are_taken(front: Front, people: People) -> None:
    ana = await people.be("ana")
    result = await forgotten(front, ana, a_png(3), "una *ballena* `azul` - 1.")
    refused = await ana.press(result, "Rehacer")
    assert refused.text == "Los ajustes de esta imagen ya no están, pero puedes empezar desde su descripción."
    assert refused.message is not None
    form = await ana.press(refused.message, "Rehacer")
    assert form.message is not None
    assert (await typed_into(ana, form.message))["prompt"] == "una *ballena* `azul` - 1."


async def test_a_forgotten_picture_is_still_only_its_owners(front: Front, people: People) -> None:
    bruno, chloe, elena = await people.be("bruno"), await people.be("chloe"), await people.be("elena")
    result = await forgotten(front, bruno, carrying(RECIPE))
    seen = int(Permission.VIEW_CHANNEL | Permission.READ_MESSAGE_HISTORY)
    front.sandbox.world.channel(int(result.channel_id)).overwrites.append(
        Overwrite(target_id=int(chloe.id), kind=OverwriteKind.MEMBER, allow=seen)
    )
    refused = await chloe.press(result, "Again")
    assert refused.text == "Only Bruno can do that here. Want one of your own? Use `/imagine`."
    assert "settings are gone" in (await elena.press(result, "Again")).text


async def test_a_button_of_another_guilds_job_does_nothing(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    _, result = await delivered(front, bruno, a_png(1))
    elsewhere = a_request(a_person(int(bruno.id), guild_id=GuildId(77)))
    foreign, _ = await front.database.jobs.accept(elsewhere, Limits(active_per_person=9, queue_length=99))
    message = front.sandbox.world.message(int(result.channel_id), int(result.id))
    shape = next(c for c in walk(message.components) if str(c.get("custom_id", "")).startswith("f1:again"))
    shape["custom_id"] = f"f1:again:{base36(foreign.id)}"
    answer = await bruno.press(await bruno.message(result), shape["custom_id"])
    assert "I can't find that one" in answer.text
    assert len(await front.database.jobs.jobs(user_id=UserId(int(bruno.id)))) == 2


async def test_a_recalled_file_can_be_drawn_again_and_opened_in_the_form_also_after_a_restart(
    door: FrontDoor, people: People
) -> None:
    bruno = await people.be("bruno")
    smaller = fit_under(carrying(RECIPE), 100_000).data
    async with door.open() as first:
        recalled = await bruno.slash("recall", file=await bruno.upload("whale.png", smaller))
        assert recalled.message is not None
        assert recalled.message.is_ephemeral
        assert "a *whale*" in recalled.text
        assert "SDXL" in recalled.text
        assert "on its way" in (await bruno.press(recalled.message, "Draw it again")).text
        drawn = await first.studio.only_job()
        assert (drawn.origin, drawn.recipe.seed, drawn.recipe.cfg) == (Origin.REMIX, 2**64 - 1, 6.5)
    async with door.open():
        form = await bruno.press(recalled.message, "Open the form")
        assert form.message is not None
        assert (await typed_into(bruno, form.message))["prompt"] == "a *whale*"


async def test_the_json_of_a_recipe_card_is_as_good_as_the_picture(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    job, result = await delivered(front, bruno, a_png(1), "a fox")
    card = await bruno.press(result, "Recipe")
    assert card.message is not None
    kept = await bruno.download(card.message.files[0].url)
    recalled = await bruno.slash("recall", file=await bruno.upload("recipe.json", kept))
    assert recalled.message is not None
    await bruno.press(recalled.message, "Draw it again")
    drawn = await front.studio.only_job()
    assert (drawn.recipe.prompt, drawn.recipe.seed, drawn.recipe.model) == ("a fox", job.recipe.seed, job.recipe.model)


async def test_a_recipe_of_a_model_we_no_longer_have_goes_to_the_form(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    old = carrying(RECIPE | {"model": "long-gone", "is_edit": True})
    recalled = await bruno.slash("recall", file=await bruno.upload("old.png", old.data))
    assert recalled.message is not None
    assert "only its words can be drawn again" in recalled.text
    assert [button.label for button in recalled.message.buttons] == ["Open the form"]
    form = await bruno.press(recalled.message, "Open the form")
    assert form.message is not None
    assert "whale" in form.text


async def test_files_that_are_no_recipes_are_answered(front: Front, people: People) -> None:
    ana = await people.be("ana")
    for name, data in (
        ("foto.png", a_png(1).data),
        ("recipe.json", b"[]"),
        ("recipe.json", b"{" * 70_000),
        ("x.json", b"\xff\xfe"),
    ):
        answer = await ana.slash("recall", file=await ana.upload(name, data))
        assert "no hay ninguna receta mía" in answer.text


async def test_remix_of_a_picture_from_the_form_opens_the_form_again(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = await bruno.slash("gen")
    assert form.message is not None
    await bruno.select(form.message, "Model", "Multisampler")
    window = (await bruno.press(form.message, "f1:gen_words")).modal
    assert window is not None
    await bruno.submit(window, prompt="a fox", steps="31", cfg="8")
    shown = await bruno.wait_for_message(lambda m: form.message is not None and m.id == form.message.id and "31 steps" in m.text)
    await bruno.press(shown, "Generate")
    await bruno.wait_for_message(lambda m: m.id == shown.id and "on its way" in m.text)
    job = await front.studio.only_job()
    assert job.recipe.workflow == "multisampler"
    await front.studio.draw(job)
    job = await front.until_state(job.id, JobState.DELIVERED)
    result = await bruno.wait_for_message(lambda m: m.id == str(job.result_message_id))
    again = await bruno.press(result, "Remix")
    assert again.message is not None
    assert "31 steps · CFG 8" in again.text
    assert str(job.recipe.seed) in again.text
