"""Pictures are found wherever a message shows them: in components, embeds and forwards, also where the bot cannot look."""

from __future__ import annotations

import json

import pytest

from modules.domain.images import MAX_UPLOAD_BYTES
from modules.domain.jobs import Job, JobState
from modules.domain.people import UserId
from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.wire import Upload
from modules.sandbox.discord_server.world import Overwrite, OverwriteKind
from modules.utils.images import finish_output
from tests.support.front_side import Front, FrontDoor, a_png
from tests.support.person import People, Person, Seen
from tests.support.person_views import walk

RECIPE = {"model": "z-image", "prompt": "a whale", "seed": 5}


async def delivered(front: Front, person: Person, count: int = 1) -> tuple[Job, Seen]:
    await person.slash("imagine", model="z-image", prompt="a fox", count=count)
    job = await front.studio.only_job(int(person.id))
    pictures = [finish_output(a_png(number, side_px=48).data, recipe=json.dumps(RECIPE)) for number in range(count)]
    await front.studio.draw(job, pictures)
    job = await front.until_state(job.id, JobState.DELIVERED)
    return job, await person.wait_for_message(lambda m: m.id == str(job.result_message_id))


async def size_of_source(front: Front) -> str:
    """The size tells which picture the newest job is made from."""
    source = (await front.studio.only_job()).recipe.source
    picture = await front.database.blobs.get(source) if source else None
    assert picture is not None
    return str(picture.size)


async def posted_by_another_bot(door: FrontDoor, person: Person, payload: dict[str, object]) -> Seen:
    """A message with the file `embed.png` (64 pixels), as only bots can write them."""
    other = door.sandbox.world.add_user("other-bot", is_bot=True)
    channel = await person.channel("general")
    upload = Upload(field="files[0]", filename="embed.png", data=a_png(7).data)
    message = door.sandbox.context.posting.post(door.sandbox.world.channel(int(channel.id)), other.id, payload, [upload])
    return await person.wait_for_message(lambda m: m.id == str(message.id), channel="general")


async def test_the_picture_in_another_bots_embed_can_be_edited(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    embed = {"title": "hello", "image": {"url": "attachment://embed.png"}}
    shown = await posted_by_another_bot(door, bruno, {"embeds": [embed]})
    opened = await bruno.context_menu("Edit this picture", shown)
    assert opened.modal is not None
    assert "on its way" in (await bruno.submit(opened.modal, prompt="brighter")).text
    assert await size_of_source(front) == "64x64"


async def test_the_picture_in_another_bots_section_can_be_kept_as_a_reference(
    door: FrontDoor, front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    section = {
        "type": 9,
        "components": [{"type": 10, "content": "hello"}],
        "accessory": {"type": 11, "media": {"url": "attachment://embed.png"}},
    }
    shown = await posted_by_another_bot(door, bruno, {"flags": 1 << 15, "components": [{"type": 17, "components": [section]}]})
    answer = await bruno.context_menu("Use as reference", shown)
    assert "Kept as your reference" in answer.text


async def test_a_forwarded_result_can_be_edited_and_its_recipe_read_by_whoever_sees_it(front: Front, people: People) -> None:
    bruno, ana = await people.be("bruno"), await people.be("ana")
    _, result = await delivered(front, bruno)
    await bruno.forward(result, to="general")
    shown = await ana.wait_for_message(lambda m: m.raw.get("message_snapshots"), channel="general")
    assert "a whale" in (await ana.context_menu("Recipe", shown)).text
    opened = await ana.context_menu("Edit this picture", shown)
    assert opened.modal is not None
    await ana.submit(opened.modal, prompt="de noche")
    assert await size_of_source(front) == "48x48"


async def test_the_question_before_deleting_counts_the_pictures_of_an_erased_job(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    _, result = await delivered(front, bruno, count=2)
    await front.database.people.erase(UserId(int(bruno.id)))
    asked = await bruno.press(result, "Delete")
    assert "2 pictures" in asked.text


async def test_the_recipe_of_an_erased_result_is_read_out_of_its_picture(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    _, result = await delivered(front, bruno)
    await front.database.people.erase(UserId(int(bruno.id)))
    assert "a whale" in (await bruno.context_menu("Recipe", result)).text


async def test_a_picture_in_a_thread_can_be_edited(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    thread = await bruno.open_thread("foxes")
    shared = await bruno.say("look", thread.id, files=[await bruno.upload("mine.png", a_png(4).data)])
    opened = await bruno.context_menu("Edit this picture", shared)
    assert opened.modal is not None
    assert "on its way" in (await bruno.submit(opened.modal, prompt="brighter")).text
    assert await size_of_source(front) == "64x64"


def close_to_the_bot(door: FrontDoor, channel_id: str) -> None:
    """From now on the bot sees nothing of this channel."""
    channel = door.sandbox.world.channel(int(channel_id))
    bot_id = door.sandbox.world.bot.id
    channel.overwrites.append(Overwrite(target_id=bot_id, kind=OverwriteKind.MEMBER, deny=int(Permission.VIEW_CHANNEL)))
    door.sandbox.context.announcer.channel_updated(channel)


async def test_a_picture_in_a_channel_that_the_bot_cannot_see_can_be_edited(
    door: FrontDoor, front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    shared = await bruno.say("look", "showcase", files=[await bruno.upload("mine.png", a_png(4).data)])
    close_to_the_bot(door, shared.channel_id)
    opened = await bruno.context_menu("Edit this picture", shared)
    assert opened.modal is not None
    assert "on its way" in (await bruno.submit(opened.modal, prompt="brighter")).text
    assert await size_of_source(front) == "64x64"


async def test_a_window_that_was_open_over_a_restart_says_what_to_do_where_the_bot_cannot_look(
    door: FrontDoor, people: People
) -> None:
    bruno = await people.be("bruno")
    shared = await bruno.say("look", "showcase", files=[await bruno.upload("mine.png", a_png(4).data)])
    async with door.open():
        opened = await bruno.context_menu("Edit this picture", shared)
    assert opened.modal is not None
    async with door.open() as second:
        assert "on its way" in (await bruno.submit(opened.modal, prompt="brighter")).text  # it can look there itself
        await second.studio.cancel((await second.studio.only_job()).id)
        opened = await bruno.context_menu("Edit this picture", shared)
        assert opened.modal is not None
    close_to_the_bot(door, shared.channel_id)
    async with door.open() as third:
        answer = await bruno.submit(opened.modal, prompt="brighter")
        assert "Open the menu on the picture once more" in answer.text
        assert (await third.studio.only_job()).recipe.prompt == "brighter"
        assert len(await third.database.jobs.jobs()) == 1


async def test_trouble_of_discords_is_not_worded_as_a_message_that_is_gone(door: FrontDoor, people: People) -> None:
    bruno = await people.be("bruno")
    shared = await bruno.say("look", "general", files=[await bruno.upload("mine.png", a_png(4).data)])
    async with door.open():
        opened = await bruno.context_menu("Edit this picture", shared)
    assert opened.modal is not None
    async with door.open() as second:
        door.spoil(r"^GET /channels/\d+/messages/\d+$", times=9, status=403, body="<html>Cloudflare</html>")
        answer = await bruno.submit(opened.modal, prompt="brighter")
        assert "Discord" in answer.text
        assert "menu" not in answer.text
        assert await second.database.jobs.jobs() == []


async def test_a_file_of_unknown_size_is_read_only_up_to_the_limit(door: FrontDoor, front: Front, people: People) -> None:
    """A component tells no size: a file that others stored may be larger than what is taken from people."""
    bruno = await people.be("bruno")
    large = Upload(field="files[0]", filename="large.png", data=a_png(1).data + bytes(MAX_UPLOAD_BYTES))
    channel = door.sandbox.world.channel(int((await bruno.channel("general")).id))
    gallery = {"type": 12, "items": [{"media": {"url": "attachment://large.png"}}]}
    door.sandbox.context.posting.post(channel, int(bruno.id), {"flags": 1 << 15, "components": [gallery]}, [large])
    shown = await bruno.wait_for_message(lambda m: m.pictures, channel="general")
    answer = await bruno.context_menu("Use as reference", shown)
    assert "50 MiB" in answer.text


@pytest.mark.parametrize("prompt", ["a *fox* in [brackets] \\o/", "two  spaces\nand a line"])
async def test_the_alt_text_of_a_result_is_the_prompt_as_it_was_typed(front: Front, people: People, prompt: str) -> None:
    bruno = await people.be("bruno")
    await bruno.slash("imagine", model="z-image", prompt=prompt)
    job = await front.studio.only_job(int(bruno.id))
    await front.studio.draw(job)
    job = await front.until_state(job.id, JobState.DELIVERED)
    result = await bruno.wait_for_message(lambda m: m.id == str(job.result_message_id))
    gallery = next(piece for piece in walk(result.components) if piece["type"] == 12)
    assert [item["description"] for item in gallery["items"]] == [" ".join(prompt.split())]
    page = (await bruno.slash("history")).message
    assert page is not None
    thumbnail = next(piece for piece in walk(page.components) if piece["type"] == 11)
    assert thumbnail["description"] == " ".join(prompt.split())
