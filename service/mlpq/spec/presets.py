"""Presets: submissions that have a name.

`textbook` is section 8.5 of MMiDS: three runs, of which the last continues from the second. `fmnist_mlp` is the test
problem of that name in DeepOBS (Schneider, Balles, Hennig, 2019), for any optimizers, without regularization.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlpq.errors import SpecError, nearest
from mlpq.spec.document import LIST
from mlpq.spec.job import JobSpec
from mlpq.spec.sweep import Sweep, option, unknown_key


@dataclass(frozen=True)
class TextbookFigure:
    """One figure of the textbook: the printed text, and what its own loop counts on a CPU, of 10,000."""

    run: str
    optimizer: str
    hidden: tuple[int, ...]
    is_continued: bool
    epoch: int
    printed: str
    counted: int


# MMiDS 8.5: seed 42, batch size 32, learning rate 0.001; the Adam run continues from the final weights of SGD.
TEXTBOOK_FIGURES = (
    TextbookFigure("logistic, SGD", "sgd", (), False, 10, "78.7 %", 7867),
    TextbookFigure("MLP, SGD", "sgd", (32,), False, 10, "64.0 %", 6404),
    TextbookFigure("MLP, continued with Adam", "adam", (32,), True, 3, "85.0 %", 8502),
    TextbookFigure("MLP, continued with Adam", "adam", (32,), True, 10, "87.1 %", 8705),
)


def preset_jobs(name: str, given: Mapping[str, object]) -> tuple[Sweep, list[JobSpec]]:
    """The jobs of a preset with the keys in `given`, parents before children. Raises SpecError."""
    if name not in PRESETS:
        raise SpecError(f"unknown preset '{name}'{nearest(name, PRESETS)}")
    jobs, open_keys = PRESETS[name]
    for key in given:
        if key == LIST:
            raise SpecError(f"the preset {name} takes no list of sweeps: leave '{LIST}' out, or the preset")
        if key not in Sweep.model_fields:
            raise SpecError(unknown_key(key))
        if key not in open_keys:
            raise SpecError(f"the preset {name} determines {key}: leave {option(key)} out, or the preset")
    return jobs({"experiment": name, **given})


def _textbook(given: Mapping[str, object]) -> tuple[Sweep, list[JobSpec]]:
    fixed = {**given, "lr": "0.001", "activation": "sigmoid"}
    baseline = Sweep.parse({**fixed, "hidden": "none", "optimizer": "sgd"})
    mlp = Sweep.parse({**fixed, "hidden": "32", "optimizer": "sgd"}).jobs()
    continued = []
    for parent in mlp:
        own = {
            "dataset": parent.dataset, "hidden": "32", "optimizer": "adam", "seeds": parent.seed,
            "batch_size": parent.batch_size, "epochs": parent.epochs,
        }  # fmt: skip
        continued += Sweep.parse({**fixed, **own}).jobs(parent)
    return baseline, [*baseline.jobs(), *mlp, *continued]


def _fmnist_mlp(given: Mapping[str, object]) -> tuple[Sweep, list[JobSpec]]:
    model = {"hidden": "1000,500,100", "activation": "relu", "initialisation": "truncated-normal"}
    sweep = Sweep.parse({"epochs": 100, **given, **model, "dataset": "fashion-mnist", "batch_size": 128})
    return sweep, sweep.jobs()


_RUN_KEYS = {"experiment", "epochs", "seeds", "device", "world_size", "priority", "attempts"}
_OF_STEPS = {"schedule", "warmup", "clip_norm"}  # an optimizer is compared with what belongs to it
# The function that makes the jobs of a preset, and the keys that the user may set.
PRESETS = {
    "textbook": (_textbook, {*_RUN_KEYS, "dataset", "batch_size"}),
    "fmnist_mlp": (
        _fmnist_mlp,
        {*_RUN_KEYS, "optimizer", "formula", "lr", "validation", "patience", "zip", *_OF_STEPS},
    ),
}
