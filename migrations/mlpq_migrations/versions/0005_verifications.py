"""Verifications: the findings of running a finished job again."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"

Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON().with_variant(JSONB(), "postgresql")
Id = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "verifications",
        sa.Column("id", Serial, nullable=False),
        sa.Column("job_id", Id, nullable=False),
        sa.Column("rerun_id", Id, nullable=True),
        sa.Column("grade", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("misfits", Json, nullable=False),
        sa.Column("unchecked", Json, nullable=False),
        sa.Column("figures", Json, nullable=False),
        sa.Column("differences", Json, nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "grade IN ('same_bits', 'same_figures', 'consistent', 'refuted', 'not_verified')",
            name=op.f("ck_verifications_grade"),
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_verifications_job_id")),
        sa.ForeignKeyConstraint(["rerun_id"], ["jobs.id"], name=op.f("fk_verifications_rerun_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_verifications")),
    )
    op.create_index("ix_verifications_job_id", "verifications", ["job_id"])
