"""What administrators forbid is forbidden on every road, and what is for adults stays where Discord asks for people's age."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from modules.ai.workflows.template import load_library
from modules.domain.errors import ErrorCode
from modules.domain.jobs import Job, JobState
from modules.sandbox.discord_server.world import Channel
from tests.support.comfy_side import FLUJOS
from tests.support.front_side import Front, FrontDoor, a_png
from tests.support.person import People, Person, Seen

REFUSED = "doesn't allow some of the words"
FOR_ADULTS = "may only be used in age-restricted channels"


async def delivered(front: Front, person: Person, **options: Any) -> tuple[Job, Seen]:
    await person.slash("imagine", **({"model": "z-image", "prompt": "a fox"} | options))
    job = await front.studio.only_job(int(person.id))
    await front.studio.draw(job)
    job = await front.until_state(job.id, JobState.DELIVERED)
    return job, await person.wait_for_message(lambda m: m.id == str(job.result_message_id))


# --- words --------------------------------------------------------------------------------------------------------------


async def test_a_blocked_word_is_refused_on_every_road(front: Front, people: People) -> None:
    elena, bruno = await people.be("elena"), await people.be("bruno")
    _, result = await delivered(front, bruno, prompt="a fox")
    shared = await bruno.say("", "general", files=[await bruno.upload("mine.png", a_png(4).data)])
    await elena.slash("admin words", action="add", word="fóx")
    assert REFUSED in (await bruno.slash("imagine", model="z-image", prompt="two FOX cubs")).text
    assert REFUSED in (await bruno.slash("imagine", model="sdxl", prompt="a dog", negative_prompt="f\u200box")).text
    assert REFUSED in (await bruno.slash("edit", prompt="add a fox", image=await bruno.upload("a.png", a_png().data))).text
    for act in ("Again", "Upscale"):
        assert REFUSED in (await bruno.press(result, act)).text
    for opened in (
        await bruno.press(result, "Edit"),
        await bruno.press(result, "Remix"),
        await bruno.context_menu("Edit this picture", shared),
    ):
        assert opened.modal is not None
        assert REFUSED in (await bruno.submit(opened.modal, prompt="a Fox!")).text
    form = (await bruno.slash("gen")).message
    assert form is not None
    window = (await bruno.press(form, "f1:gen_words")).modal
    assert window is not None
    await bruno.submit(window, prompt="a fox again")
    filled = await bruno.wait_for_message(lambda m: "a fox again" in m.text and m.is_ephemeral)
    await bruno.press(filled, "Generate")
    await bruno.wait_for_message(lambda m: REFUSED in m.text and int(m.id) > int(filled.id))
    assert len(await front.database.jobs.jobs()) == 1


async def test_words_are_told_in_admin_tools_kept_in_the_trail_and_suggested_for_removal(front: Front, people: People) -> None:
    elena = await people.be("elena")
    await elena.slash("admin words", action="add", word="Gore")
    await elena.wait_for_message(lambda m: m.by_bot and "“gore” is blocked" in m.text.lower(), channel="admin-tools")
    assert [choice.value for choice in await elena.autocomplete("admin words", "word", "GÓ")] == ["gore"]
    for nothing in ("", "!!!", "x" * 61):
        assert "can't be blocked" in (await elena.slash("admin words", action="add", word=nothing)).text
    await elena.slash("admin words", action="remove", word="göre")
    trail = (await elena.slash("admin audit")).text
    assert "blocked “Gore”" in trail
    assert "allowed “göre”" in trail


async def test_a_list_too_long_to_write_out_comes_as_a_file(front: Front, people: People) -> None:
    elena = await people.be("elena")
    for number in range(30):
        shown = await elena.slash("admin words", action="add", word=f"word{number}")
    assert "and 5 more" in shown.text
    assert shown.message is not None
    assert (await elena.download(shown.message.files[0].url)).decode().split() == [f"word{number}" for number in range(30)]


# --- people -------------------------------------------------------------------------------------------------------------


async def test_a_ban_outlives_a_restart_the_persons_own_settings_and_their_leaving(door: FrontDoor, people: People) -> None:
    elena, ana = await people.be("elena"), await people.be("ana")
    async with door.open() as first:
        await delivered(first, ana, prompt="un faro")
        await ana.leave()
        banned = await elena.slash("admin ban", member=ana.id)
        assert ana.mention in banned.text
    async with door.open() as second:
        await ana.join()
        await ana.slash("settings", reset=True)
        refused = await ana.slash("imagine", model="z-image", prompt="un faro")
        assert refused.text == second.bot.phrases.texts("es")(f"error.{ErrorCode.PERSON_BANNED.value}")
        await elena.slash("admin unban", member=ana.id)
        await ana.slash("imagine", model="z-image", prompt="un faro")
        assert len(await second.database.jobs.jobs()) == 2


async def test_an_audit_channel_we_may_not_write_to_keeps_no_act_from_being_done(
    door: FrontDoor, front: Front, people: People
) -> None:
    elena = await people.be("elena")
    showcase = await elena.channel("showcase")
    await elena.slash("admin audit", told_in=showcase.id)
    await elena.wait_for_message(lambda m: m.by_bot, channel="showcase")
    door.spoil(rf"POST /channels/{showcase.id}/messages", status=403, times=1)
    answer = await elena.slash("admin pause")
    assert "The queue is paused" in answer.text
    await elena.wait_for_message(lambda m: m.by_bot and "The queue is paused" in m.text, channel="admin-tools")


# --- models for adults --------------------------------------------------------------------------------------------------


@pytest.fixture
def adult_door(door: FrontDoor, tmp_path: Path) -> FrontDoor:
    """Z-Image is for adults here, by its manifests."""
    folder = tmp_path / "flujos"
    shutil.copytree(FLUJOS, folder)
    for manifest in folder.glob("z-image_*.manifest.toml"):
        manifest.write_text("nsfw = true\n" + manifest.read_text())
    door.library = load_library(folder)
    return door


def the_channel(door: FrontDoor, name: str) -> Channel:
    guild = next(iter(door.sandbox.world.guilds.values()))
    return next(channel for channel in guild.channels.values() if channel.name == name)


async def restricted(door: FrontDoor, person: Person, name: str = "showcase") -> None:
    """As an administrator does in the channel's settings."""
    elena_sees = the_channel(door, name)
    elena_sees.is_nsfw = True


async def test_a_model_for_adults_is_refused_where_nobody_asked_for_the_age(adult_door: FrontDoor, people: People) -> None:
    bruno = await people.be("bruno")
    async with adult_door.open() as front:
        refused = await bruno.slash("imagine", model="z-image", prompt="a fox")
        assert FOR_ADULTS in refused.text
        other = await bruno.slash("imagine", model="flux", prompt="a fox")
        assert "on its way" in other.text
        assert not the_channel(adult_door, "session-bruno").is_nsfw
        assert len(await front.database.jobs.jobs()) == 1


async def test_where_the_age_was_asked_for_the_session_asks_too_and_its_buttons_work(
    adult_door: FrontDoor, people: People
) -> None:
    bruno = await people.be("bruno")
    await restricted(adult_door, bruno)
    async with adult_door.open() as front:
        _, result = await delivered(front, bruno, channel="showcase")
        assert the_channel(adult_door, "session-bruno").is_nsfw
        created = [call for call in adult_door.calls(r"^POST /guilds/\d+/channels$") if b"session-bruno" in (call.body or b"")]
        assert b'"nsfw":true' in (created[0].body or b"").replace(b" ", b"")
        assert "on its way" in (await bruno.press(result, "Again")).text


async def test_an_open_session_is_restricted_before_the_first_such_picture_comes(adult_door: FrontDoor, people: People) -> None:
    bruno = await people.be("bruno")
    await restricted(adult_door, bruno)
    async with adult_door.open() as front:
        await bruno.slash("imagine", model="flux", prompt="a fox")
        assert not the_channel(adult_door, "session-bruno").is_nsfw
        await bruno.slash("imagine", "showcase", model="z-image", prompt="an owl")
        assert the_channel(adult_door, "session-bruno").is_nsfw
        the_channel(adult_door, "session-bruno").is_nsfw = False  # an administrator opens it to all ages meanwhile ...
        elena = await people.be("elena")
        await elena.delete_channel("session-bruno")  # ... and then deletes it
        again = await bruno.wait_for_channel("session-bruno")
        assert the_channel(adult_door, again.name).is_nsfw
        job = next(job for job in await front.database.jobs.jobs() if job.recipe.prompt == "an owl")
        await front.studio.draw(job)
        await front.until_state(job.id, JobState.DELIVERED)


async def test_a_picture_for_adults_never_goes_to_direct_messages(adult_door: FrontDoor, people: People) -> None:
    bruno = await people.be("bruno")
    await restricted(adult_door, bruno)
    async with adult_door.open() as front:
        await bruno.slash("imagine", "showcase", model="z-image", prompt="an owl")
        job = await front.studio.only_job()
        attempt = await front.studio.start(job)
        adult_door.spoil(
            r"POST /channels/\d+/messages", status=403, body={"code": 50013, "message": "Missing Permissions"}, times=9
        )
        adult_door.spoil(
            r"POST /guilds/\d+/channels", status=403, body={"code": 50013, "message": "Missing Permissions"}, times=9
        )
        await front.studio.finish(job, attempt)
        await front.until_state(job.id, JobState.UNDELIVERABLE)
        assert await front.database.blobs.of_job(job.id)
        assert adult_door.calls(r"^POST /users/@me/channels") == []
