"""Interactions: a person does something, the bot has three seconds to answer and fifteen minutes to follow up.

Source: developer docs, "Receiving and Responding".
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from modules.sandbox.discord_server.announcer import Announcer
from modules.sandbox.discord_server.commands import CommandKind
from modules.sandbox.discord_server.components import Inspector
from modules.sandbox.discord_server.people import permissions_of
from modules.sandbox.discord_server.posting import Origin, Posting, reference_json
from modules.sandbox.discord_server.rendering import Renderer
from modules.sandbox.discord_server.shapes import channel_json, member_json, message_json, user_json
from modules.sandbox.discord_server.wire import ApiError, Code, FormErrors, Json, Upload, invalid
from modules.sandbox.discord_server.world import Channel, Message, MessageFlag, MessageKind, World

#: An unanswered interaction fails after this long.
ANSWER_WITHIN_S = 3.0
#: An interaction's token works for this long.
TOKEN_LIFE_S = 15 * 60
MAX_CHOICES = 25
MAX_CHOICE_LENGTH = 100
#: Interactions remembered at most; the oldest with a dead token go first.
REMEMBERED = 10_000


class InteractionKind(IntEnum):
    """Interaction types."""

    COMMAND = 2
    COMPONENT = 3
    AUTOCOMPLETE = 4
    MODAL = 5


class Answer(IntEnum):
    """Interaction callback types."""

    MESSAGE = 4
    DEFER_MESSAGE = 5
    DEFER_UPDATE = 6
    UPDATE = 7
    CHOICES = 8
    MODAL = 9


_NEW_MESSAGE = frozenset({Answer.MESSAGE, Answer.DEFER_MESSAGE})
_ON_MESSAGE = frozenset({Answer.DEFER_UPDATE, Answer.UPDATE})
_ALLOWED = {
    InteractionKind.COMMAND: _NEW_MESSAGE | {Answer.MODAL},
    InteractionKind.COMPONENT: _NEW_MESSAGE | _ON_MESSAGE | {Answer.MODAL},
    InteractionKind.AUTOCOMPLETE: frozenset({Answer.CHOICES}),
    InteractionKind.MODAL: _NEW_MESSAGE | _ON_MESSAGE,
}


@dataclass(slots=True, kw_only=True)
class Interaction:
    """One interaction and what became of it."""

    id: int
    token: str
    kind: InteractionKind
    user_id: int
    channel_id: int
    guild_id: int | None
    data: Json
    opened_at: float  #: world seconds
    message: Message | None = None  #: the one whose component was used
    source: "Interaction | None" = None  #: for a modal: the interaction that opened it
    is_answered: bool = False
    has_failed: bool = False
    modal: Json | None = None  #: the modal that was the answer
    original_id: int | None = None  #: the message `@original` means
    message_ids: set[int] = field(default_factory=set)
    timer: asyncio.TimerHandle | None = None
    choices: "asyncio.Future[list[Json]] | None" = None


class InteractionDesk:
    """Opens interactions for people and takes the bot's answers."""

    def __init__(self, world: World, posting: Posting, announcer: Announcer, *, answer_within_s: float = ANSWER_WITHIN_S) -> None:
        self._world = world
        self._posting = posting
        self._announcer = announcer
        self.answer_within_s = answer_within_s
        self.upload_limit_bytes = 0  #: told to the bot with every interaction
        self._by_id: dict[int, Interaction] = {}
        self._by_token: dict[str, Interaction] = {}
        self._answers: dict[Answer, Callable[[Interaction, Json, list[Upload]], Message | None]] = {
            Answer.MESSAGE: self._answer_message,
            Answer.DEFER_MESSAGE: self._answer_deferred,
            Answer.DEFER_UPDATE: self._answer_update_later,
            Answer.UPDATE: self._answer_update,
            Answer.CHOICES: self._answer_choices,
            Answer.MODAL: self._answer_modal,
        }

    # -- opening ----------------------------------------------------------------------------------------------------

    def open(
        self,
        kind: InteractionKind,
        user_id: int,
        channel: Channel,
        data: Json,
        *,
        message: Message | None = None,
        source: Interaction | None = None,
    ) -> Interaction:
        """Send INTERACTION_CREATE and start the three seconds."""
        self._forget_old()
        loop = asyncio.get_running_loop()
        interaction = Interaction(
            id=self._world.ids.next(),
            token=secrets.token_urlsafe(48),
            kind=kind,
            user_id=user_id,
            channel_id=channel.id,
            guild_id=channel.guild_id,
            data=data,
            opened_at=self._world.clock.timestamp(),
            message=message,
            source=source,
        )
        if kind is InteractionKind.AUTOCOMPLETE:
            interaction.choices = loop.create_future()
        self._by_id[interaction.id] = interaction
        self._by_token[interaction.token] = interaction
        interaction.timer = loop.call_later(self.answer_within_s, self._fail, interaction)
        self._announcer.interaction_created(self._payload(interaction, channel), guild_id=channel.guild_id)
        return interaction

    def get(self, interaction_id: int) -> Interaction:
        """Raises 10062."""
        if interaction_id not in self._by_id:
            raise ApiError(Code.UNKNOWN_INTERACTION)
        return self._by_id[interaction_id]

    def close(self) -> None:
        """Stop every clock."""
        for interaction in self._by_id.values():
            if interaction.timer:
                interaction.timer.cancel()

    def _payload(self, interaction: Interaction, channel: Channel) -> Json:
        world = self._world
        user = world.users[interaction.user_id]
        may = permissions_of(world, user.id, channel)
        shown = channel_json(world, channel) | {"permissions": str(int(may))}
        shown.pop("recipients", None)
        payload: Json = {
            "id": str(interaction.id),
            "application_id": str(world.application.id),
            "type": int(interaction.kind),
            "data": interaction.data,
            "token": interaction.token,
            "version": 1,
            "channel": shown,
            "channel_id": str(channel.id),
            "locale": user.locale,
            "app_permissions": str(int(permissions_of(world, world.bot.id, channel))),
            "entitlements": [],
            "authorizing_integration_owners": {"0": str(channel.guild_id or 0)},
            "context": 1 if channel.guild_id is None else 0,
            "attachment_size_limit": self.upload_limit_bytes,
        }
        guild = world.guild_of(channel)
        if guild is None:
            payload["user"] = user_json(user)
        else:
            payload |= {
                "guild_id": str(guild.id),
                "guild": {"id": str(guild.id), "locale": guild.preferred_locale, "features": list(guild.features)},
                "guild_locale": guild.preferred_locale,
                "member": member_json(world, guild.members[user.id]) | {"permissions": str(int(may))},
            }
        if interaction.message is not None:
            payload["message"] = message_json(world, interaction.message)
        return payload

    def _fail(self, interaction: Interaction) -> None:
        interaction.has_failed = True
        if interaction.choices is not None:
            interaction.choices.cancel()
            return
        self._announcer.interaction_event(
            interaction.user_id,
            "INTERACTION_FAILED",
            {"interaction_id": str(interaction.id), "channel": str(interaction.channel_id)},
        )

    def _forget_old(self) -> None:
        while len(self._by_id) >= REMEMBERED:
            oldest = self._by_id.pop(next(iter(self._by_id)))
            self._by_token.pop(oldest.token, None)

    # -- the first answer -------------------------------------------------------------------------------------------

    def answer(self, interaction_id: int, token: str, payload: Json, uploads: list[Upload]) -> Json:
        """Take the bot's answer and give the callback response. Raises 10062, 40060, 50035."""
        interaction = self.get(interaction_id)
        if interaction.token != token or interaction.has_failed:
            raise ApiError(Code.UNKNOWN_INTERACTION)
        if interaction.is_answered:
            raise ApiError(Code.ALREADY_ACKNOWLEDGED)
        kind = self._answer_kind(interaction, payload)
        message = self._answers[kind](interaction, payload.get("data") or {}, uploads)
        interaction.is_answered = True
        if interaction.timer:
            interaction.timer.cancel()
        if message is not None:
            interaction.original_id = message.id
            interaction.message_ids.add(message.id)
        self._tell_answered(interaction, kind, message)
        return self._callback_response(interaction, kind, message)

    def _answer_kind(self, interaction: Interaction, payload: Json) -> Answer:
        allowed = _ALLOWED[interaction.kind]
        if interaction.kind is InteractionKind.MODAL and interaction.message is None:
            allowed = _NEW_MESSAGE
        if payload.get("type") not in allowed:
            choices = ", ".join(str(int(a)) for a in sorted(allowed))
            raise invalid(["type"], "BASE_TYPE_CHOICES", f"Value must be one of {{{choices}}}.")
        return Answer(payload["type"])

    def _answer_message(self, interaction: Interaction, data: Json, uploads: list[Upload]) -> Message:
        origin = self._origin(interaction, ephemeral=_asks_ephemeral(data))
        return self._posting.post(self._channel(interaction), self._world.bot.id, data, uploads, origin)

    def _answer_deferred(self, interaction: Interaction, data: Json, _: list[Upload]) -> Message:
        origin = self._origin(interaction, ephemeral=_asks_ephemeral(data))
        return self._posting.post_loading(self._channel(interaction), self._world.bot.id, origin)

    def _answer_update_later(self, interaction: Interaction, _: Json, __: list[Upload]) -> Message | None:
        return interaction.message

    def _answer_update(self, interaction: Interaction, data: Json, uploads: list[Upload]) -> Message | None:
        if interaction.message is None:
            return None
        message = self._world.message(interaction.message.channel_id, interaction.message.id)
        return self._posting.edit(message, data, uploads, by_token=True)

    def _answer_choices(self, interaction: Interaction, data: Json, _: list[Upload]) -> None:
        choices = data.get("choices") or []
        errors = FormErrors()
        if len(choices) > MAX_CHOICES:
            errors.add(["data", "choices"], "BASE_TYPE_MAX_LENGTH", f"Must be {MAX_CHOICES} or fewer in length.")
        for index, choice in enumerate(choices):
            path = ("data", "choices", index)
            errors.check_length((*path, "name"), choice.get("name"), 1, MAX_CHOICE_LENGTH)
            if isinstance(choice.get("value"), str):
                errors.check_length((*path, "value"), choice["value"], 1, MAX_CHOICE_LENGTH)
        errors.raise_if_any()
        if interaction.choices is not None and not interaction.choices.done():
            interaction.choices.set_result(choices)

    def _answer_modal(self, interaction: Interaction, data: Json, _: list[Upload]) -> None:
        errors = FormErrors()
        Inspector(errors).modal(data)
        errors.raise_if_any()
        components = Renderer(self._world.ids, []).components(data["components"])
        interaction.modal = {"title": data["title"], "custom_id": data["custom_id"], "components": components}

    def _tell_answered(self, interaction: Interaction, kind: Answer, message: Message | None) -> None:
        told: Json = {"interaction_id": str(interaction.id), "channel": str(interaction.channel_id)}
        match kind:
            case Answer.CHOICES:
                return
            case Answer.DEFER_MESSAGE if message is not None:
                deferred = told | {"ephemeral": message.has(MessageFlag.EPHEMERAL), "message_id": str(message.id)}
                self._announcer.interaction_event(interaction.user_id, "INTERACTION_DEFERRED", deferred)
                return
            case Answer.MODAL:
                self._announcer.interaction_event(interaction.user_id, "MODAL_OPEN", told | (interaction.modal or {}))
            case _:
                pass
        if message is not None:
            told["message_id"] = str(message.id)
        self._announcer.interaction_event(interaction.user_id, "INTERACTION_DONE", told)

    def _callback_response(self, interaction: Interaction, kind: Answer, message: Message | None) -> Json:
        shape: Json = {
            "id": str(interaction.id),
            "type": int(interaction.kind),
            "channel_id": str(interaction.channel_id),
            "response_message_loading": kind is Answer.DEFER_MESSAGE,
            "response_message_ephemeral": message is not None and message.has(MessageFlag.EPHEMERAL),
        }
        if interaction.guild_id is not None:
            shape["guild_id"] = str(interaction.guild_id)
        response: Json = {"interaction": shape}
        if message is not None:
            shape["response_message_id"] = str(message.id)
            if kind in (Answer.MESSAGE, Answer.UPDATE):
                response["resource"] = {"type": int(kind), "message": message_json(self._world, message)}
        return response

    # -- what follows -----------------------------------------------------------------------------------------------

    def by_token(self, application_id: int, token: str) -> Interaction:
        """The answered interaction of a webhook address. Raises 10015 and, after fifteen minutes, 50027."""
        interaction = self._by_token.get(token)
        if interaction is None or application_id != self._world.application.id or not interaction.is_answered:
            raise ApiError(Code.UNKNOWN_WEBHOOK)
        if self._world.clock.timestamp() - interaction.opened_at > TOKEN_LIFE_S:
            raise ApiError(Code.INVALID_WEBHOOK_TOKEN)
        return interaction

    def follow_up(self, interaction: Interaction, payload: Json, uploads: list[Upload]) -> Message:
        """Post a follow-up. A deferred answer that still loads is filled instead, as private as it was."""
        original = self._original(interaction)
        if original is not None and original.has(MessageFlag.LOADING):
            return self.edit(interaction, original, payload, uploads)
        origin = self._origin(interaction, ephemeral=_asks_ephemeral(payload), original=original)
        message = self._posting.post(self._channel(interaction), self._world.bot.id, payload, uploads, origin)
        interaction.message_ids.add(message.id)
        return message

    def message(self, interaction: Interaction, which: str) -> Message:
        """A message this interaction may touch: `@original` or the id of one of its own. Raises 10008."""
        message_id = interaction.original_id if which == "@original" else int(which) if which.isdecimal() else None
        if message_id is None or message_id not in interaction.message_ids:
            raise ApiError(Code.UNKNOWN_MESSAGE)
        return self._world.message(interaction.channel_id, message_id)

    def edit(self, interaction: Interaction, message: Message, payload: Json, uploads: list[Upload]) -> Message:
        """Edit one of the interaction's messages; filling a deferred answer ends the wait."""
        was_loading = message.has(MessageFlag.LOADING)
        edited = self._posting.edit(message, payload, uploads, by_token=True)
        if was_loading:
            done = {
                "interaction_id": str(interaction.id),
                "channel": str(interaction.channel_id),
                "message_id": str(message.id),
            }
            self._announcer.interaction_event(interaction.user_id, "INTERACTION_DONE", done)
        return edited

    # -- parts ------------------------------------------------------------------------------------------------------

    def _channel(self, interaction: Interaction) -> Channel:
        return self._world.channel(interaction.channel_id)

    def _original(self, interaction: Interaction) -> Message | None:
        return self._world.messages.get(interaction.channel_id, {}).get(interaction.original_id or 0)

    def _origin(self, interaction: Interaction, *, ephemeral: bool, original: Message | None = None) -> Origin:
        answered = original or interaction.message
        kind = MessageKind.DEFAULT if answered is None else MessageKind.REPLY
        if interaction.kind is InteractionKind.COMMAND and original is None:
            is_slash = interaction.data["type"] == CommandKind.CHAT_INPUT
            kind = MessageKind.SLASH_COMMAND if is_slash else MessageKind.CONTEXT_MENU
        return Origin(
            kind=kind,
            reference=None if answered is None else reference_json(self._channel(interaction), answered.id),
            interaction=self._legacy_shape(interaction),
            interaction_metadata=self._metadata(interaction, original),
            ephemeral_to=interaction.user_id if ephemeral else None,
        )

    def _legacy_shape(self, interaction: Interaction) -> Json | None:
        if interaction.kind is not InteractionKind.COMMAND:
            return None
        user = self._world.users[interaction.user_id]
        return {"id": str(interaction.id), "type": 2, "name": interaction.data["name"], "user": user_json(user)}

    def _metadata(self, interaction: Interaction, original: Message | None = None) -> Json:
        shape: Json = {
            "id": str(interaction.id),
            "type": int(interaction.kind),
            "user": user_json(self._world.users[interaction.user_id]),
            "authorizing_integration_owners": {"0": str(interaction.guild_id or 0)},
        }
        if original is not None:
            shape["original_response_message_id"] = str(original.id)
        match interaction.kind:
            case InteractionKind.COMMAND:
                shape |= {"name": interaction.data["name"], "command_type": interaction.data["type"]}
            case InteractionKind.COMPONENT if interaction.message is not None:
                shape["interacted_message_id"] = str(interaction.message.id)
            case InteractionKind.MODAL if interaction.source is not None:
                shape["triggering_interaction_metadata"] = self._metadata(interaction.source)
            case _:
                pass
        return shape


def _asks_ephemeral(data: Json) -> bool:
    return bool(int(data.get("flags") or 0) & MessageFlag.EPHEMERAL)
