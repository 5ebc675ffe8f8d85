"""A real discord.py bot against the Discord stand-in."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import discord
import yarl
from discord.ext import commands
from discord.gateway import DiscordWebSocket

from modules.sandbox.discord_server import DiscordSandbox

#: How long anything on loopback may take before it counts as a bug.
PATIENCE_S = 15.0


class RealBot(commands.Bot):
    """An unmodified Bot that keeps what went wrong inside it and tells when facts come true."""

    def __init__(
        self,
        *,
        intents: discord.Intents,
        prefix: str,
        prepare: Callable[["RealBot"], Awaitable[None]] | None,
        heartbeat_timeout_s: float,
    ) -> None:
        # discord.py waits two seconds for guilds by default; on loopback they come at once.
        super().__init__(prefix, intents=intents, guild_ready_timeout=0.1, heartbeat_timeout=heartbeat_timeout_s)
        self._prepare = prepare
        self.errors: list[Exception] = []
        self.heard: list[tuple[str, object]] = []
        self.resumed = 0
        self._something = asyncio.Condition()
        self.tree.error(self._keep_error)

    async def setup_hook(self) -> None:
        """Register what the test brought."""
        if self._prepare is not None:
            await self._prepare(self)

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Nobody else identifies here: no need for the five seconds discord.py waits before it does so again."""

    async def _keep_error(self, _: discord.Interaction, error: discord.app_commands.AppCommandError) -> None:
        self.errors.append(error)

    async def on_command_error(self, context: commands.Context["RealBot"], exception: commands.CommandError, /) -> None:  # type: ignore[override]
        """Prefix commands fail loudly too."""
        self.errors.append(exception)

    async def note(self, name: str, fact: object = None) -> None:
        """Remember that something was heard."""
        async with self._something:
            self.heard.append((name, fact))
            self._something.notify_all()

    async def hear(self, name: str, predicate: Callable[[object], object] = lambda _: True) -> object:
        """Wait until something that fits was heard."""

        def found() -> list[object]:
            return [fact for kind, fact in self.heard if kind == name and predicate(fact)]

        async with asyncio.timeout(PATIENCE_S), self._something:
            await self._something.wait_for(found)
        return found()[0]

    async def on_ready(self) -> None:
        """Connected and filled."""
        await self.note("ready")

    async def on_resumed(self) -> None:
        """A session went on."""
        self.resumed += 1
        await self.note("resumed")

    async def on_message(self, message: discord.Message, /) -> None:
        """Note, then do what a Bot does."""
        await self.note("message", message)
        await self.process_commands(message)

    async def on_message_edit(self, _: discord.Message, after: discord.Message) -> None:
        """Note."""
        await self.note("message_edit", after)

    async def on_raw_message_delete(self, event: discord.RawMessageDeleteEvent) -> None:
        """Note."""
        await self.note("message_delete", event)

    async def on_guild_channel_delete(self, channel: discord.abc.GuildChannel) -> None:
        """Note."""
        await self.note("channel_delete", channel)

    async def on_member_update(self, _: discord.Member, after: discord.Member) -> None:
        """Note."""
        await self.note("member_update", after)

    async def on_member_remove(self, member: discord.Member) -> None:
        """Note."""
        await self.note("member_remove", member)

    async def on_guild_join(self, guild: discord.Guild) -> None:
        """Note."""
        await self.note("guild_join", guild)

    @property
    def home(self) -> discord.Guild:
        """The demo community."""
        return self.guilds[0]

    def text_channel(self, name: str = "general") -> discord.TextChannel:
        """A channel of the demo community."""
        found = discord.utils.get(self.home.text_channels, name=name)
        assert found is not None
        return found


def point_discord_py_at(sandbox: DiscordSandbox) -> None:
    """What app.py does with FULLET_DISCORD_API and FULLET_DISCORD_GATEWAY."""
    discord.http.Route.BASE = sandbox.api_base
    DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(sandbox.gateway_url)


@asynccontextmanager
async def real_bot(
    sandbox: DiscordSandbox,
    prepare: Callable[[RealBot], Awaitable[None]] | None = None,
    *,
    intents: discord.Intents | None = None,
    token: str | None = None,
    heartbeat_timeout_s: float = 60.0,
) -> AsyncIterator[RealBot]:
    """A bot that is online for the length of a `with` block; what it failed at inside fails the test."""
    before = discord.http.Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY
    point_discord_py_at(sandbox)
    bot = RealBot(intents=intents or discord.Intents.all(), prefix="!", prepare=prepare, heartbeat_timeout_s=heartbeat_timeout_s)
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(bot.start(token or sandbox.bot_token))
            ready = group.create_task(bot.hear("ready"))
            try:
                await asyncio.wait([running, ready], return_when=asyncio.FIRST_COMPLETED)
                if running.done():
                    ready.cancel()
                    await running
                yield bot
            finally:
                await bot.close()
    finally:
        discord.http.Route.BASE, DiscordWebSocket.DEFAULT_GATEWAY = before
    assert not bot.errors, bot.errors
