"""The FILE of `mlpq submit`: YAML or JSON, or one line with the position of the error."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from mlpq.errors import SpecError
from mlpq.spec.spec_file import read
from mlpq.spec.sweep import Sweep


def write(folder: Path, text: str) -> str:
    file = folder / f"my sweep.{'json' if text.startswith('{') else 'yaml'}"
    file.write_text(text)
    return str(file)


def test_experiment_defaults_to_the_name_of_the_file(tmp_path: Path) -> None:
    assert read(write(tmp_path, "epochs: 3")) == {"experiment": "my sweep", "epochs": "3"}
    assert read(write(tmp_path, "experiment: mine")) == {"experiment": "mine"}


def test_no_file_is_no_keys() -> None:
    assert read(None) == {}


@pytest.mark.parametrize(
    "text",
    [
        "optimizer: [sgd, adam]\nlr: [0.1, 1e-3]\nseeds: 0..2\nhidden: none\n",
        '{"optimizer": ["sgd", "adam"],\n\t"lr": [0.1, 1e-3],\n\t"seeds": "0..2", "hidden": "none"}',
        "optimizer: [{name: sgd}, {name: adam}]\nlr: 0.1,1e-3\nseeds: [0, 1, 2]\nhidden: []\n",
    ],
)
def test_yaml_and_json_are_equivalent(tmp_path: Path, text: str) -> None:
    """Including 1e-3, which is text in YAML 1.1."""
    specs = Sweep.parse(read(write(tmp_path, text))).jobs()
    assert [(spec.optimizer, spec.lr, spec.seed) for spec in specs] == [
        (name, lr, seed) for name in ("sgd", "adam") for lr in (0.1, 0.001) for seed in (0, 1, 2)
    ]


@pytest.mark.parametrize("text", ["continue_from: 12345678", "continue_from: 1e5", "continue_from: '00012345'"])
def test_job_id_that_looks_like_a_number_is_valid(tmp_path: Path, text: str) -> None:
    """A prefix that consists of digits needs no quotes."""
    Sweep.parse(read(write(tmp_path, text)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer: [sgd", "line 1, column 16 is not valid YAML"),
        ("a: b: c", "line 1, column 5 is not valid YAML"),
        ("epochs: 3\n\tlr: 1", "is not valid YAML"),
        ('{"epochs": 3,, "lr": 1}', "line 1, column 14 is not valid JSON"),
        ("!!python/object:os.system {}", "is not valid YAML"),
        ("a: 1\x00", "is not valid YAML"),
        ("- sgd\n- adam", "must contain keys and values"),
        ("sgd", "must contain keys and values"),
        ("", "must contain keys and values"),
    ],
)
def test_syntax_error_has_its_position(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        read(write(tmp_path, text))
    assert message in str(error.value)


def test_unreadable_file_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    with pytest.raises(SpecError, match=r"can't read .*: No such file"):
        read(str(file))
    with pytest.raises(SpecError, match=r"can't read .*: Is a directory"):
        read(str(tmp_path))
    file.write_bytes(b"\x80\x81\xff")
    with pytest.raises(SpecError, match="is not text"):
        read(str(file))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "unknown key 'epoch' (did you mean 'epochs'?)"),
        ("optimizer: {name: sgd, nestrov: true}", "did you mean 'nesterov'?"),
        ("priority: [1, 2]", "priority must be a whole number"),
        ("lr: {a: 1}", "lr must be a number above 0"),
        ("lr: true", "lr must be a number above 0"),
        ("seeds: []", "seeds is empty"),
        ("3: 4", "unknown key '3'"),
    ],
)
def test_value_of_the_wrong_type_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        Sweep.parse(read(write(tmp_path, text))).jobs()
    assert message in str(error.value)


def test_standard_input_names_no_experiment(tmp_path: Path) -> None:
    content = b"lr: 0.1\n"
    (tmp_path / "rates.yaml").write_bytes(content)
    assert read(tmp_path / "rates.yaml")["experiment"] == "rates"
    assert "experiment" not in read("-", io.BytesIO(content))
