"""Runs everything in the kernel, for a process with sanitizers.

python -m tests.support.kernel_exercise LIBRARY options|fuzz
"""

from __future__ import annotations

import sys
from pathlib import Path

import hypothesis
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlpq.errors import SpecError
from mlpq_workers.kernel import BUILDS, Build, KernelUnavailable, build
from tests.support.kernel_jobs import (
    FORMULAS,
    AnyShape,
    Run,
    any_shape,
    every_option,
    every_training_option,
    formula,
    images_of,
    trained,
)
from tests.support.optimizer_options import OPTIMIZERS_AND_OPTIONS

BINARY = ("+", "-", "*", "/", "<", "<=", ">", ">=", "==", "!=")
LEAVES = ("p", "g", "m", "v", "t", "lr", "norm(g)", "norm(p)", "0", "0.5", "3e-3", "-2")
EXPRESSIONS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.builds("{}({})".format, st.sampled_from(["-", "sqrt", "abs", "sign", "exp", "log", "tanh"]), inner),
        st.builds("({}){}({})".format, inner, st.sampled_from(BINARY), inner),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), inner, inner),
        st.builds("({})**{}".format, inner, st.sampled_from(["2", "3", "0.5", "-1", "1.5"])),
        st.builds("where({}, {}, {})".format, inner, inner, inner),
    ),
    max_leaves=6,
)


def any_formula(m: str, v: str, u: str) -> dict[str, str]:
    """The keys of a sweep whose optimizer adds these values, where they are numbers, to its two states and its step."""
    a, b, c = (f"where(({each}) == ({each}), min(max({each}, -9), 9), 0.5)" for each in (m, v, u))
    statements = f"m = 0.9*m + {a}; v = 0.5*v + g*{b}; p = p - lr*(g + 0.01*{c} + 0.001*m*v)"
    return {"formula": f"own: {statements}", "optimizer": "own:lr=0.1"}


def is_small(keys: dict[str, str]) -> bool:
    """Whether the formula compiles; what it can't be is not of interest here."""
    try:
        any_shape(**keys)  # type: ignore[arg-type]
    except SpecError:
        return False
    return True


OPTIMIZERS = st.one_of(
    st.sampled_from(OPTIMIZERS_AND_OPTIONS).map(lambda optimizer: {"optimizer": optimizer}),
    st.sampled_from(list(FORMULAS)).map(formula),
    st.builds(any_formula, EXPRESSIONS, EXPRESSIONS, EXPRESSIONS).filter(is_small),
)
SPECS = st.builds(
    lambda optimizer, **keys: any_shape(**keys, **optimizer),
    features=st.integers(1, 70),
    classes=st.integers(1, 40),
    hidden=st.lists(st.integers(1, 70), max_size=4).map(lambda widths: ",".join(map(str, widths)) or "none"),
    activation=st.sampled_from(["sigmoid", "relu", "tanh"]),
    bias=st.booleans(),
    batch_size=st.one_of(st.integers(1, 40), st.integers(100, 300)),
    l1=st.sampled_from([0, 0.01]),
    optimizer=OPTIMIZERS,
    clip_norm=st.sampled_from([None, 0.1]),
    label_smoothing=st.sampled_from([0, 0.2]),
    has_floats=st.booleans(),
    initialisation=st.sampled_from(["torch", "truncated-normal"]),
)
COUNTS = st.one_of(st.integers(1, 40), st.integers(120, 300))


def builds(library: Path | None = None) -> list[Build]:
    """The builds that run on this CPU."""
    found = []
    for name in BUILDS:
        try:
            found.append(build(name, library))
        except KernelUnavailable:
            assert name != "plain"
    return found


def same_everywhere(spec: AnyShape, dropout: float, n: int, each: list[Build]) -> None:
    """Assert that all builds end with the same bits."""
    if spec.hidden:
        spec = spec.model_copy(update={"dropout": dropout})
    images = images_of(spec, n)
    ends = {one.name: Run.of(spec, images, one).train(2).fingerprint() for one in each}
    assert len(set(ends.values())) == 1, (spec, ends)


def main(library: Path, what: str) -> None:
    each = builds(library)
    if what == "options":
        for spec in (*every_option(), *every_training_option()):
            assert len({trained(spec, one).fingerprint() for one in each}) == 1, spec
    else:
        settings = hypothesis.settings(max_examples=150, deadline=None, database=None, derandomize=True)
        settings(given(SPECS, st.sampled_from([0, 0.4]), COUNTS, st.just(each))(same_everywhere))()
    values = np.linspace(-100, 100, 1024, dtype=np.float32)
    assert np.isfinite(values).all()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
