"""A page left open: the next demo at its address, the same world again, somebody else at the port."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from playwright.async_api import BrowserContext, Page, WebSocket, expect

from modules.sandbox.discord_server import DiscordSandbox
from tests.support.browser import Client, sit_down, user_of
from tests.support.discord_side import real_bot
from tests.support.page_bot import prepare
from tests.support.page_stage import Stage

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

DOWN = {
    "en": "The demo is not running. Start it again with make demo; this page comes back by itself.",
    "es": "La demo no está en marcha. Iníciala de nuevo con make demo; esta página vuelve sola.",
}


def port_of(sandbox: DiscordSandbox) -> int:
    port = urlsplit(sandbox.page_url).port
    assert port is not None
    return port


class Streams:
    """The event streams that a page opens from here on."""

    def __init__(self, page: Page) -> None:
        self._seen: list[WebSocket] = []
        page.on("websocket", lambda socket: self._seen.append(socket))

    @property
    def open(self) -> int:
        return sum(not socket.is_closed() for socket in self._seen)


async def another_tab(context: BrowserContext, sandbox: DiscordSandbox, username: str) -> Client:
    page = await context.new_page()
    await page.goto(f"{sandbox.page_url}/?as={user_of(sandbox, username)}")
    client = Client(page, sandbox)
    await client.settled()
    return client


@asynccontextmanager
async def a_stranger(port: int) -> AsyncIterator[None]:
    """Another program that took the port: it answers everything, and not as a stand-in."""

    async def serve(_: web.Request) -> web.Response:
        return web.Response(text="<h1>My own page</h1>", content_type="text/html")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def test_open_pages_find_the_next_demo_at_their_address_each_as_the_same_person(stage: Stage) -> None:
    async with DiscordSandbox() as first:
        bruno = await sit_down(stage.browser, first, "bruno", channel="showcase")
        ana = await another_tab(bruno.page.context, first, "ana")
        await bruno.say("a picture of the old world")
        await expect(bruno.message("a picture of the old world")).to_be_visible()
    await expect(bruno.page.get_by_test_id("net-notice")).to_have_text(DOWN["en"])
    await expect(ana.page.get_by_test_id("net-notice")).to_have_text(DOWN["es"])

    streams = Streams(bruno.page)
    async with DiscordSandbox(port=port_of(first)) as second, real_bot(second, prepare):
        for client, username in ((bruno, "bruno"), (ana, "ana")):
            await expect(client.page.get_by_test_id("me")).to_have_attribute("data-user-id", user_of(second, username))
            await expect(client.page.get_by_test_id("net-notice")).to_be_hidden()
        await expect(bruno.message("a picture of the old world")).to_have_count(0)
        await bruno.open_channel("general")
        await bruno.start_command("say")
        await bruno.option("text").fill("hello, new world")
        await bruno.option("text").press("Enter")
        await expect(bruno.message("hello, new world")).to_have_count(1)
        await ana.open_channel("general")
        await expect(ana.message("hello, new world")).to_have_count(1)
        assert streams.open == 1
        await bruno.page.context.close()


async def test_a_stand_in_that_comes_back_with_its_world_takes_nothing_from_whoever_is_typing(stage: Stage) -> None:
    async with DiscordSandbox() as first, real_bot(first, prepare):
        bruno = await sit_down(stage.browser, first, "bruno")
        ana = await another_tab(bruno.page.context, first, "ana")
        await expect(ana.page.get_by_test_id("bot-notice")).to_be_hidden()
        await ana.start_command("say")
        await ana.option("text").fill("half an idea")
        await bruno.page.get_by_test_id("composer").fill("half a sentence")
    for client in (bruno, ana):
        await expect(client.page.get_by_test_id("net-notice")).to_contain_text("make demo")
        await expect(client.page.get_by_test_id("bot-notice")).to_be_hidden()  # one trouble at a time

    streams = Streams(bruno.page)
    async with DiscordSandbox(world=first.world, port=port_of(first)) as again:
        for client in (bruno, ana):
            await expect(client.page.get_by_test_id("net-notice")).to_be_hidden()
            await expect(client.page.get_by_test_id("bot-notice")).to_be_visible()  # what has changed is known
        await expect(ana.option("text")).to_have_value("half an idea")
        await expect(bruno.page.get_by_test_id("composer")).to_have_value("half a sentence")
        async with real_bot(again, prepare):
            await bruno.page.get_by_test_id("composer").press("Enter")
            await expect(ana.message("half a sentence")).to_have_count(1)
            await expect(ana.page.get_by_test_id("bot-notice")).to_be_hidden()
            await ana.option("text").press("Enter")
            await expect(bruno.message("half an idea")).to_have_count(1)
        assert streams.open == 1
        await bruno.page.context.close()


async def test_a_cut_connection_is_mended_under_the_hands_of_whoever_is_typing(stage: Stage) -> None:
    room = await stage.channel()
    ana = await stage.client("ana", room.name)
    await ana.page.get_by_test_id("composer").fill("media frase")
    streams = Streams(ana.page)
    async with ana.page.expect_websocket():
        stage.sandbox.context.people.close()
    await room.send("and live again")
    await expect(ana.message("and live again")).to_be_visible()
    await expect(ana.page.get_by_test_id("composer")).to_have_value("media frase")
    await expect(ana.page.get_by_test_id("composer")).to_be_focused()
    assert streams.open == 1


async def test_another_program_at_the_address_is_told_from_a_demo_and_waited_out(stage: Stage) -> None:
    async with DiscordSandbox() as first:
        bruno = await sit_down(stage.browser, first, "bruno")
        await bruno.page.get_by_test_id("composer").fill("half a sentence")
    notice = bruno.page.get_by_test_id("net-notice")
    async with a_stranger(port_of(first)):
        await expect(notice).to_have_text(
            "Another program answers at this address now. The demo says its new address when it starts."
        )
        await expect(bruno.page.get_by_test_id("composer")).to_have_value("half a sentence")
    await expect(notice).to_have_text(DOWN["en"])
    async with DiscordSandbox(port=port_of(first)) as second:
        await expect(bruno.page.get_by_test_id("me")).to_have_attribute("data-user-id", user_of(second, "bruno"))
        await bruno.page.context.close()


async def test_whoever_is_chosen_while_the_demo_is_away_is_there_in_the_next_one(stage: Stage) -> None:
    async with DiscordSandbox() as first:
        bruno = await sit_down(stage.browser, first, "bruno")
    await bruno.page.locator('[data-testid=person][data-username="zoe"]').click()
    await expect(bruno.page.locator(".start-trouble")).to_have_text(DOWN["es"])
    async with DiscordSandbox(port=port_of(first)) as second:
        await expect(bruno.page.get_by_test_id("me")).to_have_attribute("data-user-id", user_of(second, "zoe"))
        await bruno.page.context.close()


async def test_whoever_looks_at_the_page_again_need_not_wait_for_its_next_try(stage: Stage) -> None:
    async with DiscordSandbox() as first:
        bruno = await sit_down(stage.browser, first, "bruno")
        await bruno.page.clock.install()
        await bruno.page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))  # a hidden tab, only slower
        async with bruno.page.expect_websocket() as opening:
            await bruno.page.reload()
        stream = await opening.value
        await bruno.settled()
    if not stream.is_closed():
        await stream.wait_for_event("close")
    async with DiscordSandbox(port=port_of(first)) as second:
        await bruno.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await expect(bruno.page.get_by_test_id("me")).to_have_attribute("data-user-id", user_of(second, "bruno"))
        await bruno.page.context.close()


async def test_a_catching_up_that_failed_is_tried_again(stage: Stage) -> None:
    room = await stage.channel()
    ana = await stage.client("ana", room.name)
    await ana.page.route("**/person/state?*", lambda route: route.abort(), times=1)
    async with ana.page.expect_event("requestfailed", lambda request: "/person/state" in request.url):
        stage.sandbox.context.people.close()
        await room.send("while you were away")
    await expect(ana.message("while you were away")).to_be_visible()
    await expect(ana.page.get_by_test_id("net-notice")).to_be_hidden()
    ana.complaints.clear()  # the browser rightly said what was aborted
