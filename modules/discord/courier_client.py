"""The courier as a process of its own: a quiet client that sees channels and sends results, but answers nobody.

It has no command tree, so the gateway process alone answers interactions although Discord tells both.
"""

from __future__ import annotations

import asyncio

import discord
import structlog

from modules.discord.endpoint import log_in
from modules.discord.guilds import Guilds
from modules.discord.house import DiscordOptions, House
from modules.discord.posting import Post
from modules.discord.refusals import DISCORD_TROUBLE
from modules.discord.session_rooms import SessionRooms
from modules.discord.session_starts import wait_for_session_start
from modules.discord.voices import Voices
from modules.domain.jobs import Job, JobId
from modules.domain.people import ChannelId, MessageId, UserId
from modules.utils.i18n import Phrasebook

log = structlog.get_logger(__name__)


class StoredCards:
    """Cards by what the store remembers; the gateway process paints them.

    That process may be painting at this very moment, so a card is never written over from here: it is taken down, and what is
    painted then only meets a message that is gone.
    """

    def __init__(self, house: House, post: Post) -> None:
        self._house = house
        self._post = post

    async def release(self, job: Job) -> MessageId | None:
        """No message to be written over: the failure is posted as one of its own."""
        await self._take_down(job)
        return None

    async def retire(self, job_id: JobId) -> None:
        """The result is posted: take the card down that hangs now; the gateway process may have hung another meanwhile."""
        job = await self._house.jobs.job(job_id)
        if job is not None:
            await self._take_down(job)

    async def _take_down(self, job: Job) -> None:
        """Where Discord refuses, the gateway process does it when it hears what became of the job."""
        if job.card_message_id is None:
            return
        try:
            await self._post.delete(job.channel_id, job.card_message_id)
        except DISCORD_TROUBLE as error:
            log.info("card_left_to_gateway", job_id=str(job.id), reason=type(error).__name__)
            return
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
        self.rooms = SessionRooms(Guilds(self), house, self.voices, options)
        self.cards = StoredCards(house, self.post)
        self._is_up = asyncio.Event()

    async def run_with(self, token: str) -> None:
        """Log in and stay until cancelled. Raises discord.LoginFailure."""
        async with self:
            await log_in(self, token)
            await wait_for_session_start(self)
            await self.connect()

    async def when_ready(self) -> None:
        """Returns once the gateway is ready, whether or not every guild has come: what it does not tell is asked over REST."""
        await self._is_up.wait()

    async def on_ready(self) -> None:
        """May come again after every reconnect."""
        self._is_up.set()
