"""A client that is suspended, or loses its power, within a transaction: others take over its jobs."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from mlpq.errors import StoreError
from mlpq.store import answers, execution
from mlpq.store.schema import jobs
from mlpq.store.session import ANSWER_SECONDS, Store
from tests.support.job_steps import claim_one, let_lease_expire, specs, submit
from tests.support.services import wait_until


@pytest.mark.parametrize("store", ["postgresql"], indirect=True)
def test_job_that_a_silent_client_has_locked_is_requeued(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "SILENT_CLIENT_SECONDS", 2.0)
    silent = Store(store.url)
    (job,) = submit(store, *specs())
    claim_one(store)
    let_lease_expire(store, job)
    with pytest.raises(StoreError, match="idle-in-transaction"):
        _go_on_after_requeuing(silent, store, job)
    silent.close()


def _go_on_after_requeuing(silent: Store, store: Store, job: str) -> None:
    """Lock the job in a transaction, send nothing until others have requeued it, and go on."""
    with silent.write() as connection:
        lock = select(jobs.c.id).with_for_update()
        connection.execute(lock)
        assert wait_until("it is requeued", lambda: execution.requeue_expired(store)) == [job]
        connection.execute(lock)


@pytest.mark.parametrize("store", ["postgresql"], indirect=True)
def test_each_side_gives_up_on_the_other_within_a_minute(store: Store) -> None:
    """A client that is silent for 60 s, and a server that is for 20 to 25 s, before a lease expires."""
    with store.read() as connection:
        silent = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar_one()
        options = connection.connection.dbapi_connection.info.get_parameters()  # type: ignore[union-attr]
    assert silent == "1min"
    names = ("connect_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
    assert [options[name] for name in names] == ["5", "10", "5", "3", "25000"]
    assert ANSWER_SECONDS == 20


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_writer_waits_for_others_for_half_a_minute_on_sqlite(store: Store) -> None:
    for transaction in (store.read, store.write):
        with transaction() as connection:
            assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 30_000
