"""The stand-in as a whole: both faces on one loopback port."""

import asyncio
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from modules.sandbox.discord_server.announcer import Announcer
from modules.sandbox.discord_server.cdn import add_cdn_routes, add_page_routes
from modules.sandbox.discord_server.commands import CommandRegistry
from modules.sandbox.discord_server.context import Context
from modules.sandbox.discord_server.controls import add_control_routes
from modules.sandbox.discord_server.demo import demo_world
from modules.sandbox.discord_server.faults import Faults
from modules.sandbox.discord_server.files import UPLOAD_LIMIT_BYTES, FileStore
from modules.sandbox.discord_server.gateway import HEARTBEAT_INTERVAL_MS, Gateway
from modules.sandbox.discord_server.interactions import ANSWER_WITHIN_S, InteractionDesk
from modules.sandbox.discord_server.journal import Journal
from modules.sandbox.discord_server.people import People
from modules.sandbox.discord_server.persistence import StateFile
from modules.sandbox.discord_server.person.routes import add_person_routes
from modules.sandbox.discord_server.posting import Posting
from modules.sandbox.discord_server.ratelimits import RateLimits
from modules.sandbox.discord_server.rest import channels, commands, guilds, interactions, messages, users
from modules.sandbox.discord_server.rest.dispatch import API, endpoint, unknown_route
from modules.sandbox.discord_server.spec import Spec
from modules.sandbox.discord_server.world import World

#: A request may carry ten files and some text. Source: developer docs, "Uploading Files" (25 MiB a request, generously).
MAX_REQUEST_BYTES = 110 * 1024 * 1024
REST_TABLES = (users.table, guilds.table, channels.table, messages.table, commands.table, interactions.table)


class DiscordSandbox:
    """A Discord on loopback: `async with DiscordSandbox() as sandbox: ...`.

    Parameters: `world` what exists at the start (the demo community by default), `rate_limits` whether Discord's limits are
    enforced, `openapi` where Discord's description lies (see spec.py), `answer_within_s` the time a bot has for its first answer,
    `port` 0 for any free one, `state` a file that keeps the world between runs.
    """

    def __init__(
        self,
        *,
        world: World | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        rate_limits: bool = False,
        openapi: Path | str | None = None,
        answer_within_s: float = ANSWER_WITHIN_S,
        heartbeat_interval_ms: int = HEARTBEAT_INTERVAL_MS,
        upload_limit_bytes: int = UPLOAD_LIMIT_BYTES,
        state: Path | None = None,
    ) -> None:
        self.world = world or demo_world()
        self._host, self._port = host, port
        self.context = _build(
            self.world,
            rate_limits=rate_limits,
            spec=Spec.find(openapi),
            answer_within_s=answer_within_s,
            heartbeat_interval_ms=heartbeat_interval_ms,
            upload_limit_bytes=upload_limit_bytes,
        )
        self._state = StateFile(state, self.world, self.context.files) if state else None
        self._runner: web.AppRunner | None = None

    # -- where it is ------------------------------------------------------------------------------------------------

    @property
    def page_url(self) -> str:
        """The page for people; the root of everything else."""
        return f"http://{self._host}:{self._port}"

    @property
    def api_base(self) -> str:
        """For `discord.http.Route.BASE`."""
        return self.page_url + API

    @property
    def gateway_url(self) -> str:
        """For `DiscordWebSocket.DEFAULT_GATEWAY`."""
        return f"ws://{self._host}:{self._port}/gateway"

    @property
    def bot_token(self) -> str:
        """The bot's token."""
        return self.world.application.token

    # -- life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen; a saved world is back before the first request. Raises what `StateFile.load` raises."""
        listening = socket.create_server((self._host, self._port))
        self._port = listening.getsockname()[1]
        self.context.gateway.url = self.gateway_url
        self.context.files.base_url = self.page_url
        try:
            if self._state is not None:
                await asyncio.to_thread(self._state.load)
        except BaseException:
            listening.close()
            raise
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.SockSite(self._runner, listening).start()

    async def stop(self) -> None:
        """Hang up on everybody and stop listening."""
        self.context.interactions.close()
        self.context.people.close()
        await self.context.gateway.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            self.save()

    def save(self) -> None:
        """Write the world to its file, when it has one."""
        if self._state is not None:
            self._state.save()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_get("/gateway", self.context.gateway.serve)
        app.router.add_get("/gateway/", self.context.gateway.serve)
        for table in REST_TABLES:
            for route in table.routes:
                app.router.add_route(route.method, API + route.template, endpoint(self.context, route))
        app.router.add_route("*", API + "/{rest:.*}", unknown_route(self.context))
        add_person_routes(app, self.context)
        add_control_routes(app, self.context)
        add_cdn_routes(app, self.context.files)
        add_page_routes(app)
        return app


def _build(
    world: World,
    *,
    rate_limits: bool,
    spec: Spec,
    answer_within_s: float,
    heartbeat_interval_ms: int,
    upload_limit_bytes: int,
) -> Context:
    files = FileStore(world, upload_limit_bytes=upload_limit_bytes)
    gateway = Gateway(world, heartbeat_interval_ms=heartbeat_interval_ms)
    people = People(world)
    announcer = Announcer(world, gateway, people)
    posting = Posting(world, files, announcer)
    desk = InteractionDesk(world, posting, announcer, answer_within_s=answer_within_s)
    desk.upload_limit_bytes = upload_limit_bytes
    registry = CommandRegistry(world)
    registry.on_change = announcer.commands_changed
    return Context(
        world=world,
        files=files,
        gateway=gateway,
        people=people,
        announcer=announcer,
        posting=posting,
        commands=registry,
        interactions=desk,
        journal=Journal(spec),
        faults=Faults(),
        limits=RateLimits(enforced=rate_limits),
    )
