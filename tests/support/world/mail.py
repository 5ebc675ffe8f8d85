"""A Discord in plain Python, behind the places where the courier's delivery sends: messages by channel, and nonces."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import aiohttp
import discord
from discord import ui

from modules.discord.posting import Attached
from modules.domain.jobs import Job, JobId
from modules.domain.people import ChannelId, GuildId, InteractionId, MessageId, UserId
from modules.domain.ports import Clock
from modules.domain.sessions import Session
from tests.support.world.acts import Acts, AnswerLostError, Process

T = TypeVar("T")

#: Discord knows a nonce again "for a few minutes"; we count on two (modules/discord/delivery.py).
NONCE_LIFE = timedelta(minutes=3)
#: What Discord and Cloudflare answer in trouble: status and body. Source: discord-api-docs issue 6473.
TROUBLES: Sequence[tuple[int, dict[str, object] | str]] = (
    (403, "<html>Attention Required! | Cloudflare</html>"),
    (404, {"code": 0, "message": "404: Not Found"}),
    (403, {"code": 40333, "message": "internal network error"}),
    (403, {"code": 400001, "message": "Access to file uploads has been limited for this guild."}),
)


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
        self._guild_gone_until = 0.0
        self._troubles = itertools.cycle(TROUBLES)
        self._next_id = 1

    def go_away(self, seconds: float) -> None:
        """Nothing is answered for a while."""
        self._away_until = max(self._away_until, self.clock.monotonic() + seconds)

    @property
    def is_away(self) -> bool:
        return self.clock.monotonic() < self._away_until

    def lose_guild(self, seconds: float) -> None:
        """The guild is unavailable for a while; direct messages work."""
        self._guild_gone_until = max(self._guild_gone_until, self.clock.monotonic() + seconds)

    def check_guild(self, channel_id: ChannelId) -> None:
        """Raise what is raised for a channel of the guild while that is gone for now, one kind after the other."""
        if channel_id > 0 and self.clock.monotonic() < self._guild_gone_until:
            status, body = next(self._troubles)
            kind = discord.Forbidden if status == 403 else discord.NotFound
            raise kind(cast(aiohttp.ClientResponse, SimpleNamespace(status=status, reason="", headers={})), body)

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


def _custom_ids(components: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Of everything that a message's payload has, however deep; our buttons are no plain `ui.Button`s."""
    for component in components:
        if "custom_id" in component:
            yield component["custom_id"]
        yield from _custom_ids(component.get("components", ()))
        yield from _custom_ids([component["accessory"]] if component.get("accessory") else ())


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
        custom_ids = list(_custom_ids(view.to_components()))  # type: ignore[no-untyped-call] # discord.py leaves it without types
        return await self._call("send", channel_id, lambda: self._discord.post(channel_id, nonce, files, custom_ids))

    async def find_ours(
        self, channel_id: ChannelId, since: InteractionId, is_it: Callable[[discord.Message], bool]
    ) -> MessageId | None:
        await asyncio.sleep(0)
        self._process.check()
        self._check_there(channel_id)
        for message in reversed(self._discord.channels[channel_id]):
            seen = SimpleNamespace(
                attachments=[],  # a gallery shows the files: Discord lists them there only
                embeds=[],
                components=[discord.Button({"type": 2, "style": 1, "custom_id": one}) for one in message.custom_ids],
            )
            if message.at >= self._discord.asked_at.get(since, message.at) and is_it(seen):  # type: ignore[arg-type]  # as much of a message as is looked at
                return message.id
        return None

    async def direct_channel(self, user_id: UserId) -> ChannelId:
        return ChannelId(-user_id)

    async def _call(self, name: str, channel_id: ChannelId, effect: Callable[[], T]) -> T:
        await asyncio.sleep(0)

        def on_the_wire() -> T:
            self._check_there(channel_id)
            return effect()

        try:
            return self._acts.perform(self._process, f"discord {name}", on_the_wire, may_lose_answer=True)
        except AnswerLostError as error:
            raise aiohttp.ServerDisconnectedError from error

    def _check_there(self, channel_id: ChannelId) -> None:
        if self._discord.is_away:
            raise aiohttp.ServerDisconnectedError
        self._discord.check_guild(channel_id)


class NoCards:
    """Cards are the gateway's business; nothing here shows any."""

    async def release(self, job: Job) -> MessageId | None:
        return None

    async def retire(self, job_id: JobId) -> None: ...
    async def moved(self, user_id: UserId, channel_id: ChannelId) -> None: ...


class OpenRooms:
    """Every session exists and is private; while the guild is gone nobody can say so, as in `SessionRooms`."""

    def __init__(self, discord_: FakeDiscord) -> None:
        self._discord = discord_

    async def is_private(self, guild_id: GuildId, channel_id: ChannelId) -> bool | None:
        self._discord.check_guild(channel_id)
        return True

    async def is_age_restricted(self, guild_id: GuildId, channel_id: ChannelId) -> bool:
        return False

    async def reopen(
        self,
        guild_id: GuildId,
        user_id: UserId,
        *,
        language: str,
        unusable: ChannelId | None = None,
        is_age_restricted: bool = False,
    ) -> Session | None:
        self._discord.check_guild(ChannelId(user_id))
        return None


class NoGuilds:
    """Of discord.py's client, what a delivery asks."""

    def get_guild(self, guild_id: int) -> None:
        return None
