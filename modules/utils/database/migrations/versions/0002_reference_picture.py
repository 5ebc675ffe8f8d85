"""The picture that somebody's next edit is to look at as well."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """One row a person at most; it goes with its picture."""
    op.create_table(
        "reference_picture",
        sa.Column("user_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("blob_id", sa.String(length=36), nullable=False),
        sa.Column("kept_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name=op.f("fk_reference_picture_blob_id_blob"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_reference_picture")),
    )
    op.create_index(op.f("ix_reference_picture_blob_id"), "reference_picture", ["blob_id"], unique=False)


def downgrade() -> None:
    """The reference pictures stay as any other upload until the sweep takes them."""
    op.drop_table("reference_picture")
