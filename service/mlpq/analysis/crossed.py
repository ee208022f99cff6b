"""How far a paired difference of accuracies would vary with other seeds and other test images.

Seeds and test images are crossed: every seed is tested on every image. With d_si = right_A(s, i) - right_B(s, i), from
-1 to 1, the two-way random-effects model is d_si = mean + seed_s + image_i + rest_si, all independent, and over n seeds
and m images

    Var(mean difference) = σ²_seed / n + σ²_image / m + σ²_rest / (n m).

The variance of the seeds' own mean differences, over n, estimates the first and the last term together. The second is
estimated from the mean squares of a two-way analysis of variance: (MS_image - MS_rest) / (n m), without bias (Searle,
Casella & McCulloch 1992, "Variance Components", section 4.7). No bootstrap of seeds and images is exact here (McCullagh
2000), and the pigeonhole bootstrap counts σ²_rest three times (Owen 2007).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mlpq.analysis.comparison import ALPHA, Comparison, Pair, Side
from mlpq.analysis.metrics import Metric

PERCENT = 100
FEWEST_SEEDS = 2
CLEAR = 2  # standard errors
SCOPE = "The verdicts are about new seeds on the same test images."


def image_variance(differences: NDArray[np.int8]) -> float:
    """What the draw of the images adds to the variance of the mean of `differences`, [seeds, images]: σ²_image / m.

    It is an unbiased estimate, and so may be below 0. Needs at least two seeds and two images.
    """
    n, m = differences.shape
    whole = int(differences.sum(dtype=np.int64)) ** 2 / (n * m)
    by_image, by_seed = (differences.sum(axis, dtype=np.int64) for axis in (0, 1))
    images = float(by_image @ by_image) / n - whole
    seeds = float(by_seed @ by_seed) / m - whole
    rest = float(np.count_nonzero(differences)) - whole - images - seeds  # a square is 0 or 1
    return float((images / (m - 1) - rest / ((n - 1) * (m - 1))) / (n * m))


def with_image_errors(comparison: Comparison, bitmaps_of: Callable[[Iterable[str]], Mapping[str, bytes]]) -> Comparison:
    """The comparison of test accuracies with `standard_error_images` of each pair; others are returned as they are.

    `bitmaps_of` reads which test images the results classify correctly, by job id.
    """
    if comparison.metric.name != "accuracy":
        return comparison
    bitmaps = bitmaps_of(jobs_compared(comparison))
    pairs = (replace(pair, standard_error_images=_standard_error(pair, bitmaps)) for pair in comparison.pairs)
    return replace(comparison, pairs=tuple(pairs))


def jobs_compared(comparison: Comparison) -> Iterable[str]:
    """The ids of the jobs whose images a comparison needs."""
    return [job.id for side in comparison.sides for job in side.arm.records if job.result is not None]


def standard_error_seeds(pair: Pair) -> float | None:
    """The standard error of the mean difference over new seeds, on the same test images; None for a single pair."""
    found = pair.paired
    return None if found is None or found.sd is None else found.sd / math.sqrt(found.n)


def image_lines(comparison: Comparison) -> list[str]:
    """What the verdicts on test accuracies are about, and which of them new test images may undo."""
    tested = [pair for pair in comparison.pairs if pair.paired is not None]
    if comparison.metric.name != "accuracy" or not tested:
        return []
    known = [pair for pair in tested if pair.standard_error_images is not None]
    if not known:
        return [f"{SCOPE} For new images too: {_why_unknown(tested)}."]
    return [SCOPE, *(_doubt(pair, comparison.metric) for pair in known if _is_doubtful(pair))]


def _standard_error(pair: Pair, bitmaps: Mapping[str, bytes]) -> float | None:
    """Over new seeds and new images, in points. None unless two of the seeds have a bitmap of both sides."""
    own = standard_error_seeds(pair)
    bits = [_bits_by_seed(side, bitmaps) for side in (pair.a, pair.b)]
    seeds = [seed for seed in pair.seeds if seed in bits[0] and seed in bits[1]]
    if own is None or len(seeds) < FEWEST_SEEDS or pair.a.spec.dataset != pair.b.spec.dataset:
        return None
    a, b = (np.stack([each[seed] for seed in seeds]) for each in bits)
    return math.sqrt(own**2 + PERCENT**2 * max(0.0, image_variance(a - b)))


def _bits_by_seed(side: Side, bitmaps: Mapping[str, bytes]) -> dict[int, NDArray[np.int8]]:
    """For each seed with a bitmap of the test set's size, [images]: 1 where an image is classified correctly."""
    images = side.spec.data.test
    found = {job.spec.seed: bitmaps[job.id] for job in side.arm.records if job.id in bitmaps}
    return {
        seed: np.unpackbits(np.frombuffer(bitmap, np.uint8), count=images).view(np.int8)
        for seed, bitmap in found.items()
        if len(bitmap) == -(-images // 8)
    }


def _why_unknown(pairs: list[Pair]) -> str:
    if all(pair.paired is None or pair.paired.n < FEWEST_SEEDS for pair in pairs):
        return f"at least {FEWEST_SEEDS} common seeds are needed"
    return (
        "unknown, since fewer than two common seeds have results that say which images they classify correctly; "
        "versions before 0.2 did not record it"
    )


def _is_doubtful(pair: Pair) -> bool:
    """Whether the verdict calls one side better, but the difference is small beside the error over new images."""
    if pair.paired is None or pair.standard_error_images is None or pair.p_adjusted > ALPHA:
        return False
    return abs(pair.paired.difference) < CLEAR * pair.standard_error_images


def _doubt(pair: Pair, metric: Metric) -> str:
    assert pair.paired is not None, "only tested pairs are doubtful"
    assert pair.standard_error_images is not None, "only pairs with a known error are doubtful"
    ratio = abs(pair.paired.difference) / pair.standard_error_images
    return (
        f"With new test images too, {pair.a.label} − {pair.b.label} is not established: "
        f"{metric.text(abs(pair.paired.difference))} {metric.unit} are {ratio:.1f} standard errors of "
        f"{metric.text(pair.standard_error_images)}"
    )
