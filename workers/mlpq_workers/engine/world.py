"""Who trains together: one process alone, or the ranks of torch.distributed, each with its part of every batch."""

# No annotations from __future__ here: DistributedDataParallel looks at those of `add_up`.

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class World:
    """This process among `size` that train the same models. What its methods say, they say to all ranks alike.

    All ranks must call `sum` and `agree` in the same order.
    """

    rank: int = 0
    size: int = 1

    def part(self, n: int) -> slice:
        """The rank's own of n rows: neighbours, each row with one rank, the first ranks one more where n is odd."""
        share, rest = divmod(n, self.size)
        first = self.rank * share + min(self.rank, rest)
        return slice(first, first + share + (self.rank < rest))

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module; with several ranks its gradients are the sum of theirs."""
        if self.size == 1:
            return module
        wrapped = DistributedDataParallel(module)
        wrapped.register_comm_hook(self.size, add_up)
        return wrapped

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Add up each tensor over the ranks, in place."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def agree(self, value: Any) -> Any:
        """What rank 0 says; what the others say is not heard. A value of JSON."""
        if self.size == 1:
            return value
        said = json.dumps(value).encode() if self.rank == 0 else b""
        length = torch.tensor(len(said))
        distributed.broadcast(length, src=0)
        content = torch.frombuffer(bytearray(said), dtype=torch.uint8) if said else torch.empty(int(length)).byte()
        distributed.broadcast(content, src=0)
        return json.loads(content.numpy().tobytes())


def add_up(size: int, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
    """The sum of all ranks' gradients, in the order of ranks.

    An all-reduce adds in an order that depends on where an element lies in its bucket, and buckets change after the
    first batch: a job that was resumed would get other bits.
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
