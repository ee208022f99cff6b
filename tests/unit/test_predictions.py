"""Predictions for the test images: those of the weights that the result holds, from every engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mlpq.spec.job import JobSpec
from mlpq_workers.engine.network import build
from mlpq_workers.engine.tensors import to_tensors
from mlpq_workers.engine.training_state import EngineJob, Predictions, Trained
from mlpq_workers.trainer.checkpoints import read_checkpoint, save_checkpoint
from mlpq_workers.trainer.result_images import result_images
from tests.support.gang_training import VALIDATION, Interrupt, few, job, train_plain, train_together

pytestmark = pytest.mark.usefixtures("one_thread")

OVERFITTING = {"optimizer": "adam:lr=0.05", "validation": VALIDATION, "patience": 3, "epochs": 60, "hidden": "32"}
SPECS = [
    job(optimizer="adam"),
    job(epochs=1, optimizer="sgd:lr=0.001"),
    job(hidden="none", dropout=0),
    job(hidden="16,8", dropout="0.3", activation="tanh"),
    job(**OVERFITTING),
]


def softmax(trained: Trained, spec: JobSpec) -> Tensor:
    """The probabilities that the final weights give the test images, [n, classes]."""
    network, _ = build(spec)
    network.load_state_dict(to_tensors(trained.final.weights))
    network.eval()
    with torch.inference_mode():
        found: Tensor = network(few().test_x / few().scale).softmax(1)
    return found


def predictions(trained: Trained) -> Predictions:
    assert trained.final.predictions is not None
    return trained.final.predictions


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("engine", ["plain", "gang"])
def test_predictions_are_those_of_the_final_weights(spec: JobSpec, engine: str) -> None:
    trained = train_plain(spec, few()) if engine == "plain" else train_together(spec, data=few()).trained("0")
    found, expected = predictions(trained), softmax(trained, spec)
    assert (found.classes.dtype.name, found.classes.shape) == ("uint8", (300,))
    assert np.array_equal(found.classes, expected.argmax(1))
    np.testing.assert_allclose(found.confidences, expected.amax(1), rtol=1e-5)
    assert int((found.classes == few().test_y.numpy()).sum()) == trained.best.test_correct
    if spec.patience:
        assert trained.best.epoch < trained.epochs_run


def test_predictions_in_a_gang_have_the_bits_that_they_have_alone() -> None:
    specs = [job(optimizer="adam", seeds=1), job(optimizer="sgd:lr=0.5", seeds=2), job(optimizer="adam", seeds=2)]
    together = train_together(*specs, data=few())
    for number, spec in enumerate(specs):
        mine, alone = (
            predictions(together.trained(str(number))),
            predictions(train_together(spec, data=few()).trained("0")),
        )
        assert np.array_equal(mine.classes, alone.classes)
        assert np.array_equal(mine.confidences, alone.confidences)


def test_best_predictions_survive_a_checkpoint(tmp_path: Path) -> None:
    """The job resumes after its best epoch, so that its result comes from the checkpoint."""
    spec = job(**OVERFITTING)
    whole = train_together(spec, data=few()).trained("0")
    interrupt = Interrupt({"0": whole.best.epoch + 1})
    train_together(spec, data=few(), observer=interrupt)
    save_checkpoint(interrupt.taken["0"], {"job": "a"}, tmp_path, 1)
    (file,) = tmp_path.iterdir()
    resumed = train_together(EngineJob(spec, resume=read_checkpoint(file, {"job": "a"})), data=few()).trained("0")
    assert resumed.best.epoch == whole.best.epoch
    assert np.array_equal(predictions(resumed).classes, predictions(whole).classes)
    assert np.array_equal(predictions(resumed).confidences, predictions(whole).confidences)


def test_images_of_a_result() -> None:
    """Nine images of three classes; images 2, 4 and 8 are wrong."""
    classes = np.array([0, 1, 0, 0, 0, 2, 1, 2, 1], np.uint8)
    labels = np.array([0, 1, 2, 0, 1, 2, 1, 2, 2])
    confidences = np.array([1.0, 0.9, 0.5, 0.38, 0.38, 0.95, 0.35, 0.99, 0.36])
    found = result_images(Predictions(classes, confidences), labels, 3)
    assert found.correct == bytes([0b11010111, 0b00000000])
    assert found.correct_count == 6
    assert found.confusion == [[2, 0, 0], [1, 2, 0], [1, 1, 2]]
    counts = {i: (each.images, each.correct) for i, each in enumerate(found.calibration) if each.images}
    assert counts == {5: (4, 2), 7: (1, 0), 13: (1, 1), 14: (3, 3)}
    assert found.calibration[5].confidence == pytest.approx(0.38 + 0.38 + 0.35 + 0.36)
    assert len(found.calibration) == 15
    assert np.isclose(sum(each.confidence for each in found.calibration), confidences.sum().item())
