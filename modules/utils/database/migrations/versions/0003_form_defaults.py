"""What a person's `/gen` form begins with, model by model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nobody has saved any yet."""
    op.add_column("person", sa.Column("forms", sa.Text(), server_default="{}", nullable=False))


def downgrade() -> None:
    """Forms begin as the models have it again."""
    with op.batch_alter_table("person") as person:
        person.drop_column("forms")
