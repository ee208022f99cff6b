"""How the weights of a job are drawn; in what was filed before it was a choice, as torch does."""

from alembic import op

from mlpq_migrations import view

revision = "0004"
down_revision = "0003"

VIEW = (
    view.FIRST.replace("job_results.gang_size,", "job_results.gang_size,\n    job_results.engine,")
    .replace(
        "jobs.device AS requested_device,",
        "jobs.device AS requested_device,\n    jobs.world_size AS requested_world_size,",
    )
    .replace("AS bias,", "AS bias,\n    coalesce({text:initialisation}, 'torch') AS initialisation,")
)


def upgrade() -> None:
    op.execute("DROP VIEW results")
    op.execute(view.statement(VIEW, op.get_bind().dialect.name))
