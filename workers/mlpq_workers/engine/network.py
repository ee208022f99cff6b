"""The network of a spec, with the initial weights that a plain PyTorch script draws."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mlpq.spec.job import TRUNCATED_NORMAL_SD, JobSpec

aten = torch.ops.aten


@dataclass(frozen=True)
class Activation:
    """An activation function σ: as a module, as a function with an `out` argument, and its derivative.

    `backward(p, z)` multiplies p, in place, by the derivative of σ. It needs only the output z = σ(x) (MMiDS 8.5.3).
    """

    module: type[nn.Module]
    function: Callable[..., Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


ACTIVATIONS = {
    "sigmoid": Activation(nn.Sigmoid, torch.sigmoid, lambda p, z: aten.sigmoid_backward.grad_input(p, z, grad_input=p)),
    "relu": Activation(nn.ReLU, aten.relu.out, lambda p, z: aten.threshold_backward.grad_input(p, z, 0, grad_input=p)),
    "tanh": Activation(nn.Tanh, torch.tanh, lambda p, z: aten.tanh_backward.grad_input(p, z, grad_input=p)),
}


class Dropout(nn.Module):
    """nn.Dropout with its own generator: the same masks, but drawn on the CPU for every device.

    nn.Dropout draws from the device's global generator, so a seed would mean a different run on each kind of device.
    A rank that computes only a part of each batch sets `part`: the rows of the whole batch, and which are its own.
    """

    part: tuple[int, slice] | None = None

    def __init__(self, p: float, generator: torch.Generator) -> None:
        super().__init__()
        self.p = p
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """While training, set each entry of x to zero with probability p, and divide the others by 1 - p."""
        if not self.training:
            return x
        # The three steps and their order are those of torch's own CPU dropout: the bits depend on them.
        keep = 1 - self.p
        rows, own = self.part or (len(x), slice(None))
        mask = torch.empty((rows, *x.shape[1:]), dtype=x.dtype).bernoulli_(keep, generator=self.generator).div_(keep)
        return x * mask[own].to(x.device)


def build(spec: JobSpec) -> tuple[nn.Sequential, torch.Generator]:
    """The network with new weights on the CPU, and the generator of its dropout masks.

    The weights are those of a script that calls torch.manual_seed(seed), creates the nn.Linear layers in order and
    then, for an initialization other than torch's, draws the weights of each layer again in the same order. The
    generator starts in the state in which such a script leaves the global generator. The global generator itself is not
    changed.

    Linear layers are named layer0, layer1, … after W_0, W_1, …, with or without dropout between them, so that a job can
    continue from the weights of a job with another dropout.
    """
    generator = torch.Generator()
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it also seeds every GPU, and this fork_rng restores only the CPU's generator.
        torch.default_generator.manual_seed(spec.seed)
        for i, (inputs, outputs) in enumerate(itertools.pairwise(spec.widths)):
            layers[f"layer{i}"] = nn.Linear(inputs, outputs, bias=spec.bias)
            if i < len(spec.hidden):
                layers[f"{spec.activation}{i}"] = ACTIVATIONS[spec.activation].module()
                if spec.dropout:
                    layers[f"dropout{i}"] = Dropout(spec.dropout, generator)
        network = nn.Sequential(layers)
        if spec.initialisation == "truncated-normal":
            network.apply(_draw_truncated_normal)
        generator.set_state(torch.default_generator.get_state())
    return network, generator


def _draw_truncated_normal(module: nn.Module) -> None:
    """Draw weights from a normal distribution of mean 0, cut at two standard deviations; set biases to 0.

    The initialization of DeepOBS's MLP, TensorFlow's truncated_normal_initializer.
    """
    if isinstance(module, nn.Linear):
        sd = TRUNCATED_NORMAL_SD
        nn.init.trunc_normal_(module.weight, std=sd, a=-2 * sd, b=2 * sd)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
