"""Own data sets in specs: a name and its content."""

from __future__ import annotations

import json

import pytest

from mlpq.errors import SpecError
from mlpq.spec.data_content import DataContent, parse_own_name, parse_reference
from mlpq.spec.job import JobSpec, parse_spec
from mlpq.spec.presets import preset_jobs
from mlpq.spec.sweep import Sweep, inherited

CONTENT = DataContent(sha256="a" * 64, features=20, classes=3, train=4000, test=1000)
OTHER = CONTENT.model_copy(update={"sha256": "b" * 64})
CONTENTS = {"wine": CONTENT, "wine@bbbbbbbb": OTHER}


def own(**keys: object) -> JobSpec:
    (spec,) = Sweep.parse({"dataset": "wine", **keys}).jobs(contents=CONTENTS)
    return spec


def test_sizes_of_the_model_are_those_of_the_content() -> None:
    spec = own(hidden="8", validation=0.1)
    assert spec.dataset == "wine"
    assert spec.widths == (20, 8, 3)
    assert spec.validation_size == 400
    assert (spec.data.name, spec.data.train, spec.data.test, spec.data.checksum) == ("wine", 4000, 1000, "a" * 64)
    assert not spec.data.bundled


def test_spec_of_own_data_is_read_back_with_the_same_hash() -> None:
    spec = own()
    assert parse_spec(json.loads(spec.canonical())) == spec
    assert parse_spec(spec.model_dump(mode="json")).hash == spec.hash


def test_other_content_under_the_same_name_is_another_spec_and_another_gang() -> None:
    older = own(dataset="wine@bbbbbbbb")
    assert older.dataset == "wine"
    assert older.content == OTHER
    assert older.hash != own().hash
    assert older.gang_key != own().gang_key


def test_content_of_a_built_in_data_set_is_not_in_the_canonical_spec() -> None:
    (spec,) = Sweep.parse({"dataset": "digits"}).jobs()
    assert "content" not in json.loads(spec.canonical())
    assert "content" not in str(spec.gang_key_on(None))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "wine", "content": None}, "unknown data set 'wine'"),
        ({"dataset": "digit", "content": None}, r"unknown data set 'digit' \(did you mean 'digits'\?\)"),
        ({"dataset": "digits"}, "'digits' is a built-in data set"),
        ({"content": {**CONTENT.model_dump(), "sha256": "A" * 64}}, "content.sha256"),
        ({"content": {**CONTENT.model_dump(), "classes": 1}}, "content.classes"),
        ({"content": {**CONTENT.model_dump(), "classes": 1001}}, "content.classes"),
        ({"content": {**CONTENT.model_dump(), "features": 100_001}}, "content.features"),
        ({"content": {**CONTENT.model_dump(), "train": 1_000_001}}, "content.train"),
        ({"content": {**CONTENT.model_dump(), "test": 0}}, "content.test"),
        ({"content": {**CONTENT.model_dump(), "test": True}}, "content.test"),
        ({"content": {**CONTENT.model_dump(), "path": "/etc"}}, "content.path"),
        ({"content": "a" * 64}, "content"),
        ({"hidden": "16384"}, "parameters; the limit is"),
    ],
)
def test_content_that_no_data_set_has_is_refused_in_one_line(fields: dict[str, object], message: str) -> None:
    large = CONTENT.model_copy(update={"features": 100_000})
    document = {**own().model_dump(mode="json"), "content": large.model_dump(), **fields}
    with pytest.raises(SpecError, match=message) as error:
        parse_spec(document)
    assert "\n" not in str(error.value)


def test_unknown_data_set_is_named_with_what_to_do() -> None:
    with pytest.raises(SpecError, match=r"choose from: digits, .*; mlpq data add"):
        Sweep.parse({"dataset": "churn"}).jobs()
    with pytest.raises(SpecError, match=r"did you mean 'mnist'"):
        Sweep.parse({"dataset": "mnits"}).jobs(contents=CONTENTS)


@pytest.mark.parametrize("name", ["", "a b", "../x", "-x", ".x", "x@1", "ü", "x" * 65, "a\n", "x/y"])
def test_names_that_are_no_names_of_data_sets_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="the name of a data set has 1 to 64"):
        parse_own_name(name if name != "a\n" else "a\nb")


def test_name_of_a_built_in_data_set_is_not_free() -> None:
    with pytest.raises(ValueError, match="built-in"):
        parse_own_name("MNIST")
    assert parse_own_name(" Wine-2.csv ") == "wine-2.csv"


@pytest.mark.parametrize("reference", ["wine@", "wine@12", "wine@zzzzzzzz", "wine@" + "a" * 65])
def test_hash_of_a_reference_has_eight_digits_or_more(reference: str) -> None:
    with pytest.raises(ValueError, match="8 to 64 hexadecimal digits"):
        parse_reference(reference)
    with pytest.raises(ValueError, match="built-in"):
        parse_reference("mnist@aaaaaaaa")


def test_job_that_continues_keeps_the_content_of_its_parent() -> None:
    parent = own()
    keys = inherited(parent)
    assert keys["dataset"] == "wine@" + "a" * 64
    (child,) = Sweep.parse({**keys, "optimizer": "adam"}).jobs(parent, contents={str(keys["dataset"]): CONTENT})
    assert child.content == CONTENT
    with pytest.raises(SpecError, match="keeps its data: wine has had other content"):
        Sweep.parse({**keys, "dataset": "wine"}).jobs(parent, contents={"wine": OTHER})


def test_textbook_preset_runs_on_own_data() -> None:
    _, specs = preset_jobs("textbook", {"dataset": "wine"}, CONTENTS)
    assert {spec.content for spec in specs} == {CONTENT}
    assert len(specs) == 3


def test_canonical_spec_has_the_content_by_its_hash() -> None:
    content = f'"content":{{"classes":3,"features":20,"sha256":"{"a" * 64}","test":1000,"train":4000}}'
    assert content in own().canonical()
