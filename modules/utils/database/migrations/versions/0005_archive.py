"""Jobs that were over a while ago get a table of their own, and erasing a person may take several transactions.

Nothing is moved here: the program does that in the background, a few jobs at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)
_KEY = "CONSTRAINT fk_blob_job_id_job FOREIGN KEY(job_id) REFERENCES job (id) ON DELETE CASCADE, "
_PRIMARY = "CONSTRAINT pk_blob PRIMARY KEY (id)"


def upgrade() -> None:
    """Two tables more, and a picture's job may stand in either table of jobs."""
    op.create_table(
        "archived_job",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=False, nullable=False),
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
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_archived_job")),
        sa.UniqueConstraint("id", name=op.f("uq_archived_job_id")),
    )
    op.create_index("ix_archived_job_of_person", "archived_job", ["user_id", "seq"], unique=False)
    for column in ("source", "reference"):
        condition = sa.text(f"{column}_id IS NOT NULL")
        op.create_index(
            f"ix_archived_job_{column}",
            "archived_job",
            [f"{column}_id"],
            unique=False,
            sqlite_where=condition,
            postgresql_where=condition,
        )
    op.create_table(
        "erasure",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("up_to_seq", sa.BigInteger(), nullable=False),
        sa.Column("asked_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_erasure")),
    )
    if op.get_bind().dialect.name == "sqlite":
        _rewrite_schema_of_blob(lambda sql: sql.replace(_KEY, ""))
    else:
        op.drop_constraint("fk_blob_job_id_job", "blob", type_="foreignkey")


def downgrade() -> None:
    """Everything back into one table."""
    archived = sa.Table("archived_job", sa.MetaData(), autoload_with=op.get_bind())
    jobs = sa.table("job", *(sa.column(name) for name in archived.c.keys()))  # noqa: SIM118 - a collection of columns
    op.execute(jobs.insert().from_select(archived.c.keys(), sa.select(archived)))
    if op.get_bind().dialect.name == "sqlite":
        _rewrite_schema_of_blob(lambda sql: sql.replace(_PRIMARY, _KEY + _PRIMARY))
    else:
        op.create_foreign_key("fk_blob_job_id_job", "blob", "job", ["job_id"], ["id"], ondelete="CASCADE")
    op.drop_table("erasure")
    op.drop_table("archived_job")


def _rewrite_schema_of_blob(change: Callable[[str], str]) -> None:
    """Take a foreign key out of a table, or put it in, without copying the table: `blob` holds gigabytes.

    Source: https://www.sqlite.org/lang_altertable.html, section 7, "removing CHECK or FOREIGN KEY or NOT NULL constraints".
    """
    connection = op.get_bind()
    before = connection.exec_driver_sql("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = 'blob'").scalar_one()
    one_line = re.sub(r"\s+", " ", before).replace("( ", "(")
    after = change(one_line)
    if after == one_line:
        raise ValueError("the table blob is not as the migrations left it")
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema=ON")
    connection.exec_driver_sql("UPDATE sqlite_schema SET sql = ? WHERE type = 'table' AND name = 'blob'", (after,))
    connection.exec_driver_sql(f"PRAGMA schema_version={version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema=OFF")
