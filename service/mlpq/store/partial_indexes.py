"""The partial indexes of the tables, for the comparison with the migrations, which create them.

They are apart from the tables because each command imports those, and the option `postgresql_where` would import
SQLAlchemy's dialect of PostgreSQL with them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, text

from mlpq.store.schema import attempts, jobs


def _where(condition: str) -> dict[str, Any]:
    """The option of both dialects."""
    return {"postgresql_where": text(condition), "sqlite_where": text(condition)}


Index("ix_jobs_claim", jobs.c.priority.desc(), jobs.c.seq, **_where("status = 'queued'"))
Index("ix_jobs_gang", jobs.c.gang_key, jobs.c.priority, jobs.c.seq, **_where("status = 'queued'"))
Index("ix_jobs_lease", jobs.c.lease_until, **_where("status = 'running'"))
Index(
    "ix_jobs_waiting", jobs.c.experiment_id, jobs.c.device, jobs.c.world_size, jobs.c.data_sha256, jobs.c.package,
    **_where("status = 'queued'"),
)  # fmt: skip
Index("ix_attempts_rejected", attempts.c.fence_rejections, **_where("fence_rejections > 0"))
