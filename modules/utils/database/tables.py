"""The tables, as the newest migration leaves them (a test compares the two).

What keeps people's promises is a constraint here and not only a rule in Python: one job per interaction, one row per active
slot of a person, one message per job and kind, one result picture per place in a job.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    Uuid,
    false,
    text,
)

from modules.domain.jobs import ACTIVE_STATES, IN_FLIGHT_STATES, JobState
from modules.utils.database.types import Json, SafeText, UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: SQLite counts up by itself only in a column that is exactly INTEGER; its integers have 64 bits all the same.
_Serial = BigInteger().with_variant(Integer(), "sqlite")

#: Jobs of which something is still to come or to be shown: few, however many are over.
SHOWN_STATES = frozenset({*ACTIVE_STATES, JobState.GENERATED, JobState.UNDELIVERABLE})

# the conditions of the partial indexes; statements repeat them word for word (see `conditions`)
_IS_QUEUED = text(f"state = '{JobState.QUEUED.value}'")
_IS_IN_FLIGHT = text("state IN ({})".format(", ".join(f"'{state.value}'" for state in sorted(IN_FLIGHT_STATES))))
_IS_SHOWN = text("state IN ({})".format(", ".join(f"'{state.value}'" for state in sorted(SHOWN_STATES))))
# most jobs start from words alone: every page that acceptance does not touch is one the disk need not write
_HAS_SOURCE = text("source_id IS NOT NULL")
_HAS_REFERENCE = text("reference_id IS NOT NULL")


def _job_columns() -> list[Column[Any]]:
    """Of a job, wherever it is kept; but for its `seq`."""
    return [
        Column("id", Uuid, nullable=False, unique=True),
        Column("interaction_id", BigInteger, nullable=False),
        Column("user_id", BigInteger, nullable=False),
        Column("guild_id", BigInteger, nullable=False),
        Column("display_name", SafeText, nullable=False),
        Column("language", String(8), nullable=False),
        Column("origin", String(16), nullable=False),
        Column("parent_id", Uuid),
        Column("recipe", Json, nullable=False),
        # beside the recipe, because SQL asks for them: what was typed, how many pictures, and the pictures it starts from
        Column("prompt", SafeText, nullable=False),
        Column("picture_count", Integer, nullable=False),
        Column("source_id", String(36)),
        Column("reference_id", String(36)),
        # WorkClass
        Column("exact_key", String, nullable=False),
        Column("heavy_key", String, nullable=False),
        Column("needs", Json, nullable=False),
        Column("is_mergeable", Boolean, nullable=False),
        Column("cost_s", Double, nullable=False),
        # where it stands
        Column("state", String(16), nullable=False),
        Column("attempt_id", Uuid),  # the attempt under way, later the one that worked
        Column("server", String),
        Column("shared_by", Integer, nullable=False, server_default="1"),
        Column("skips", Integer, nullable=False, server_default="0"),
        Column("failed_attempts", Integer, nullable=False, server_default="0"),
        Column("server_deaths", Integer, nullable=False, server_default="0"),
        Column("runs_alone", Boolean, nullable=False, server_default=false()),
        Column("error_code", String(64)),
        Column("error_params", Json),
        Column("accepted_at", UtcDateTime, nullable=False),
        Column("started_at", UtcDateTime),
        Column("generated_at", UtcDateTime),
        Column("worked_s", Double),
        # where people see it
        Column("channel_id", BigInteger, nullable=False),
        Column("card_message_id", BigInteger),
        Column("result_message_id", BigInteger),
    ]


#: Jobs that somebody may still change, and those that were over not long ago.
job = Table(
    "job",
    metadata,
    Column("seq", _Serial, primary_key=True, autoincrement=True),
    *_job_columns(),
    UniqueConstraint("interaction_id"),
    Index("ix_job_waiting", "exact_key", "user_id", "seq", sqlite_where=_IS_QUEUED, postgresql_where=_IS_QUEUED),
    Index("ix_job_in_flight", "attempt_id", sqlite_where=_IS_IN_FLIGHT, postgresql_where=_IS_IN_FLIGHT),
    Index("ix_job_shown", "user_id", "seq", sqlite_where=_IS_SHOWN, postgresql_where=_IS_SHOWN),
    Index("ix_job_of_person", "user_id", "seq"),
    Index("ix_job_by_state", "state", "seq"),
    Index("ix_job_source", "source_id", sqlite_where=_HAS_SOURCE, postgresql_where=_HAS_SOURCE),
    Index("ix_job_reference", "reference_id", sqlite_where=_HAS_REFERENCE, postgresql_where=_HAS_REFERENCE),
    sqlite_autoincrement=True,  # a place in the queue is never given out twice, not even after the newest job was erased
)

#: Jobs that were over a while ago: read by their id and by their person, and deleted, but never changed (docs/decisions/0076).
archived_job = Table(
    "archived_job",
    metadata,
    Column("seq", _Serial, primary_key=True, autoincrement=False),
    *_job_columns(),
    Index("ix_archived_job_of_person", "user_id", "seq"),
    Index("ix_archived_job_source", "source_id", sqlite_where=_HAS_SOURCE, postgresql_where=_HAS_SOURCE),
    Index("ix_archived_job_reference", "reference_id", sqlite_where=_HAS_REFERENCE, postgresql_where=_HAS_REFERENCE),
)

#: LIMIT as a constraint: a person's active jobs each hold one of the slots 1 .. LIMIT.
active_slot = Table(
    "active_slot",
    metadata,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("job_id", Uuid, ForeignKey("job.id", ondelete="CASCADE"), nullable=False, unique=True),
    CheckConstraint("slot >= 1", name="slot_counts_from_one"),
)

account = Table(
    "account",
    metadata,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("vt", Double, nullable=False),
    Column("weight", Double, nullable=False),
    CheckConstraint("weight > 0", name="weight_is_positive"),
)

#: One row: V, the highest "least vt of those waiting" ever seen.
fairness = Table(
    "fairness",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("floor", Double, nullable=False),
    CheckConstraint("id = 1", name="is_one_row"),
)

attempt = Table(
    "attempt",
    metadata,
    Column("id", Uuid, primary_key=True),  # ComfyUI's prompt_id
    Column("server", String, nullable=False),
    Column("boot_id", Uuid, nullable=False),
    Column("claimed_at", UtcDateTime, nullable=False),
    Column("submitted_at", UtcDateTime),
    Column("ended_at", UtcDateTime),  # by our clock; NULL: something may still be owed for it
    Column("form", String(16), nullable=False, server_default=""),
    Column("phase", String(16)),
    Column("failure", String(64)),
    Column("started_at", UtcDateTime),  # by ComfyUI's clock
    Column("worked_s", Double),
    Index(
        "ix_attempt_open",
        "server",
        "claimed_at",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
)

#: The jobs of an attempt. `position` decides node ids and file names: it never changes while the attempt is open.
attempt_job = Table(
    "attempt_job",
    metadata,
    Column("attempt_id", Uuid, ForeignKey("attempt.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("job_id", Uuid, ForeignKey("job.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("charge", Double, nullable=False),  # in vt; 0 once it was given back
    Column("requeued_for", String(64)),  # the ErrorCode, when it came to nothing
    UniqueConstraint("attempt_id", "job_id"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("job_id", Uuid, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("is_owed", Boolean, nullable=False),
    Column("due_at", UtcDateTime, nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("first_try_at", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("sent_at", UtcDateTime),
    Column("message_id", BigInteger),
    Index("ix_outbox_due", "due_at", sqlite_where=text("is_owed"), postgresql_where=text("is_owed")),
)

blob = Table(
    "blob",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("format", String(8), nullable=False),
    Column("width_px", Integer, nullable=False),
    Column("height_px", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    # results only. No foreign key: the job may stand in `job` or in `archived_job`; whoever deletes it deletes its pictures
    Column("job_id", Uuid),
    Column("picture_index", Integer),
    Column("data", LargeBinary, nullable=False),  # last: SQLite reads past it to reach whatever comes behind
    UniqueConstraint("job_id", "picture_index"),
    CheckConstraint("(job_id IS NULL) = (picture_index IS NULL)", name="result_has_its_place"),
    Index("ix_blob_by_age", "created_at", "id"),
)

last_picture = Table(
    "last_picture",
    metadata,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("blob_id", String(36), ForeignKey("blob.id", ondelete="CASCADE"), nullable=False, index=True),
)

#: A picture somebody asked to have looked at in their next edit.
reference_picture = Table(
    "reference_picture",
    metadata,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("blob_id", String(36), ForeignKey("blob.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("kept_at", UtcDateTime, nullable=False),
)

session = Table(
    "session",
    metadata,
    Column("guild_id", BigInteger, primary_key=True, autoincrement=False),
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("channel_id", BigInteger, nullable=False, unique=True),
    Column("last_active_at", UtcDateTime, nullable=False),
)

person = Table(
    "person",
    metadata,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("model", String),
    Column("size", String),
    Column("picture_count", Integer),
    Column("language", String(8)),
    Column("is_quiet", Boolean, nullable=False, server_default=false()),
    Column("is_spoiler", Boolean, nullable=False, server_default=false()),
    Column("is_banned", Boolean, nullable=False, server_default=false()),
    Column("forms", Json, nullable=False, server_default="{}"),
)

guild = Table(
    "guild",
    metadata,
    Column("guild_id", BigInteger, primary_key=True, autoincrement=False),
    Column("blocked_words", Json, nullable=False),
    Column("audit_channel_id", BigInteger),
    Column("role_weights", Json, nullable=False),
)

#: Somebody asked to be forgotten: none of their jobs up to this one is shown any more, and all of them are being deleted.
erasure = Table(
    "erasure",
    metadata,
    Column("user_id", BigInteger, primary_key=True, autoincrement=False),
    Column("up_to_seq", BigInteger, nullable=False),
    Column("asked_at", UtcDateTime, nullable=False),
)

control = Table(
    "control",
    metadata,
    Column("key", String, primary_key=True),
    Column("value", SafeText, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("actor_id", BigInteger, nullable=False),
    Column("act", String(64), nullable=False),
    Column("subject", SafeText, nullable=False),
    Column("details", Json, nullable=False),
)

lease = Table(
    "lease",
    metadata,
    Column("server", String, primary_key=True),
    Column("boot_id", Uuid, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
)
