"""What the people's side is given: the ports it calls and the few settings it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from modules.domain.images import Picture
from modules.domain.jobs import Job, JobId, JobState
from modules.domain.people import ChannelId, GuildId, Language, MessageId, UserId
from modules.domain.ports import (
    BlobStore,
    Catalogue,
    Clock,
    ControlStore,
    Events,
    Outbox,
    PeopleStore,
    PictureIntake,
    SessionStore,
    Studio,
    StudioAdmin,
    Thumbnails,
)

#: Make a picture fit into so many bytes: PNG as it is, else WebP or JPEG, else smaller. Runs off the loop.
Fit = Callable[[Picture, int], Awaitable[Picture]]


class Jobs(Protocol):
    """The part of the `JobStore` port that the people's side reads and writes."""

    async def job(self, job_id: JobId) -> Job | None: ...
    async def jobs(
        self,
        *,
        user_id: UserId | None = None,
        states: Collection[JobState] | None = None,
        before_seq: int | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> Sequence[Job]: ...
    async def set_card(self, job_id: JobId, message_id: MessageId | None) -> None: ...
    async def move_channel(self, user_id: UserId, guild_id: GuildId, channel_id: ChannelId) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """The ports, joined by `app.py`."""

    studio: Studio
    admin: StudioAdmin
    catalogue: Catalogue
    intake: PictureIntake
    jobs: Jobs
    blobs: BlobStore
    outbox: Outbox
    sessions: SessionStore
    people: PeopleStore
    control: ControlStore
    events: Events
    clock: Clock
    fit: Fit
    thumbnails: Thumbnails


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscordOptions:
    """The settings of the people's side."""

    allowed_guild_id: GuildId | None = None  #: None: every guild that invites the bot
    session_idle_minutes: float = 30.0
    active_limit: int = 2
    #: ROLE_WEIGHTS: Discord role id -> share of the GPUs. Empty: administrators 4, boosters 2, members 1.
    role_weights: Mapping[int, float] = field(default_factory=dict)
    default_language: Language = Language.ENGLISH
    export_path: Path | None = None
    version: str = ""
    #: Whether results and failures are sent by this very process; with `--role gateway` another one does.
    has_courier: bool = True
    #: How long the gateway may be gone before the process gives up and its supervisor starts a new one.
    gateway_patience_s: float = 300.0
    #: How long an open gateway may say nothing at all before the process gives up; Discord acknowledges a heartbeat every 41 s.
    gateway_silence_s: float = 180.0
    #: discord.py calls itself ready when no further guild came for so long after the connection.
    guild_patience_s: float = 2.0
    #: Where attachments may be read from. The demo adds its own address.
    cdn_hosts: frozenset[str] = frozenset(
        {
            "cdn.discordapp.com",
            "media.discordapp.net",
            "images-ext-1.discordapp.net",  # Discord's copies of pictures in other bots' embeds
            "images-ext-2.discordapp.net",
        }
    )
