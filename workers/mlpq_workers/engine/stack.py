"""Many models of one shape as one: batched products, and the gradient of MMiDS 8.5.3 in buffers that stay.

Activations are kept as the text has them, a column for each image, and the bias is the text's "add a 1 to the input":
z_{i+1} = σ(W_i z_i) with a last row of ones in z_i and the bias as the last column of W_i. So a layer takes three
products a batch, W_i z_i, W_iᵀ p_{i+1} and p_{i+1} z_iᵀ, and each is done for all models in one call.

A model's bits never depend on its neighbours, nor on how many there are, because on one CPU thread
- each product of a batch is one product of its own, of matrices that start at whole vectors;
- torch works through memory by whole vectors and rounds what is left over at the end of a run in another way, so every
  run ends where a model ends: between the models' buffers there are gaps, and a row of parameters has no rest;
- which arithmetic a model gets depends on its own spec alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlpq.spec.job import JobSpec
from mlpq_workers.engine.world import ALONE, World

LINE = 16  # elements: a cache line of float32, and whole lines of float64
RUN = 64  # elements: whole vectors, and whole pairs of them, on every CPU that torch has code for

aten = torch.ops.aten

# For each activation: the function, and what multiplies a gradient by its derivative, which needs only its output.
ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "sigmoid": (torch.sigmoid, lambda p, z: aten.sigmoid_backward.grad_input(p, z, grad_input=p)),
    "relu": (aten.relu.out, lambda p, z: aten.threshold_backward.grad_input(p, z, 0, grad_input=p)),
    "tanh": (torch.tanh, lambda p, z: aten.tanh_backward.grad_input(p, z, grad_input=p)),
}


def apart(models: int, *shape: int, like: Tensor) -> Tensor:
    """Zeros of [models, *shape], each model's part contiguous, at the start of a cache line, with a gap behind it."""
    size = math.prod(shape)
    distance = -(-size // LINE) * LINE + LINE
    return like.new_zeros(models * distance).as_strided((models, *shape), (distance, *_strides(shape)))


def _strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


@dataclass(frozen=True)
class Shape:
    """What the models of a stack have in common. `ones` is 1 with biases, 0 without."""

    widths: tuple[int, ...]
    activation: str
    ones: int

    @classmethod
    def of(cls, spec: JobSpec) -> Shape:
        return cls(spec.widths, spec.activation, int(spec.bias))

    @property
    def hidden(self) -> tuple[int, ...]:
        return self.widths[1:-1]


class Parameters:
    """The parameters of all models, one row each, and views of the rows as matrices.

    `rows` is [models, length]; `layers[i]` is [models, n_{i+1}, n_i (+ 1 for the bias, the last column)]. What lies
    between the layers of a row is never read.
    """

    def __init__(self, shape: Shape, models: int, like: Tensor) -> None:
        self.shape = shape
        sizes = [(outputs, inputs + shape.ones) for inputs, outputs in itertools.pairwise(shape.widths)]
        starts = [0, *itertools.accumulate(-(-outputs * inputs // LINE) * LINE for outputs, inputs in sizes)]
        length = (starts[-1] // RUN + 1) * RUN
        self.rows = like.new_zeros(models, length)
        self.layers = [
            self.rows.as_strided((models, *size), (length, size[1], 1), start)
            for size, start in zip(sizes, starts, strict=False)
        ]

    def put(self, model: int, weights: Mapping[str, Tensor]) -> None:
        """Set the parameters of one model from the state_dict of the plain one."""
        for i, layer in enumerate(self.layers):
            inputs = self.shape.widths[i]
            layer[model, :, :inputs].copy_(weights[f"layer{i}.weight"])
            if self.shape.ones:
                layer[model, :, inputs].copy_(weights[f"layer{i}.bias"])

    def take(self, model: int) -> dict[str, Tensor]:
        """A copy of one model's parameters on the CPU, as the state_dict of the plain one."""
        found = {}
        for i, layer in enumerate(self.layers):
            inputs = self.shape.widths[i]
            found[f"layer{i}.weight"] = layer[model, :, :inputs].to("cpu", copy=True).contiguous()
            if self.shape.ones:
                found[f"layer{i}.bias"] = layer[model, :, inputs].to("cpu", copy=True).contiguous()
        return found


@dataclass(frozen=True)
class Segment:
    """Neighbouring models whose inputs can go into one batched product.

    They read `inputs` streams one after another, or all of them the same one.
    """

    models: slice
    inputs: slice


def segments(streams: Sequence[int], within: slice) -> list[Segment]:
    """The models of `within` in as few segments as there can be; `streams[i]` is the stream that model i reads."""
    found: list[Segment] = []
    for model in range(within.start, within.stop):
        stream = streams[model]
        last = found[-1] if found else None
        if last and stream == last.inputs.stop:
            if last.models.stop - last.models.start == last.inputs.stop - last.inputs.start:
                found[-1] = Segment(slice(last.models.start, model + 1), slice(last.inputs.start, stream + 1))
                continue
        elif last and last.inputs == slice(stream, stream + 1):
            found[-1] = Segment(slice(last.models.start, model + 1), last.inputs)
            continue
        found.append(Segment(slice(model, model + 1), slice(stream, stream + 1)))
    return found


class Forward:
    """The forward pass of all models over as many images of each stream as `batch` says.

    `x` holds the images as they are stored, [streams, batch, features (+ 1)]; the products divide them by `scale`.
    `scores` are W_L z_L, [models, classes, batch].
    """

    def __init__(
        self, parameters: Parameters, groups: Sequence[Segment], streams: int, batch: int, scale: float
    ) -> None:
        shape, like = parameters.shape, parameters.rows
        models = len(like)
        self.weights = parameters.layers
        self.x = apart(streams, batch, shape.widths[0] + shape.ones, like=like)
        self.pixels = self.x[:, :, : shape.widths[0]]
        # z_1 … z_L, with their row of ones, and without.
        self.z = [apart(models, width + shape.ones, batch, like=like) for width in shape.hidden]
        self.sigma = [z[:, :width] for z, width in zip(self.z, shape.hidden, strict=True)]
        self.scores = apart(models, shape.widths[-1], batch, like=like)
        if shape.ones:
            self.x[:, :, -1] = scale
            for z in self.z:
                z[:, -1] = 1
        self.outputs = [*self.sigma, self.scores]
        self._activate = ACTIVATIONS[shape.activation][0]
        self.share = 1 / scale  # of a stored pixel
        self.first = [(group.models, self.inputs(group)) for group in groups]
        self._first = [
            (self.outputs[0][models], self.weights[0][models], x.transpose(1, 2)) for models, x in self.first
        ]

    def inputs(self, group: Segment) -> Tensor:
        """The images that a segment's models read, [models, batch, features (+ 1)]; a view."""
        x = self.x[group.inputs]
        return x.expand(group.models.stop - group.models.start, *x.shape[1:])

    def load(self, images: Tensor) -> None:
        """Set `x` to pixels, [streams, batch, features]."""
        self.pixels.copy_(images)

    def run(self, after_activation: Callable[[int], None] | None = None) -> None:
        """From `x` to `scores`; `after_activation(i)` may change z_{i+1}."""
        for out, weight, x in self._first:
            out.baddbmm_(weight, x, beta=0, alpha=self.share)
        for i, z in enumerate(self.z):
            self._activate(self.sigma[i], out=self.sigma[i])
            if after_activation:
                after_activation(i)
            torch.bmm(self.weights[i + 1], z, out=self.outputs[i + 1])


class Masks:
    """Dropout's masks: drawn on the CPU by each model's own generator, in the order of the plain engine.

    They are drawn for all the images of a `batch`, of which `forward` computes those of `own`.
    """

    def __init__(
        self,
        forward: Forward,
        rates: Sequence[float],
        generators: Sequence[torch.Generator],
        batch: int,
        own: slice,
    ) -> None:
        self._rates, self._generators, self._own = rates, generators, own
        sigma = forward.sigma
        self._keep = forward.scores.new_tensor([1 - rate for rate in rates])[:, None, None]
        self._masks = [apart(len(z), *z.shape[1:], like=z) for z in sigma]
        self._drawn = [torch.empty(batch, z.shape[1], dtype=z.dtype) for z in sigma]
        self._sigma = sigma
        # The derivative needs the activation as it was before its mask.
        self.unmasked = [apart(len(z), *z.shape[1:], like=z) for z in sigma]
        for mask in self._masks:
            mask.fill_(1)

    def __call__(self, i: int) -> None:
        """Draw the masks of z_{i+1} and apply them."""
        mask, drawn = self._masks[i], self._drawn[i]
        for model, (rate, generator) in enumerate(zip(self._rates, self._generators, strict=True)):
            if rate:
                mask[model].copy_(drawn.bernoulli_(1 - rate, generator=generator)[self._own].t())
        mask.div_(self._keep)
        self.unmasked[i].copy_(self._sigma[i])
        self._sigma[i].mul_(mask)

    def backward(self, i: int, p: Tensor) -> None:
        p.mul_(self._masks[i])


class Step:
    """Forward, loss and backward for batches of one size, into `gradients`.

    The first `descending` models have no gradient: plain gradient descent is one product that adds to the weights, with
    the rate in the backward pass. `rates[i]` multiplies the sum of model i's gradients over the batch: 1 / batch, and
    for those -lr / batch.
    """

    def __init__(
        self,
        parameters: Parameters,
        gradients: Parameters,
        streams: Sequence[int],
        descending: int,
        rates: Tensor,
        batch: int,
        scale: float,
    ) -> None:
        models, width = len(parameters.rows), max(streams) + 1
        rest = slice(descending, models)
        groups = segments(streams, slice(0, descending)) + segments(streams, rest)
        self.forward = Forward(parameters, groups, width, batch, scale)
        self.masks: Masks | None = None
        shape, like = parameters.shape, parameters.rows
        self._rates = rates[:, None, None]
        self._minus_one = -torch.ones_like(self.forward.scores[:, :1])
        self._log = self.forward.scores.new_empty(self.forward.scores.shape)
        self._softmax = torch.empty_like(self._log)
        # p_{L+1}, p_L … as in the text, but for the last: that is the derivative in the scores.
        self._p = [apart(models, width, batch, like=like) for width in shape.widths[1:]]
        self._differentiate = ACTIVATIONS[shape.activation][1]
        self._back = [
            (layer[:, :, : layer.shape[2] - shape.ones].transpose(1, 2), self._p[i], self._p[i - 1])
            for i, layer in enumerate(parameters.layers)
        ]
        self._updates = [
            update
            for i in range(len(parameters.layers))
            for update in self._products(parameters, gradients, i, groups, descending)
        ]

    def _products(
        self,
        parameters: Parameters,
        gradients: Parameters,
        layer: int,
        groups: Sequence[Segment],
        descending: int,
    ) -> list[tuple[Tensor, Tensor, Tensor, int, float]]:
        """The products p_{i+1} z_iᵀ of one layer, as arguments of baddbmm_: target, factors, beta and alpha."""
        models = len(parameters.rows)
        if layer == 0:
            inputs = list(zip((group.models for group in groups), (x for _, x in self.forward.first), strict=True))
        else:
            z = self.forward.z[layer - 1].transpose(1, 2)
            inputs = [(part, z[part]) for part in (slice(0, descending), slice(descending, models)) if z[part].numel()]
        found = []
        for part, factor in inputs:
            descends = part.stop <= descending
            target = (parameters if descends else gradients).layers[layer]
            alpha = self.forward.share if layer == 0 else 1.0
            found.append((target[part], self._p[layer][part], factor, int(descends), alpha))
        return found

    def run(self, labels: Tensor, losses: Tensor) -> None:
        """Train on the images that `forward` holds; labels and losses are [models, 1, batch]."""
        forward, p = self.forward, self._p
        forward.run(self.masks)
        torch.log_softmax(forward.scores, 1, out=self._log)
        torch.gather(self._log, 1, labels, out=losses)
        torch.softmax(forward.scores, 1, out=self._softmax)
        # (ŷ - y) / batch, the whole of the loss's part of the backward pass.
        self._softmax.scatter_add_(1, labels, self._minus_one)
        torch.mul(self._softmax, self._rates, out=p[-1])
        for i in range(len(p) - 1, 0, -1):
            weight, above, below = self._back[i]
            torch.bmm(weight, above, out=below)
            output = forward.sigma[i - 1]
            if self.masks:
                self.masks.backward(i - 1, below)
                output = self.masks.unmasked[i - 1]
            self._differentiate(below, output)
        for target, above, below, beta, alpha in self._updates:
            target.baddbmm_(above, below, beta=beta, alpha=alpha)


class Evaluation:
    """Losses and right answers of all models on the same number of images of each stream, in parts.

    Each rank of the world takes its own part of the images.
    """

    ROWS = 256  # images at a time; a constant, because the rounding of a loss depends on it

    def __init__(
        self,
        parameters: Parameters,
        streams: Sequence[int],
        rows: Tensor,
        labels: Tensor,
        scale: float,
        world: World = ALONE,
    ) -> None:
        """`rows` are [streams, n], `labels` [streams, n]; model i is judged on those of streams[i]."""
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
        self._images: Tensor | None = None

    def run(self, x: Tensor) -> tuple[list[float], list[int]]:
        """Mean cross-entropy and number of right answers of each model, on rows of the pixels `x`."""
        correct = torch.zeros(len(self._labels), dtype=torch.int64, device=x.device)
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
            correct += (forward.scores.argmax(1) == labels).sum(1)
        sums = self._losses.double().sum(1)
        self._world.sum([sums, correct])
        return (sums / -self._n).tolist(), correct.tolist()
