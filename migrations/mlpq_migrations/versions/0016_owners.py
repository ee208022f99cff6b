"""Who submitted an experiment first; NULL of those that are older."""

import sqlalchemy as sa
from alembic import op

from mlpq_migrations import checks

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("experiments", sa.Column("owner", sa.String(length=64)))
    for statement in checks.triggers("experiments", "owner", checks.PRINTABLE, op.get_bind().dialect.name):
        op.get_bind().exec_driver_sql(statement)
