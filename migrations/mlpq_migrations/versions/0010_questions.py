"""Questions that are registered before their first look, and the caps that end them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0010"
down_revision = "0009"

Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "questions",
        sa.Column("id", Serial, nullable=False),
        sa.Column("experiment_id", Serial, nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("metric", sa.String(length=20), nullable=False),
        sa.Column("target", sa.String(length=20), nullable=False),
        sa.Column("against", sa.Text(), nullable=False),
        sa.Column("difference", sa.Float(53), nullable=False),
        sa.Column("margin", sa.Float(53), nullable=True),
        sa.Column("alpha", sa.Float(53), nullable=False),
        sa.Column("max_seeds", sa.Integer(), nullable=True),
        sa.Column("choose_seeds", Json, nullable=False),
        sa.Column("seeds", Json, nullable=False),
        sa.Column("pilot", sa.Integer(), nullable=False),
        sa.Column("sides", Json, nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["experiment_id"], ["experiments.id"], name=op.f("fk_questions_experiment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_questions")),
        sa.UniqueConstraint(
            "experiment_id", "fields", "metric", "target", "against", name=op.f("uq_questions_experiment_id")
        ),
    )
    op.create_table(
        "question_caps",
        sa.Column("question_id", Serial, nullable=False, autoincrement=False),
        sa.Column("caps", Json, nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["question_id"], ["questions.id"], name=op.f("fk_question_caps_question_id")),
        sa.PrimaryKeyConstraint("question_id", name=op.f("pk_question_caps")),
    )
