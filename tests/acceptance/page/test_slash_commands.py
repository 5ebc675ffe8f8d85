"""Slash commands in the page: found, filled in, checked, answered."""

import pytest
from playwright.async_api import expect

from tests.support.page_bot import picture
from tests.support.page_stage import Stage

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


async def test_a_slash_command_carries_every_kind_of_option_to_the_bot(stage: Stage) -> None:
    room = await stage.channel()
    bruno, ana = await stage.client("bruno", room.name), await stage.client("ana", room.name)
    keyboard = bruno.page.keyboard
    await bruno.page.get_by_test_id("composer").press_sequentially("/pai")
    await expect(bruno.page.get_by_test_id("command")).to_have_count(1)
    await keyboard.press("Tab")
    await keyboard.type("pen")
    await keyboard.press("Enter")
    await keyboard.type("a tower")
    suggestions = bruno.page.get_by_test_id("suggestion")
    await expect(suggestions).to_have_text(["a tower at dusk", "a tower in snow", "a tower by the sea"])
    await keyboard.press("ArrowDown")
    await keyboard.press("ArrowDown")
    await keyboard.press("Enter")
    await expect(bruno.option("prompt")).to_have_value("a tower in snow")

    for name, value in (("count", "3"), ("strength", "0.25"), ("loud", "True"), ("friend", "Zoe")):
        await bruno.page.locator(f"[data-testid=add-option][data-option={name}]").click()
        await bruno.option(name).fill(value)
    await bruno.page.locator("[data-testid=add-option][data-option=image]").click()
    sent = picture("red")
    await bruno.page.get_by_test_id("option-file").set_input_files({"name": "red.png", "mimeType": "image/png", "buffer": sent})
    await bruno.page.get_by_test_id("run-command").click()

    reply = bruno.message("style=pencil")
    said = "style=pencil | prompt=a tower in snow | count=3 | strength=0.25 | loud=True"
    await expect(reply).to_contain_text(f"{said} | friend=Zoe | {len(sent)} bytes of red.png")
    await expect(reply.get_by_test_id("used-command")).to_contain_text("Bruno used /paint")
    await expect(bruno.page.get_by_test_id("placeholder")).to_have_count(0)
    await room.send("for all")
    await expect(ana.message("for all")).to_be_visible()
    await expect(ana.message("style=pencil")).to_have_count(0)  # only Bruno was answered

    await reply.get_by_test_id("dismiss").click()
    await expect(reply).to_have_count(0)
    await bruno.page.reload()
    await bruno.settled()
    await expect(bruno.message("style=pencil")).to_have_count(0)


async def test_wrong_and_missing_options_are_named_before_anything_is_sent(stage: Stage) -> None:
    room = await stage.channel()
    bruno = await stage.client("bruno", room.name)
    await bruno.start_command("paint")
    run, panel = bruno.page.get_by_test_id("run-command"), bruno.page.get_by_test_id("command-panel")
    await run.click()
    await expect(panel.get_by_role("alert")).to_have_text("This option is required.")
    await bruno.option("style").fill("charcoal")
    await run.click()
    await expect(panel.get_by_role("alert")).to_have_text("Choose one of the list.")
    await bruno.option("style").fill("pencil")
    await bruno.option("prompt").fill("ab")
    await run.click()
    await expect(panel.get_by_role("alert")).to_have_text("At least 3 characters.")
    await bruno.option("prompt").fill("abc")
    await bruno.page.locator("[data-testid=add-option][data-option=count]").click()
    for wrong, why in (
        ("9", "At most 4."),
        ("0", "At least 1."),
        ("1.5", "Enter a whole number."),
        ("1e9", "Enter a whole number."),
    ):
        await bruno.option("count").fill(wrong)
        await run.click()
        await expect(panel.get_by_role("alert")).to_have_text(why)
    assert await bruno.option("count").get_attribute("aria-invalid") == "true"
    await bruno.option("count").fill("4")
    await run.click()
    await expect(bruno.message("prompt=abc | count=4")).to_be_visible()


async def test_a_whole_command_can_be_typed_with_its_options(stage: Stage) -> None:
    room = await stage.channel()
    bruno = await stage.client("bruno", room.name)
    await bruno.page.get_by_test_id("composer").fill("/paint prompt: a red boat style: Watercolour count: 2")
    await expect(bruno.option("count")).to_have_value("2")
    await bruno.option("count").press("Enter")
    await expect(bruno.message("style=watercolour | prompt=a red boat | count=2")).to_be_visible()


async def test_commands_carry_the_persons_language_and_only_what_they_may_use(stage: Stage) -> None:
    ana, elena = await stage.client("ana"), await stage.client("elena")
    for client in (ana, elena):
        await client.page.get_by_test_id("open-commands").click()
    spanish = ana.page.locator("[data-testid=command][data-command=paint]")
    await expect(spanish).to_contain_text("/pinta")
    await expect(spanish).to_contain_text("Pinta algo")
    await expect(ana.page.locator("[data-testid=command][data-command=boss]")).to_have_count(0)
    await expect(elena.page.locator("[data-testid=command][data-command=boss]")).to_be_visible()
    await spanish.click()
    await expect(ana.page.get_by_test_id("option").first).to_contain_text("estilo")


async def test_sub_commands_stand_in_the_list_with_their_whole_name(stage: Stage) -> None:
    room = await stage.channel()
    bruno = await stage.client("bruno", room.name)
    await bruno.start_command("words blocked add")
    await bruno.option("word").fill("mud")
    await bruno.option("word").press("Enter")
    await expect(bruno.message("blocked: mud")).to_be_visible()


async def test_a_bot_that_does_not_answer_is_reported_at_the_place_of_its_answer(stage: Stage) -> None:
    room = await stage.channel()
    bruno = await stage.client("bruno", room.name)
    await bruno.run_command("silent")
    waiting = bruno.page.get_by_test_id("placeholder")
    await expect(waiting).to_have_attribute("data-state", "sent")
    await expect(waiting).to_have_attribute("data-state", "failed")
    await expect(waiting).to_contain_text("The application did not respond")
    await waiting.get_by_test_id("dismiss").click()
    await expect(waiting).to_have_count(0)
