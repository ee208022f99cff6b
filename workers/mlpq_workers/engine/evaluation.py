"""The evaluation of a stack's networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mlpq_workers.engine.stack import Forward, Parameters, segments
from mlpq_workers.engine.world import ALONE, World


class Evaluation:
    """Losses, predictions and correct counts of all networks on the same number of images of each stream.

    Each rank of the world computes its own part of the images. After `run`, `classes` has the predicted classes of that
    part, int64, and `log_confidences` the logarithms of their softmax, both [networks, part].
    """

    ROWS = 256  # images of a stream at a time; fixed, because the rounding of a loss depends on it

    def __init__(
        self,
        parameters: Parameters,
        streams: Sequence[int],
        rows: Tensor,
        labels: Tensor,
        scale: float,
        world: World = ALONE,
    ) -> None:
        """`rows` and `labels` are [streams, n]; network i is evaluated on those of `streams[i]`."""
        self._world, self._n, own = world, rows.shape[1], world.part(rows.shape[1])
        rows, labels = rows[:, own], labels[:, own]
        self._rows, self._labels = rows, labels[list(streams)]
        groups = segments(streams, slice(0, len(streams)))
        self._parts: list[tuple[int, int, Forward]] = []
        forwards: dict[int, Forward] = {}
        n = rows.shape[1]
        for first in range(0, n, self.ROWS):
            batch = min(self.ROWS, n - first)
            if batch not in forwards:
                forwards[batch] = Forward(parameters, groups, len(rows), batch, scale)
            self._parts.append((first, first + batch, forwards[batch]))
        self._losses = parameters.rows.new_empty(len(streams), n)
        self.log_confidences = torch.empty_like(self._losses)
        self.classes = torch.empty_like(self._losses, dtype=torch.int64)
        self._images: Tensor | None = None

    def run(self, x: Tensor) -> tuple[list[float], list[int]]:
        """Mean cross-entropy, in nats, and correct count of each network, on its rows of the pixels `x`."""
        if self._images is None:
            self._images = x.new_empty(len(self._rows) * self.ROWS, x.shape[1])
        for first, end, forward in self._parts:
            rows = self._rows[:, first:end].reshape(-1)
            images = torch.index_select(x, 0, rows, out=self._images[: len(rows)])
            forward.load(images.view(forward.pixels.shape))
            forward.run()
            labels = self._labels[:, first:end]
            log = torch.log_softmax(forward.scores, 1)
            torch.gather(log, 1, labels[:, None], out=self._losses[:, None, first:end])
            torch.amax(log, 1, out=self.log_confidences[:, first:end])
            torch.argmax(forward.scores, 1, out=self.classes[:, first:end])
        correct = (self.classes == self._labels).sum(1)
        sums = self._losses.double().sum(1)
        self._world.sum([sums, correct])
        return (sums / -self._n).tolist(), correct.tolist()
