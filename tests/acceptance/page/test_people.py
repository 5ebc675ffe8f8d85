"""Who sees what: people, channels, mentions, lost connections, small screens."""

import asyncio
import re

import pytest
from playwright.async_api import expect

from modules.sandbox.discord_server import DiscordSandbox
from tests.support.browser import PHONE, sit_down
from tests.support.discord_side import real_bot
from tests.support.page_bot import prepare
from tests.support.page_stage import Stage

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


async def test_a_private_channel_shows_up_at_once_for_its_person_and_nobody_else(stage: Stage) -> None:
    ana, bruno, elena = await asyncio.gather(*(stage.client(name) for name in ("ana", "bruno", "elena")))
    room = await stage.channel(only_for="ana")
    for who in (ana, elena):  # Elena administers the server
        await expect(who.channel(room.name)).to_be_visible()
    public = await stage.channel()
    await expect(bruno.channel(public.name)).to_be_visible()
    assert room.name not in await bruno.channel_names()

    await ana.open_channel(room.name)
    await room.delete()
    await expect(ana.channel(room.name)).to_have_count(0)
    await expect(ana.page.get_by_test_id("channel-title")).not_to_have_text(room.name)


async def test_switching_person_changes_channels_language_and_address_and_survives_a_reload(stage: Stage) -> None:
    room = await stage.channel(only_for="ana")
    client = await stage.client("ana", room.name)
    banner = client.page.get_by_test_id("banner")
    await expect(banner).to_contain_text("sin cuenta, sin token, sin GPU")

    await client.become("bruno")
    await expect(banner).to_contain_text("no account, no token, no GPU")
    assert room.name not in await client.channel_names()
    await client.open_channel("showcase")
    await client.page.reload()
    await client.settled()
    await expect(client.page.get_by_test_id("channel-title")).to_have_text("showcase")
    await expect(client.page.locator('[data-username="bruno"]')).to_have_attribute("aria-pressed", "true")
    await expect(client.page).to_have_url(re.compile(r"as=\d+&channel=\d+"))


async def test_a_mention_elsewhere_shows_a_badge_until_it_is_read(stage: Stage) -> None:
    room = await stage.channel()
    ana, bruno = await stage.client("ana"), await stage.client("bruno", room.name)
    await bruno.say("hello @Ana, look")
    await expect(bruno.message("hello @Ana, look")).to_be_visible()
    badge = ana.channel(room.name).get_by_test_id("mention-badge")
    await expect(badge).to_have_text("1")
    assert "is-unread" in (await ana.channel(room.name).get_attribute("class") or "")

    await ana.page.reload()  # what was missed is counted again from the messages
    await expect(badge).to_have_text("1")
    await ana.open_channel(room.name)
    await expect(badge).to_have_count(0)
    await expect(ana.page.get_by_test_id("unread-line")).to_be_visible()


async def test_after_a_lost_connection_the_page_catches_up_by_itself(stage: Stage) -> None:
    room = await stage.channel()
    ana = await stage.client("ana", room.name)
    await ana.page.context.set_offline(True)
    stage.sandbox.context.people.close()
    await expect(ana.page.get_by_test_id("net-notice")).to_be_visible()
    await room.send("while you were away")
    await ana.page.context.set_offline(False)
    await expect(ana.message("while you were away")).to_be_visible()
    await expect(ana.page.get_by_test_id("net-notice")).to_be_hidden()
    await room.send("and live again")
    await expect(ana.message("and live again")).to_be_visible()
    ana.complaints.clear()  # the browser rightly said that there was no network


async def test_a_bot_that_comes_online_is_noticed_and_its_commands_are_offered(stage: Stage) -> None:
    async with DiscordSandbox() as sandbox:
        ana = await sit_down(stage.browser, sandbox, "ana")
        notice = ana.page.get_by_test_id("bot-notice")
        await expect(notice).to_contain_text("FuLLet no está conectado")
        await ana.page.get_by_test_id("open-commands").click()
        await expect(ana.page.get_by_test_id("command-panel")).to_contain_text("todavía no ofrece comandos")
        async with real_bot(sandbox, prepare):
            await expect(notice).to_be_hidden()
            await expect(ana.page.locator("[data-testid=command][data-command=paint]")).to_be_visible()
        await expect(notice).to_be_visible()
        await ana.page.context.close()


async def test_whoever_comes_for_the_first_time_is_a_member_who_speaks_their_language(stage: Stage) -> None:
    for language, name in (("en-US", "Bruno"), ("es-ES", "Ana"), ("fr-FR", "Ana")):
        context = await stage.browser.new_context(locale=language)
        page = await context.new_page()
        await page.goto(stage.sandbox.page_url)
        await expect(page.get_by_test_id("me")).to_contain_text(name)
        await context.close()


async def test_writing_to_the_bot_in_private_works_as_in_a_channel(stage: Stage) -> None:
    ana = await stage.client("ana")
    await ana.page.get_by_test_id("rail-dm").click()
    await ana.settled()
    await ana.say("!hello")
    await expect(ana.message("Hello @Ana")).to_be_visible()
    await expect(ana.page.get_by_test_id("channel-title")).to_have_text("FuLLet")


@pytest.mark.parametrize("width", [360, PHONE[0]])
async def test_on_a_phone_the_channels_are_a_drawer_and_nothing_overflows(stage: Stage, width: int) -> None:
    room = await stage.channel()
    bruno = await stage.client("bruno", room.name, size=(width, PHONE[1]), touch=True)
    await bruno.run_command("board")
    await expect(bruno.message("pressed 0 times")).to_be_visible()
    await expect(bruno.channel("general")).to_be_hidden()
    await bruno.page.get_by_test_id("open-channels").tap()
    await bruno.open_channel("general")
    await expect(bruno.channel("general")).to_be_hidden()  # the drawer closed behind the choice
    await bruno.page.get_by_test_id("open-channels").tap()
    await bruno.open_channel(room.name)
    overflow = "document.documentElement.scrollWidth - window.innerWidth"
    assert await bruno.page.evaluate(overflow) <= 0
    await bruno.page.get_by_role("button", name="Form").tap()
    await expect(bruno.page.get_by_test_id("modal-submit")).to_be_in_viewport()
    assert await bruno.page.evaluate(overflow) <= 0
