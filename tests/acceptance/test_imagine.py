"""`/imagine`, from the words to the picture in the person's own channel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modules.sandbox.comfy_server import ComfySandbox
from tests.support.gpu_log import the_drawing
from tests.support.person import Person
from tests.support.pictures import kind_of, pixels, texts_in
from tests.support.program import HouseOptions, WholeHouse, until
from tests.support.wishing import PATIENCE_S, ask, card, draw, pictures_on, result, seed_on, session, sessions

pytestmark = pytest.mark.asyncio(loop_scope="module")


def house_options() -> HouseOptions:
    return {"gpus": [ComfySandbox(name="gpu-1", time_scale=0.02)], "settings": {"EXPORT_PATH": "copies"}}


async def test_the_answer_is_private_and_tells_the_place_the_moment_and_the_channel(house: WholeHouse, guest: Person) -> None:
    answer = await ask(guest, "a quiet harbour")
    assert answer.message is not None
    assert answer.message.is_ephemeral
    assert "Your picture is on its way: **you're next**, likely ready at <t:" in answer.text
    assert f"<#{await session(guest)}>" in answer.text
    assert "1 of 2 jobs active" in answer.text
    assert [button.url for button in answer.message.buttons if button.url] == [
        f"https://discord.com/channels/{house.program.environment['ALLOWED_GUILD_ID']}/{await session(guest)}"
    ]


async def test_the_result_mentions_its_owner_once_and_tells_everything_about_the_picture(guest: Person) -> None:
    message = await draw(guest, "a fox in the snow", size="768x512", seed="421")
    for fact in ("> a fox in the snow", "Z-Image (Turbo)", "768x512", "seed 421", "waited", "drawn in"):
        assert fact in message.text
    labels = {button.label for button in message.buttons}
    assert {"Again", "Vary", "Edit", "Upscale", "Remix", "Recipe", "Delete"} <= labels
    rung = [event for event in guest.events if event.t == "NOTIFICATION"]
    assert [event.d["message"]["id"] for event in rung] == [message.id]


async def test_the_card_goes_when_the_result_comes(guest: Person) -> None:
    await ask(guest, "a paper boat")
    shown = await card(guest, "a paper boat")
    message = await result(guest, "a paper boat")
    await guest.wait_for("MESSAGE_DELETE", lambda d: d["id"] == shown.id, timeout=PATIENCE_S)
    assert [m.id for m in await guest.messages(await session(guest))] == [message.id]


async def test_nobody_else_sees_the_session(house: WholeHouse, guest: Person, another: Person) -> None:
    await draw(guest, "my secret garden")
    await draw(another, "another garden")
    assert await session(guest) != await session(another)
    seen = [m.text for channel in await another.channels() if channel.type == 0 for m in await another.messages(channel.id)]
    assert not any("my secret garden" in text for text in seen)
    stranger = await house.newcomer()
    assert await sessions(stranger) == []
    assert "sessions" not in [channel.name for channel in await stranger.channels()]


async def test_every_option_reaches_the_gpu(house: WholeHouse, guest: Person) -> None:
    message = await draw(
        guest,
        "a castle of glass",
        model="sdxl",
        negative_prompt="birds in the sky",
        size="768x1024",
        seed="9007199254740993",  # more than a double can hold
        steps=11,
    )
    assert "seed 9007199254740993" in message.text
    assert "11 steps" in message.text
    assert pixels((await pictures_on(guest, message))[0])[0] == (768, 1024)
    drawing = await the_drawing(house.gpus[0], "a castle of glass")
    assert drawing.says("birds in the sky")
    assert drawing.inputs("steps") == [11]
    assert drawing.inputs("width") == [768]
    assert 9007199254740993 in drawing.inputs("seed") + drawing.inputs("noise_seed")


async def test_what_to_leave_out_changes_the_picture_and_stands_in_the_recipe(guest: Person) -> None:
    plain = await draw(guest, "a meadow", model="sdxl", seed="7")
    without = await draw(guest, "a meadow", model="sdxl", seed="7", negative_prompt="flowers")
    assert pixels((await pictures_on(guest, plain))[0]) != pixels((await pictures_on(guest, without))[0])
    recipe = await guest.press(without, "Recipe")
    assert "flowers" in recipe.text


async def test_a_seed_of_ours_is_shown_and_gives_the_same_bytes_again(guest: Person) -> None:
    first = await draw(guest, "three red apples")
    again = await draw(guest, "three red apples", seed=str(seed_on(first)))
    other = await draw(guest, "three red apples", seed=str(seed_on(first) + 1))
    [same], [once_more], [different] = [await pictures_on(guest, message) for message in (first, again, other)]
    assert once_more == same
    assert pixels(different) != pixels(same)


async def test_all_four_pictures_come_each_with_its_own_seed_and_buttons(guest: Person) -> None:
    message = await draw(guest, "a small dragon", count=4, seed="100")
    four = await pictures_on(guest, message)
    assert len({pixels(picture) for picture in four}) == 4
    for index in range(4):
        single = await draw(guest, "a small dragon", seed=str(100 + index))
        assert pixels((await pictures_on(guest, single))[0]) == pixels(four[index])
    assert [button.label for button in message.buttons][-8:] == ["1", "2", "3", "4", "1", "2", "3", "4"]


async def test_files_are_what_their_names_say_and_carry_only_their_own_recipe(guest: Person) -> None:
    message = await draw(guest, "a wooden bridge", count=2)
    for file, data in zip(message.files, await pictures_on(guest, message), strict=True):
        assert re.fullmatch(r"fullet-[0-9a-z]{8}-[12]\.png", file.filename)
        assert file.content_type == "image/png"
        assert kind_of(data) == "PNG"
        texts = texts_in(data)
        assert set(texts) == {"fullet"}, "ComfyUI's own chunks hold the whole graph"
        assert "a wooden bridge" in texts["fullet"]


async def test_copies_of_all_pictures_lie_in_the_operators_folder(house: WholeHouse, guest: Person) -> None:
    message = await draw(guest, "a tin robot", count=2)
    sent = await pictures_on(guest, message)
    names = [file.filename.removeprefix("fullet-") for file in message.files]
    await until(lambda: set(names) <= copies_in(house.folder / "copies").keys(), "the copies")
    copies = copies_in(house.folder / "copies")
    assert [copies[name] for name in names] == sent


def copies_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.png")}


async def test_prompts_are_suggested_own_ones_first_then_ideas_in_ones_language(house: WholeHouse, guest: Person) -> None:
    await draw(guest, "a lighthouse made of sugar")
    assert [choice.value for choice in await guest.autocomplete("imagine", "prompt", "lighthouse")] == [
        "a lighthouse made of sugar",
        "a lighthouse in a storm, oil painting",
    ]
    assert (await guest.autocomplete("edit", "prompt", ""))[0].value == "a lighthouse made of sugar"
    ana = await house.people.be("ana")
    offered = [choice.value for choice in await ana.autocomplete("imagine", "prompt", "")]
    assert offered
    assert "a lighthouse made of sugar" not in offered
    assert "un faro" in " ".join(map(str, offered)).casefold()


async def test_sizes_are_suggested_and_any_other_is_put_on_the_models_grid(house: WholeHouse, guest: Person) -> None:
    presets = [choice.value for choice in await guest.autocomplete("imagine", "size", "", model="flux")]
    assert presets[0] == "1024x1024"
    assert "1216x832" in presets
    message = await draw(guest, "a grid of lines", model="flux", size="517 × 499")
    assert "512x496" in message.text
    assert pixels((await pictures_on(guest, message))[0])[0] == (512, 496)


@pytest.mark.parametrize("model", ["flux", "z-image", "sdxl"])
async def test_every_model_on_offer_draws(guest: Person, model: str) -> None:
    message = await draw(guest, f"a portrait by {model}", model=model)
    assert len(await pictures_on(guest, message)) == 1


async def test_a_spanish_speaker_is_answered_in_spanish_everywhere(house: WholeHouse) -> None:
    ana = await house.people.be("ana")
    answer = await ask(ana, "un faro de noche")
    assert "Tu imagen está en camino" in answer.text
    message = await result(ana, "un faro de noche")
    assert "semilla" in message.text
    assert {"Otra vez", "Receta"} <= {button.label for button in message.buttons}


async def test_words_that_mean_something_to_discord_reach_the_gpu_and_nobody_is_called(house: WholeHouse, guest: Person) -> None:
    zoe = await house.people.be("zoe")
    evil = f"`@everyone` ``` {zoe.mention} <@&1> **bold** [click](https://example.org) <t:1:R> # big"
    message = await draw(guest, evil)
    assert message.mentions == [guest.id]
    assert not message.mentions_everyone
    for alive in ("`@everyone", "**bold**", "[click](", "<t:1:R>"):
        assert alive not in message.text
    assert not any(event.t == "NOTIFICATION" for event in zoe.events)
    assert (await the_drawing(house.gpus[0], "[click](https://example.org)")).says(zoe.mention)
