"""Messages come, change and go: the one way for bot, people and interactions alike."""

from dataclasses import dataclass

from modules.sandbox.discord_server.announcer import Announcer
from modules.sandbox.discord_server.clock import snowflake_time
from modules.sandbox.discord_server.drafts import Draft, Drafting, mentions_in
from modules.sandbox.discord_server.files import FileStore
from modules.sandbox.discord_server.people import permissions_of
from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.shapes import snapshot_json
from modules.sandbox.discord_server.wire import ApiError, Code, Json, Upload
from modules.sandbox.discord_server.world import Channel, ChannelKind, Message, MessageFlag, MessageKind, World

#: "the past few minutes", says Discord of how long it remembers a nonce.
NONCE_LIFE_S = 5 * 60
#: A message older than this can be edited only so often ...
OLD_MESSAGE_S = 60 * 60
#: ... Discord names the rule (429 with 30046) but not the number: three edits in six seconds a channel.
#: Source: userdoccers, issue 551.
OLD_MESSAGE_EDITS = 3
OLD_MESSAGE_WINDOW_S = 6.0
#: The kind of message reference that a forward has. Source: developer docs, "Message Reference Types".
FORWARD = 1
#: Flags a sender may set.
SENDER_FLAGS = MessageFlag.SUPPRESS_EMBEDS | MessageFlag.SUPPRESS_NOTIFICATIONS | MessageFlag.COMPONENTS_V2


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Why a message exists, beyond "somebody wrote it"."""

    kind: MessageKind = MessageKind.DEFAULT
    reference: Json | None = None
    interaction: Json | None = None
    interaction_metadata: Json | None = None
    ephemeral_to: int | None = None
    is_loading: bool = False


class Posting:
    """Creates, edits and deletes messages and says so to everybody concerned."""

    def __init__(self, world: World, files: FileStore, announcer: Announcer) -> None:
        self._world = world
        self._announcer = announcer
        self._drafting = Drafting(world, files)
        self._nonces: dict[tuple[int, int, str], tuple[int, float]] = {}
        self._old_edits: dict[int, list[float]] = {}

    def post(
        self, channel: Channel, author_id: int, payload: Json, uploads: list[Upload], origin: Origin | None = None
    ) -> Message:
        """Post what `payload` says. With `enforce_nonce` a repeat within minutes gives back the first message."""
        origin = origin or self._reply_origin(channel, payload)
        if (twin := self._twin(channel, author_id, payload)) is not None:
            return twin
        is_ephemeral = origin.ephemeral_to is not None
        draft = self._drafting.new(payload, uploads, channel_id=channel.id, ephemeral=is_ephemeral)
        message = Message(
            id=self._world.ids.next(),
            channel_id=channel.id,
            author_id=author_id,
            kind=origin.kind,
            created_at=self._world.clock.now(),
            nonce=payload.get("nonce"),
            is_tts=bool(payload.get("tts")),
            reference=origin.reference,
            interaction=origin.interaction,
            interaction_metadata=origin.interaction_metadata,
            ephemeral_to=origin.ephemeral_to,
        )
        self._put(message, draft)
        message.flags = int(draft.flags & SENDER_FLAGS | (MessageFlag.EPHEMERAL if is_ephemeral else 0))
        self._address(message, draft, payload.get("allowed_mentions"))
        self._keep(channel, message)
        self._announcer.message_created(message)
        return message

    def post_loading(self, channel: Channel, author_id: int, origin: Origin) -> Message:
        """Post the "is thinking..." message of a deferred answer."""
        message = Message(
            id=self._world.ids.next(),
            channel_id=channel.id,
            author_id=author_id,
            kind=origin.kind,
            created_at=self._world.clock.now(),
            flags=int(MessageFlag.LOADING | (MessageFlag.EPHEMERAL if origin.ephemeral_to is not None else 0)),
            reference=origin.reference,
            interaction=origin.interaction,
            interaction_metadata=origin.interaction_metadata,
            ephemeral_to=origin.ephemeral_to,
        )
        self._keep(channel, message)
        self._announcer.message_created(message)
        return message

    def edit(self, message: Message, payload: Json, uploads: list[Upload], *, by_token: bool = False) -> Message:
        """Replace what `payload` names. Filling a loading message is its first appearance: it may notify, and is not "edited"."""
        was_loading = message.has(MessageFlag.LOADING)
        if not was_loading and not by_token:
            self._count_old_edit(message)
        draft = self._drafting.edit(message, payload, uploads)
        self._put(message, draft)
        message.flags = int(draft.flags | (message.flags & MessageFlag.EPHEMERAL))
        self._address(message, draft, payload.get("allowed_mentions"))
        if not was_loading:
            message.edited_at = self._world.clock.now()
        self._announcer.message_updated(message)
        if was_loading:
            self._announcer.notify(message)
        return message

    def delete(self, message: Message) -> None:
        """Remove one message."""
        self._world.messages[message.channel_id].pop(message.id, None)
        self._announcer.message_deleted(message)

    def delete_many(self, channel: Channel, message_ids: list[int]) -> None:
        """Remove several; unknown ids are passed over, as Discord does."""
        here = self._world.messages.get(channel.id, {})
        gone = [here.pop(message_id) for message_id in message_ids if message_id in here]
        self._announcer.messages_deleted(channel, gone)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _reply_origin(self, channel: Channel, payload: Json) -> Origin:
        asked = payload.get("message_reference")
        if not asked or not asked.get("message_id"):
            return Origin()
        message_id = int(asked["message_id"])
        if message_id not in self._world.messages.get(channel.id, {}):
            if asked.get("fail_if_not_exists", True):
                raise ApiError(Code.INVALID_FORM, errors=_unknown_reference())
            return Origin()
        return Origin(kind=MessageKind.REPLY, reference=reference_json(channel, message_id))

    def _twin(self, channel: Channel, author_id: int, payload: Json) -> Message | None:
        """The first message of this nonce. Raises 10008 when it was deleted meanwhile: that is intended.

        Source: discord-api-docs issue 6647.
        """
        nonce = payload.get("nonce")
        if nonce is None or not payload.get("enforce_nonce"):
            return None
        known = self._nonces.get((channel.id, author_id, str(nonce)))
        if known is None or self._world.clock.timestamp() - known[1] > NONCE_LIFE_S:
            return None
        return self._world.message(channel.id, known[0])

    def forward(self, source: Message, channel: Channel, author_id: int) -> Message:
        """Post a forward: an empty message that carries a snapshot of another one."""
        message = Message(
            id=self._world.ids.next(),
            channel_id=channel.id,
            author_id=author_id,
            kind=MessageKind.DEFAULT,
            created_at=self._world.clock.now(),
            reference=reference_json(self._world.channel(source.channel_id), source.id) | {"type": FORWARD},
            snapshots=[snapshot_json(source)],
        )
        self._keep(channel, message)
        self._announcer.message_created(message)
        return message

    def _put(self, message: Message, draft: Draft) -> None:
        message.content = draft.content
        message.embeds = draft.embeds
        message.components = draft.components
        message.attachments = draft.attachments

    def _address(self, message: Message, draft: Draft, allowed: Json | None) -> None:
        channel = self._world.channel(message.channel_id)
        replied_to = None
        if message.kind is MessageKind.REPLY and message.reference and message.interaction_metadata is None:
            target = self._world.messages.get(channel.id, {}).get(int(message.reference["message_id"]))
            replied_to = target.author_id if target else None
        author_may = permissions_of(self._world, message.author_id, channel)
        found = mentions_in(draft, self._world.guild_of(channel), allowed, author_may, replied_to=replied_to)
        message.mention_ids = [user_id for user_id in found.user_ids if user_id in self._world.users]
        message.mention_role_ids = found.role_ids
        message.mentions_everyone = found.everyone

    def _keep(self, channel: Channel, message: Message) -> None:
        self._world.messages.setdefault(channel.id, {})[message.id] = message
        if not message.has(MessageFlag.EPHEMERAL):
            channel.last_message_id = message.id
        if message.nonce is not None:
            key = (channel.id, message.author_id, str(message.nonce))
            self._nonces[key] = (message.id, self._world.clock.timestamp())

    def _count_old_edit(self, message: Message) -> None:
        now = self._world.clock.timestamp()
        if now - snowflake_time(message.id).timestamp() <= OLD_MESSAGE_S:
            return
        recent = [at for at in self._old_edits.get(message.channel_id, []) if now - at < OLD_MESSAGE_WINDOW_S]
        if len(recent) >= OLD_MESSAGE_EDITS:
            wait_s = round(OLD_MESSAGE_WINDOW_S - (now - recent[0]), 3)
            raise ApiError(Code.MAX_OLD_EDITS, extra={"retry_after": wait_s, "global": False})
        self._old_edits[message.channel_id] = [*recent, now]


def reference_json(channel: Channel, message_id: int) -> Json:
    """A message reference as messages carry it."""
    shape: Json = {"type": 0, "channel_id": str(channel.id), "message_id": str(message_id)}
    return shape if channel.guild_id is None else shape | {"guild_id": str(channel.guild_id)}


def _unknown_reference() -> Json:
    return {"message_reference": {"_errors": [{"code": "REPLIES_UNKNOWN_MESSAGE", "message": "Unknown message"}]}}


def require_posting_rights(world: World, user_id: int, channel: Channel, *, with_files: bool, is_reply: bool = False) -> None:
    """Raise what Discord raises when somebody may not post here."""
    if channel.kind is ChannelKind.CATEGORY:
        raise ApiError(Code.WRONG_CHANNEL_TYPE)
    if channel.kind is ChannelKind.DM and user_id == world.bot.id and not _takes_private(world, channel):
        raise ApiError(Code.CANNOT_DM)
    allowed = permissions_of(world, user_id, channel)
    if Permission.VIEW_CHANNEL not in allowed:
        raise ApiError(Code.MISSING_ACCESS)
    needed = Permission.SEND_MESSAGES_IN_THREADS if channel.is_thread else Permission.SEND_MESSAGES
    if with_files:
        needed |= Permission.ATTACH_FILES
    if is_reply:
        needed |= Permission.READ_MESSAGE_HISTORY
    if needed not in allowed:
        raise ApiError(Code.MISSING_PERMISSIONS)


def _takes_private(world: World, channel: Channel) -> bool:
    """Whether the other side of a private conversation takes messages of the bot: both in one guild, and not switched off."""
    (recipient_id,) = channel.recipient_ids
    shares_guild = any({recipient_id, world.bot.id} <= guild.members.keys() for guild in world.guilds.values())
    return shares_guild and world.users[recipient_id].accepts_private
