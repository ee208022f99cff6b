"""A job as the keys of a spec file: they expand to the same job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mlpq.spec.job import JobSpec
from mlpq.spec.job_keys import keys_of
from mlpq.spec.spec_file import read
from mlpq.spec.sweep import Sweep, inherited
from tests.support.kernel_fixture import KINDS, SHORT


def expanded(spec: JobSpec, folder: Path, parent: JobSpec | None = None) -> list[JobSpec]:
    """The jobs of the spec's keys after a spec file."""
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump(keys_of(spec, "some", None if parent is None else "a1b2"), sort_keys=False))
    return Sweep.parse({**({} if parent is None else inherited(parent)), **read(file)}).jobs(parent)


@pytest.mark.parametrize(
    "kind", [*KINDS, {"schedule": "step:size=1,gamma=0.3", "bias": "false", "hidden": "7,5"}], ids=str
)
def test_keys_of_a_job_expand_to_the_job(kind: dict[str, Any], tmp_path: Path) -> None:
    for spec in Sweep.parse({**SHORT, **kind}).jobs():
        assert expanded(spec, tmp_path) == [spec]


def test_job_that_continues_keeps_what_its_parent_has_and_it_has_not(tmp_path: Path) -> None:
    own = {"validation": "0.1", "seeds": 5, "dataset": "digits"}
    (parent,) = Sweep.parse({**own, "clip_norm": "1", "l1": "0.1", "patience": 2, "epochs": 3}).jobs()
    (child,) = Sweep.parse({**own, "clip_norm": "none", "optimizer": "adam"}).jobs(parent)
    assert expanded(child, tmp_path, parent) == [child]


def test_keys_name_the_experiment_and_the_job_that_is_continued_where_there_are_some() -> None:
    (spec,) = Sweep.parse({"dataset": "digits"}).jobs()
    assert not {"experiment", "continue_from"} & keys_of(spec).keys()
    named = keys_of(spec, "some", "a1b2")
    assert (named["experiment"], named["continue_from"]) == ("some", "a1b2")
