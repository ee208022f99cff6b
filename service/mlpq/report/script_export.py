"""A job as a standalone PyTorch script, without mlpq, for `mlpq export --script`."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

from mlpq import formatting
from mlpq.spec.job import TRUNCATED_NORMAL_SD, JobSpec
from mlpq.spec.optimizers import OPTIMIZERS

ACTIVATIONS = {"sigmoid": "Sigmoid", "relu": "ReLU", "tanh": "Tanh"}
WIDTH = 100
LISTED = 6  # hidden layers that get a line each; more are made in a loop

# A line that ends in "#: words" is there only for a job that has all of these features.
BEGINNING = """\
# Job $job of mlpq in plain PyTorch$after_others
# Spec hash $spec_hash
# $recorded
import copy  #: patience
import sys  #: torchvision

import torch
from sklearn.datasets import load_digits  #: digits
from torch import nn, optim
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset$random_split
from torchvision.datasets import $dataset  #: torchvision

torch.set_num_threads($threads)  # the last bits depend on it  #: threads
folder = sys.argv[1] if len(sys.argv) > 1 else "data"  #: torchvision
sets = [$dataset(folder, train=part, download=True) for part in (True, False)]  #: torchvision
train, test = (TensorDataset(s.data.flatten(1) / 255, s.targets) for s in sets)  #: torchvision
images, labels = (torch.tensor(values) for values in load_digits(return_X_y=True))  #: digits
images = images.float() / 16  #: digits
train = TensorDataset(images[:$images], labels[:$images])  #: digits
test = TensorDataset(images[$images:], labels[$images:])  #: digits
train, validation = random_split(train, [$kept, $held_out], torch.Generator().manual_seed($seed))  #: validation

torch.manual_seed($seed)  # draws the weights$then_dropout
$model
for p in model.parameters():  # weights are matrices, biases are not  #: truncated
    nn.init.trunc_normal_(p, std=$sd, a=-$cut, b=$cut) if p.dim() == 2 else nn.init.zeros_(p)  #: truncated
shuffle = torch.Generator().manual_seed($seed)  # draws the order of the images
"""
TRAINING = """\
for layer in model[2::3]:  #: varying_dropout
    layer.p = dropout  #: varying_dropout
best_loss = None  #: patience
for epoch in range(1, $after_last):
    model.train()  #: dropout
    total = 0.0
    for x, y in DataLoader(train, batch_size=$batch_size, shuffle=True, generator=shuffle):
        loss = cross_entropy(model(x), y)
        total += loss.item() * len(y)
        loss = loss + $l1 * sum(p.abs().sum() for p in model.parameters())  #: l1
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: train loss {total / len(train):.4f}")
    x, y = validation[:]  #: patience
    with torch.inference_mode():  #: patience
        loss = cross_entropy(model$eval(x), y, reduction="none").double().mean().item()  #: patience
    if ${or_always}best_loss is None or loss < best_loss:  #: patience
        best_epoch, best_loss, best = epoch, loss, copy.deepcopy(model.state_dict())  #: patience
        states = shuffle.get_state(), torch.get_rng_state()  #: best_goes_on
    elif epoch - best_epoch >= $patience:  #: patience
        break  #: patience
model.load_state_dict(best)  #: patience
shuffle.set_state(states[0])  #: best_goes_on
torch.set_rng_state(states[1])  #: best_goes_on dropout
"""
END = """\
x, y = test[:]
with torch.inference_mode():
    correct = (model$eval(x).argmax(1) == y).sum().item()
print(f"{correct} of {len(y)} test images right ({correct / len(y):.2%})")
"""


def script(chain: Sequence[JobSpec], row: Mapping[str, Any], environment: Mapping[str, Any] | None) -> str:
    """The text of a script that trains the last job of `chain`, after those that it goes on from, oldest first.

    `row` is the job's row of the view, and `environment` what its last attempt ran on, where there was one. On the CPU
    the script has the bits of the plain engine, and those of a gang up to rounding. For one job, whatever its spec, it
    has fewer than 60 lines; those that it goes on from add some, as many as they differ.
    """
    spec, threads = chain[-1], _threads(row, environment)
    features = _features(chain) | ({"threads"} if threads else set())
    settings = _settings(chain)
    template = f"{BEGINNING}{_trainings(chain, settings)}{END}"
    marked = [line.partition("  #: ") for line in template.splitlines()]
    kept = [line for line, _, needed in marked if features.issuperset(needed.split())]
    return Template("".join(f"{line}\n" for line in kept)).substitute(
        settings,
        job=row["id"],
        after_others="" if len(chain) == 1 else ", after those it goes on from",
        spec_hash=row["spec_hash"],
        recorded=_wrapped(_recorded(row, environment), "# "),
        random_split=", random_split" if spec.validation else "",
        dataset=spec.data.torchvision,
        threads=threads,
        images=spec.data.train,
        kept=spec.data.train - spec.validation_size,
        held_out=spec.validation_size,
        seed=spec.seed,
        then_dropout=", then the dropout" if "dropout" in features else "",
        eval=".eval()" if "dropout" in features else "",
        model=_model(spec, settings["dropout"]),
        sd=TRUNCATED_NORMAL_SD,
        cut=2 * TRUNCATED_NORMAL_SD,
        after_last=spec.epochs + 1 if len(chain) == 1 else "epochs + 1",
        or_always="patience is None or " if any(one.patience is None for one in chain) else "",
    )


def _features(chain: Sequence[JobSpec]) -> set[str]:
    spec = chain[-1]
    present = {
        "digits": spec.data.bundled,
        "torchvision": not spec.data.bundled,
        "validation": spec.validation,
        "truncated": spec.initialisation == "truncated-normal",
        "dropout": any(one.dropout for one in chain),
        "varying_dropout": len({one.dropout for one in chain}) > 1,
        "l1": any(one.l1 for one in chain),
        "patience": any(one.patience for one in chain),
        "best_goes_on": any(one.patience for one in chain[:-1]),
    }
    return {name for name, is_present in present.items() if is_present}


def _threads(row: Mapping[str, Any], environment: Mapping[str, Any] | None) -> int | None:
    """How many threads computed the job on the CPU, in a gang one; None where that is not known."""
    if row["device"] != "cpu" or environment is None:
        return None
    return 1 if row["engine"] == "gang" else int(environment["threads"])


def _recorded(row: Mapping[str, Any], environment: Mapping[str, Any] | None) -> str:
    if row["test_correct"] is None or environment is None:
        return f"mlpq has no result of it: its status is {formatting.status(row)}."
    count = formatting.count(row["test_correct"], row["test_total"])
    return f"mlpq {environment['code_version']} with torch {environment['torch']} on {row['device']}: {count} right"


def _settings(chain: Sequence[JobSpec]) -> dict[str, object]:
    """What the jobs of a chain agree in by its value, and what they differ in by its name, as a parameter."""
    found = {}
    for name in ("batch_size", "l1", "dropout", "patience"):
        values = {getattr(spec, name) for spec in chain}
        found[name] = values.pop() if len(values) == 1 else name
    return found


def _model(spec: JobSpec, dropout: object) -> str:
    """The lines that make the model. Where the jobs of a chain differ in dropout, training sets it."""
    bias = "" if spec.bias else ", bias=False"
    after = f", nn.{ACTIVATIONS[spec.activation]}()"
    if dropout:
        after += f", nn.Dropout({'' if dropout == 'dropout' else dropout})"
    if len(spec.hidden) > LISTED:
        lines = [
            f"widths = {list(spec.widths)}",
            "model = nn.Sequential()",
            f"for i in range({len(spec.hidden)}):",
            f"    model.extend([nn.Linear(*widths[i : i + 2]{bias}){after}])",
            f"model.append(nn.Linear(*widths[-2:]{bias}))",
        ]
    else:
        layers = [f"    nn.Linear({inputs}, {outputs}{bias})" for inputs, outputs in itertools.pairwise(spec.widths)]
        lines = ["model = nn.Sequential(", *(f"{layer}{after}," for layer in layers[:-1]), f"{layers[-1]},", ")"]
    return "\n".join(map(_wrapped, lines))


def _trainings(chain: Sequence[JobSpec], settings: Mapping[str, object]) -> str:
    """The training of one job; for several a function, and a call of it for each."""
    if len(chain) == 1:
        return _wrapped(f"optimizer = {_optimizer(chain[0])}") + f"\n\n{TRAINING}\n"
    varying = ["epochs", *(name for name, value in settings.items() if value == name)]
    calls = []
    for spec in chain:
        arguments = ", ".join(f"{name}={getattr(spec, name)}" for name in varying)
        calls.append(_wrapped(f"fit({_optimizer(spec)}, {arguments})"))
    function = f"def fit(optimizer, {', '.join(varying)}):\n{textwrap.indent(TRAINING, '    ')}"
    return "\n\n" + function + "\n\n" + "\n".join(calls) + "\n"


def _optimizer(spec: JobSpec) -> str:
    known = OPTIMIZERS[spec.optimizer]
    own = {name: value for name, value in spec.optimizer_settings.items() if value != known.defaults[name]}
    settings = ", ".join(f"{name}={value}" for name, value in {"lr": spec.lr, **own}.items())
    return f"optim.{known.torch_name}(model.parameters(), {settings})"


def _wrapped(text: str, indent: str = "    ") -> str:
    """A text in lines of WIDTH; the second and further ones begin with `indent`."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
