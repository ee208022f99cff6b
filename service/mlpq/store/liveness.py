"""When a lease has expired and whether a worker is alive, by the database's clock, which may have been set back."""

from __future__ import annotations

from sqlalchemy import ColumnElement, or_

from mlpq.jobs import LEASE_SECONDS
from mlpq.store.schema import jobs, workers
from mlpq.store.session import now

LONGEST_RETRY_SECONDS = 60  # delay before the next attempt of a job that failed
TOLERANCE_SECONDS = 1  # clocks are set back by milliseconds all the time; healthy workers must not lose their leases


def lease_has_expired() -> ColumnElement[bool]:
    """Whether the lease of a running job is over, or ends later than any lease that is given now.

    The latter was given before the clock was set back; a live worker's next heartbeat replaces it.
    """
    return or_(jobs.c.lease_until < now(), jobs.c.lease_until > now(LEASE_SECONDS + TOLERANCE_SECONDS))


def is_alive() -> ColumnElement[bool]:
    """Whether a worker sent a heartbeat within the length of a lease; one in the future is no sign of life."""
    return (workers.c.beat_at > now(-LEASE_SECONDS)) & (workers.c.beat_at <= now(TOLERANCE_SECONDS))


def delay_is_over(seconds: float = 0) -> ColumnElement[bool]:
    """Whether the delay before a job's next attempt ended `seconds` ago, or is longer than any that is set now."""
    begins = jobs.c.not_before
    return or_(begins <= now(-seconds), begins > now(LONGEST_RETRY_SECONDS + TOLERANCE_SECONDS))
