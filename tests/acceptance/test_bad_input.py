"""What people may type that cannot be: each gets a calm sentence, and nothing of it reaches a GPU."""

from __future__ import annotations

import pytest

from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.comfy_server.faults import Match
from tests.support.gpu_log import drawings
from tests.support.person import Person, Refused
from tests.support.program import HouseOptions, WholeHouse, until
from tests.support.wishing import PATIENCE_S, ask, draw, results, sessions

pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZE_RULE = "That size doesn't work here. Each side can be 256 to 2,048 pixels, and 2.25 megapixels in all."


def house_options() -> HouseOptions:
    return {"gpus": [ComfySandbox(name=name, time_scale=0.02) for name in ("gpu-1", "gpu-2")]}


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        pytest.param({"prompt": "   "}, "There is no prompt yet. Write what you would like to see.", id="only spaces"),
        pytest.param({"prompt": "\x00\x07\x1b"}, "There is no prompt yet. Write what you would like to see.", id="only controls"),
        pytest.param(
            {"prompt": "word " * 1_000},
            "That prompt has 4,999 characters; 2,000 fit. Shorten it a little and try again.",
            id="5,000 characters",
        ),
        pytest.param(
            {"negative_prompt": "x" * 5_000},
            "That prompt has 5,000 characters; 2,000 fit. Shorten it a little and try again.",
            id="5,000 characters of what to leave out",
        ),
        pytest.param({"size": "big"}, "“big” is no size I can read. Write it like 1024x1024.", id="no size"),
        pytest.param({"size": "1024"}, "“1024” is no size I can read. Write it like 1024x1024.", id="half a size"),
        pytest.param(
            {"size": "`@everyone`"}, r"“\`\@everyone\`” is no size I can read. Write it like 1024x1024.", id="a mention"
        ),
        pytest.param({"size": "64x64"}, SIZE_RULE, id="too small"),
        pytest.param({"size": "4096x1024"}, SIZE_RULE, id="too wide"),
        pytest.param({"size": "2048x2048"}, SIZE_RULE, id="too many pixels"),
        pytest.param({"seed": "red"}, "The seed must be a plain number, such as 12. Change it and try again.", id="no seed"),
        pytest.param({"seed": "1e9"}, "The seed must be a plain number, such as 12. Change it and try again.", id="clever seed"),
        pytest.param(
            {"seed": "-1"}, "The seed can be 0 to 18,446,744,073,709,551,615. Change it and try again.", id="a seed below nothing"
        ),
        pytest.param({"steps": 150}, "The steps can be 1 to 20. Change it and try again.", id="more steps than the model has"),
    ],
)
async def test_a_wish_that_cannot_be_is_refused_in_one_sentence_and_opens_no_session(
    house: WholeHouse, guest: Person, wish: dict[str, object], sentence: str
) -> None:
    known = sum(len(gpu.journal.prompts) for gpu in house.gpus)
    wanted: dict[str, object] = {"model": "z-image", "prompt": "a fox"} | wish
    answer = await guest.slash("imagine", timeout=PATIENCE_S, **wanted)  # type: ignore[arg-type]  # no option is called channel
    assert answer.text == sentence
    assert answer.message is not None
    assert answer.message.is_ephemeral
    assert not answer.message.mentions_everyone
    assert await sessions(guest) == []
    assert sum(len(gpu.journal.prompts) for gpu in house.gpus) == known


async def test_a_prompt_of_2000_characters_draws_and_is_shown_shortened(house: WholeHouse, guest: Person) -> None:
    prompt = "a very long tale of a fox and no end of it " * 45 + "the last words of the tale"
    assert 1_900 < len(prompt) <= 2_000
    message = await draw(guest, prompt)
    assert "a very long tale" in message.text
    assert "…" in message.text
    assert "the last words" not in message.text
    assert [drawing for gpu in house.gpus for drawing in await drawings(gpu, "the last words of the tale")]


async def test_control_characters_are_taken_out_and_other_writing_stays(house: WholeHouse, guest: Person) -> None:
    await draw(guest, "a\x00 fox\x07 with\x1b[31m ピクセル 🦊 and\u202e ñandú")
    [drawing] = [drawing for gpu in house.gpus for drawing in await drawings(gpu, "ピクセル")]
    assert drawing.says("a fox with[31m ピクセル 🦊 and\u202e ñandú")


async def test_an_unknown_model_cannot_be_chosen_and_is_named_where_it_can_be_typed(guest: Person) -> None:
    with pytest.raises(Refused):
        await guest.slash("imagine", model="dall-e", prompt="a fox")
    answer = await guest.slash("settings", model="dall-e")
    assert "There is no model called “dall-e”. You can choose: " in answer.text
    for model in ("Flux (Schnell)", "Z-Image (Turbo)", "SDXL"):
        assert model in answer.text


async def test_more_pictures_than_allowed_cannot_be_chosen(guest: Person) -> None:
    with pytest.raises(Refused, match="count"):
        await guest.slash("imagine", model="z-image", prompt="a fox", count=5)


async def test_the_third_job_is_refused_while_one_runs_and_one_waits_and_the_queue_shows_both(
    house: WholeHouse, guest: Person
) -> None:
    for gpu in house.gpus:
        gpu.fail("hang", times=None, match=Match(text="a picture without end"))
    await ask(guest, "a picture without end")
    await until(lambda: any(life.status == "running" for gpu in house.gpus for life in gpu.journal.prompts), "a running prompt")
    await ask(guest, "a picture without end, again")
    refused = await guest.slash("imagine", model="z-image", prompt="one too many")
    assert refused.text == "You already have 2 jobs in the works. Wait for one to finish, or cancel one."
    assert refused.message is not None
    listed = await guest.press(refused.message, "My queue")
    assert "2 jobs in the works" in listed.text
    assert listed.message is not None
    for waiting in listed.message.buttons:
        house.discord.world.clock.advance(1.0)  # a second Cancel at once is taken for a finger that slipped
        await guest.press(listed.message, waiting.custom_id or "")
        await guest.wait_for_message(
            lambda m, shown=listed.message.id, gone=waiting.custom_id: (  # type: ignore[misc] # mypy infers no type of a default
                m.id == shown and gone not in [button.custom_id for button in m.buttons]
            )
        )
    for gpu in house.gpus:
        gpu.faults.clear()
    await draw(guest, "the third after all")
    assert len(await results(guest)) == 1
