"""The kernel's results have the same bits for every instruction set, compiler and optimization level."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpq_workers.kernel import ARITHMETIC, build
from tests.support.kernel_builds import compiled, has_compiler, run_sanitized
from tests.support.kernel_exercise import COUNTS, SPECS, builds, same_everywhere
from tests.support.kernel_jobs import AnyShape, every_option, every_training_option, trained

# Digests of the results of `every_option` and of `every_training_option`, by the number of the arithmetic.
RECORDED = {
    1: (
        "727b3c2a36a92b7b775d6f32156ad13d397d28442f490cbaed949aae346a4028",
        "214fa4d14c943b3c3e7244a188a188af5d6893426aa61f0e9e7a78349bf5c363",
    )
}
COMPILED = [
    ("gcc", "-O1"),  # the installed library is gcc's with -O3
    ("gcc", "-O3", "-mavx2", "-mfma"),  # the plain build with the instructions of another
    ("clang", "-O3"),
]

LISTS = (every_option, every_training_option)

sanitized = pytest.mark.xdist_group("sanitizers")  # one process compiles for all


@functools.cache
def expected(specs: Callable[[], list[AnyShape]]) -> list[str]:
    """The results of the installed library's plain build."""
    return [trained(spec, build("plain")).fingerprint() for spec in specs()]


@pytest.mark.slow
@pytest.mark.parametrize("how", COMPILED, ids=" ".join)
def test_every_compiler_and_build_gives_the_same_bits(how: tuple[str, ...]) -> None:
    if not has_compiler(how[0]):
        pytest.fail(f"{how[0]} is missing: run make test, or scripts/system-packages python3 compiler clang")
    for each, specs in itertools.product(builds(compiled(*how)), LISTS):
        found = [trained(spec, each).fingerprint() for spec in specs()]
        different = [spec for spec, a, b in zip(specs(), found, expected(specs), strict=True) if a != b]
        assert not different, each


@settings(max_examples=60)
@given(SPECS, st.sampled_from([0, 0.4]), COUNTS)
def test_builds_agree_for_any_shape_batch_size_and_option(spec: AnyShape, dropout: float, n: int) -> None:
    same_everywhere(spec, dropout, n, builds())


@pytest.mark.slow
@sanitized
@pytest.mark.parametrize("what", ["options", "fuzz"])
def test_sanitizers_find_nothing(what: str) -> None:
    done = run_sanitized("tests.support.kernel_exercise", what)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.slow
@sanitized
def test_sanitizers_would_find_an_access_beyond_the_end() -> None:
    done = run_sanitized("tests.support.kernel_overrun")
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr


def test_arithmetic_has_its_recorded_results() -> None:
    digests = tuple(hashlib.sha256("".join(expected(specs)).encode()).hexdigest() for specs in LISTS)
    assert digests == RECORDED[ARITHMETIC], "results have other bits: they need a new number, here and in the kernel"
