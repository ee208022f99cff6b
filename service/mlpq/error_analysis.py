"""Read what an experiment gets wrong, for `mlpq errors` and `mlpq report`."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mlpq import formatting
from mlpq.analysis.comparison import Comparison
from mlpq.analysis.crossed import jobs_compared
from mlpq.analysis.experiment_errors import ExperimentErrors, WrongImage
from mlpq.analysis.image_errors import ArmErrors, ImageErrors, image_errors
from mlpq.errors import DataError, NotFoundError
from mlpq.image_data import TestSet, read_test_set
from mlpq.image_records import ResultImages
from mlpq.records import JobRecord
from mlpq.regular_files import check_inside, read
from mlpq.settings import Settings
from mlpq.spec.datasets import Dataset
from mlpq.store.image_queries import images_of
from mlpq.store.session import Store
from mlpq.weights_format import largest_file, predictions_of, predictions_sha256, read_header

NOT_RECORDED = "versions before 0.2 did not record which test images a result classifies correctly"


def experiment_errors(config: Settings, store: Store, comparison: Comparison) -> ExperimentErrors:
    """The errors of the arms of a comparison; predictions and test images are read where they are on this machine.

    Raises NotFoundError where no result says which images it classifies correctly.
    """
    images = images_of(store, jobs_compared(comparison))
    errors = image_errors(comparison, images)
    if not errors.arms:
        reason = (
            f"{NOT_RECORDED}: run the jobs again with mlpq submit --again" if errors.without else "no job has succeeded"
        )
        raise NotFoundError(f"there are no errors to show: {reason}")
    test_sets, notes = _test_sets({arm.dataset.name: arm.dataset for arm in errors.arms}, config.data_dir)
    predictions = {arm.label: _predictions(arm.jobs.values(), images, config.artifacts_dir) for arm in errors.arms}
    of_arms = {
        arm.label: _wrong(arm.always_wrong, test_sets.get(arm.dataset.name), predictions[arm.label])
        for arm in errors.arms
    }
    of_all = {}
    for name, wrong in errors.always_wrong.items():
        of_data = [found for arm in errors.arms if arm.dataset.name == name for found in predictions[arm.label]]
        of_all[name] = _wrong(wrong, test_sets.get(name), of_data)
    notes = [*_missing_images(errors), *notes, *_missing_predictions(errors.arms, predictions)]
    return ExperimentErrors(errors, of_arms, of_all, test_sets, notes)


def _test_sets(datasets: Mapping[str, Dataset], data_dir: Path) -> tuple[dict[str, TestSet], list[str]]:
    found, notes = {}, []
    for name, dataset in datasets.items():
        try:
            found[name] = read_test_set(dataset, data_dir)
        except DataError as error:
            notes.append(f"no true classes and pictures of images: {error}")
    return found, notes


def _predictions(jobs: Iterable[JobRecord], images: Mapping[str, ResultImages], artifacts_dir: Path) -> list[bytes]:
    """The predicted classes of the results whose files of weights can be read here and hold the recorded ones."""
    found = []
    for job in jobs:
        assert job.result is not None, "only jobs with a result have images"
        try:
            path = Path(job.result.weights_file)
            check_inside(path, artifacts_dir)
            content = read(path, largest_file(job.spec.parameters))
            classes = predictions_of(read_header(io.BytesIO(content))["__metadata__"])
        except (OSError, ValueError, TypeError, RecursionError):  # missing, damaged, or elsewhere
            continue
        if classes is not None and predictions_sha256(classes) == images[job.id].predictions_sha256:
            found.append(classes)
    return found


def _wrong(images: Sequence[int], test_set: TestSet | None, predictions: Sequence[bytes]) -> list[WrongImage]:
    found = []
    for image in images:
        predicted, seeds = max(
            Counter(classes[image] for classes in predictions).items(), key=_count, default=(None, 0)
        )
        found.append(WrongImage(image, None if test_set is None else int(test_set.labels[image]), predicted, seeds))
    return found


def _count(item: tuple[int, int]) -> tuple[int, int]:
    """More seeds first; of equally many, the lower class."""
    predicted, seeds = item
    return seeds, -predicted


def _missing_images(errors: ImageErrors) -> list[str]:
    parts = [f"no result of {label}" for label in errors.without]
    parts += [
        f"{arm.missing} of {formatting.count_of(arm.missing + len(arm.jobs), 'result')} of {arm.label}"
        for arm in errors.arms
        if arm.missing
    ]
    return [f"left out: {formatting.listed(parts)}: {NOT_RECORDED}"] if parts else []


def _missing_predictions(arms: Sequence[ArmErrors], predictions: Mapping[str, Sequence[bytes]]) -> list[str]:
    results = sum(len(arm.jobs) for arm in arms)
    readable = sum(map(len, predictions.values()))
    if readable == results:
        return []
    return [
        f"predicted classes of images are those of {readable} of {results} results: the other files of weights "
        "can't be read here or do not hold the recorded predictions; set MLPQ_ARTIFACTS_DIR"
    ]
