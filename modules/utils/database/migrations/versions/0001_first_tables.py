"""The first tables: the whole durable queue, so that nothing that comes later has to replace anything."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """From nothing to everything."""
    op.create_table(
        "account",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("vt", sa.Double(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.CheckConstraint("weight > 0", name=op.f("ck_account_weight_is_positive")),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_account")),
    )
    op.create_table(
        "attempt",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("boot_id", sa.Uuid(), nullable=False),
        sa.Column("claimed_at", _INSTANT, nullable=False),
        sa.Column("submitted_at", _INSTANT, nullable=True),
        sa.Column("ended_at", _INSTANT, nullable=True),
        sa.Column("form", sa.String(length=16), server_default="", nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=True),
        sa.Column("failure", sa.String(length=64), nullable=True),
        sa.Column("started_at", _INSTANT, nullable=True),
        sa.Column("worked_s", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempt")),
    )
    op.create_index(
        "ix_attempt_open",
        "attempt",
        ["server", "claimed_at"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "audit",
        sa.Column("id", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("actor_id", sa.BigInteger(), nullable=False),
        sa.Column("act", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_table(
        "control",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_control")),
    )
    op.create_table(
        "fairness",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("floor", sa.Double(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_fairness_is_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fairness")),
    )
    op.create_table(
        "guild",
        sa.Column("guild_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("blocked_words", sa.Text(), nullable=False),
        sa.Column("audit_channel_id", sa.BigInteger(), nullable=True),
        sa.Column("role_weights", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("guild_id", name=op.f("pk_guild")),
    )
    op.create_table(
        "job",
        sa.Column("seq", _SERIAL, autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("interaction_id", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("guild_id", sa.BigInteger(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("recipe", sa.Text(), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("picture_count", sa.Integer(), nullable=False),
        sa.Column("source_id", sa.String(length=36), nullable=True),
        sa.Column("reference_id", sa.String(length=36), nullable=True),
        sa.Column("exact_key", sa.String(), nullable=False),
        sa.Column("heavy_key", sa.String(), nullable=False),
        sa.Column("needs", sa.Text(), nullable=False),
        sa.Column("is_mergeable", sa.Boolean(), nullable=False),
        sa.Column("cost_s", sa.Double(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempt_id", sa.Uuid(), nullable=True),
        sa.Column("server", sa.String(), nullable=True),
        sa.Column("shared_by", sa.Integer(), server_default="1", nullable=False),
        sa.Column("skips", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("server_deaths", sa.Integer(), server_default="0", nullable=False),
        sa.Column("runs_alone", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_params", sa.Text(), nullable=True),
        sa.Column("accepted_at", _INSTANT, nullable=False),
        sa.Column("started_at", _INSTANT, nullable=True),
        sa.Column("generated_at", _INSTANT, nullable=True),
        sa.Column("worked_s", sa.Double(), nullable=True),
        sa.Column("channel_id", sa.BigInteger(), nullable=False),
        sa.Column("card_message_id", sa.BigInteger(), nullable=True),
        sa.Column("result_message_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_job")),
        sa.UniqueConstraint("id", name=op.f("uq_job_id")),
        sa.UniqueConstraint("interaction_id", name=op.f("uq_job_interaction_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_job_by_state", "job", ["state", "seq"], unique=False)
    op.create_index(
        "ix_job_in_flight",
        "job",
        ["attempt_id"],
        unique=False,
        sqlite_where=sa.text("state IN ('submitted', 'submitting')"),
        postgresql_where=sa.text("state IN ('submitted', 'submitting')"),
    )
    op.create_index("ix_job_of_person", "job", ["user_id", "seq"], unique=False)
    op.create_index(
        "ix_job_reference",
        "job",
        ["reference_id"],
        unique=False,
        sqlite_where=sa.text("reference_id IS NOT NULL"),
        postgresql_where=sa.text("reference_id IS NOT NULL"),
    )
    op.create_index(
        "ix_job_source",
        "job",
        ["source_id"],
        unique=False,
        sqlite_where=sa.text("source_id IS NOT NULL"),
        postgresql_where=sa.text("source_id IS NOT NULL"),
    )
    op.create_index(
        "ix_job_waiting",
        "job",
        ["exact_key", "user_id", "seq"],
        unique=False,
        sqlite_where=sa.text("state = 'queued'"),
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_table(
        "lease",
        sa.Column("server", sa.String(), nullable=False),
        sa.Column("boot_id", sa.Uuid(), nullable=False),
        sa.Column("expires_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("server", name=op.f("pk_lease")),
    )
    op.create_table(
        "person",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("size", sa.String(), nullable=True),
        sa.Column("picture_count", sa.Integer(), nullable=True),
        sa.Column("language", sa.String(length=8), nullable=True),
        sa.Column("is_quiet", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("is_spoiler", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("is_banned", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_person")),
    )
    op.create_table(
        "session",
        sa.Column("guild_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("channel_id", sa.BigInteger(), nullable=False),
        sa.Column("last_active_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("guild_id", "user_id", name=op.f("pk_session")),
        sa.UniqueConstraint("channel_id", name=op.f("uq_session_channel_id")),
    )
    op.create_table(
        "active_slot",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("slot", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.CheckConstraint("slot >= 1", name=op.f("ck_active_slot_slot_counts_from_one")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_active_slot_job_id_job"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "slot", name=op.f("pk_active_slot")),
        sa.UniqueConstraint("job_id", name=op.f("uq_active_slot_job_id")),
    )
    op.create_table(
        "attempt_job",
        sa.Column("attempt_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("charge", sa.Double(), nullable=False),
        sa.Column("requeued_for", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempt.id"], name=op.f("fk_attempt_job_attempt_id_attempt"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_attempt_job_job_id_job"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("attempt_id", "position", name=op.f("pk_attempt_job")),
        sa.UniqueConstraint("attempt_id", "job_id", name=op.f("uq_attempt_job_attempt_id_job_id")),
    )
    op.create_index(op.f("ix_attempt_job_job_id"), "attempt_job", ["job_id"], unique=False)
    op.create_table(
        "blob",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("format", sa.String(length=8), nullable=False),
        sa.Column("width_px", sa.Integer(), nullable=False),
        sa.Column("height_px", sa.Integer(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("picture_index", sa.Integer(), nullable=True),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("(job_id IS NULL) = (picture_index IS NULL)", name=op.f("ck_blob_result_has_its_place")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_blob_job_id_job"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_blob")),
        sa.UniqueConstraint("job_id", "picture_index", name=op.f("uq_blob_job_id_picture_index")),
    )
    op.create_index(op.f("ix_blob_created_at"), "blob", ["created_at"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("is_owed", sa.Boolean(), nullable=False),
        sa.Column("due_at", _INSTANT, nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("first_try_at", _INSTANT, nullable=True),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("sent_at", _INSTANT, nullable=True),
        sa.Column("message_id", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_outbox_job_id_job"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "kind", name=op.f("pk_outbox")),
    )
    op.create_index(
        "ix_outbox_due", "outbox", ["due_at"], unique=False, sqlite_where=sa.text("is_owed"), postgresql_where=sa.text("is_owed")
    )
    op.create_table(
        "last_picture",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("blob_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name=op.f("fk_last_picture_blob_id_blob"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_last_picture")),
    )
    op.create_index(op.f("ix_last_picture_blob_id"), "last_picture", ["blob_id"], unique=False)
    op.execute("INSERT INTO fairness (id, floor) VALUES (1, 0.0)")


def downgrade() -> None:
    """Back to an empty database."""
    for table in (
        "last_picture",
        "outbox",
        "blob",
        "attempt_job",
        "active_slot",
        "session",
        "person",
        "lease",
        "job",
        "guild",
        "fairness",
        "control",
        "audit",
        "attempt",
        "account",
    ):
        op.drop_table(table)
