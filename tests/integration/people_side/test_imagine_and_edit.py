"""The whole road of a picture as its person sees it: asked for, followed, delivered."""

from __future__ import annotations

from typing import Any

import pytest

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import JobState
from modules.domain.people import UserId
from modules.domain.records import PersonSettings
from tests.support.front_side import Front, FrontDoor, a_png
from tests.support.person import People


async def test_imagine_is_answered_privately_and_its_picture_comes_to_the_private_session(front: Front, people: People) -> None:
    ana, bruno = await people.be("ana"), await people.be("bruno")
    answer = await ana.slash("imagine", model="z-image", prompt="un faro en la tormenta")
    assert answer.seconds < 1
    assert answer.message is not None
    assert answer.message.is_ephemeral
    assert "Tu imagen está en camino" in answer.text
    assert "1 de 2" in answer.text

    session = await ana.wait_for_channel("session-ana")
    assert session.id in answer.text
    assert all(channel.name != session.name for channel in await bruno.channels())

    job = await front.studio.only_job()
    card = await ana.wait_for_message(lambda m: "un faro" in m.text, channel=session.id)
    assert [button.label for button in card.buttons] == ["Cancelar"]

    await front.studio.draw(job)
    result = await ana.wait_for_message(lambda m: m.pictures, channel=session.id)
    assert result.mentions == [ana.id]
    assert "un faro en la tormenta" in result.text
    assert f"semilla {job.recipe.seed}" in result.text
    await front.until_state(job.id, JobState.DELIVERED)
    await ana.wait_for("MESSAGE_DELETE", lambda d: d["id"] == card.id)
    assert (await front.studio.job(job.id)).result_message_id == int(result.id)


async def test_every_option_of_imagine_reaches_the_job(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    await bruno.slash(
        "imagine", model="sdxl", prompt="a fox", negative_prompt="rain", size="768x512", seed=str(2**64 - 1), steps=12, count=3
    )  # fmt: skip
    recipe = (await front.studio.only_job()).recipe
    assert (recipe.prompt, recipe.negative_prompt, str(recipe.size)) == ("a fox", "rain", "768x512")
    assert (recipe.seed, recipe.steps, recipe.count) == (2**64 - 1, 12, 3)


async def test_all_pictures_of_a_job_come_in_one_message_with_buttons_for_each(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    await bruno.slash("imagine", model="z-image", prompt="four foxes", count=4)
    await front.studio.draw(await front.studio.only_job())
    result = await bruno.wait_for_message(lambda m: m.pictures, channel="session-bruno")
    assert len(result.pictures) == 4
    assert {file.content_type for file in result.files} == {"image/png"}
    assert [b.label for b in result.buttons].count("4") == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"prompt": "  \u0007 "}, "There is no prompt yet"),
        ({"prompt": "x" * 5_000}, "5,000 characters; 2,000 fit"),
        ({"prompt": "a fox", "size": "huge"}, "is no size I can read"),
        ({"prompt": "a fox", "size": "9000x64"}, "That size doesn't work here"),
        ({"prompt": "a fox", "seed": "1e9"}, "The seed must be a plain number"),
        ({"prompt": "a fox", "seed": "-1"}, "The seed can be 0 to"),
    ],
)
async def test_a_wish_that_cannot_be_is_answered_in_a_sentence_and_opens_no_session(
    front: Front, people: People, options: dict[str, Any], sentence: str
) -> None:
    bruno = await people.be("bruno")
    answer = await bruno.slash("imagine", model="z-image", **options)
    assert sentence in answer.text
    assert answer.message is not None
    assert answer.message.is_ephemeral
    assert not [channel for channel in await bruno.channels() if channel.name.startswith("session-")]
    assert not await front.database.jobs.jobs()


async def test_the_third_job_is_refused_with_a_way_to_see_the_others(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    for _ in range(2):
        await bruno.slash("imagine", model="z-image", prompt="a fox")
    refused = await bruno.slash("imagine", model="z-image", prompt="a third fox")
    assert "You already have 2 jobs in the works" in refused.text
    assert refused.message is not None
    listed = await bruno.press(refused.message, "My queue")
    assert "2 jobs in the works" in listed.text


async def test_edit_without_a_picture_takes_the_last_one_of_the_session(front: Front, people: People) -> None:
    ana = await people.be("ana")
    missing = await ana.slash("edit", prompt="más luz")
    assert "Todavía no hay ninguna imagen" in missing.text

    await ana.slash("imagine", model="z-image", prompt="un faro")
    session = await ana.wait_for_channel("session-ana")
    upload = await ana.upload("mine.png", a_png(7).data)
    await ana.say("", session.id, files=[upload])
    await ana.wait_for("MESSAGE_UPDATE", lambda d: d.get("reactions"))
    await ana.slash("edit", prompt="más luz")
    job = await front.studio.only_job()
    assert job.recipe.prompt == "más luz"
    assert job.recipe.source == await front.database.blobs.last_of(UserId(int(ana.id)))


async def test_imagine_does_not_forget_the_remembered_picture(front: Front, people: People) -> None:
    ana = await people.be("ana")
    await ana.slash("edit", prompt="más luz", image=await ana.upload("mine.webp", a_png(7).data))
    first = await front.studio.only_job()
    await front.studio.draw(first)
    await front.until_state(first.id, JobState.DELIVERED)
    remembered = await front.database.blobs.last_of(UserId(int(ana.id)))
    assert remembered is not None
    await ana.slash("imagine", model="z-image", prompt="un faro")
    assert await front.database.blobs.last_of(UserId(int(ana.id))) == remembered


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("notes.txt", b"hello", "isn't a picture I can read"),
        ("broken.png", b"\x89PNG\r\n\x1a\n nothing", "picture"),
        ("cat.heic", a_png().data, "save a HEIC photo as JPEG first"),
    ],
)
async def test_a_file_that_is_no_good_is_refused_in_words(
    front: Front, people: People, name: str, data: bytes, sentence: str
) -> None:
    bruno = await people.be("bruno")
    answer = await bruno.slash("edit", prompt="brighter", image=await bruno.upload(name, data))
    assert sentence in answer.text
    assert not await front.database.jobs.jobs()


async def test_what_somebody_types_neither_pings_nor_formats(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    evil = "`@everyone` <@&1> **bold** [click](https://example.org) <t:1:R> # big"
    await bruno.slash("imagine", model="z-image", prompt=evil)
    await front.studio.draw(await front.studio.only_job())
    result = await bruno.wait_for_message(lambda m: m.pictures, channel="session-bruno")
    assert not result.mentions_everyone
    assert result.mentions == [bruno.id]
    assert "\\`\\@everyone\\`" in result.text
    assert "**bold**" not in result.text


async def test_a_dark_database_is_a_sentence_and_not_silence(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    front.studio.refusal = FulletError(ErrorCode.DATABASE_UNAVAILABLE)
    answer = await bruno.slash("imagine", model="z-image", prompt="a fox")
    assert "I can't reach my memory right now" in answer.text


async def test_commands_in_direct_messages_get_a_clear_answer(front: Front, people: People) -> None:
    ana = await people.be("ana")
    answer = await ana.slash("imagine", "dm", model="z-image", prompt="un faro")
    assert "Trabajo dentro de un servidor" in answer.text


async def test_prompts_are_suggested_from_ones_own_first(front: Front, people: People) -> None:
    bruno, ana = await people.be("bruno"), await people.be("ana")
    await bruno.slash("imagine", model="z-image", prompt="a lighthouse made of glass")
    suggested = [choice.value for choice in await bruno.autocomplete("imagine", "prompt", "lighthouse")]
    assert suggested == ["a lighthouse made of glass", "a lighthouse in a storm, oil painting"]
    assert "a lighthouse made of glass" not in [c.value for c in await ana.autocomplete("imagine", "prompt", "lighthouse")]
    sizes = [choice.value for choice in await bruno.autocomplete("imagine", "size", "", model="sdxl")]
    assert sizes[0] == "1024x1024"


async def test_a_failure_turns_the_card_red_and_says_what_to_do(front: Front, people: People) -> None:
    ana = await people.be("ana")
    await ana.slash("imagine", model="z-image", prompt="un faro")
    job = await front.studio.only_job()
    card = await ana.wait_for_message(lambda m: "un faro" in m.text, channel="session-ana")
    await front.studio.fail(job, ErrorCode.TIMED_OUT, limit_s=300)
    await ana.wait_for("MESSAGE_UPDATE", lambda d: d["id"] == card.id and "5 min" in str(d["components"]))
    red = await ana.message(card)
    assert "No salió bien" in red.text
    assert "Tardó más de 5 min" in red.text
    assert [button.label for button in red.buttons] == ["Reintentar", "Ajustes"]
    await ana.press(red, "Reintentar")
    again = await front.studio.only_job()
    assert again.id != job.id
    assert again.recipe == job.recipe


async def test_quiet_people_are_not_pinged_and_spoilers_are_covered(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    await front.database.people.save_settings(PersonSettings(user_id=UserId(int(bruno.id)), is_quiet=True, is_spoiler=True))
    await bruno.slash("imagine", model="z-image", prompt="a fox")
    await front.studio.draw(await front.studio.only_job())
    result = await bruno.wait_for_message(lambda m: m.pictures, channel="session-bruno")
    assert result.mentions == []
    assert '"spoiler": true' in str(result.components).replace("'", '"').replace("True", "true")


async def test_commands_are_synced_once_and_again_only_when_they_changed(door: FrontDoor, people: People) -> None:
    async with door.open():
        elena = await people.be("elena")
        assert {"imagine", "edit", "admin"} <= {command["name"] for command in await elena.commands()}
    async with door.open():
        pass
    assert len(door.calls(r"^PUT /applications/\d+/commands$")) == 1
