"""The processes that train together: one alone, or the ranks of torch.distributed, each with a part of every batch."""

# No annotations from __future__ here: DistributedDataParallel inspects those of `sum_in_rank_order`.

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class World:
    """This process as one of `size` ranks that train the same networks.

    `sum` and `broadcast` are collective: all ranks must call them in the same order, and all get the same results.
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

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module itself or, with several ranks, one whose gradients are sums over all ranks."""
        if self.size == 1:
            return module
        wrapped = DistributedDataParallel(module)
        wrapped.register_comm_hook(self.size, sum_in_rank_order)
        return wrapped

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def whole(self, own: Tensor, n: int) -> Tensor:
        """All of the n elements of which each rank has its own `part`, [n]; collective, as `sum`."""
        if self.size == 1:
            return own
        found = own.new_zeros(n)
        found[self.part(n)] = own
        self.sum([found])
        return found

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, which must be representable in JSON; those of other ranks are ignored."""
        if self.size == 1:
            return value
        sent = json.dumps(value).encode() if self.rank == 0 else b""
        length = torch.tensor(len(sent))
        distributed.broadcast(length, src=0)
        content = torch.frombuffer(bytearray(sent), dtype=torch.uint8) if sent else torch.empty(int(length)).byte()
        distributed.broadcast(content, src=0)
        return json.loads(content.numpy().tobytes())


def sum_in_rank_order(size: int, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
    """The sum of all ranks' gradients, added in the order of the ranks.

    The order in which an all-reduce adds depends on where an element lies in its bucket, and DistributedDataParallel
    rebuilds the buckets after the first batch: a job that was resumed would get other bits.
    """
    own = bucket.buffer()
    parts = [torch.empty_like(own) for _ in range(size)]
    gathering = distributed.all_gather(parts, own, async_op=True).get_future()

    def add(_: object) -> Tensor:
        for part in parts[1:]:
            parts[0].add_(part)
        return parts[0]

    summed: torch.futures.Future[Tensor] = gathering.then(add)
    return summed


ALONE = World()
