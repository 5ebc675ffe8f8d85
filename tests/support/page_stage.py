"""What the tests of the page share: a Discord stand-in, an unmodified discord.py bot, and a browser."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count

import discord
from playwright.async_api import Browser

from modules.sandbox.discord_server import DiscordSandbox
from tests.support.browser import DESKTOP, Client, chromium, sit_down
from tests.support.discord_side import RealBot, real_bot
from tests.support.page_bot import prepare

_numbers = count(1)


@dataclass
class Stage:
    """A stand-in, a bot and a browser that the tests of one module share; each test has a channel of its own."""

    sandbox: DiscordSandbox
    bot: RealBot
    browser: Browser
    clients: list[Client] = field(default_factory=list)

    async def channel(self, *, only_for: str | None = None) -> discord.TextChannel:
        """A new channel: for everybody, or for one person."""
        home = self.bot.home
        overwrites: dict[discord.Role | discord.Member | discord.Object, discord.PermissionOverwrite] = {}
        if only_for:
            member = discord.utils.get(home.members, name=only_for)
            assert member is not None
            overwrites = {
                home.default_role: discord.PermissionOverwrite(view_channel=False),
                member: discord.PermissionOverwrite(view_channel=True),
                home.me: discord.PermissionOverwrite(view_channel=True, send_messages=True),
            }
        return await home.create_text_channel(f"room-{next(_numbers)}", overwrites=overwrites)

    async def client(
        self, username: str, channel: str = "general", *, size: tuple[int, int] = DESKTOP, touch: bool = False
    ) -> Client:
        """The page, opened as somebody."""
        client = await sit_down(self.browser, self.sandbox, username, channel=channel, size=size, touch=touch)
        self.clients.append(client)
        return client

    async def close_windows(self) -> list[str]:
        """Close what a test opened; gives what the browser complained about."""
        complaints = [complaint for client in self.clients for complaint in client.complaints]
        for client in self.clients:
            await client.page.context.close()
        self.clients.clear()
        return complaints


@asynccontextmanager
async def a_stage() -> AsyncIterator[Stage]:
    """Everything that takes a second to start. One task holds it: a task group must be left by the task that entered it."""
    ready: asyncio.Future[Stage] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def hold() -> None:
        async with AsyncExitStack() as stack:
            sandbox = await stack.enter_async_context(DiscordSandbox())
            bot = await stack.enter_async_context(real_bot(sandbox, prepare))
            browser = await stack.enter_async_context(chromium())
            ready.set_result(Stage(sandbox, bot, browser))
            await done.wait()

    holder = asyncio.create_task(hold())
    holder.add_done_callback(lambda task: ready.done() or ready.cancel())
    try:
        yield await ready
    except asyncio.CancelledError:
        await holder  # says what could not start
        raise
    finally:
        done.set()
    await holder
