"""How ranks share rows, and what a process alone does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlpq_workers.engine.world import ALONE, World


@given(st.integers(0, 1000), st.integers(1, 9))
def test_rows_are_split_in_order_and_first_ranks_get_the_remainder(n: int, size: int) -> None:
    parts = [range(n)[World(rank, size).part(n)] for rank in range(size)]
    assert [row for part in parts for row in part] == list(range(n))
    assert [len(part) for part in parts] == [n // size + (rank < n % size) for rank in range(size)]


def test_single_process_has_all_rows_and_broadcasts_to_itself() -> None:
    assert ALONE.part(7) == slice(0, 7)
    assert ALONE.broadcast({"a": 1}) == {"a": 1}
