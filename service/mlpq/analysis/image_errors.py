"""Which test images the arms of a comparison get wrong: by class, by confidence, and from seed to seed."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlpq.analysis.comparison import Comparison, Side
from mlpq.analysis.inference import Interval
from mlpq.image_records import CalibrationBin, ResultImages
from mlpq.records import JobRecord
from mlpq.spec.datasets import Dataset

Z = statistics.NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    """The share of a class's test images that are classified correctly, from 0 to 1, as the mean over the seeds.

    `interval` is Wilson's of 95 %, for as many images: it says how far other images of the class would change it.
    `taken_for` is the class that its wrong images are most often taken for, in the share `taken_share` of all of them;
    None where none is wrong.
    """

    images: int
    accuracy: float
    interval: Interval
    taken_for: int | None
    taken_share: float


@dataclass(frozen=True, slots=True)
class ArmErrors:
    """What an arm gets wrong, over the seeds `jobs` whose results say so; `missing` results don't.

    `confusion[i][j]` counts images of class i that are predicted as class j, and `calibration` has the bins of
    `ResultImages`; both are sums over the seeds. `calibration_errors` are by seed, from 0 to 1. `churn` is the share of
    images that one seed gets right and another one wrong, the mean over all pairs of seeds; None for one seed.
    `always_wrong` are the images that every seed gets wrong.
    """

    label: str
    dataset: Dataset
    jobs: Mapping[int, JobRecord]
    missing: int
    confusion: Sequence[Sequence[int]]
    classes: Sequence[ClassAccuracy]
    calibration: Sequence[CalibrationBin]
    calibration_errors: Mapping[int, float]
    churn: float | None
    always_wrong: Sequence[int]

    @property
    def accuracy(self) -> float:
        """Over all images and seeds, from 0 to 1."""
        return sum(self.confusion[i][i] for i in range(len(self.confusion))) / sum(map(sum, self.confusion))


@dataclass(frozen=True, slots=True)
class PairChurn:
    """The share of images that one arm gets right and the other one wrong, the mean over the common seeds."""

    a: str
    b: str
    seeds: Sequence[int]
    churn: float


@dataclass(frozen=True, slots=True)
class ImageErrors:
    """The arms that have results with images, in the order of the comparison, and each two of them with common seeds.

    `without` are the labels of the arms whose results say nothing about the images. `always_wrong` has the images that
    every seed of every arm gets wrong, by data set.
    """

    arms: Sequence[ArmErrors]
    pairs: Sequence[PairChurn]
    without: Sequence[str]
    always_wrong: Mapping[str, Sequence[int]]


def image_errors(comparison: Comparison, images: Mapping[str, ResultImages]) -> ImageErrors:
    """The errors of the arms of a comparison on its seeds; `images` are by job id."""
    arms: list[ArmErrors] = []
    bits: list[dict[int, NDArray[np.bool_]]] = []
    without = []
    for side in comparison.sides:
        jobs = [job for job in side.arm.records if job.result is not None and job.spec.seed in side.values]
        known = {job.spec.seed: job for job in sorted(jobs, key=lambda job: job.spec.seed) if _is_known(job, images)}
        if known:
            found = {seed: images[job.id] for seed, job in known.items()}
            bits.append({seed: _unpacked(each.correct, side.spec.data.test) for seed, each in found.items()})
            arms.append(_arm(side, known, found, bits[-1], len(jobs) - len(known)))
        elif jobs:
            without.append(side.label)
    return ImageErrors(arms, _pairs(arms, bits), without, _always_wrong(arms))


def _is_known(job: JobRecord, images: Mapping[str, ResultImages]) -> bool:
    """Whether its result says which images it classifies correctly, for as many as the data set has."""
    return job.id in images and images[job.id].fits(job.spec.data.classes, job.spec.data.test)


def wilson_interval(share: float, n: int) -> Interval:
    """The 95 % interval of a proportion of n images (Wilson 1927): it stays within 0 and 1, and works for 0 and 1."""
    scale = 1 + Z**2 / n
    center = (share + Z**2 / (2 * n)) / scale
    half = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)) / scale
    return Interval(max(0.0, center - half), min(1.0, center + half))


def _unpacked(correct: bytes, images: int) -> NDArray[np.bool_]:
    return np.unpackbits(np.frombuffer(correct, np.uint8), count=images).astype(bool)


def _arm(
    side: Side,
    jobs: Mapping[int, JobRecord],
    images: Mapping[int, ResultImages],
    bits: Mapping[int, NDArray[np.bool_]],
    missing: int,
) -> ArmErrors:
    confusion = np.sum([np.asarray(each.confusion) for each in images.values()], axis=0)
    bins = zip(*(each.calibration for each in images.values()), strict=True)
    right = np.sum(list(bits.values()), axis=0)  # seeds, for each image
    n = len(bits)
    pairs = n * (n - 1)
    return ArmErrors(
        label=side.label,
        dataset=side.spec.data,
        jobs=jobs,
        missing=missing,
        confusion=confusion.tolist(),
        classes=[_class(row, i, n) for i, row in enumerate(confusion.tolist())],
        calibration=[CalibrationBin(*map(sum, zip(*each, strict=True))) for each in bins],
        calibration_errors={seed: each.calibration_error for seed, each in images.items()},
        churn=float(np.mean(2 * right * (n - right) / pairs)) if pairs else None,
        always_wrong=np.flatnonzero(right == 0).tolist(),
    )


def _class(row: Sequence[int], i: int, seeds: int) -> ClassAccuracy:
    """A row of a confusion matrix, summed over the seeds."""
    total = sum(row)
    wrong = {j: count for j, count in enumerate(row) if j != i and count}
    most = max(wrong, key=wrong.__getitem__, default=None)
    images = total // seeds
    return ClassAccuracy(
        images=images,
        accuracy=row[i] / total,
        interval=wilson_interval(row[i] / total, images),
        taken_for=most,
        taken_share=0.0 if most is None else wrong[most] / total,
    )


def _pairs(arms: Sequence[ArmErrors], bits: Sequence[Mapping[int, NDArray[np.bool_]]]) -> list[PairChurn]:
    found = []
    for (a, a_bits), (b, b_bits) in itertools.combinations(zip(arms, bits, strict=True), 2):
        seeds = [seed for seed in a_bits if seed in b_bits]
        if seeds and a.dataset == b.dataset:
            churn = statistics.fmean(float(np.mean(a_bits[seed] != b_bits[seed])) for seed in seeds)
            found.append(PairChurn(a.label, b.label, seeds, churn))
    return found


def _always_wrong(arms: Sequence[ArmErrors]) -> dict[str, list[int]]:
    found: dict[str, set[int]] = {}
    for arm in arms:
        own = set(arm.always_wrong)
        found[arm.dataset.name] = found.get(arm.dataset.name, own) & own
    return {name: sorted(images) for name, images in found.items()}
