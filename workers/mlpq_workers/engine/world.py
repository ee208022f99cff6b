"""The processes that train together: one alone, or ranks (see mlpq_workers.engine.ranks) with parts of every batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class World:
    """This process as one of `size` ranks that train the same networks; here it is the only one.

    `wrap`, `sum`, `whole` and `broadcast` are collective: all ranks must call them in the same order, and all get the
    same results.
    """

    rank: int = 0
    size: int = 1

    def part(self, n: int) -> slice:
        """The rows of n that are this rank's own: consecutive, each row with one rank.

        The first n % size ranks get one row more than the others.
        """
        share, rest = divmod(n, self.size)
        first = self.rank * share + min(self.rank, rest)
        return slice(first, first + share + (self.rank < rest))

    def wrap(self, module: Any) -> Any:
        """The torch.nn.Module itself or, with several ranks, one whose gradients are sums over all ranks."""
        return module

    def sum(self, tensors: Iterable[Any]) -> None:
        """Replace each tensor by its sum over all ranks."""

    def whole(self, own: Any, n: int) -> Any:
        """All of the n elements of which each rank has its own `part`: a tensor [n]."""
        return own

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, which must be representable in JSON; those of other ranks are ignored."""
        return value


ALONE = World()
