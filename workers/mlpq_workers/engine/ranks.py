"""The ranks of torch.distributed as a world."""

# No annotations from __future__ here: DistributedDataParallel inspects those of `sum_in_rank_order`.

import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mlpq_workers.engine.world import World


class Ranks(World):
    """This process as one of the `size` ranks of the process group; also with a size of 1."""

    def wrap(self, module: nn.Module) -> nn.Module:
        if self.size == 1:
            return module
        wrapped = DistributedDataParallel(module)
        wrapped.register_comm_hook(Parts(self.size), sum_in_rank_order)
        return wrapped

    def sum(self, tensors: Iterable[Tensor]) -> None:
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def whole(self, own: Tensor, n: int) -> Tensor:
        if self.size == 1:
            return own
        found = own.new_zeros(n)
        found[self.part(n)] = own
        self.sum([found])
        return found

    def broadcast(self, value: Any) -> Any:
        if self.size == 1:
            return value
        sent = json.dumps(value).encode() if self.rank == 0 else b""
        length = torch.tensor(len(sent))
        distributed.broadcast(length, src=0)
        content = torch.frombuffer(bytearray(sent), dtype=torch.uint8) if sent else torch.empty(int(length)).byte()
        distributed.broadcast(content, src=0)
        return json.loads(content.numpy().tobytes())


class Parts:
    """Memory for the gradients of all ranks, one tensor each, for every bucket of DistributedDataParallel.

    It is used again for every batch: NCCL keeps what it has written until its watchdog looks, which may be many batches
    later.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._of: dict[int, list[Tensor]] = {}

    def like(self, bucket: distributed.GradBucket) -> list[Tensor]:
        own, parts = bucket.buffer(), self._of.get(bucket.index())
        if parts is None or parts[0].shape != own.shape:  # the buckets are rebuilt after the first batch
            parts = self._of[bucket.index()] = [torch.empty_like(own) for _ in range(self._size)]
        return parts


def sum_in_rank_order(memory: Parts, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
    """The sum of all ranks' gradients, added in the order of the ranks.

    The order in which an all-reduce adds depends on where an element lies in its bucket, and DistributedDataParallel
    rebuilds the buckets after the first batch: a job that was resumed would get other bits.
    """
    parts = memory.like(bucket)
    gathering = distributed.all_gather(parts, bucket.buffer(), async_op=True).get_future()

    def add(_: object) -> Tensor:
        for part in parts[1:]:
            parts[0].add_(part)
        return parts[0]

    summed: torch.futures.Future[Tensor] = gathering.then(add)
    return summed
