"""What somebody wants to post, checked: content, embeds, components, files, mentions."""

import re
from dataclasses import dataclass, field

from modules.sandbox.discord_server.components import Inspector, texts
from modules.sandbox.discord_server.files import FileStore, safe_filename
from modules.sandbox.discord_server.permissions import Permission
from modules.sandbox.discord_server.rendering import Renderer
from modules.sandbox.discord_server.wire import ApiError, Code, FormErrors, Json, Upload
from modules.sandbox.discord_server.world import Attachment, Guild, Message, MessageFlag, World

MAX_CONTENT = 2_000
MAX_EMBEDS = 10
MAX_EMBED_TEXT = 6_000
MAX_FILES = 10
#: `(path inside the embed, longest)`. Source: developer docs, "Embed Limits".
EMBED_LIMITS = ((("title",), 256), (("description",), 4_096), (("footer", "text"), 2_048), (("author", "name"), 256))
MAX_FIELDS, MAX_FIELD_NAME, MAX_FIELD_VALUE = 25, 256, 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Mentions:
    """Whom a text really reaches, after `allowed_mentions`."""

    user_ids: list[int] = field(default_factory=list)
    role_ids: list[int] = field(default_factory=list)
    everyone: bool = False


@dataclass(slots=True, kw_only=True)
class Draft:
    """A checked message body, ready to become a message or replace one's body."""

    content: str = ""
    embeds: list[Json] = field(default_factory=list)
    components: list[Json] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    flags: int = 0


class Drafting:
    """Checks request bodies the way Discord does."""

    def __init__(self, world: World, files: FileStore) -> None:
        self._world = world
        self._files = files

    def new(self, payload: Json, uploads: list[Upload], *, channel_id: int, ephemeral: bool = False) -> Draft:
        """A draft for a new message. Raises 50006, 50035."""
        flags = int(payload.get("flags") or 0)
        names = self._names(payload, uploads)
        _check(payload, v2=bool(flags & MessageFlag.COMPONENTS_V2), filenames=frozenset(names.values()))
        if not (payload.get("content") or payload.get("embeds") or payload.get("components") or uploads or payload.get("poll")):
            raise ApiError(Code.EMPTY_MESSAGE)
        attachments = self._store(payload, uploads, names, channel_id=channel_id, ephemeral=ephemeral)
        return self._render(payload, attachments, flags)

    def edit(self, message: Message, payload: Json, uploads: list[Upload]) -> Draft:
        """A draft that replaces a message's body: what the payload leaves out stays."""
        flags = message.flags & ~MessageFlag.LOADING
        if payload.get("flags") is not None:
            flags |= int(payload["flags"]) & (MessageFlag.SUPPRESS_EMBEDS | MessageFlag.COMPONENTS_V2)
        kept = self._kept(message, payload)
        names = self._names(payload, uploads)
        # A component may show a new file only where `attachments` lists it. Source: discord-api-docs issue 7529.
        listed = {str(a.get("id")) for a in payload.get("attachments") or []}
        fresh_names = [name for index, name in names.items() if index in listed]
        filenames = frozenset([*fresh_names, *(a.filename for a in kept)])
        _check(payload, v2=bool(flags & MessageFlag.COMPONENTS_V2), filenames=filenames)
        is_ephemeral = message.has(MessageFlag.EPHEMERAL)
        fresh = self._store(payload, uploads, names, channel_id=message.channel_id, ephemeral=is_ephemeral)
        draft = self._render(payload, [*kept, *fresh], flags)
        if "content" not in payload:
            draft.content = message.content
        if "embeds" not in payload:
            draft.embeds = message.embeds
        if "components" not in payload:
            draft.components = message.components
        if not (draft.content or draft.embeds or draft.components or draft.attachments):
            raise ApiError(Code.EMPTY_MESSAGE)
        return draft

    def _kept(self, message: Message, payload: Json) -> list[Attachment]:
        if payload.get("attachments") is None:
            return list(message.attachments)
        wanted = {str(a.get("id")) for a in payload["attachments"]}
        return [a for a in message.attachments if str(a.id) in wanted]

    def _names(self, payload: Json, uploads: list[Upload]) -> dict[str, str]:
        """The file name of each upload, by its index; the JSON half may rename it."""
        renamed = {str(a.get("id")): a.get("filename") for a in payload.get("attachments") or []}
        return {upload.index: safe_filename(renamed.get(upload.index) or upload.filename) for upload in uploads}

    def _store(
        self, payload: Json, uploads: list[Upload], names: dict[str, str], *, channel_id: int, ephemeral: bool
    ) -> list[Attachment]:
        described = {str(a.get("id")): a.get("description") for a in payload.get("attachments") or []}
        folder = f"ephemeral-attachments/{self._world.application.id}" if ephemeral else f"attachments/{channel_id}"
        return [
            self._files.save(
                upload,
                folder=folder,
                filename=names[upload.index],
                description=described.get(upload.index),
                ephemeral=ephemeral,
            )
            for upload in uploads
        ]

    def _render(self, payload: Json, attachments: list[Attachment], flags: int) -> Draft:
        renderer = Renderer(self._world.ids, attachments)
        return Draft(
            content=(payload.get("content") or "").strip(),
            embeds=renderer.embeds(payload.get("embeds") or []),
            components=renderer.components(payload.get("components") or []),
            attachments=attachments,
            flags=flags,
        )


def _check(payload: Json, *, v2: bool, filenames: frozenset[str]) -> None:
    errors = FormErrors()
    if payload.get("content"):
        errors.check_length(["content"], payload["content"], 0, MAX_CONTENT)
    if v2:
        for legacy in ("content", "embeds", "poll", "sticker_ids"):
            if payload.get(legacy):
                message = f"The '{legacy}' field cannot be used when using MessageFlags.IS_COMPONENTS_V2"
                errors.add([legacy], "MESSAGE_CANNOT_USE_LEGACY_FIELDS_WITH_COMPONENTS_V2", message)
    if len(payload.get("attachments") or []) > MAX_FILES:
        errors.add(["attachments"], "BASE_TYPE_MAX_LENGTH", f"Must be {MAX_FILES} or fewer in length.")
    _check_embeds(payload.get("embeds") or [], errors)
    Inspector(errors, filenames=filenames).message(payload.get("components") or [], v2=v2)
    nonce = payload.get("nonce")
    if isinstance(nonce, str):
        errors.check_length(["nonce"], nonce, 0, 25)
    errors.raise_if_any()


def _check_embeds(embeds: list[Json], errors: FormErrors) -> None:
    if len(embeds) > MAX_EMBEDS:
        errors.add(["embeds"], "BASE_TYPE_MAX_LENGTH", f"Must be {MAX_EMBEDS} or fewer in length.")
    total = 0
    for index, embed in enumerate(embeds):
        for steps, longest in EMBED_LIMITS:
            text = _text_at(embed, steps)
            errors.check_length(["embeds", index, *steps], text, 0, longest)
            total += len(text)
        fields = embed.get("fields") or []
        if len(fields) > MAX_FIELDS:
            errors.add(["embeds", index, "fields"], "BASE_TYPE_MAX_LENGTH", f"Must be {MAX_FIELDS} or fewer in length.")
        for at, entry in enumerate(fields):
            errors.check_length(["embeds", index, "fields", at, "name"], entry.get("name"), 1, MAX_FIELD_NAME)
            errors.check_length(["embeds", index, "fields", at, "value"], entry.get("value"), 1, MAX_FIELD_VALUE)
            total += len(str(entry.get("name"))) + len(str(entry.get("value")))
    if total > MAX_EMBED_TEXT:
        errors.add(["embeds"], "MAX_EMBED_SIZE_EXCEEDED", f"Embed size exceeds maximum size of {MAX_EMBED_TEXT}")


def _text_at(embed: Json, steps: tuple[str, ...]) -> str:
    value: object = embed
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def mentions_in(
    draft: Draft, guild: Guild | None, allowed: Json | None, author_may: Permission, *, replied_to: int | None
) -> Mentions:
    """Whom a draft reaches.

    `allowed` is `allowed_mentions` as sent, `None` for everybody named; `author_may` decides about @everyone and
    about roles that not everybody may mention; `replied_to` is the author of the message this one answers.
    """
    text = "\n".join(_outside_code(part) for part in (draft.content, *texts(draft.components)))
    users = [int(i) for i in dict.fromkeys(re.findall(r"<@!?(\d+)>", text))]
    roles = [int(i) for i in dict.fromkeys(re.findall(r"<@&(\d+)>", text))]
    everyone = bool(re.search(r"@(everyone|here)\b", text)) and Permission.MENTION_EVERYONE in author_may
    if allowed is not None:
        parse = allowed.get("parse") or []
        users = [u for u in users if "users" in parse or str(u) in map(str, allowed.get("users") or [])]
        roles = [r for r in roles if "roles" in parse or str(r) in map(str, allowed.get("roles") or [])]
        everyone = everyone and "everyone" in parse
    if replied_to is not None and (allowed is None or allowed.get("replied_user", True)) and replied_to not in users:
        users.append(replied_to)
    if guild is None:
        return Mentions(user_ids=users)
    may_mention_all = Permission.MENTION_EVERYONE in author_may
    roles = [r for r in roles if r in guild.roles and (guild.roles[r].mentionable or may_mention_all)]
    return Mentions(user_ids=[u for u in users if u in guild.members], role_ids=roles, everyone=everyone)


def _outside_code(text: str) -> str:
    """The text without code spans and blocks: nothing inside backticks mentions anybody."""
    return re.sub(r"(`{3}|`{1,2})(?!`).+?(?<!`)\1(?!`)", " ", text, flags=re.DOTALL)
