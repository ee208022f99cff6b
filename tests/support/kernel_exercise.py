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

from mlpq_workers.kernel import BUILDS, Build, KernelUnavailable, build
from tests.support.kernel_jobs import AnyShape, Run, any_shape, every_option, random_images, trained
from tests.support.optimizer_options import OPTIMIZERS_AND_OPTIONS

SPECS = st.builds(
    any_shape,
    features=st.integers(1, 70),
    classes=st.integers(1, 40),
    hidden=st.lists(st.integers(1, 70), max_size=4).map(lambda widths: ",".join(map(str, widths)) or "none"),
    activation=st.sampled_from(["sigmoid", "relu", "tanh"]),
    bias=st.booleans(),
    batch_size=st.one_of(st.integers(1, 40), st.integers(100, 300)),
    l1=st.sampled_from([0, 0.01]),
    optimizer=st.sampled_from(OPTIMIZERS_AND_OPTIONS),
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
    images = random_images(n, spec.features, spec.classes)
    ends = {one.name: Run.of(spec, images, one).train(2).fingerprint() for one in each}
    assert len(set(ends.values())) == 1, (spec, ends)


def main(library: Path, what: str) -> None:
    each = builds(library)
    if what == "options":
        for spec in every_option():
            assert len({trained(spec, one).fingerprint() for one in each}) == 1, spec
    else:
        settings = hypothesis.settings(max_examples=150, deadline=None, database=None, derandomize=True)
        settings(given(SPECS, st.sampled_from([0, 0.4]), COUNTS, st.just(each))(same_everywhere))()
    values = np.linspace(-100, 100, 1024, dtype=np.float32)
    assert np.isfinite(values).all()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
