"""Many networks of one shape trained as one: batched products, and the gradient of MMiDS 8.5.3 in reused buffers.

Activations are stored as in the text, one column for each image, and the bias is the text's "add a 1 to the input":
z_{i+1} = σ(W_i z_i), with a last row of ones in z_i and the bias as the last column of W_i. So each layer takes three
products for each batch, W_i z_i, W_iᵀ p_{i+1} and p_{i+1} z_iᵀ, and one call computes each for all networks.

The bits of a network never depend on its neighbors nor on their number, because on one CPU thread
- each product of a batch is a product of its own, of matrices that start at a multiple of the vector length;
- torch processes memory in whole vectors, and rounds the rest at the end of a run differently, so every run ends where
  a network ends: the networks' buffers are separated by gaps, and a row of parameters is a multiple of whole vectors;
- the arithmetic for a network depends on its own spec only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlpq.spec.job import JobSpec
from mlpq_workers.engine.network import ACTIVATIONS

LINE = 16  # elements: one cache line of float32, two of float64
RUN = 64  # elements: a multiple of two vectors on every CPU for which torch has vectorized code


def apart(networks: int, *shape: int, like: Tensor) -> Tensor:
    """Zeros of [networks, *shape]: each network's part is contiguous, starts at a cache line, and a gap follows it."""
    size = math.prod(shape)
    distance = -(-size // LINE) * LINE + LINE
    return like.new_zeros(networks * distance).as_strided((networks, *shape), (distance, *_strides(shape)))


def _strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


def _whole_lines(outputs: int, inputs: int) -> int:
    return -(-outputs * inputs // LINE) * LINE


@dataclass(frozen=True)
class Shape:
    """What the networks of a stack have in common. `ones` is 1 with biases, 0 without."""

    widths: tuple[int, ...]
    activation: str
    ones: int

    @classmethod
    def of(cls, spec: JobSpec) -> Shape:
        return cls(spec.widths, spec.activation, int(spec.bias))

    @property
    def hidden(self) -> tuple[int, ...]:
        return self.widths[1:-1]

    @property
    def layers(self) -> list[tuple[int, int, int]]:
        """Where each layer's matrix begins in a row of parameters, its rows, and its columns with the bias."""
        sizes = [(outputs, inputs + self.ones) for inputs, outputs in itertools.pairwise(self.widths)]
        starts = itertools.accumulate((_whole_lines(*size) for size in sizes), initial=0)
        return [(start, *size) for start, size in zip(starts, sizes, strict=False)]


class Parameters:
    """The parameters of all networks, one row each, and views of the rows as matrices.

    `rows` is [networks, length]; `layers[i]` is [networks, n_{i+1}, n_i (+ 1 for the bias, the last column)]. The
    elements between the layers of a row are never read.
    """

    def __init__(self, shape: Shape, networks: int, like: Tensor) -> None:
        self.shape = shape
        start, *size = shape.layers[-1]
        length = ((start + _whole_lines(*size)) // RUN + 1) * RUN
        self.rows = like.new_zeros(networks, length)
        self.layers = [
            self.rows.as_strided((networks, outputs, inputs), (length, inputs, 1), start)
            for start, outputs, inputs in shape.layers
        ]

    def put(self, i: int, weights: Mapping[str, Tensor]) -> None:
        """Set the parameters of network i from its state_dict."""
        for number, layer in enumerate(self.layers):
            inputs = self.shape.widths[number]
            layer[i, :, :inputs].copy_(weights[f"layer{number}.weight"])
            if self.shape.ones:
                layer[i, :, inputs].copy_(weights[f"layer{number}.bias"])

    def take(self, i: int) -> dict[str, Tensor]:
        """A copy of network i's parameters on the CPU, as its state_dict."""
        found = {}
        for number, layer in enumerate(self.layers):
            inputs = self.shape.widths[number]
            found[f"layer{number}.weight"] = layer[i, :, :inputs].to("cpu", copy=True).contiguous()
            if self.shape.ones:
                found[f"layer{number}.bias"] = layer[i, :, inputs].to("cpu", copy=True).contiguous()
        return found


@dataclass(frozen=True)
class Segment:
    """Consecutive networks whose inputs fit one batched product: the streams `inputs`, one each, or one for all."""

    networks: slice
    inputs: slice


def segments(streams: Sequence[int], within: slice) -> list[Segment]:
    """The networks of `within` in as few segments as possible; network i reads the stream `streams[i]`."""
    found: list[Segment] = []
    for network in range(within.start, within.stop):
        stream = streams[network]
        last = found[-1] if found else None
        if last and stream == last.inputs.stop:
            if last.networks.stop - last.networks.start == last.inputs.stop - last.inputs.start:
                found[-1] = Segment(slice(last.networks.start, network + 1), slice(last.inputs.start, stream + 1))
                continue
        elif last and last.inputs == slice(stream, stream + 1):
            found[-1] = Segment(slice(last.networks.start, network + 1), last.inputs)
            continue
        found.append(Segment(slice(network, network + 1), slice(stream, stream + 1)))
    return found


@dataclass(frozen=True)
class Layout:
    """The order of a stack's networks.

    Network i reads the stream `streams[i]`. The first `descending` networks are trained by plain gradient descent and
    have no gradient: one product adds to their weights, with the learning rate in the backward pass.
    """

    streams: Sequence[int]
    descending: int

    def segments(self) -> list[Segment]:
        """All networks, in segments of which each is trained in one way."""
        whole = len(self.streams)
        return segments(self.streams, slice(0, self.descending)) + segments(self.streams, slice(self.descending, whole))


class Forward:
    """The forward pass of all networks over `batch` images of each stream.

    `x` holds the images as they are stored, [streams, batch, features (+ 1)]; the products divide them by `scale`.
    `scores` are W_L z_L, [networks, classes, batch].
    """

    def __init__(
        self, parameters: Parameters, groups: Sequence[Segment], streams: int, batch: int, scale: float
    ) -> None:
        shape, like = parameters.shape, parameters.rows
        networks = len(like)
        self.weights = parameters.layers
        self.x = apart(streams, batch, shape.widths[0] + shape.ones, like=like)
        self.pixels = self.x[:, :, : shape.widths[0]]
        # z_1 … z_L, with the row of ones and without it.
        self.z = [apart(networks, width + shape.ones, batch, like=like) for width in shape.hidden]
        self.sigma = [z[:, :width] for z, width in zip(self.z, shape.hidden, strict=True)]
        self.scores = apart(networks, shape.widths[-1], batch, like=like)
        if shape.ones:
            self.x[:, :, -1] = scale
            for z in self.z:
                z[:, -1] = 1
        self.outputs = [*self.sigma, self.scores]
        self._activate = ACTIVATIONS[shape.activation].function
        self.pixel = 1 / scale  # the factor of a stored pixel
        self.first = [(group.networks, self.inputs(group)) for group in groups]
        self._first = [(self.outputs[0][part], self.weights[0][part], x.transpose(1, 2)) for part, x in self.first]

    def inputs(self, group: Segment) -> Tensor:
        """The images that a segment's networks read, [networks, batch, features (+ 1)]; a view."""
        x = self.x[group.inputs]
        return x.expand(group.networks.stop - group.networks.start, *x.shape[1:])

    def load(self, images: Tensor) -> None:
        """Copy pixels, [streams, batch, features], to `x`."""
        self.pixels.copy_(images)

    def run(self, after_activation: Callable[[int], None] | None = None) -> None:
        """Compute `scores` from `x`; `after_activation(i)` may change z_{i+1}."""
        for out, weight, x in self._first:
            out.baddbmm_(weight, x, beta=0, alpha=self.pixel)
        for i, z in enumerate(self.z):
            self._activate(self.sigma[i], out=self.sigma[i])
            if after_activation:
                after_activation(i)
            torch.bmm(self.weights[i + 1], z, out=self.outputs[i + 1])


class Masks:
    """Dropout's masks, drawn on the CPU by each network's own generator, in the order of the plain engine.

    They are drawn for all images of a `batch`, of which `forward` computes those in `own`. Their memory stays the same.
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
        self._drawn = [torch.ones(len(z), batch, z.shape[1], dtype=z.dtype) for z in sigma]
        self._sigma = sigma
        # The derivative needs the activations without their masks.
        self.unmasked = [apart(len(z), *z.shape[1:], like=z) for z in sigma]

    def draw(self) -> None:
        """Draw the masks of the next batch, for all hidden layers."""
        for mask, drawn in zip(self._masks, self._drawn, strict=True):
            for of_network, rate, generator in zip(drawn, self._rates, self._generators, strict=True):
                if rate:
                    of_network.bernoulli_(1 - rate, generator=generator)
            mask.copy_(drawn[:, self._own].to(mask.device).transpose(1, 2))  # at once: each copy makes a GPU wait
            mask.div_(self._keep)

    def __call__(self, i: int) -> None:
        """Apply the masks of z_{i+1}. `unmasked[i]` keeps the activations without them."""
        self.unmasked[i].copy_(self._sigma[i])
        self._sigma[i].mul_(self._masks[i])

    def backward(self, i: int, p: Tensor) -> None:
        """Multiply p, the gradient in the masked z_{i+1}, by the masks, in place."""
        p.mul_(self._masks[i])


class Step:
    """Forward pass, loss and backward pass for batches of one size. Writes `gradients`, and the weights of networks
    with plain gradient descent.

    `rates[i]` multiplies the sum of network i's gradients over the batch: 1 / batch, and -lr / batch with plain
    gradient descent.
    """

    def __init__(
        self,
        parameters: Parameters,
        gradients: Parameters,
        layout: Layout,
        rates: Tensor,
        batch: int,
        scale: float,
    ) -> None:
        streams = max(layout.streams) + 1
        self.forward = Forward(parameters, layout.segments(), streams, batch, scale)
        self.masks: Masks | None = None
        shape, like = parameters.shape, parameters.rows
        self._rates = rates[:, None, None]
        self._classes = torch.arange(shape.widths[-1], device=like.device)[:, None]
        self._label = torch.empty_like(self.forward.scores)
        self._minus_label = like.new_full((len(like), 1, 1), -1)
        self._smooths = False
        self._log = self.forward.scores.new_empty(self.forward.scores.shape)
        self._softmax = torch.empty_like(self._log)
        # p_1 … p_{L+1} as in the text, except that the last is the derivative in the scores.
        self._p = [apart(len(like), width, batch, like=like) for width in shape.widths[1:]]
        self._differentiate = ACTIVATIONS[shape.activation].backward
        self._back = [
            (layer[:, :, : layer.shape[2] - shape.ones].transpose(1, 2), self._p[i], self._p[i - 1])
            for i, layer in enumerate(parameters.layers)
        ]
        self._updates = [
            update
            for i in range(len(parameters.layers))
            for update in self._products(parameters, gradients, i, layout.descending)
        ]

    def smooth(self, shares: Sequence[float]) -> None:
        """Spread such a share of each network's labels evenly over all classes."""
        self._smooths = True
        smoothing = torch.tensor(shares, dtype=torch.float64)[:, None, None]
        self._kept = (1 - smoothing).to(self._rates)
        self._share = (smoothing / self.forward.scores.shape[1]).to(self._rates)
        # Those without smoothing must not have 0 times a sum that is infinite.
        self._is_sharp = self._share == 0
        self._minus_label.copy_(-self._kept)

    def set_rates(self, rates: Tensor) -> None:
        """Replace the first of `rates`, in the same memory."""
        self._rates[: len(rates), 0, 0].copy_(rates)

    def _products(
        self,
        parameters: Parameters,
        gradients: Parameters,
        layer: int,
        descending: int,
    ) -> list[tuple[Tensor, Tensor, Tensor, int, float]]:
        """The products p_{i+1} z_iᵀ of one layer, as arguments of baddbmm_: target, factors, beta and alpha."""
        networks = len(parameters.rows)
        if layer == 0:
            inputs = self.forward.first
        else:
            z = self.forward.z[layer - 1].transpose(1, 2)
            inputs = [
                (part, z[part]) for part in (slice(0, descending), slice(descending, networks)) if z[part].numel()
            ]
        found = []
        for part, factor in inputs:
            descends = part.stop <= descending
            target = (parameters if descends else gradients).layers[layer]
            alpha = self.forward.pixel if layer == 0 else 1.0
            found.append((target[part], self._p[layer][part], factor, int(descends), alpha))
        return found

    def run(self, labels: Tensor, losses: Tensor) -> None:
        """Train on the images in `forward`: read labels, write log-likelihoods to losses, both [networks, 1, batch].

        Nothing is allocated, so that the step can be captured in a CUDA graph.
        """
        forward, p = self.forward, self._p
        forward.run(self.masks)
        torch.log_softmax(forward.scores, 1, out=self._log)
        torch.gather(self._log, 1, labels, out=losses)
        if self._smooths:
            losses.mul_(self._kept).add_(
                self._log.sum(1, keepdim=True).mul_(self._share).masked_fill_(self._is_sharp, 0)
            )
        torch.softmax(forward.scores, 1, out=self._softmax)
        # (ŷ - y) / batch: the derivative of the cross-entropy in the scores. By a comparison with all classes, since
        # scatter_add_ sorts to be deterministic on a GPU.
        torch.eq(labels, self._classes, out=self._label)
        self._softmax.addcmul_(self._label, self._minus_label)
        if self._smooths:
            self._softmax.sub_(self._share)
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
