"""What a REST handler is given, and the table that says which handler serves which route."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from modules.sandbox.discord_server.context import Context
from modules.sandbox.discord_server.people import permissions_of
from modules.sandbox.discord_server.permissions import NEEDS_TWO_FACTOR, NOTHING, Permission, base_permissions
from modules.sandbox.discord_server.wire import ApiError, Code, Json, Reply, Upload, snowflake
from modules.sandbox.discord_server.world import Channel, Guild


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request of the bot, parsed."""

    context: Context
    params: dict[str, str]
    query: dict[str, str]
    body: object  #: the JSON body, or the JSON half of a form; `{}` when there was none
    uploads: list[Upload] = field(default_factory=list)

    def id(self, name: str) -> int:
        """An id from the path."""
        return snowflake(self.params[name], path=name)

    @property
    def form(self) -> Json:
        """The body as an object. Raises 50035 for anything else."""
        if not isinstance(self.body, dict):
            raise ApiError(Code.INVALID_FORM)
        return self.body

    @property
    def items(self) -> list[Json]:
        """The body as a list of objects. Raises 50035 for anything else."""
        if not isinstance(self.body, list) or not all(isinstance(item, dict) for item in self.body):
            raise ApiError(Code.INVALID_FORM)
        return self.body

    def flag(self, name: str) -> bool:
        """A yes or no from the query."""
        return self.query.get(name, "").lower() in ("1", "true")

    def channel(self, needed: Permission = Permission.VIEW_CHANNEL) -> Channel:
        """The channel of the path, when the bot may do this there. Raises 10003, 50001, 50013."""
        channel = self.context.world.channel(self.id("channel_id"))
        self.require(channel, needed)
        return channel

    def require(self, channel: Channel, needed: Permission) -> None:
        """Raise 50001 when the bot does not see a channel, 50013 when it may not do this there."""
        allowed = permissions_of(self.context.world, self.context.world.bot.id, channel)
        if Permission.VIEW_CHANNEL not in allowed:
            raise ApiError(Code.MISSING_ACCESS)
        if needed not in allowed:
            raise ApiError(Code.MISSING_PERMISSIONS)
        self.require_two_factor(self.context.world.guild_of(channel), needed)

    def require_two_factor(self, guild: Guild | None, needed: Permission) -> None:
        """Raise 60003 where the guild demands two-factor authentication and the bot's owner has none."""
        world = self.context.world
        if guild is None or guild.mfa_level == 0 or not needed & NEEDS_TWO_FACTOR:
            return
        if not world.users[world.application.owner_id].has_two_factor:
            raise ApiError(Code.TWO_FACTOR_REQUIRED)

    def guild(self, needed: Permission = NOTHING) -> Guild:
        """The guild of the path, when the bot is in it and may do this. Raises 10004, 50013."""
        world = self.context.world
        guild = world.guild(self.id("guild_id"))
        if world.bot.id not in guild.members:
            raise ApiError(Code.UNKNOWN_GUILD)
        if needed not in base_permissions(guild, guild.members[world.bot.id], world.clock.now()):
            raise ApiError(Code.MISSING_PERMISSIONS)
        self.require_two_factor(guild, needed)
        return guild


Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One entry of the table."""

    method: str
    template: str
    handler: Handler
    needs_token: bool  #: whether the bot's own token must be sent; addresses with an interaction token need none


class RouteTable:
    """Collects handlers by decorator."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def add(self, method: str, template: str, *, needs_token: bool = True) -> Callable[[Handler], Handler]:
        """Register the decorated handler."""

        def register(handler: Handler) -> Handler:
            self.routes.append(Route(method=method, template=template, handler=handler, needs_token=needs_token))
            return handler

        return register

    def get(self, template: str) -> Callable[[Handler], Handler]:
        """Register for GET."""
        return self.add("GET", template)

    def post(self, template: str) -> Callable[[Handler], Handler]:
        """Register for POST."""
        return self.add("POST", template)

    def put(self, template: str) -> Callable[[Handler], Handler]:
        """Register for PUT."""
        return self.add("PUT", template)

    def patch(self, template: str) -> Callable[[Handler], Handler]:
        """Register for PATCH."""
        return self.add("PATCH", template)

    def delete(self, template: str) -> Callable[[Handler], Handler]:
        """Register for DELETE."""
        return self.add("DELETE", template)
