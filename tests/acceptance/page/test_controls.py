"""Buttons, selects, forms and galleries in the page."""

import pytest
from playwright.async_api import expect

from tests.support.browser import Client
from tests.support.page_bot import picture
from tests.support.page_stage import Stage

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


async def a_board(stage: Stage) -> tuple[Client, Client]:
    """Bruno and Ana before the same message with all controls."""
    room = await stage.channel()
    bruno, ana = await stage.client("bruno", room.name), await stage.client("ana", room.name)
    await bruno.run_command("board")
    await expect(ana.message("pressed 0 times")).to_be_visible()
    return bruno, ana


async def test_a_press_edits_the_message_before_everybodys_eyes_and_keeps_the_focus(stage: Stage) -> None:
    bruno, ana = await a_board(stage)
    button = bruno.page.get_by_role("button", name="Count")
    await button.focus()
    await bruno.page.keyboard.press("Enter")
    await expect(ana.message("pressed 1 times")).to_be_visible()
    await expect(bruno.message("pressed 1 times")).to_be_visible()
    await expect(button).to_be_focused()
    await expect(bruno.page.get_by_text("(edited)")).to_be_visible()
    await expect(bruno.page.get_by_role("button", name="Not now")).to_be_disabled()


async def test_a_press_that_comes_to_nothing_says_so_under_the_message(stage: Stage) -> None:
    bruno, _ = await a_board(stage)
    button = bruno.page.get_by_role("button", name="Broken")
    await button.click()
    await expect(bruno.page.locator("[data-custom-id=broken]")).to_have_attribute("aria-busy", "true")
    await expect(bruno.page.get_by_test_id("interaction-failed")).to_be_visible()
    await expect(button).to_be_enabled()
    await bruno.page.get_by_role("button", name="Count").click()
    await expect(bruno.page.get_by_test_id("interaction-failed")).to_have_count(0)


async def test_selects_send_one_choice_at_once_and_several_when_they_close(stage: Stage) -> None:
    bruno, _ = await a_board(stage)
    page = bruno.page
    options = page.get_by_test_id("select-option")
    await page.locator("[data-custom-id=one]").click()
    await expect(options).to_have_count(3)
    await options.filter(has_text="as pencil").click()
    await expect(bruno.message("one: ['pencil']")).to_be_visible()

    await page.locator("[data-custom-id=several]").click()
    await page.get_by_label("Search").fill("LoRA 1")
    await expect(options).to_have_count(3)  # 1, 10, 11
    await options.filter(has_text="LoRA 11").click()
    await page.get_by_label("Search").fill("")
    await options.filter(has_text="LoRA 3").click()
    await expect(options.filter(has_text="LoRA 5")).to_have_attribute("aria-disabled", "true")  # two at most
    await page.get_by_role("button", name="Done").click()
    await expect(bruno.message("several: ['LoRA 11', 'LoRA 3']")).to_be_visible()

    await page.locator("[data-custom-id=somebody]").click()
    await page.get_by_label("Search").fill("zoe")
    await page.keyboard.press("Enter")
    await expect(bruno.message("somebody: ['Zoe']")).to_be_visible()


async def test_a_form_is_prefilled_checked_and_sent_with_its_file(stage: Stage) -> None:
    bruno, _ = await a_board(stage)
    page = bruno.page
    await page.get_by_role("button", name="Form").click()
    form = page.get_by_test_id("modal")
    idea = form.get_by_label("Idea")
    await expect(idea).to_have_value("a boat")
    await expect(idea).to_be_focused()
    await idea.fill("ab")
    await form.get_by_test_id("modal-submit").click()
    await expect(form.get_by_role("alert").filter(has_text="At least 3 characters.")).to_be_visible()
    await expect(form.get_by_role("alert").filter(has_text="This field is required.")).to_be_visible()  # no model yet

    await idea.fill("a *big* boat")
    await form.get_by_label("Model").click()
    await page.get_by_test_id("select-option").filter(has_text="Z-Image").click()
    await form.get_by_test_id("modal-file").set_input_files(
        {"name": "ref.png", "mimeType": "image/png", "buffer": picture("blue")}
    )
    await form.get_by_test_id("modal-submit").click()
    await expect(form).to_have_count(0)
    await expect(bruno.message("'model': ['z']")).to_contain_text("ref.png")


async def test_every_control_has_a_name_for_those_who_do_not_see_it(stage: Stage) -> None:
    bruno, _ = await a_board(stage)
    await bruno.page.get_by_role("button", name="Form").click()
    await expect(bruno.page.get_by_test_id("modal")).to_be_visible()
    nameless = await bruno.page.evaluate(
        """() => [...document.querySelectorAll("button, a, input:not([hidden]), textarea, [role=button], [role=dialog], nav")]
            .filter((element) => {
                const by = document.getElementById(element.getAttribute("aria-labelledby") ?? "");
                const label = element.getAttribute("aria-label") || by?.textContent || element.labels?.[0]?.textContent;
                return !(label || element.textContent).trim();
            })
            .map((element) => element.outerHTML.slice(0, 120))"""
    )
    assert nameless == []


async def test_a_form_that_fails_keeps_what_was_typed_and_escape_closes_it(stage: Stage) -> None:
    bruno, _ = await a_board(stage)
    page = bruno.page
    await page.get_by_role("button", name="Form").click()
    form = page.get_by_test_id("modal")
    await form.get_by_label("Idea").fill("break")
    await form.get_by_label("Model").click()
    await page.get_by_test_id("select-option").filter(has_text="Flux").click()
    await form.get_by_test_id("modal-submit").click()
    await expect(form.get_by_test_id("modal-error")).to_contain_text("Something went wrong")
    await expect(form.get_by_label("Idea")).to_have_value("break")
    await page.keyboard.press("Escape")
    await expect(form).to_have_count(0)


async def test_a_gallery_shows_its_pictures_and_opens_them_large(stage: Stage) -> None:
    room = await stage.channel()
    bruno = await stage.client("bruno", room.name)
    await bruno.start_command("gallery")
    await bruno.option("count").fill("4")
    await bruno.option("count").press("Enter")
    pictures = bruno.page.get_by_test_id("picture")
    await expect(pictures).to_have_count(4)
    for image in await pictures.locator("img").all():  # not `wait_for_function`: the page allows no eval
        await expect(image).to_have_js_property("naturalWidth", 320)
    accent = await bruno.page.get_by_test_id("container").evaluate("(box) => box.style.getPropertyValue('--accent')")
    assert accent == "#3366ff"

    await pictures.nth(1).click()
    large = bruno.page.get_by_test_id("lightbox")
    await expect(large).to_contain_text("Picture 1 · 2 / 4")
    await bruno.page.keyboard.press("ArrowRight")
    await expect(large).to_contain_text("Picture 2 · 3 / 4")
    await bruno.page.keyboard.press("Escape")
    await expect(large).to_have_count(0)
    await expect(pictures.nth(1)).to_be_focused()
