"""The `/gen` form, the menus of messages and recipes in files, through the whole program, in both languages, and over a kill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.comfy_server.models import DEFAULT_MODELS
from modules.utils.images import read_recipe
from tests.support.person import Modal, Seen
from tests.support.program import WholeHouse, whole_house
from tests.support.visitors import Visitor, is_result, visitor

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("controls-forms")]

COMMON, RARE = "style/common.safetensors", "style/rare.safetensors"


@dataclass(frozen=True, slots=True)
class Stage:
    """Two GPUs, one of which has a LoRA of its own; Ana reads Spanish, Bruno English."""

    house: WholeHouse
    ana: Visitor
    bruno: Visitor

    @property
    def server_with_rare(self) -> str:
        return self.house.gpus[1].url.removeprefix("http://")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    gpus = [
        ComfySandbox(name=name, time_scale=0.02, models={**DEFAULT_MODELS, "loras": loras})
        for name, loras in (("one", [COMMON]), ("two", [COMMON, RARE]))
    ]
    async with whole_house(tmp_path_factory.mktemp("forms"), gpus=gpus, rate_limits=True) as house:
        yield Stage(house, await visitor(house.people, "ana"), await visitor(house.people, "bruno"))


async def opened(one: Visitor) -> Seen:
    answer = await one.person.slash("gen")
    assert answer.message is not None
    assert answer.message.is_ephemeral
    return answer.message


async def window(one: Visitor, form: Seen, key: str) -> Modal:
    pressed = await one.person.press(form, one.texts(key))
    assert pressed.modal is not None
    return pressed.modal


async def shows(one: Visitor, form: Seen, *words: str) -> Seen:
    return await one.person.wait_for_message(lambda m: m.id == form.id and all(word in m.text for word in words))


async def test_the_form_keeps_what_was_typed_over_a_kill_and_draws_exactly_that(stage: Stage) -> None:
    async def fill_in(one: Visitor) -> Seen:
        form = await opened(one)
        assert one.texts("error.prompt_empty") in form.text
        assert form.button(one.texts("gen.generate")).disabled
        typed = await window(one, form, "gen.words")
        await one.person.submit(typed, prompt=f"a form of {one.person.username}", steps="1e9", cfg="5.5", seed="４２")
        form = await shows(one, form, "“1e9”", one.texts("error.value_not_a_number", field=one.texts("field.steps"), example=12))
        typed = await window(one, form, "gen.words")
        assert (typed.typed["steps"], typed.typed["cfg"]) == ("1e9", "5.5")
        await one.person.submit(typed, steps="7")
        form = await shows(one, form, one.texts("gen.steps", value="7"))
        await one.person.select(form, one.texts("gen.loras"), [COMMON])
        form = await shows(one, form, COMMON)
        strengths = await window(one, form, "gen.strengths")
        values: dict[str, Any] = {next(iter(strengths.fields)): "0,5"}
        await one.person.submit(strengths, **values)
        return await shows(one, form, "× 0,5")

    people = (stage.ana, stage.bruno)
    forms = await asyncio.gather(*(fill_in(one) for one in people))
    await stage.house.restart()

    async def generate(one: Visitor, form: Seen) -> None:
        newest = await one.newest_result()
        await one.person.press(form, one.texts("gen.generate"))
        await shows(one, form, one.texts("answer.follow", channel="").strip(". "))
        drawn = await one.result_after(newest)
        assert f"a form of {one.person.username}" in drawn.text
        inside = json.loads(read_recipe(await one.person.download(drawn.files[0].url)) or "")
        assert (inside["steps"], inside["cfg"], inside["seed"]) == (7, 5.5, 42)
        assert inside["loras"] == [{"name": COMMON, "strength": 0.5}]

    await asyncio.gather(*(generate(one, form) for one, form in zip(people, forms, strict=True)))


async def test_menus_have_names_in_both_languages_and_work_on_results_and_uploads(stage: Stage) -> None:
    registered = {command["name"]: command for command in await stage.bruno.person.commands() if command["type"] == 3}
    assert {name: command["name_localizations"]["es-ES"] for name, command in registered.items()} == {
        english: stage.ana.texts(key)
        for key, english in (
            ("menu.edit", "Edit this picture"),
            ("menu.reference", "Use as reference"),
            ("menu.recipe", "Recipe"),
        )
    }
    for one in (stage.ana, stage.bruno):
        result = await one.imagine("something to work on")
        newest = int(result.id)
        answer = await one.person.context_menu("Edit this picture", result)
        assert answer.modal is not None
        one.must_be_accepted(await one.person.submit(answer.modal, prompt="brighter"))
        assert "brighter" in (await one.result_after(newest)).text
        recipe = await one.person.context_menu("Recipe", result)
        assert "something to work on" in recipe.text
        data = await one.person.download(result.files[0].url)
        mine = await one.person.say("", one.session, files=[await one.person.upload("saved.png", data)])
        written = await one.person.context_menu("Recipe", mine)
        assert written.message is not None
        assert "something to work on" in written.text
        newest = await one.newest_result()
        one.must_be_accepted(await one.press(written.message, "recall_draw"))
        again = await one.result_after(newest)
        assert await one.person.download(again.files[0].url) == data  # the very same picture, recipe included


async def test_a_reference_kept_before_a_kill_is_looked_at_by_the_next_edit(stage: Stage) -> None:
    kept: list[Seen] = []
    for one in (stage.ana, stage.bruno):
        style = await one.imagine("a style to look at")
        await one.imagine("something to change")
        answer = await one.person.context_menu("Use as reference", style)
        assert answer.message is not None
        assert one.texts("reference.kept") in answer.text
        kept.append(answer.message)
    await stage.house.restart()
    for one, card in zip((stage.ana, stage.bruno), kept, strict=True):
        newest = await one.newest_result()
        opened_form = (await one.press(card, "ref_edit")).modal
        assert opened_form is not None
        assert opened_form.hints == [one.texts("answer.reference")]
        answer = await one.person.submit(opened_form, prompt="in that style")
        assert one.texts("answer.reference") in answer.text
        drawn = await one.result_after(newest)
        inside = json.loads(read_recipe(await one.person.download(drawn.files[0].url)) or "")
        assert (inside["prompt"], inside["is_edit"], inside["has_reference"]) == ("in that style", True, True)


async def test_after_everything_was_erased_a_picture_can_still_be_started_from(stage: Stage) -> None:
    for one in (stage.ana, stage.bruno):
        result = await one.imagine("to be forgotten")
        asked = await one.person.slash("mydata erase")
        assert asked.message is not None
        await one.press(asked.message, "erase_me")
        await one.person.wait_for_message(lambda m, one=one: one.texts("mydata.erased") in m.text)  # type: ignore[misc]
        gone = await one.press(result, "again")
        assert gone.text == one.texts("error.recipe_gone")
        assert gone.message is not None
        form = await one.press(gone.message, "remix")
        assert form.message is not None
        assert "to be forgotten" in form.text
        newest = await one.newest_result()
        await one.person.press(form.message, one.texts("gen.generate"))
        assert "to be forgotten" in (await one.result_after(newest)).text
        question = await one.press(result, "delete")
        assert question.message is not None
        assert one.texts("delete.question", count=1) in question.message.text
        await one.press(question.message, "delete_now")
        await one.person.wait_for("MESSAGE_DELETE", lambda d, result=result: d["id"] == result.id)  # type: ignore[misc]


async def test_blocked_words_and_bans_hold_over_a_kill(stage: Stage) -> None:
    elena = await stage.house.people.be("elena")
    await elena.slash("admin words", action="add", word="gore")
    await elena.slash("admin ban", member=stage.bruno.person.id)
    await stage.house.restart()
    refused = await stage.ana.person.slash("imagine", model="z-image", prompt="mucho GÓRE")
    assert refused.text == stage.ana.texts("error.prompt_blocked")
    banned = await stage.bruno.person.slash("imagine", model="z-image", prompt="a fox")
    assert banned.text == stage.bruno.texts("error.person_banned")
    await elena.slash("admin words", action="remove", word="gore")
    await elena.slash("admin unban", member=stage.bruno.person.id)
    await stage.ana.imagine("poco gore")
    await stage.bruno.imagine("a fox")


async def test_only_what_a_server_that_takes_work_has_is_offered(stage: Stage) -> None:
    one, elena = stage.bruno, await stage.house.people.be("elena")

    async def offered() -> set[str]:
        return {value for _, value in (await opened(one)).select(one.texts("gen.loras")).options}

    assert await offered() >= {COMMON, RARE}
    await elena.slash("admin drain", server=stage.server_with_rare)
    assert RARE not in await offered()
    assert COMMON in await offered()
    await elena.slash("admin enable", server=stage.server_with_rare)
    assert RARE in await offered()


async def test_no_rule_of_discords_was_broken(stage: Stage) -> None:
    assert [found for found in stage.house.violations() if found.kind != "reply"] == []  # type: ignore[attr-defined]
    assert any(is_result(message) for message in await stage.ana.person.messages(stage.ana.session))
