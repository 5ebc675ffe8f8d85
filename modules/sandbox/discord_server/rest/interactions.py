"""Routes that answer interactions. Their address carries a token of its own."""

from modules.sandbox.discord_server.interactions import Interaction
from modules.sandbox.discord_server.rest.routing import Call, RouteTable
from modules.sandbox.discord_server.shapes import message_json
from modules.sandbox.discord_server.wire import Reply

table = RouteTable()

WEBHOOK = "/webhooks/{webhook_id}/{webhook_token}"
MESSAGE = WEBHOOK + "/messages/{message_id}"


def _interaction(call: Call) -> Interaction:
    return call.context.interactions.by_token(call.id("webhook_id"), call.params["webhook_token"])


@table.add("POST", "/interactions/{interaction_id}/{interaction_token}/callback", needs_token=False)
async def answer(call: Call) -> Reply:
    """The first answer, due within three seconds."""
    desk = call.context.interactions
    response = desk.answer(call.id("interaction_id"), call.params["interaction_token"], call.form, call.uploads)
    return Reply(response) if call.flag("with_response") else Reply(status=204)


@table.add("POST", WEBHOOK, needs_token=False)
async def follow_up(call: Call) -> Reply:
    """A further message; Discord answers with it even without `wait`."""
    message = call.context.interactions.follow_up(_interaction(call), call.form, call.uploads)
    return Reply(message_json(call.context.world, message))


@table.add("GET", MESSAGE, needs_token=False)
async def read(call: Call) -> Reply:
    """One of the interaction's messages."""
    message = call.context.interactions.message(_interaction(call), call.params["message_id"])
    return Reply(message_json(call.context.world, message))


@table.add("PATCH", MESSAGE, needs_token=False)
async def edit(call: Call) -> Reply:
    """Change one of the interaction's messages."""
    interaction = _interaction(call)
    message = call.context.interactions.message(interaction, call.params["message_id"])
    edited = call.context.interactions.edit(interaction, message, call.form, call.uploads)
    return Reply(message_json(call.context.world, edited))


@table.add("DELETE", MESSAGE, needs_token=False)
async def delete(call: Call) -> Reply:
    """Remove one of the interaction's messages."""
    message = call.context.interactions.message(_interaction(call), call.params["message_id"])
    call.context.posting.delete(message)
    return Reply(status=204)
