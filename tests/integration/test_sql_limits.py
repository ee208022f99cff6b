"""Limits of `mlpq sql`: no statement fills the memory of the process that runs it. On both databases."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlpq.errors import QueryError
from mlpq.store import sql
from mlpq.store.session import Store

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
WIDE = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT {} FROM n"
HUGE = (
    "SELECT zeroblob(1000000000)",
    "SELECT randomblob(1000000000)",
    "SELECT replace(hex(zeroblob(10000)), '0', hex(zeroblob(100000)))",
    "WITH RECURSIVE n(t) AS (SELECT 'x' UNION ALL SELECT t || t FROM n) SELECT t FROM n",
    WIDE.format("group_concat(printf('%.*c', 100000, 'x'))"),
)


def test_endless_result_is_stopped_by_its_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "MAX_ROWS", 5000)
    with pytest.raises(QueryError, match=r"more than 5,000 rows: add a LIMIT"):
        sql.read_only(store, ENDLESS)
    assert len(sql.read_only(store, f"{ENDLESS} LIMIT 5000")[1]) == 5000


def test_large_result_is_stopped_by_its_size(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "MAX_BYTES", 2**20)
    value = "printf('%.*c', 10000, 'x')" if store.is_sqlite else "repeat('x', 10000)"
    with pytest.raises(QueryError, match=r"larger than 1 MiB"):
        sql.read_only(store, WIDE.format(value))


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize("statement", HUGE)
def test_huge_value_is_rejected(store: Store, statement: str) -> None:
    with pytest.raises(QueryError, match=r"a value is larger than 16 MiB"):
        sql.read_only(store, statement)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("statement", "message"),
    [(ENDLESS, "the result has more than 1,000,000 rows"), *((huge, "a value is larger than 16 MiB") for huge in HUGE)],
)
def test_statement_runs_in_little_memory(store: Store, statement: str, message: str) -> None:
    """In a process that may use 1 GiB of address space, far less than these statements ask for."""
    program = (
        "import resource, sys; from mlpq.store import sql; from mlpq.store.session import Store\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "try: sql.read_only(Store(sys.argv[1]), sys.argv[2])\n"
        "except sql.QueryError as error: sys.exit(str(error))"
    )
    done = subprocess.run([sys.executable, "-c", program, store.url, statement], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
