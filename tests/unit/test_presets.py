"""Presets: their jobs, the keys that users may set, and one line for any other key."""

from __future__ import annotations

import pytest

from mlpq.errors import SpecError
from mlpq.spec.presets import TEXTBOOK_FIGURES, preset_jobs


def test_last_job_of_the_textbook_continues_from_the_second() -> None:
    sweep, (logistic, mlp, adam) = preset_jobs("textbook", {})
    assert sweep.experiment == "textbook"
    assert (logistic.hidden, mlp.hidden, adam.hidden) == ((), (32,), (32,))
    assert [spec.optimizer for spec in (logistic, mlp, adam)] == ["sgd", "sgd", "adam"]
    assert {(spec.seed, spec.epochs, spec.batch_size, spec.lr) for spec in (logistic, mlp, adam)} == {
        (42, 10, 32, 1e-3)
    }
    assert (logistic.parent, mlp.parent, adam.parent) == (None, None, mlp.hash)
    assert [figure.counted for figure in TEXTBOOK_FIGURES] == [7867, 6404, 8502, 8705]


def test_textbook_allows_other_seeds_and_data_but_not_another_model() -> None:
    _, specs = preset_jobs("textbook", {"seeds": "0..2", "dataset": "digits", "experiment": "mine"})
    assert [spec.seed for spec in specs] == [0, 1, 2] * 3
    with pytest.raises(SpecError, match="the preset textbook determines hidden: leave --hidden out"):
        preset_jobs("textbook", {"hidden": "64"})
    with pytest.raises(SpecError, match=r"^unknown key 'hiden' \(did you mean 'hidden'\?\)"):
        preset_jobs("textbook", {"hiden": "64"})
    with pytest.raises(SpecError, match=r"unknown preset 'textbok' \(did you mean 'textbook'\?\)"):
        preset_jobs("textbok", {})


def test_deepobs_mlp_determines_all_but_the_optimizer() -> None:
    given = {"optimizer": ("sgd", "adam"), "lr": "0.1,0.001", "seeds": "0..4", "epochs": "5", "validation": "0.1"}
    sweep, specs = preset_jobs("fmnist_mlp", given)
    assert (sweep.experiment, len(specs)) == ("fmnist_mlp", 20)
    for spec in specs:
        assert (spec.dataset, spec.widths, spec.activation) == ("fashion-mnist", (784, 1000, 500, 100, 10), "relu")
        assert (spec.batch_size, spec.initialisation, spec.bias) == (128, "truncated-normal", True)
        assert (spec.dropout, spec.l1, spec.optimizer_settings["weight_decay"]) == (0, 0, 0)
        assert (spec.epochs, spec.validation) == (5, 0.1)


def test_deepobs_mlp_takes_what_belongs_to_an_optimizer() -> None:
    _, specs = preset_jobs("fmnist_mlp", {"schedule": ("constant", "cosine"), "warmup": "5", "clip_norm": "1"})
    assert [(spec.schedule, spec.warmup, spec.clip_norm) for spec in specs] == [("constant", 5, 1), ("cosine", 5, 1)]
    with pytest.raises(SpecError, match="the preset fmnist_mlp determines label_smoothing"):
        preset_jobs("fmnist_mlp", {"label_smoothing": "0.1"})
    assert preset_jobs("fmnist_mlp", {})[1][0].epochs == 100


@pytest.mark.parametrize("key", ["dataset", "hidden", "activation", "initialisation", "batch_size", "dropout", "l1"])
def test_keys_that_deepobs_determines_are_rejected(key: str) -> None:
    typed = key.replace("_", "-")
    with pytest.raises(SpecError, match=f"the preset fmnist_mlp determines {key}: leave --{typed} out, or the preset"):
        preset_jobs("fmnist_mlp", {key: "relu"})
