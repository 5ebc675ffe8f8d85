"""Every control under a result, pressed in both languages at once, before and after the bot was killed and started again.

One house for the whole module: the results that are pressed were all made in its first life. At the end the stand-in's own log is
read: what the bot did in all that time was within Discord's description and limits.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
import pytest_asyncio

from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.comfy_server.faults import FaultKind, Match
from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.world import Overwrite, OverwriteKind
from modules.utils.images import read_recipe
from tests.support.person import Person, Seen
from tests.support.program import WholeHouse, whole_house
from tests.support.visitors import Visitor, is_result, visitor

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("controls")]

EDIT_OF_A_MESSAGE = re.compile(r"/channels/(\d+)/messages/\d+")
#: Source: Discord's bucket of message edits, as docs/durability.md has it.
EDITS_IN_WINDOW, WINDOW_S = 5, 5.0


@dataclass(frozen=True, slots=True)
class Stage:
    """The house, Ana who reads Spanish, Bruno who reads English, and a result of each from the first life."""

    house: WholeHouse
    visitors: tuple[Visitor, Visitor]
    results: dict[str, Seen]
    pairs: dict[str, Seen]  #: results with two pictures

    async def each(self, act: Callable[[Visitor, Seen], Awaitable[None]], *, pairs: bool = False) -> None:
        """Both at the same time, each on their own result."""
        results = self.pairs if pairs else self.results
        await asyncio.gather(*(act(one, results[one.person.username]) for one in self.visitors))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder: Path = tmp_path_factory.mktemp("controls")
    gpus = [ComfySandbox(name="gpu-1", time_scale=0.02)]
    async with whole_house(folder, gpus=gpus, rate_limits=True, settings={"USER_ACTIVE_LIMIT": "4"}) as house:
        visitors = (await visitor(house.people, "ana"), await visitor(house.people, "bruno"))
        singles = await asyncio.gather(*(one.imagine(f"a picture of {one.person.username}") for one in visitors))
        pairs = await asyncio.gather(*(one.imagine(f"a pair of {one.person.username}", count=2) for one in visitors))
        names = [one.person.username for one in visitors]
        yield Stage(house, visitors, dict(zip(names, singles, strict=True)), dict(zip(names, pairs, strict=True)))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["in the first life", "after a kill"], autouse=True)
async def life(request: pytest.FixtureRequest, stage: Stage) -> str:
    """Everything below happens twice; the second time to another process of the bot, with the messages of the first."""
    if request.param == "after a kill":
        await stage.house.restart()
    return str(request.param)


def seed_of(message: Seen) -> str:
    found = re.search(r"(?:seed|semilla) (\d+)", message.text)
    assert found is not None, message.text
    return found[1]


async def test_again_draws_the_same_words_with_another_seed(stage: Stage) -> None:
    async def again(one: Visitor, result: Seen) -> None:
        newest = await one.newest_result()
        one.must_be_accepted(await one.press(result, "again"))
        drawn = await one.result_after(newest)
        assert f"a picture of {one.person.username}" in drawn.text
        assert seed_of(drawn) != seed_of(result)

    await stage.each(again)


async def test_vary_asks_how_far_and_draws_from_the_picture(stage: Stage) -> None:
    async def vary(one: Visitor, result: Seen) -> None:
        newest = await one.newest_result()
        asked = await one.press(result, "vary")
        assert asked.message is not None
        assert one.texts("vary.question") in asked.text
        one.must_be_accepted(await one.press(asked.message, "vary_s"))
        await one.result_after(newest)

    await stage.each(vary)


async def test_edit_takes_words_in_a_window(stage: Stage) -> None:
    async def edit(one: Visitor, result: Seen) -> None:
        newest = await one.newest_result()
        window = await one.open(result, "edit")
        assert window.title == one.texts("form.edit.title")
        one.must_be_accepted(await one.person.submit(window, prompt="at night"))
        assert "at night" in (await one.result_after(newest)).text

    await stage.each(edit)


async def test_upscale_makes_it_larger(stage: Stage) -> None:
    async def upscale(one: Visitor, result: Seen) -> None:
        newest = await one.newest_result()
        one.must_be_accepted(await one.press(result, "upscale"))
        larger = await one.result_after(newest)
        assert (larger.files[0].width or 0) > (result.files[0].width or 0)

    await stage.each(upscale)


async def test_remix_is_prefilled_refuses_nonsense_and_draws_what_was_changed(stage: Stage) -> None:
    async def remix(one: Visitor, result: Seen) -> None:
        newest = await one.newest_result()
        window = await one.open(result, "remix")
        assert window.typed["prompt"] == f"a picture of {one.person.username}"
        assert window.typed["seed"] == seed_of(result)
        wrong = await one.person.submit(window, seed="1e9")
        assert one.texts("error.value_not_a_number", field=one.texts("field.seed"), example=12) in wrong.text
        assert one.texts("form.kept") in wrong.text
        assert wrong.message is not None
        again = await one.open(wrong.message, "change")
        assert again.typed["seed"] == "1e9"
        one.must_be_accepted(await one.person.submit(again, prompt="an owl", seed="１２３"))
        drawn = await one.result_after(newest)
        assert "an owl" in drawn.text
        assert seed_of(drawn) == "123"

    await stage.each(remix)


async def test_the_recipe_is_told_as_text_as_a_file_and_inside_the_picture(stage: Stage) -> None:
    async def recipe(one: Visitor, result: Seen) -> None:
        told = await one.press(result, "recipe")
        assert told.message is not None
        assert told.message.is_ephemeral
        assert one.texts("recipe.title") in told.text
        kept = json.loads(await one.person.download(told.message.files[0].url))
        inside = read_recipe(await one.person.download(result.files[0].url))
        assert inside is not None
        carried = json.loads(inside)
        assert (
            (kept["prompt"], str(kept["seed"]))
            == (carried["prompt"], str(carried["seed"]))
            == (
                f"a picture of {one.person.username}",
                seed_of(result),
            )
        )

    await stage.each(recipe)


async def test_each_of_two_pictures_has_its_own_buttons(stage: Stage) -> None:
    async def second(one: Visitor, result: Seen) -> None:
        newest = await one.newest_result()
        assert len(result.pictures) == 2
        upscales = [button.custom_id for button in result.buttons if (button.custom_id or "").startswith("f1:upscale:")]
        assert [str(custom_id).rsplit(":", 1)[1] for custom_id in upscales] == ["0", "1"]
        one.must_be_accepted(await one.person.press(result, str(upscales[1])))
        await one.result_after(newest)

    await stage.each(second, pairs=True)


async def test_pressing_each_others_buttons_gets_a_kind_sentence_and_makes_nothing(stage: Stage) -> None:
    ana, bruno = stage.visitors
    for guest, host in ((ana, bruno), (bruno, ana)):
        await _let_in(stage.house, guest.person, await host.person.channel(host.session))
        before = await host.newest_result()
        for act in ("again", "vary", "edit", "upscale", "remix", "recipe", "delete"):
            refused = await guest.person.press(stage.results[host.person.username], host.texts(f"button.{act}"))
            name = host.person.username.capitalize()
            assert refused.text == guest.texts("error.job_not_yours", owner=name), act
            assert refused.modal is None
        assert await host.newest_result() == before


async def _let_in(house: WholeHouse, guest: Person, room: object) -> None:
    """As an administrator may do by hand in the channel's settings."""
    channel = house.discord.world.channel(int(room.id))  # type: ignore[attr-defined] # a ChannelView
    seen = int(Permission.VIEW_CHANNEL | Permission.READ_MESSAGE_HISTORY)
    if all(overwrite.target_id != int(guest.id) for overwrite in channel.overwrites):
        channel.overwrites.append(Overwrite(target_id=int(guest.id), kind=OverwriteKind.MEMBER, allow=seen))


async def test_two_presses_at_once_are_one(stage: Stage) -> None:
    async def twice(one: Visitor, result: Seen) -> None:
        newest = await one.newest_result()
        await asyncio.gather(one.press(result, "again"), one.press(result, "again"))
        await one.result_after(newest)
        listed = await one.person.slash("queue")
        assert listed.text == one.texts("queue.empty")
        results = [message for message in await one.person.messages(one.session) if is_result(message)]
        assert sum(int(message.id) > newest for message in results) == 1

    await stage.each(twice)


async def test_what_waits_shows_in_queue_and_is_cancelled_there_and_on_its_card(stage: Stage) -> None:
    elena = await stage.house.people.be("elena")
    await elena.slash("admin pause")

    async def cancel(one: Visitor, _: Seen) -> None:
        for prompt in ("waits and is stopped", "waits on"):
            await one.person.slash("imagine", model="z-image", prompt=prompt)
        card = await one.person.wait_for_message(
            lambda message: one.texts("card.paused") in message.text and "waits and is stopped" in message.text,
            channel=one.session,
        )
        await one.press(card, "cancel")
        await one.person.wait_for_message(
            lambda message: message.id == card.id and one.texts("card.cancelled") in message.text, channel=one.session
        )
        listed = await one.person.slash("queue")
        assert one.texts("queue.title", count=1) in listed.text
        assert listed.message is not None
        await one.press(listed.message, "cancel")
        await one.person.wait_for_message(lambda message: one.texts("queue.empty") in message.text)

    try:
        await stage.each(cancel)
    finally:
        await elena.slash("admin resume")


async def test_what_failed_can_be_tried_again(stage: Stage) -> None:
    async def retry(one: Visitor, _: Seen) -> None:
        prompt = f"fails for {one.person.username}"
        newest = await one.newest_result()
        stage.house.gpus[0].fail(FaultKind.NODE_ERROR, times=None, match=Match(text=prompt))
        await one.person.slash("imagine", model="z-image", size="512x512", prompt=prompt)
        failed = await one.person.wait_for_message(
            lambda message: one.texts("card.failed") in message.text and prompt in message.text
            and not any(button.disabled for button in message.buttons),
            channel=one.session,
            timeout=60.0,
        )  # fmt: skip
        stage.house.gpus[0].faults.clear()
        one.must_be_accepted(await one.press(failed, "retry"))
        assert prompt in (await one.result_after(newest)).text

    for one in stage.visitors:  # in turn: `clear` ends everybody's faults
        await retry(one, stage.results[one.person.username])


async def test_the_history_turns_its_pages(stage: Stage) -> None:
    async def history(one: Visitor, _: Seen) -> None:
        for number in range(2):
            await one.imagine(f"number {number}")
        page = await one.person.slash("history")
        assert page.message is not None
        assert one.texts("history.title") in page.text
        page_id, shown = page.message.id, set(page.message.pictures)
        await one.press(page.message, "older")
        await one.person.wait_for_message(
            lambda message: message.id == page_id and message.pictures and not shown & set(message.pictures)
        )

    await stage.each(history)


async def test_delete_asks_once_and_takes_the_message_away(stage: Stage) -> None:
    async def delete(one: Visitor, _: Seen) -> None:
        unwanted = await one.imagine("not good")
        asked = await one.press(unwanted, "delete")
        assert asked.message is not None
        assert one.texts("delete.question", count=1) in asked.text
        await one.press(asked.message, "delete_now")
        await one.person.wait_for("MESSAGE_DELETE", lambda gone: gone["id"] == unwanted.id)

    await stage.each(delete)


async def test_no_channel_ever_saw_more_edits_than_discord_allows_and_no_rule_was_broken(stage: Stage) -> None:
    edits: dict[str, list[float]] = {}
    for entry in stage.house.discord.context.journal.entries:
        if entry.method == "PATCH" and (found := EDIT_OF_A_MESSAGE.fullmatch(entry.path)):
            edits.setdefault(found[1], []).append(datetime.fromisoformat(entry.at).timestamp())
    assert edits, "nothing was edited at all"
    for moments in edits.values():
        assert max(sum(start <= at < start + WINDOW_S for at in moments) for start in moments) <= EDITS_IN_WINDOW
    assert [found for found in stage.house.violations() if found.kind != "reply"] == []  # type: ignore[attr-defined]
