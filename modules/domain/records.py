"""Records that the stores keep beside jobs: the outbox, people's settings, the audit trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from modules.domain.jobs import BootId, JobId
from modules.domain.people import ChannelId, GuildId, UserId
from modules.domain.recipes import ModelName


class MessageKind(StrEnum):
    """What a row of the outbox promises to say."""

    RESULT = "result"  #: a new message with the pictures, mentioning the person once
    FAILURE = "failure"  #: the card turns red; a new message where the card is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxItem:
    """A message owed to a person. One per job and kind, for ever: sending it twice is what this row prevents."""

    job_id: JobId
    kind: MessageKind
    due_at: datetime
    tries: int
    #: Set before the first send: a message may exist from then on.
    first_try_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class FormDefaults:
    """What a person's `/gen` form begins with for one model, as typed and chosen. Empty: as the model has it."""

    size: str = ""
    checkpoint: str = ""
    sampler: str = ""
    scheduler: str = ""
    loras: tuple[str, ...] = ()
    strengths: tuple[str, ...] = ()  #: one for each LoRA
    negative_prompt: str = ""
    steps: str = ""
    cfg: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonSettings:
    """A person's own defaults (`/settings`). None: the house default."""

    user_id: UserId
    model: ModelName | None = None
    size: str | None = None
    count: int | None = None
    language: str | None = None
    is_quiet: bool = False  #: results do not ping
    is_spoiler: bool = False
    is_banned: bool = False
    forms: Mapping[ModelName, FormDefaults] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuildSettings:
    """What the admins of a guild chose (`/admin`)."""

    guild_id: GuildId
    blocked_words: tuple[str, ...] = ()
    audit_channel_id: ChannelId | None = None
    role_weights: Mapping[int, float] = field(default_factory=dict)  #: Discord role id -> weight


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One act of an admin, kept for ever."""

    at: datetime
    actor_id: UserId
    act: str  #: `queue_paused`, `server_drained`, `job_cancelled`, `person_banned` ...
    subject: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The house limits, from Settings."""

    active_per_person: int
    queue_length: int


#: With less free than this an operator is told.
SHORT_BYTES = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskRoom:
    """The disk of the database, where it is on our side."""

    free_bytes: int
    used_bytes: int  #: by the database

    @property
    def is_short(self) -> bool:
        """It may soon be full, and then nothing new can be accepted."""
        return self.free_bytes < SHORT_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLease:
    """A lease as it stands: which start of which process holds a server, and until when by that process' clock."""

    boot_id: BootId
    expires_at: datetime
