"""One request of a person's client: who asks, and for what."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from modules.sandbox.discord_server.context import Context
from modules.sandbox.discord_server.people import permissions_of
from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.wire import ApiError, Code, Json, encode, snowflake
from modules.sandbox.discord_server.world import Channel, Guild, User

#: How the API writes "my conversation with the bot" where a channel id is asked for.
DM = "dm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A parsed request."""

    context: Context
    request: web.Request
    user: User
    body: Json

    def channel(self, reference: object, needed: Permission = Permission.VIEW_CHANNEL) -> Channel:
        """A channel this person sees and may do this in. Raises 10003, 50001, 50013."""
        world = self.context.world
        if reference == DM:
            return world.dm_with(self.user.id)
        channel = world.channel(snowflake(reference, path="channel"))
        allowed = permissions_of(world, self.user.id, channel)
        if Permission.VIEW_CHANNEL not in allowed:
            raise ApiError(Code.MISSING_ACCESS)
        if needed not in allowed:
            raise ApiError(Code.MISSING_PERMISSIONS)
        return channel

    def guild(self) -> Guild | None:
        """The guild this client shows: the asked-for one, else the first this person is in."""
        guilds = self.context.world.guilds
        if wanted := self.request.query.get("guild") or self.body.get("guild"):
            return self.context.world.guild(snowflake(wanted, path="guild"))
        return next((guild for guild in guilds.values() if self.user.id in guild.members), None)

    def own_guild(self) -> Guild:
        """The same, for acts that need one. Raises 10004."""
        guild = self.guild()
        if guild is None:
            raise ApiError(Code.UNKNOWN_GUILD)
        return guild


Act = Callable[[Visit], Awaitable[web.StreamResponse]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answer(body: object, *, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(status=status, body=encode(body), content_type="application/json")


def visit(context: Context, act: Act, *, reads_json: bool = True) -> Handler:
    """The aiohttp handler for an act; refusals become `{message, code}`."""

    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            user = context.world.user(snowflake(request.query.get("as", ""), path="as"))
            body = await _body(request) if reads_json else {}
            return await act(Visit(context=context, request=request, user=user, body=body))
        except ApiError as error:
            return answer(error.body(), status=error.status)
        except (KeyError, ValueError) as error:  # a number or field that is none
            return answer({"message": f"{type(error).__name__}: {error}", "code": 50035}, status=400)

    return serve


async def _body(request: web.Request) -> Json:
    raw = await request.read()
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError:
        raise ApiError(Code.BAD_JSON) from None
    if not isinstance(body, dict):
        raise ApiError(Code.INVALID_FORM)
    return body
