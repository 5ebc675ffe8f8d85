"""Sending, editing and finding our own messages. The interaction token is never used here: it dies after 15 minutes."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import discord
from discord import ui

from modules.discord.refusals import is_gone
from modules.discord.views.buttons import TEMPLATE, Act, Press
from modules.domain.jobs import JobId, base36
from modules.domain.people import ChannelId, InteractionId, MessageId, UserId

#: How many messages of a channel are looked through for one of ours: twenty requests at most, nearly always one.
SCAN_LIMIT = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """A file of a message."""

    name: str
    data: bytes = field(repr=False)

    def as_file(self) -> discord.File:
        """Fresh for every try: discord.py reads it to its end."""
        return discord.File(io.BytesIO(self.data), filename=self.name)


def nonce_for(job_id: JobId, purpose: str = "") -> str:
    """Stable over restarts, at most 25 characters. Discord answers a repeat with the message it already has.

    discord.py sends `enforce_nonce: true` with every nonce it is given.
    """
    if not purpose:
        return base36(job_id)
    digest = hashlib.blake2b(f"{job_id}:{purpose}".encode(), digest_size=16).digest()
    return base36(JobId(UUID(bytes=digest)))


class Post:
    """Messages by channel and id, without needing either in discord.py's cache."""

    def __init__(self, client: discord.Client) -> None:
        self._client = client

    async def send(
        self,
        channel_id: ChannelId,
        view: ui.LayoutView,
        files: Sequence[Attached] = (),
        *,
        nonce: str,
        pings: UserId | None = None,
    ) -> MessageId:
        """A new message; `pings` is the one person it may notify. Raises `DISCORD_TROUBLE`."""
        allowed = discord.AllowedMentions.none()
        if pings is not None:
            allowed = discord.AllowedMentions(everyone=False, roles=False, users=[discord.Object(pings)], replied_user=False)
        message = await self._channel(channel_id).send(
            view=view, files=[file.as_file() for file in files], nonce=nonce, allowed_mentions=allowed
        )
        return MessageId(message.id)

    async def edit(
        self, channel_id: ChannelId, message_id: MessageId, view: ui.LayoutView, files: Sequence[Attached] = ()
    ) -> None:
        """Replace what a message shows, attachments included. Raises `DISCORD_TROUBLE`."""
        await self._message(channel_id, message_id).edit(
            view=view, attachments=[file.as_file() for file in files], allowed_mentions=discord.AllowedMentions.none()
        )

    async def delete(self, channel_id: ChannelId, message_id: MessageId) -> None:
        """Remove a message; one that is gone is no error. Raises `DISCORD_TROUBLE`: a 404 alone does not say that it is gone."""
        try:
            await self._message(channel_id, message_id).delete()
        except discord.NotFound as error:
            if not is_gone(error):
                raise

    async def direct_channel(self, user_id: UserId) -> ChannelId:
        """The person's direct messages. Raises `DISCORD_TROUBLE`; that they are closed shows only when sending."""
        channel = await self._client.create_dm(discord.Object(user_id))
        return ChannelId(channel.id)

    async def find_ours(
        self, channel_id: ChannelId, since: InteractionId, is_it: Callable[[discord.Message], bool]
    ) -> MessageId | None:
        """Our newest message since this interaction that is the one looked for.

        The ids of both tell Discord's time, so our own clock may be wrong.
        """
        me = self._client.user
        asked = discord.Object(since)
        async for message in self._channel(channel_id).history(after=asked, limit=SCAN_LIMIT, oldest_first=False):
            if me is not None and message.author.id == me.id and is_it(message):
                return MessageId(message.id)
        return None

    def _channel(self, channel_id: ChannelId) -> discord.PartialMessageable:
        return self._client.get_partial_messageable(channel_id)

    def _message(self, channel_id: ChannelId, message_id: MessageId) -> discord.PartialMessage:
        return self._channel(channel_id).get_partial_message(message_id)


def posted_at(message_id: MessageId) -> datetime:
    """When a message was made, by its id."""
    return discord.utils.snowflake_time(message_id)


def custom_ids(components: Sequence[object]) -> set[str]:
    """Of all buttons, however deep."""
    found: set[str] = set()
    for component in components:
        if isinstance(component, discord.Button) and component.custom_id:
            found.add(component.custom_id)
        found |= custom_ids(getattr(component, "children", ()))
        if isinstance(component, discord.SectionComponent):
            found |= custom_ids([component.accessory])
    return found


def texts_of(components: Sequence[object]) -> list[str]:
    """All words of a message's components, in reading order."""
    found: list[str] = []
    for component in components:
        if isinstance(component, discord.TextDisplay):
            found.append(component.content)
        found += texts_of(getattr(component, "children", ()))
    return found


def presses_of(message: discord.Message) -> list[Press]:
    """What the buttons of a message of ours do."""
    matches = (re.fullmatch(TEMPLATE, custom) for custom in sorted(custom_ids(message.components)))
    return [Press.read(found) for found in matches if found]


def job_id_of(message: discord.Message) -> JobId | None:
    """The job a message of ours shows, by its buttons; whether it is ours at all is the caller's to ask of the store."""
    return next((press.job_id for press in presses_of(message) if press.job_id), None)


def is_result_of(message: discord.Message, job_id: JobId) -> bool:
    """Whether a message is this job's result. Only results have "Delete"; its `attachments` are empty (see `message_files`)."""
    return any(press.act is Act.DELETE and press.job_id == job_id for press in presses_of(message))


def is_refusal_of(message: discord.Message, job_id: JobId) -> bool:
    """Whether a message tells that Discord does not take this job's result. The only others with "Send again" are private."""
    return any(press.act is Act.SEND_AGAIN and press.job_id == job_id for press in presses_of(message))


def is_failure_of(message: discord.Message, job_id: JobId) -> bool:
    """Whether a message tells that this job did not work out: it can be tried again, and neither cancelled nor deleted."""
    acts = {press.act for press in presses_of(message) if press.job_id == job_id}
    return Act.RETRY in acts and not acts & {Act.CANCEL, Act.DELETE}
