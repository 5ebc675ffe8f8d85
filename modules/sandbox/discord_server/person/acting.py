"""What a person does: write, upload, use commands, press, choose, fill in."""

import asyncio

from aiohttp import web

from modules.sandbox.discord_server.commands import CommandKind
from modules.sandbox.discord_server.components import SELECTS, Kind, find
from modules.sandbox.discord_server.interactions import InteractionKind
from modules.sandbox.discord_server.options import chosen_values, focused_option, invocation, submission
from modules.sandbox.discord_server.people import may_see, permissions_of
from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.person.looking import may_use, works_in
from modules.sandbox.discord_server.person.visit import Visit, answer
from modules.sandbox.discord_server.posting import require_posting_rights
from modules.sandbox.discord_server.resolved import Resolved
from modules.sandbox.discord_server.rest.dispatch import read_body
from modules.sandbox.discord_server.shapes import attachment_json, message_event_json
from modules.sandbox.discord_server.wire import ApiError, Code, Json, Upload, invalid, snowflake
from modules.sandbox.discord_server.world import Channel, Command, Message, MessageFlag

#: What a Nitro Basic subscriber may upload: a person's file can be larger than what a bot may send.
PERSON_UPLOAD_LIMIT_BYTES = 50 * 1024 * 1024


async def write(visit: Visit) -> web.StreamResponse:
    """Post a message, perhaps with files and as a reply."""
    context, body = visit.context, visit.body
    channel = visit.channel(body.get("channel"))
    file_ids = [snowflake(i, path="files") for i in body.get("files") or []]
    require_posting_rights(context.world, visit.user.id, channel, with_files=bool(file_ids), is_reply=bool(body.get("reply_to")))
    payload: Json = {"content": body.get("content") or "", "nonce": body.get("nonce")}
    if body.get("reply_to"):
        payload["message_reference"] = {"message_id": body["reply_to"]}
    uploads = [_stored(visit, file_id, index) for index, file_id in enumerate(file_ids)]
    message = context.posting.post(channel, visit.user.id, payload, uploads)
    return answer(message_event_json(context.world, message))


async def forward(visit: Visit) -> web.StreamResponse:
    """Forward a message to another channel."""
    context, body = visit.context, visit.body
    source = _visible(visit, visit.channel(body.get("channel")), body.get("message"))
    target = visit.channel(body.get("to"))
    require_posting_rights(context.world, visit.user.id, target, with_files=False)
    return answer(message_event_json(context.world, context.posting.forward(source, target, visit.user.id)))


def _stored(visit: Visit, file_id: int, index: int) -> Upload:
    files = visit.context.files
    if file_id not in files.contents:
        raise invalid(["files"], "ATTACHMENT_UNKNOWN", "Unknown upload")
    return Upload(field=f"files[{index}]", filename=files.attachments[file_id].filename, data=files.contents[file_id])


async def upload(visit: Visit) -> web.StreamResponse:
    """Store a file for a later message, option or modal."""
    context = visit.context
    _, uploads = await read_body(visit.request)
    if not uploads:
        raise invalid(["file"], "BASE_TYPE_REQUIRED", "This field is required")
    if len(uploads[0].data) > PERSON_UPLOAD_LIMIT_BYTES:
        raise ApiError(Code.TOO_LARGE)
    folder = f"ephemeral-attachments/{context.world.application.id}"
    return answer(attachment_json(context.files.save(uploads[0], folder=folder, ephemeral=True)))


async def delete(visit: Visit) -> web.StreamResponse:
    """Delete an own message (a moderator: any), or dismiss an ephemeral one."""
    context, path = visit.context, visit.request.match_info
    channel = visit.channel(path["channel"])
    message = _visible(visit, channel, path["message"])
    if message.has(MessageFlag.EPHEMERAL):
        message.is_dismissed = True  # only this client forgets it; the bot may still edit it
        context.people.tell(visit.user.id, "MESSAGE_DELETE", {"id": str(message.id), "channel_id": str(channel.id)})
        return web.Response(status=204)
    may_moderate = Permission.MANAGE_MESSAGES in permissions_of(context.world, visit.user.id, channel)
    if message.author_id != visit.user.id and not may_moderate:
        raise ApiError(Code.MISSING_PERMISSIONS)
    context.posting.delete(message)
    return web.Response(status=204)


def _visible(visit: Visit, channel: Channel, message_id: object) -> Message:
    message = visit.context.world.message(channel.id, snowflake(message_id, path="message"))
    if not may_see(visit.context.world, visit.user.id, message):
        raise ApiError(Code.UNKNOWN_MESSAGE)
    return message


async def use_command(visit: Visit) -> web.StreamResponse:
    """Use a slash command or a context menu; the outcome comes over the events socket."""
    channel, command = _command_in_channel(visit)
    resolved = _resolved(visit, channel)
    data = invocation(command, visit.body.get("options") or [], resolved, partial=False)
    if command.kind != CommandKind.CHAT_INPUT:
        data["target_id"] = str(visit.body.get("target_id"))
        _resolve_target(visit, channel, command, resolved)
        data["resolved"] = resolved.shape
    return _opened(visit, InteractionKind.COMMAND, channel, data)


async def autocomplete(visit: Visit) -> web.StreamResponse:
    """Ask for choices while typing; 504 when the bot does not answer in time."""
    channel, command = _command_in_channel(visit)
    options = visit.body.get("options") or []
    if focused_option(options) is None:
        raise invalid(["options"], "OPTION_FOCUSED", "One option must be focused")
    data = invocation(command, options, _resolved(visit, channel), partial=True)
    interaction = visit.context.interactions.open(InteractionKind.AUTOCOMPLETE, visit.user.id, channel, data)
    assert interaction.choices is not None
    await asyncio.wait([interaction.choices])
    if interaction.choices.cancelled():
        return answer({"message": "Loading options failed", "code": 0}, status=504)
    return answer({"choices": interaction.choices.result()})


def _command_in_channel(visit: Visit) -> tuple[Channel, Command]:
    channel = visit.channel(visit.body.get("channel"), Permission.VIEW_CHANNEL | Permission.USE_APPLICATION_COMMANDS)
    world = visit.context.world
    wanted = visit.body.get("command") or {}
    kind = int(wanted.get("type") or CommandKind.CHAT_INPUT)
    candidates = [
        c
        for c in world.commands.values()
        if c.kind == kind and works_in(c, channel) and (str(c.id) == str(wanted.get("id")) or c.name == wanted.get("name"))
    ]
    if not candidates:
        raise ApiError(Code.UNKNOWN_COMMAND)
    command = candidates[0]
    guild = world.guild_of(channel)
    if not may_use(world, visit.user, guild, command) or (guild is not None and world.bot.id not in guild.members):
        raise ApiError(Code.MISSING_ACCESS)
    return channel, command


def _resolved(visit: Visit, channel: Channel) -> Resolved:
    world = visit.context.world
    return Resolved(world, visit.context.files, world.guild_of(channel), visit.user.id)


def _resolve_target(visit: Visit, channel: Channel, command: Command, resolved: Resolved) -> None:
    if command.kind == CommandKind.MESSAGE:
        resolved.message(_visible(visit, channel, visit.body.get("target_id")))
    else:
        resolved.user(snowflake(visit.body.get("target_id"), path="target_id"))


def _opened(
    visit: Visit, kind: InteractionKind, channel: Channel, data: Json, *, message: Message | None = None
) -> web.StreamResponse:
    interaction = visit.context.interactions.open(kind, visit.user.id, channel, data, message=message)
    return answer({"interaction_id": str(interaction.id)})


async def use_component(visit: Visit) -> web.StreamResponse:
    """Press a button or choose in a select."""
    body = visit.body
    channel = visit.channel(body.get("channel"))
    message = _visible(visit, channel, body.get("message"))
    component = find(message.components, str(body.get("custom_id")))
    if component is None or component["type"] not in SELECTS | {Kind.BUTTON}:
        raise invalid(["custom_id"], "COMPONENT_VALIDATION_FAILED", "Component validation failed")
    if component.get("disabled"):
        raise invalid(["custom_id"], "COMPONENT_DISABLED", "The component is disabled")
    data: Json = {"custom_id": component["custom_id"], "component_type": component["type"], "id": component["id"]}
    if component["type"] in SELECTS:
        resolved = _resolved(visit, channel)
        data["values"] = chosen_values(component, [str(v) for v in body.get("values") or []], resolved)
        if resolved.shape:
            data["resolved"] = resolved.shape
    return _opened(visit, InteractionKind.COMPONENT, channel, data, message=message)


async def submit_modal(visit: Visit) -> web.StreamResponse:
    """Send a filled-in modal."""
    body, desk = visit.body, visit.context.interactions
    source = desk.get(snowflake(body.get("interaction_id_of_the_modal"), path="interaction_id_of_the_modal"))
    if source.user_id != visit.user.id or source.modal is None or source.modal["custom_id"] != body.get("custom_id"):
        raise ApiError(Code.UNKNOWN_INTERACTION)
    channel = visit.channel(source.channel_id)
    resolved = _resolved(visit, channel)
    data: Json = {
        "custom_id": source.modal["custom_id"],
        "components": submission(source.modal, body.get("components") or [], resolved),
    }
    if resolved.shape:
        data["resolved"] = resolved.shape
    interaction = desk.open(InteractionKind.MODAL, visit.user.id, channel, data, message=source.message, source=source)
    return answer({"interaction_id": str(interaction.id)})
