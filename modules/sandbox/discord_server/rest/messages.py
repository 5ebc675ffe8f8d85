"""Routes about the messages of a channel."""

from modules.sandbox.discord_server.clock import iso, snowflake_time
from modules.sandbox.discord_server.people import permissions_of
from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.posting import require_posting_rights
from modules.sandbox.discord_server.rest.routing import Call, RouteTable
from modules.sandbox.discord_server.shapes import has_message_content, message_json, user_json, without_content
from modules.sandbox.discord_server.wire import ApiError, Code, Json, Reply, invalid, snowflake
from modules.sandbox.discord_server.world import Channel, Message, MessageFlag

table = RouteTable()

MESSAGES = "/channels/{channel_id}/messages"
MESSAGE = MESSAGES + "/{message_id}"
REACTIONS = MESSAGE + "/reactions"
PIN = MESSAGES + "/pins/{message_id}"
MAX_PAGE = 100
BULK_DELETE_DAYS = 14
#: Source: developer docs, "Opcodes and Status Codes", 30003.
MAX_PINS = 250


def _shape(call: Call, message: Message) -> Json:
    shape = message_json(call.context.world, message)
    return shape if has_message_content(call.context.world) else without_content(call.context.world, message, shape)


def _message(call: Call, channel: Channel) -> Message:
    message = call.context.world.message(channel.id, call.id("message_id"))
    if message.has(MessageFlag.EPHEMERAL):
        raise ApiError(Code.UNKNOWN_MESSAGE)
    return message


@table.post(MESSAGES)
async def create(call: Call) -> Reply:
    """Post a message."""
    context, form = call.context, call.form
    channel = context.world.channel(call.id("channel_id"))
    bot_id = context.world.bot.id
    is_reply = bool(form.get("message_reference"))
    require_posting_rights(context.world, bot_id, channel, with_files=bool(call.uploads), is_reply=is_reply)
    if form.get("embeds"):
        call.require(channel, Permission.EMBED_LINKS)
    message = context.posting.post(channel, bot_id, form, call.uploads)
    return Reply(message_json(context.world, message))


@table.get(MESSAGES)
async def history(call: Call) -> Reply:
    """A page of messages, newest first; empty without the right to read the past."""
    channel = call.channel()
    asked = call.query.get("limit", "50")
    limit = int(asked) if asked.isdecimal() else 0
    if not 1 <= limit <= MAX_PAGE:
        raise invalid(["limit"], "NUMBER_TYPE_MAX", f"int value should be between 1 and {MAX_PAGE}.")
    if Permission.READ_MESSAGE_HISTORY not in permissions_of(call.context.world, call.context.world.bot.id, channel):
        return Reply([])
    visible = [m for m in call.context.world.messages_in(channel.id) if not m.has(MessageFlag.EPHEMERAL)]
    return Reply([_shape(call, message) for message in _page(visible, call.query, limit)])


def _page(messages: list[Message], query: dict[str, str], limit: int) -> list[Message]:
    if "around" in query:
        middle = snowflake(query["around"], path="around")
        older = [m for m in messages if m.id < middle][-(limit // 2) :]
        newer = [m for m in messages if m.id >= middle][: limit - limit // 2]
        return list(reversed(older + newer))
    if "after" in query:
        after = snowflake(query["after"], path="after")
        return list(reversed([m for m in messages if m.id > after][:limit]))
    if "before" in query:
        before = snowflake(query["before"], path="before")
        messages = [m for m in messages if m.id < before]
    return list(reversed(messages[-limit:]))


@table.get(MESSAGES + "/pins")
async def pins(call: Call) -> Reply:
    """The pinned messages."""
    channel = call.channel()
    pinned = [m for m in call.context.world.messages_in(channel.id) if m.is_pinned]
    items = [{"pinned_at": iso(channel.last_pin_at), "message": _shape(call, message)} for message in reversed(pinned)]
    return Reply({"items": items, "has_more": False})


@table.put(PIN)
async def pin(call: Call) -> Reply:
    """Pin a message."""
    channel = call.channel(Permission.PIN_MESSAGES)
    message = _message(call, channel)
    if sum(1 for m in call.context.world.messages_in(channel.id) if m.is_pinned) >= MAX_PINS:
        raise ApiError(Code.MAX_PINS)
    message.is_pinned = True
    channel.last_pin_at = call.context.world.clock.now()
    call.context.announcer.message_updated(message)
    call.context.announcer.pins_changed(channel)
    return Reply(status=204)


@table.delete(PIN)
async def unpin(call: Call) -> Reply:
    """Unpin a message."""
    channel = call.channel(Permission.PIN_MESSAGES)
    message = _message(call, channel)
    message.is_pinned = False
    call.context.announcer.message_updated(message)
    call.context.announcer.pins_changed(channel)
    return Reply(status=204)


@table.post(MESSAGES + "/bulk-delete")
async def bulk_delete(call: Call) -> Reply:
    """Remove 2 to 100 messages of the last two weeks."""
    channel = call.channel(Permission.MANAGE_MESSAGES)
    ids = [snowflake(i, path="messages") for i in call.form.get("messages") or []]
    if not 2 <= len(ids) <= MAX_PAGE:
        raise ApiError(Code.BULK_DELETE_COUNT)
    now = call.context.world.clock.now()
    if any((now - snowflake_time(i)).days >= BULK_DELETE_DAYS for i in ids):
        raise ApiError(Code.BULK_DELETE_TOO_OLD)
    call.context.posting.delete_many(channel, ids)
    return Reply(status=204)


@table.get(MESSAGE)
async def read(call: Call) -> Reply:
    """One message."""
    channel = call.channel()
    if Permission.READ_MESSAGE_HISTORY not in permissions_of(call.context.world, call.context.world.bot.id, channel):
        raise ApiError(Code.MISSING_ACCESS)
    return Reply(_shape(call, _message(call, channel)))


@table.patch(MESSAGE)
async def edit(call: Call) -> Reply:
    """Change one of the bot's own messages."""
    channel = call.channel()
    message = _message(call, channel)
    if message.author_id != call.context.world.bot.id:
        raise ApiError(Code.NOT_THE_AUTHOR)
    if call.uploads:
        call.require(channel, Permission.ATTACH_FILES)
    return Reply(message_json(call.context.world, call.context.posting.edit(message, call.form, call.uploads)))


@table.delete(MESSAGE)
async def delete(call: Call) -> Reply:
    """Remove a message; somebody else's only with the right to manage messages."""
    channel = call.channel()
    message = _message(call, channel)
    if message.author_id != call.context.world.bot.id:
        call.require(channel, Permission.MANAGE_MESSAGES)
    call.context.posting.delete(message)
    return Reply(status=204)


@table.post("/channels/{channel_id}/typing")
async def typing(call: Call) -> Reply:
    """Show "is typing..." for ten seconds."""
    channel = call.channel(Permission.SEND_MESSAGES)
    call.context.announcer.typing(channel, call.context.world.bot.id)
    return Reply(status=204)


@table.put(REACTIONS + "/{emoji}/@me")
async def react(call: Call) -> Reply:
    """Add a reaction."""
    channel = call.channel(Permission.READ_MESSAGE_HISTORY | Permission.ADD_REACTIONS)
    message = _message(call, channel)
    users = message.reactions.setdefault(call.params["emoji"], [])
    if (bot_id := call.context.world.bot.id) not in users:
        users.append(bot_id)
        call.context.announcer.reaction("MESSAGE_REACTION_ADD", message, bot_id, call.params["emoji"])
    return Reply(status=204)


async def _take_back(call: Call, user_id: int) -> Reply:
    channel = call.channel()
    if user_id != call.context.world.bot.id:
        call.require(channel, Permission.MANAGE_MESSAGES)
    message = _message(call, channel)
    users = message.reactions.get(call.params["emoji"], [])
    if user_id in users:
        users.remove(user_id)
        if not users:
            del message.reactions[call.params["emoji"]]
        call.context.announcer.reaction("MESSAGE_REACTION_REMOVE", message, user_id, call.params["emoji"])
    return Reply(status=204)


@table.delete(REACTIONS + "/{emoji}/@me")
async def unreact(call: Call) -> Reply:
    """Take the bot's reaction back."""
    return await _take_back(call, call.context.world.bot.id)


@table.delete(REACTIONS + "/{emoji}/{user_id}")
async def unreact_other(call: Call) -> Reply:
    """Remove somebody's reaction."""
    return await _take_back(call, call.id("user_id"))


@table.get(REACTIONS + "/{emoji}")
async def reactors(call: Call) -> Reply:
    """Who reacted."""
    message = _message(call, call.channel())
    return Reply([user_json(call.context.world.users[u]) for u in message.reactions.get(call.params["emoji"], [])])


@table.delete(REACTIONS)
async def clear_reactions(call: Call) -> Reply:
    """Remove all reactions."""
    message = _message(call, call.channel(Permission.MANAGE_MESSAGES))
    message.reactions.clear()
    call.context.announcer.reaction("MESSAGE_REACTION_REMOVE_ALL", message, call.context.world.bot.id, None)
    return Reply(status=204)
