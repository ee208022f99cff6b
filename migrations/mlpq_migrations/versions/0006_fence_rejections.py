"""Attempts count the writes that the fence rejected; indexes to count attempts by outcome."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("attempts", sa.Column("fence_rejections", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.create_index("ix_attempts_outcome", "attempts", ["outcome", "device"])
    rejected = sa.text("fence_rejections > 0")
    op.create_index(
        "ix_attempts_rejected", "attempts", ["fence_rejections"], postgresql_where=rejected, sqlite_where=rejected
    )
