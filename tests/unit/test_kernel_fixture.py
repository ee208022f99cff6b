"""What a number of the arithmetic promises: every kind of job keeps the bits that it had when the number was given."""

from __future__ import annotations

import json

from mlpq_workers.kernel import ARITHMETIC
from tests.support import kernel_fixture


def test_short_jobs_of_every_kind_keep_the_bits_of_their_arithmetic() -> None:
    assert kernel_fixture.FILE.exists(), f"python -m tests.support.kernel_fixture writes those of {ARITHMETIC}"
    recorded = json.loads(kernel_fixture.FILE.read_text())
    assert len(recorded) == len(kernel_fixture.KINDS) + 2
    assert kernel_fixture.results() == recorded
