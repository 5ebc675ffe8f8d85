"""The courier as a process of its own: a quiet client that sees channels and sends results, but answers nobody.

It has no command tree, so the gateway process alone answers interactions although Discord tells both.
"""

from __future__ import annotations

import asyncio

import discord

from modules.discord.endpoint import log_in
from modules.discord.house import DiscordOptions, House
from modules.discord.posting import Post
from modules.discord.session_rooms import SessionRooms
from modules.discord.voices import Voices
from modules.domain.jobs import Job
from modules.domain.people import ChannelId, MessageId, UserId
from modules.utils.i18n import Phrasebook


class StoredCards:
    """Cards by what the store remembers; the gateway process paints them."""

    def __init__(self, house: House, post: Post) -> None:
        self._house = house
        self._post = post

    async def release(self, job: Job) -> MessageId | None:
        """The message of the card, to be written over."""
        return job.card_message_id

    async def retire(self, job: Job) -> None:
        """The result is posted: take the card down."""
        if job.card_message_id is not None:
            await self._post.delete(job.channel_id, job.card_message_id)
            await self._house.jobs.set_card(job.id, None)

    async def moved(self, user_id: UserId, channel_id: ChannelId) -> None:
        """The gateway process hangs them again when it next compares its cards with the store."""


class CourierClient(discord.Client):
    """Knows guilds and channels, nothing else."""

    def __init__(self, house: House, options: DiscordOptions) -> None:
        super().__init__(
            intents=discord.Intents(guilds=True),
            allowed_mentions=discord.AllowedMentions.none(),
            max_messages=None,
            chunk_guilds_at_startup=False,
        )
        self.post = Post(self)
        self.voices = Voices(Phrasebook.load(options.default_language), house.people)
        self.rooms = SessionRooms(self, house, self.voices, options)
        self.cards = StoredCards(house, self.post)
        self._is_up = asyncio.Event()

    async def run_with(self, token: str) -> None:
        """Log in and stay until cancelled. Raises discord.LoginFailure."""
        async with self:
            await log_in(self, token)
            await self.connect()

    async def when_ready(self) -> None:
        """Returns once Discord has told us of all our guilds and channels."""
        await self._is_up.wait()

    async def on_ready(self) -> None:
        """May come again after every reconnect."""
        self._is_up.set()
