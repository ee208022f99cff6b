"""Own data sets: a table of them, the files that are pushed through the database, and which jobs need which."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from mlpq_migrations import checks

revision = "0014"
down_revision = "0013"

Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Json = sa.JSON().with_variant(JSONB(), "postgresql")
IS_QUEUED = sa.text("status = 'queued'")

CHECKS = (
    ("jobs", "data_sha256", checks.SHA256),
    ("data_sets", "name", checks.DATA_NAME),
    ("data_sets", "sha256", checks.SHA256),
    ("data_sets", "features", checks.POSITIVE),
    ("data_sets", "classes", checks.POSITIVE),
    ("data_sets", "train", checks.POSITIVE),
    ("data_sets", "test", checks.POSITIVE),
    ("data_sets", "size", checks.POSITIVE),
    ("data_chunks", "sha256", checks.SHA256),
)

# A submitter registers, pushes and removes data sets, but not those that unfinished jobs need.
GUARD = """
CREATE OR REPLACE FUNCTION guard_data() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, {schema}, pg_temp AS $$
BEGIN
    IF NOT pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER')
        AND EXISTS (
            SELECT FROM jobs
            WHERE status IN ('queued', 'blocked', 'running') AND data_sha256 IN (SELECT sha256 FROM deleted)
                AND (TG_TABLE_NAME = 'data_chunks'
                    OR NOT EXISTS (SELECT FROM data_sets WHERE data_sets.sha256 = jobs.data_sha256))
        )
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'data that unfinished jobs need are never deleted';
    END IF;
    RETURN NULL;
END $$
"""


def upgrade() -> None:
    op.add_column("jobs", sa.Column("data_sha256", sa.String(length=64)))
    op.add_column("workers", sa.Column("data", sa.Text()))
    op.drop_index("ix_jobs_waiting", "jobs")
    op.create_index(
        "ix_jobs_waiting",
        "jobs",
        ["experiment_id", "device", "world_size", "data_sha256"],
        postgresql_where=IS_QUEUED,
        sqlite_where=IS_QUEUED,
    )
    op.create_table(
        "data_sets",
        sa.Column("id", Serial, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("features", sa.Integer(), nullable=False),
        sa.Column("classes", sa.Integer(), nullable=False),
        sa.Column("train", sa.Integer(), nullable=False),
        sa.Column("test", sa.Integer(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("about", Json, nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_data_sets")),
    )
    op.create_index(op.f("ix_data_sets_name"), "data_sets", ["name"])
    op.create_table(
        "data_chunks",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "number", name=op.f("pk_data_chunks")),
    )
    dialect = op.get_bind().dialect.name
    for table, column, check in CHECKS:
        for statement in checks.triggers(table, column, check, dialect):
            op.get_bind().exec_driver_sql(statement)
    if dialect == "postgresql":
        _guard()


def _guard() -> None:
    connection = op.get_bind()
    schema = connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    connection.exec_driver_sql(GUARD.format(schema=schema))
    for table in ("data_sets", "data_chunks"):
        connection.exec_driver_sql(
            f"CREATE TRIGGER guard_{table} AFTER DELETE ON {table} REFERENCING OLD TABLE AS deleted "
            "FOR EACH STATEMENT EXECUTE FUNCTION guard_data()"
        )
