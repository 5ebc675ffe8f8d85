"""Headless Chromium for tests of the page: Debian's browser, driven by Playwright.

    async with chromium() as browser:
        ana = await sit_down(browser, sandbox, "ana")
        await ana.page.get_by_test_id("composer").fill("hello")

Where Chromium is missing on somebody's machine the tests are skipped and say so; with `CI=true` they fail.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.async_api import Browser, ConsoleMessage, Locator, Page, async_playwright, expect

from modules.sandbox.discord_server import DiscordSandbox

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
#: Nothing of the browser's own talks to the network, needs a GPU, or asks questions.
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: The page answers within milliseconds; a loaded machine needs slack.
PATIENCE_MS = 15_000
DESKTOP = (1280, 860)
PHONE = (390, 844)

expect.set_options(timeout=PATIENCE_MS)


def require_chromium() -> str:
    """The browser's path. Skips the test without it, or fails it where a browser is required."""
    found = CHROMIUM if Path(CHROMIUM).exists() else shutil.which("chromium")
    if found:
        return found
    missing = f"Chromium is missing ({CHROMIUM}): apt-get install chromium, or set CHROMIUM to its path"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(missing)
    pytest.skip(missing)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """One headless browser."""
    path = require_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Client:
    """The page as one person has it open, with everything the browser complained about."""

    page: Page
    sandbox: DiscordSandbox
    complaints: list[str] = field(default_factory=list)

    # -- looking ----------------------------------------------------------------------------------------------------

    def channel(self, name: str) -> Locator:
        """A row of the channel list."""
        return self.page.locator(f'[data-testid=channel][data-channel-name="{name}"]')

    def message(self, text: str) -> Locator:
        """The messages that hold a text."""
        return self.page.get_by_test_id("message").filter(has_text=text)

    async def channel_names(self) -> list[str]:
        """The channels in the list, from top to bottom."""
        rows = await self.page.get_by_test_id("channel").all()
        return [await row.get_attribute("data-channel-name") or "" for row in rows]

    # -- doing ------------------------------------------------------------------------------------------------------

    async def open_channel(self, name: str) -> None:
        """Go to a channel and wait until its messages are there."""
        await self.channel(name).click()
        await expect(self.page.get_by_test_id("channel-title")).to_have_text(name)
        await self.settled()

    async def settled(self) -> None:
        """Until the open channel has loaded."""
        await expect(self.page.locator(".beginning")).to_be_attached()
        await expect(self.page.locator(".skeleton")).to_have_count(0)

    async def say(self, text: str) -> None:
        """Write a message."""
        await self.page.get_by_test_id("composer").fill(text)
        await self.page.keyboard.press("Enter")

    async def start_command(self, name: str) -> Locator:
        """Type a slash command's name and choose it; gives the form with its options."""
        await self.page.get_by_test_id("composer").fill(f"/{name}")
        await self.page.locator(f'[data-testid=command][data-command="{name}"]').click()
        return self.page.get_by_test_id("command-form")

    async def run_command(self, name: str) -> None:
        """Run a command that needs no options."""
        await self.start_command(name)
        await self.page.get_by_test_id("run-command").click()

    def option(self, name: str) -> Locator:
        """The field of an option of the command in hand."""
        return self.page.locator(f'[data-testid=option][data-option="{name}"]').get_by_test_id("option-input")

    async def become(self, username: str) -> None:
        """Be somebody else, by their face at the lower left."""
        await self.page.locator(f'[data-testid=person][data-username="{username}"]').click()
        user = user_of(self.sandbox, username)
        await expect(self.page.get_by_test_id("me")).to_have_attribute("data-user-id", user)
        await self.settled()


def user_of(sandbox: DiscordSandbox, username: str) -> str:
    """Somebody's id."""
    return next(str(user.id) for user in sandbox.world.users.values() if user.username == username)


def channel_of(sandbox: DiscordSandbox, name: str) -> str:
    """A channel's id."""
    return next(str(c.id) for guild in sandbox.world.guilds.values() for c in guild.channels.values() if c.name == name)


async def sit_down(
    browser: Browser,
    sandbox: DiscordSandbox,
    username: str,
    *,
    channel: str = "general",
    size: tuple[int, int] = DESKTOP,
    touch: bool = False,
) -> Client:
    """Open the page as somebody, in a window of its own with nothing remembered."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]}, has_touch=touch, is_mobile=touch, locale="en-US"
    )
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    client = Client(page, sandbox)

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            client.complaints.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: client.complaints.append(str(error)))
    await page.goto(f"{sandbox.page_url}/?as={user_of(sandbox, username)}&channel={channel_of(sandbox, channel)}")
    await client.settled()
    return client
