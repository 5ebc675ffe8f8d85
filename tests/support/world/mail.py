"""A Discord in plain Python, behind the places where the courier's delivery sends: messages by channel, and nonces."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TypeVar

import aiohttp
import discord
from discord import ui

from modules.discord.posting import Attached
from modules.domain.jobs import Job
from modules.domain.people import ChannelId, GuildId, InteractionId, MessageId, UserId
from modules.domain.ports import Clock
from modules.domain.sessions import Session
from tests.support.world.acts import Acts, AnswerLostError, Process

T = TypeVar("T")

#: Discord knows a nonce again "for a few minutes"; we count on two (modules/discord/delivery.py).
NONCE_LIFE = timedelta(minutes=3)


@dataclass(frozen=True, slots=True)
class Message:
    """What stands in a channel."""

    id: MessageId
    at: datetime
    nonce: str
    files: tuple[Attached, ...]
    custom_ids: tuple[str, ...]


class FakeDiscord:
    """Over all lives of the program."""

    def __init__(self, clock: Clock) -> None:
        self.asked_at: dict[InteractionId, datetime] = {}  #: as Discord's ids tell
        self.channels: dict[ChannelId, list[Message]] = defaultdict(list)
        self.clock = clock
        self.send_s = 0.0  #: how long a message is on its way
        self._away_until = 0.0
        self._next_id = 1

    def go_away(self, seconds: float) -> None:
        """Nothing is answered for a while."""
        self._away_until = max(self._away_until, self.clock.monotonic() + seconds)

    @property
    def is_away(self) -> bool:
        return self.clock.monotonic() < self._away_until

    def post(self, channel_id: ChannelId, nonce: str, files: Sequence[Attached], custom_ids: Sequence[str]) -> MessageId:
        """A repeated nonce is answered with the message that is there."""
        now = self.clock.now()
        for message in self.channels[channel_id]:
            if message.nonce == nonce and now - message.at <= NONCE_LIFE:
                return message.id
        message_id = MessageId(self._next_id)
        self._next_id += 1
        self.channels[channel_id].append(Message(message_id, now, nonce, tuple(files), tuple(custom_ids)))
        return message_id

    def messages(self) -> Iterator[tuple[ChannelId, Message]]:
        """All of them, with their channels."""
        for channel_id, messages in self.channels.items():
            for message in messages:
                yield channel_id, message


class PostPort:
    """What `modules.discord.posting.Post` does, for one life of the program."""

    def __init__(self, discord_: FakeDiscord, acts: Acts, process: Process) -> None:
        self._discord = discord_
        self._acts = acts
        self._process = process

    async def send(
        self,
        channel_id: ChannelId,
        view: ui.LayoutView,
        files: Sequence[Attached] = (),
        *,
        nonce: str,
        pings: UserId | None = None,
    ) -> MessageId:
        await asyncio.sleep(self._discord.send_s)
        custom_ids = [item.custom_id for item in view.walk_children() if isinstance(item, ui.Button) and item.custom_id]
        return await self._call("send", lambda: self._discord.post(channel_id, nonce, files, custom_ids))

    async def find_ours(
        self, channel_id: ChannelId, since: InteractionId, is_it: Callable[[discord.Message], bool]
    ) -> MessageId | None:
        await asyncio.sleep(0)
        self._process.check()
        self._check_there()
        for message in reversed(self._discord.channels[channel_id]):
            seen = SimpleNamespace(
                attachments=[SimpleNamespace(filename=file.name) for file in message.files],
                components=[discord.Button({"type": 2, "style": 1, "custom_id": one}) for one in message.custom_ids],
            )
            if message.at >= self._discord.asked_at.get(since, message.at) and is_it(seen):  # type: ignore[arg-type]  # as much of a message as is looked at
                return message.id
        return None

    async def direct_channel(self, user_id: UserId) -> ChannelId:
        return ChannelId(-user_id)

    async def _call(self, name: str, effect: Callable[[], T]) -> T:
        await asyncio.sleep(0)

        def on_the_wire() -> T:
            self._check_there()
            return effect()

        try:
            return self._acts.perform(self._process, f"discord {name}", on_the_wire, may_lose_answer=True)
        except AnswerLostError as error:
            raise aiohttp.ServerDisconnectedError from error

    def _check_there(self) -> None:
        if self._discord.is_away:
            raise aiohttp.ServerDisconnectedError


class NoCards:
    """Cards are the gateway's business; nothing here shows any."""

    async def release(self, job: Job) -> MessageId | None:
        return None

    async def retire(self, job: Job) -> None: ...
    async def moved(self, user_id: UserId, channel_id: ChannelId) -> None: ...


class OpenRooms:
    """Every session exists and is private."""

    async def is_private(self, guild_id: GuildId, channel_id: ChannelId) -> bool | None:
        return True

    async def is_age_restricted(self, guild_id: GuildId, channel_id: ChannelId) -> bool:
        return False

    async def reopen(
        self, guild_id: GuildId, user_id: UserId, *, unusable: ChannelId | None = None, is_age_restricted: bool = False
    ) -> Session | None:
        return None


class NoGuilds:
    """Of discord.py's client, what a delivery asks."""

    def get_guild(self, guild_id: int) -> None:
        return None
