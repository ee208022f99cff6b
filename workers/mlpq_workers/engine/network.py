"""The model of a spec, drawn from its seed as a plain PyTorch script would draw it, and the identity of its weights."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mlpq.spec.job import TRUNCATED_NORMAL_SD, JobSpec

ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "tanh": nn.Tanh}


class Dropout(nn.Module):
    """nn.Dropout with a generator of its own: the same masks, but drawn on the CPU whatever the device.

    nn.Dropout draws from the device's global generator, so a seed would mean another run on each kind of device.
    `part` is set where only a part of each batch comes by: the number of rows of the whole batch, and which they are.
    """

    part: tuple[int, slice] | None = None

    def __init__(self, p: float, generator: torch.Generator) -> None:
        super().__init__()
        self.p = p
        self.generator = generator

    def forward(self, x: Tensor) -> Tensor:
        """Zero a share p of the entries of x while training and scale the others by 1 / (1 - p)."""
        if not self.training:
            return x
        # The three steps, and their order, are those of torch's own CPU dropout: the bits depend on them.
        keep = 1 - self.p
        rows, own = self.part or (len(x), slice(None))
        mask = torch.empty((rows, *x.shape[1:]), dtype=x.dtype).bernoulli_(keep, generator=self.generator).div_(keep)
        return x * mask[own].to(x.device)


def build(spec: JobSpec) -> tuple[nn.Sequential, torch.Generator]:
    """The model on the CPU, and the generator that draws its dropout masks.

    The weights are those of a script that calls torch.manual_seed(seed) and makes the nn.Linear layers in order, and
    then, for an initialisation other than torch's, draws the weights of each layer anew in the same order. The
    generator stands where such a script's global generator then stands. The global generator itself is left untouched.
    Linear layers are named layer0, layer1, … after W_0, W_1, …, with or without dropout between them, so that a job can
    go on from the weights of another that used a different dropout.
    """
    generator = torch.Generator()
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.random.fork_rng(devices=[]):
        # torch.manual_seed would also seed every GPU, and fork_rng restores only the CPU.
        torch.default_generator.manual_seed(spec.seed)
        for i, (inputs, outputs) in enumerate(itertools.pairwise(spec.widths)):
            layers[f"layer{i}"] = nn.Linear(inputs, outputs, bias=spec.bias)
            if i < len(spec.hidden):
                layers[f"{spec.activation}{i}"] = ACTIVATIONS[spec.activation]()
                if spec.dropout:
                    layers[f"dropout{i}"] = Dropout(spec.dropout, generator)
        model = nn.Sequential(layers)
        if spec.initialisation == "truncated-normal":
            model.apply(_draw_truncated_normal)
        generator.set_state(torch.default_generator.get_state())
    return model, generator


def _draw_truncated_normal(module: nn.Module) -> None:
    """Weights from a normal of mean 0 whose values beyond two standard deviations are drawn again; biases 0.

    The initialisation of TensorFlow's truncated_normal_initializer, which DeepOBS's MLP has.
    """
    if isinstance(module, nn.Linear):
        sd = TRUNCATED_NORMAL_SD
        nn.init.trunc_normal_(module.weight, std=sd, a=-2 * sd, b=2 * sd)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 of the values: equal for equal weights on every machine and in every file format, 64 hexadecimal digits.

    Hashed in the order of the sorted names, for each tensor: a line of JSON with its name, dtype and shape, which also
    fixes how many bytes follow, then its content in C order, little-endian.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        values = weights[name].detach().cpu().numpy()
        digest.update(json.dumps([name, values.dtype.name, values.shape]).encode() + b"\n")
        digest.update(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()
