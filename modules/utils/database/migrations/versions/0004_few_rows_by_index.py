"""Jobs that are not over are found by their person, and pictures in the order of their age."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_IS_SHOWN = sa.text("state IN ('generated', 'queued', 'submitted', 'submitting', 'undeliverable')")


def upgrade() -> None:
    """Both only add to what is there; no row is touched."""
    op.create_index("ix_job_shown", "job", ["user_id", "seq"], unique=False, sqlite_where=_IS_SHOWN, postgresql_where=_IS_SHOWN)
    op.create_index("ix_blob_by_age", "blob", ["created_at", "id"], unique=False)
    op.drop_index("ix_blob_created_at", "blob")


def downgrade() -> None:
    """The indexes of before."""
    op.create_index("ix_blob_created_at", "blob", ["created_at"], unique=False)
    op.drop_index("ix_blob_by_age", "blob")
    op.drop_index("ix_job_shown", "job")
