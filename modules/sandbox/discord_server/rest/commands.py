"""Routes about application commands, global and of one guild."""

from modules.sandbox.discord_server.rest.routing import Call, RouteTable
from modules.sandbox.discord_server.shapes import command_json
from modules.sandbox.discord_server.wire import ApiError, Code, Reply
from modules.sandbox.discord_server.world import Command

table = RouteTable()

GLOBAL = "/applications/{application_id}/commands"
IN_GUILD = "/applications/{application_id}/guilds/{guild_id}/commands"


def _scope(call: Call) -> int | None:
    if call.id("application_id") != call.context.world.application.id:
        raise ApiError(Code.MISSING_ACCESS)
    return call.guild().id if "guild_id" in call.params else None


def _command(call: Call) -> Command:
    return call.context.commands.get(_scope(call), call.id("command_id"))


@table.get(GLOBAL)
@table.get(IN_GUILD)
async def all_commands(call: Call) -> Reply:
    """The commands of a scope."""
    world = call.context.world
    shapes = [command_json(world, command) for command in world.commands_for(_scope(call))]
    if not call.flag("with_localizations"):
        for shape in shapes:
            shape.pop("name_localizations", None)
            shape.pop("description_localizations", None)
    return Reply(shapes)


@table.post(GLOBAL)
@table.post(IN_GUILD)
async def upsert(call: Call) -> Reply:
    """Register one command."""
    command, is_new = call.context.commands.upsert(_scope(call), call.form)
    return Reply(command_json(call.context.world, command), status=201 if is_new else 200)


@table.put(GLOBAL)
@table.put(IN_GUILD)
async def overwrite(call: Call) -> Reply:
    """Replace all commands of a scope."""
    commands = call.context.commands.overwrite(_scope(call), call.items)
    return Reply([command_json(call.context.world, command) for command in commands])


@table.get(GLOBAL + "/{command_id}")
@table.get(IN_GUILD + "/{command_id}")
async def one(call: Call) -> Reply:
    """One command."""
    return Reply(command_json(call.context.world, _command(call)))


@table.patch(GLOBAL + "/{command_id}")
@table.patch(IN_GUILD + "/{command_id}")
async def edit(call: Call) -> Reply:
    """Change one command."""
    return Reply(command_json(call.context.world, call.context.commands.edit(_command(call), call.form)))


@table.delete(GLOBAL + "/{command_id}")
@table.delete(IN_GUILD + "/{command_id}")
async def delete(call: Call) -> Reply:
    """Remove one command."""
    call.context.commands.delete(_command(call))
    return Reply(status=204)
