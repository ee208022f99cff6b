"""Ranks that train together: who has which rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlpq_workers.engine.world import ALONE, World


@given(st.integers(0, 1000), st.integers(1, 9))
def test_every_row_is_one_ranks_in_order_and_the_parts_are_as_even_as_can_be(n: int, size: int) -> None:
    parts = [range(n)[World(rank, size).part(n)] for rank in range(size)]
    assert [row for part in parts for row in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_who_is_alone_has_all_rows_and_asks_nobody() -> None:
    assert ALONE.part(7) == slice(0, 7)
    assert ALONE.agree({"a": 1}) == {"a": 1}
