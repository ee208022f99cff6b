"""Which test images each result classifies correctly, the hash of its predictions, confusion matrix and calibration."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0011"
down_revision = "0010"

Id = sa.String(36).with_variant(sa.String(36, collation="C"), "postgresql")
Json = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "result_images",
        sa.Column("job_id", Id, nullable=False),
        sa.Column("correct", sa.LargeBinary(), nullable=False),
        sa.Column("predictions_sha256", sa.String(length=64), nullable=False),
        sa.Column("confusion", Json, nullable=False),
        sa.Column("calibration", Json, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job_results.job_id"], name=op.f("fk_result_images_job_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_result_images")),
    )
