"""The standard error over new seeds and new test images: unbiased in simulations, and said in words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from mlpq.analysis.comparison import Comparison, compare
from mlpq.analysis.crossed import SCOPE, image_lines, image_variance, with_image_errors
from mlpq.analysis.params import ComparisonParams
from mlpq.records import JobRecord
from mlpq.report.comparison_tables import errors_table, to_document, verdict_lines
from tests.support.result_rows import job_record, specs

SEEDS, IMAGES = 6, 200


def drawn(generator: np.random.Generator, seed_sd: float, image_sd: float) -> NDArray[np.int8]:
    """Differences from -1 to 1, [SEEDS, IMAGES]: signs where a sum of three effects is far from 0."""
    effects = generator.normal(0, seed_sd, (SEEDS, 1)) + generator.normal(0, image_sd, (1, IMAGES))
    noise = effects + generator.normal(0, 1, (SEEDS, IMAGES))
    return ((noise > 1).astype(np.int8) - (noise < -1).astype(np.int8)).astype(np.int8)


@pytest.mark.parametrize(("seed_sd", "image_sd"), [(0.1, 0.5), (0.02, 0.2), (0.1, 0.0), (0.0, 1.0)])
def test_estimated_variance_is_that_of_new_seeds_and_images(seed_sd: float, image_sd: float) -> None:
    """The mean of the estimates equals the variance of the means, within four Monte-Carlo standard errors."""
    generator = np.random.default_rng(7)
    means, estimates = [], []
    for _ in range(4000):
        found = drawn(generator, seed_sd, image_sd)
        means.append(found.mean())
        estimates.append(found.mean(1).var(ddof=1) / SEEDS + image_variance(found))
    variance = float(np.var(means, ddof=1))
    error = math.hypot(variance * math.sqrt(2 / 4000), float(np.std(estimates)) / math.sqrt(4000))
    assert abs(float(np.mean(estimates)) - variance) < 4 * error


def test_image_variance_equals_the_analysis_of_variance() -> None:
    """The mean squares written out, for one sample."""
    d = drawn(np.random.default_rng(3), 0.3, 0.5).astype(float)
    grand, by_seed, by_image = d.mean(), d.mean(1, keepdims=True), d.mean(0, keepdims=True)
    ms_image = SEEDS * ((by_image - grand) ** 2).sum() / (IMAGES - 1)
    ms_rest = ((d - by_seed - by_image + grand) ** 2).sum() / ((SEEDS - 1) * (IMAGES - 1))
    assert image_variance(d.astype(np.int8)) == pytest.approx((ms_image - ms_rest) / (SEEDS * IMAGES))


def test_images_on_which_all_seeds_differ_alike_have_a_binomial_variance() -> None:
    """With the same differences for every seed, it is the variance of a mean over m images."""
    row = np.repeat(np.array([1, 0, -1], dtype=np.int8), [30, 160, 10])
    expected = row.var(ddof=1) / 200
    assert image_variance(np.tile(row, (4, 1))) == pytest.approx(expected)


def bitmap(correct: int, first: int = 0) -> bytes:
    """500 images of which those from `first` on are correct, `correct` in number."""
    bits = np.zeros(500, dtype=bool)
    bits[first : first + correct] = True
    return np.packbits(bits).tobytes()


def records(*counts: Sequence[int]) -> list[JobRecord]:
    """An arm for each list of counts by seed."""
    jobs = specs(optimizer=["sgd", "adam", "adagrad"][: len(counts)], seeds=f"1..{len(counts[0])}")
    return [
        job_record(spec, number, correct)
        for number, (spec, correct) in enumerate(zip(jobs, itertools.chain(*counts), strict=True))
    ]


def compared(jobs: Sequence[JobRecord], bitmaps: dict[str, bytes]) -> Comparison:
    return with_image_errors(compare(jobs, [], {}, ComparisonParams()), lambda _: bitmaps)


SGD, ADAM = (400, 401, 402, 400, 401, 402), (405, 407, 406, 406, 407, 405)


def bitmaps_of(jobs: Sequence[JobRecord], shift: int = 0) -> dict[str, bytes]:
    """Those of the second arm are correct on other images, `shift` further."""
    found = {}
    for job in jobs:
        assert job.result is not None
        found[job.id] = bitmap(job.result.test_correct, shift if job.spec.optimizer == "adam" else 0)
    return found


def test_standard_errors_are_in_points() -> None:
    jobs = records(SGD, ADAM)
    bits = bitmaps_of(jobs, 50)
    (pair,) = compared(jobs, bits).pairs
    d = np.array(
        [
            np.unpackbits(np.frombuffer(bits[b.id], np.uint8), count=500).astype(np.int8)
            - np.unpackbits(np.frombuffer(bits[a.id], np.uint8), count=500).astype(np.int8)
            for a, b in zip(jobs[:6], jobs[6:], strict=True)
        ]
    )
    assert pair.standard_error_images == pytest.approx(100 * math.sqrt(d.mean(1).var(ddof=1) / 6 + image_variance(d)))
    (document,) = to_document(compared(jobs, bits), [])["pairs"]
    assert document["standard_error_seeds"] == pytest.approx(document["sd"] / math.sqrt(6))
    assert document["standard_error_images"] == pair.standard_error_images
    assert errors_table(compared(jobs, bits))[1] == [
        ["adam − sgd", f"{document['standard_error_seeds']:.2f}", f"{pair.standard_error_images:.2f}"]
    ]


def test_verdict_that_new_images_may_undo_is_named() -> None:
    jobs = records(SGD, ADAM)
    lines = verdict_lines(compared(jobs, bitmaps_of(jobs, 50)))
    assert lines[-2] == SCOPE
    assert lines[-1].startswith("With new test images too, adam − sgd is not established: 1.00 points")


def test_verdict_that_new_images_do_not_undo_has_no_doubt() -> None:
    jobs = records(SGD, ADAM)
    assert image_lines(compared(jobs, bitmaps_of(jobs))) == [SCOPE]


def test_results_without_images_have_no_error_and_say_so() -> None:
    jobs = records(SGD, ADAM)
    found = compared(jobs, {})
    (line,) = image_lines(found)
    assert "versions before 0.2 did not record it" in line
    assert to_document(found, [])["pairs"][0]["standard_error_images"] is None
    assert errors_table(found)[1] == []


def test_two_seeds_with_images_are_enough() -> None:
    jobs = records(SGD, ADAM)
    bits = {job.id: bits for job, bits in zip(jobs, bitmaps_of(jobs, 50).values(), strict=True) if job.spec.seed < 3}
    assert compared(jobs, bits).pairs[0].standard_error_images is not None
    one = {job.id: bits[job.id] for job in jobs if job.spec.seed == 1}
    assert compared(jobs, one).pairs[0].standard_error_images is None


def test_other_metrics_have_no_error_over_images() -> None:
    jobs = records(SGD, ADAM)
    by_loss = compare(jobs, [], {}, ComparisonParams(metric="loss"))
    found = with_image_errors(by_loss, lambda _: pytest.fail("bitmaps are read in vain"))
    assert found.pairs[0].standard_error_images is None
    assert image_lines(found) == []


def test_single_seed_says_that_two_are_needed() -> None:
    found = compared(records((400,), (410,)), {})
    assert image_lines(found) == [f"{SCOPE} For new images too: at least 2 common seeds are needed."]
