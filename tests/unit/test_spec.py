"""Specs: one canonical form and hash, sweeps that expand to all combinations, and one line for invalid values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlpq.errors import SpecError
from mlpq.spec.datasets import DATASETS
from mlpq.spec.job import INITIALISATIONS, JobSpec
from mlpq.spec.optimizers import OPTIMIZERS
from mlpq.spec.parsing import parse_hidden, parse_seeds
from mlpq.spec.presets import preset_jobs
from mlpq.spec.sweep import Sweep, inherited


def jobs(**keys: object) -> list[JobSpec]:
    return Sweep.parse(keys).jobs()


def one(**keys: object) -> JobSpec:
    (spec,) = jobs(**keys)
    return spec


def test_hash_of_a_spec_is_the_same_in_every_version() -> None:
    """Job ids depend on it: a submission must find its jobs again after an upgrade."""
    assert one().canonical() == (
        '{"activation":"sigmoid","batch_size":32,"bias":true,"dataset":"fashion-mnist","dropout":0.0,"epochs":10,'
        '"hidden":[32],"l1":0.0,"lr":0.001,"optimizer":"sgd","optimizer_settings":{"dampening":0.0,"momentum":0.0,'
        '"nesterov":false,"weight_decay":0.0},"parent":null,"patience":null,"seed":42,"validation":0.0}'
    )
    assert one().hash == "14861701854f6c99845287bf46b22ce4796b3480078318f398b75c69f342b19e"


def test_spec_without_initialisation_has_torchs() -> None:
    """Old specs have no such key; their hashes must not change, nor those of the textbook's jobs."""
    old = json.loads(one().canonical())
    assert "initialisation" not in old
    spec = JobSpec.model_validate(old)
    assert (spec, spec.hash, spec.initialisation) == (one(initialisation="torch"), one().hash, "torch")
    assert [job.hash for job in preset_jobs("textbook", {})[1]] == [
        "e93768cd4c3aaa3cb7b85ba9e364d767773d79a743b935d625aac1dada9df9d3",
        "14861701854f6c99845287bf46b22ce4796b3480078318f398b75c69f342b19e",
        "11df1090518bcacd3421cba0fd5eb951cda5b244c7b5cb942a5a38824083f6b5",
    ]


def test_other_initialisation_is_in_the_canonical_json() -> None:
    assert '"initialisation":"truncated-normal"' in one(initialisation=" Truncated-Normal").canonical()


def test_equivalent_inputs_are_one_spec() -> None:
    same = [
        one(lr="0.1", hidden="16,8", epochs="5", seeds="7", optimizer="SGD", dropout="-0"),
        one(lr=0.1, hidden=[16, 8], epochs=5, seeds=7, optimizer=["sgd"], activation=" Sigmoid "),
        one(lr="1e-1", hidden="16, 8", epochs="+5", seeds=[7], optimizer={"name": "sgd", "momentum": 0}),
        one(optimizer="sgd:lr=.10,momentum=0.0", hidden=(16, 8), epochs=5, seeds="7..7", dataset="Fashion-MNIST"),
    ]
    assert len({spec.hash for spec in same}) == 1
    assert len({spec.canonical() for spec in same}) == 1


def test_every_field_changes_the_hash() -> None:
    base: dict[str, Any] = {"dataset": "digits", "hidden": "16", "validation": "0.1"}
    changes = (
        {"dataset": "mnist"}, {"hidden": "17"}, {"hidden": "16,16"}, {"activation": "relu"}, {"bias": False},
        {"dropout": 0.1}, {"optimizer": "adam"}, {"lr": 0.2}, {"weight_decay": 0.1}, {"l1": 0.1}, {"epochs": 3},
        {"batch_size": 64}, {"validation": 0.2}, {"patience": 2}, {"seeds": 1}, {"optimizer": "sgd:momentum=0.5"},
        {"initialisation": "truncated-normal"}, {"schedule": "cosine"}, {"schedule": "cosine:eta_min=1e-5"},
        {"warmup": 1}, {"clip_norm": 1}, {"label_smoothing": 0.1},
    )  # fmt: skip
    specs = [one(**base), *(one(**{**base, **change}) for change in changes)]
    assert len({spec.hash for spec in specs}) == len(specs)


def test_placement_is_not_part_of_the_spec() -> None:
    assert one(device="cpu", priority=5, experiment="x") == one()


def test_spec_is_frozen_and_rejects_unknown_fields() -> None:
    with pytest.raises(ValidationError, match="epochs\n  Instance is frozen"):
        one().epochs = 3
    with pytest.raises(ValidationError, match="extra\n  Extra inputs are not permitted"):
        JobSpec.model_validate({**one().model_dump(), "extra": 1})


def test_spec_without_hidden_layers_does_not_depend_on_the_activation() -> None:
    assert one(hidden="none", activation="relu") == one(hidden="none")
    assert one(hidden="none").parameters == 784 * 10 + 10


def test_gang_key_is_the_same_in_every_version() -> None:
    """Queued jobs in a database are claimed by it."""
    assert one(hidden="16,8", validation="0.1").gang_key == (
        '{"activation":"sigmoid","batch_size":32,"bias":true,"dataset":"fashion-mnist","hidden":[16,8],"validation":0.1}'
    )


@pytest.mark.parametrize(
    ("change", "joins"),
    [
        ({"seeds": 1}, True), ({"optimizer": "adam"}, True), ({"optimizer": "sgd:momentum=0.9"}, True),
        ({"lr": 0.5}, True), ({"l1": 0.1}, True), ({"dropout": 0.1}, True), ({"epochs": 3}, True),
        ({"patience": 2}, True), ({"initialisation": "truncated-normal"}, True),
        ({"dataset": "mnist"}, False), ({"hidden": "17"}, False), ({"hidden": "16,16"}, False),
        ({"activation": "relu"}, False), ({"bias": False}, False), ({"batch_size": 64}, False),
        ({"validation": 0.2}, False),
    ],
    ids=str,
)  # fmt: skip
def test_jobs_of_one_shape_have_the_same_gang_key(change: dict[str, Any], joins: bool) -> None:
    base: dict[str, Any] = {"dataset": "digits", "hidden": "16", "validation": 0.1}
    assert (one(**base).gang_key == one(**{**base, **change}).gang_key) is joins


def test_continued_job_may_join_a_gang() -> None:
    (child,) = Sweep.parse({"optimizer": "adam"}).jobs(one())
    assert child.gang_key == one().gang_key


@pytest.mark.parametrize(
    ("key", "each", "else_"),
    [("hidden", 784 + 10 + 32, 32 * (784 + 10)), ("batch_size", 784 + 32 + 10, 32 * (784 + 10))],
)
def test_model_too_large_to_stack_has_no_gang_key(key: str, each: int, else_: int) -> None:
    """The limit is for parameters without bias plus the activations of a batch of 32 images."""
    base: dict[str, Any] = {"hidden": 32, "bias": False}
    most = (1_048_576 - else_) // each
    assert one(**{**base, key: most}).gang_key is not None
    assert one(**{**base, key: most + 1}).gang_key is None


def test_parameters_are_counted_with_and_without_bias() -> None:
    assert one(hidden="32").parameters == 784 * 32 + 32 + 32 * 10 + 10
    assert one(hidden="32", bias="false").parameters == 784 * 32 + 32 * 10


def test_sweep_is_the_product_with_seeds_innermost() -> None:
    specs = jobs(optimizer=["sgd", "adam:lr=0.01"], lr="0.1,0.2", seeds="1,2")
    assert [(spec.optimizer, spec.lr, spec.seed) for spec in specs] == [
        ("sgd", 0.1, 1), ("sgd", 0.1, 2), ("sgd", 0.2, 1), ("sgd", 0.2, 2), ("adam", 0.01, 1), ("adam", 0.01, 2),
    ]  # fmt: skip


def test_every_list_of_values_is_swept() -> None:
    keys = {
        "optimizer": ["sgd", "adam"], "lr": "0.1,0.2,0.3", "weight_decay": "0,0.1", "l1": "0,1e-5", "dropout": "0,0.5",
        "batch_size": "16,32", "seeds": "0..2",
    }  # fmt: skip
    specs = jobs(**keys)
    assert len(specs) == len({spec.hash for spec in specs}) == 2 * 3 * 2 * 2 * 2 * 2 * 3


def test_duplicate_values_make_one_job() -> None:
    assert len(jobs(lr="0.1,0.10,1e-1", seeds="1,1,0..1", optimizer=["sgd", "SGD"])) == 2


def test_optimizer_keeps_its_own_rate_and_decay() -> None:
    specs = jobs(optimizer=["sgd:lr=0.5,weight_decay=0.25", "adam"], lr="0.1", weight_decay="0.001")
    assert [(spec.lr, spec.optimizer_settings["weight_decay"]) for spec in specs] == [(0.5, 0.25), (0.1, 0.001)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rate_defaults_to_torchs(name: str) -> None:
    assert one(optimizer=name).lr == OPTIMIZERS[name].lr


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("42", (42,)), ("1,2,3", (1, 2, 3)), ("0..9", tuple(range(10))), ("5..5", (5,)), ("3,0..1,3", (3, 0, 1)),
        (7, (7,)), ([1, "2..3"], (1, 2, 3)), ("4294967295", (4_294_967_295,)),
    ],
)  # fmt: skip
def test_seeds_are_numbers_lists_and_inclusive_ranges(text: object, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    ("text", "widths"),
    [
        ("32", (32,)),
        ("1000,500,100", (1000, 500, 100)),
        ("none", ()),
        (None, ()),
        ([], ()),
        (8, (8,)),
        ([8, 4], (8, 4)),
    ],
)
def test_hidden_layers_are_widths_or_none(text: object, widths: tuple[int, ...]) -> None:
    assert parse_hidden(text) == widths


BAD: tuple[tuple[dict[str, object], str], ...] = (
    ({"optimizer": "adm"}, "unknown optimizer 'adm' (did you mean 'adam'?)"),
    ({"optimizer": "sgd:momentun=0.9"}, "sgd has no option 'momentun' (did you mean 'momentum'?)"),
    ({"optimizer": "sgd:momentum"}, "'momentum' in 'sgd:momentum' is not a setting"),
    ({"optimizer": "sgd:lr=0.1,lr=0.2"}, "'lr' is given twice"),
    ({"optimizer": "sgd:lr=0"}, "lr must be a number above 0, not '0'"),
    ({"optimizer": []}, "optimizer is empty"),
    ({"optimizer": ""}, "unknown optimizer ''"),
    ({"optimizer": {"lr": 0.1}}, "an optimizer given as a mapping needs the key 'name'"),
    ({"dataset": "fashion"}, "unknown data set 'fashion' (did you mean 'fashion-mnist'?)"),
    ({"dataset": "cifar10"}, "unknown data set 'cifar10'"),
    ({"activation": "relus"}, "unknown activation 'relus' (did you mean 'relu'?)"),
    ({"initialisation": "normal"}, "unknown initialisation 'normal' (choose from: torch, truncated-normal)"),
    ({"device": "gpu"}, "unknown device 'gpu'"),
    ({"lr": "0"}, "lr must be a number above 0, not '0'"),
    ({"lr": "-0.1"}, "lr must be a number above 0"),
    ({"lr": "fast"}, "lr must be a number above 0, not 'fast'"),
    ({"lr": "nan"}, "lr must be a number above 0"),
    ({"lr": "inf"}, "lr must be a number above 0"),
    ({"lr": "0.1,0"}, "lr must be a number above 0, not '0'"),
    ({"lr": ""}, "lr is empty"),
    ({"lr": True}, "lr must be a number above 0"),
    ({"epochs": "1.5"}, "epochs must be a whole number"),
    ({"epochs": "1" * 5000}, "epochs must be a whole number"),
    ({"epochs": True}, "epochs must be a whole number"),
    ({"seeds": ""}, "seeds is empty"),
    ({"seeds": []}, "seeds is empty"),
    ({"seeds": "9..0"}, "the seed range '9..0' is empty"),
    ({"seeds": "1..x"}, "seeds must be a whole number"),
    ({"seeds": ".."}, "seeds must be a whole number"),
    ({"seeds": "0..99999", "lr": "0.1,0.2"}, "200000 jobs in one submission; the limit is 100000"),
    ({"hidden": "1000000000"}, "hidden must be a whole number"),
    ({"hidden": "16384,16384"}, "hidden 16384,16384 makes 281,"),
    ({"hidden": ""}, "hidden takes 1 to 32 layers or 'none'"),
    ({"hidden": "wide"}, "hidden must be a whole number"),
    ({"dropout": "0.5", "hidden": "none"}, "dropout applies to hidden layers"),
    ({"l1": "-1"}, "l1 must be a number of 0 or more"),
    ({"weight_decay": "-1"}, "weight_decay must be a number of 0 or more"),
    ({"optimizer": "rprop", "weight_decay": "0.1"}, "rprop has no option 'weight_decay'"),
    ({"patience": "3"}, "patience needs a validation split"),
    ({"priority": "high"}, "priority must be a whole number"),
    ({"bias": "perhaps"}, "bias must be true or false"),
    ({"experiment": ""}, "the name of an experiment has 1 to 100 printable characters"),
    ({"experiment": ".."}, "the name of an experiment has 1 to 100 printable characters"),
    ({"experiment": "a\nb"}, "the name of an experiment has 1 to 100 printable characters"),
    ({"epoch": 3}, "unknown key 'epoch' (did you mean 'epochs'?)"),
    ({"learning_rate": 3}, "unknown key 'learning_rate' (did you mean 'lr'?)"),
    ({"zzz": 3}, "unknown key 'zzz' (choose from: activation,"),
)


@pytest.mark.parametrize(
    ("keys", "message"), BAD, ids=[f"{number}-{message[:30]}" for number, (_, message) in enumerate(BAD)]
)
def test_invalid_value_is_a_one_line_error(keys: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as error:
        jobs(**keys)
    assert message in str(error.value)
    assert len(str(error.value)) < 400


def test_child_inherits_all_but_optimizer_and_early_stopping() -> None:
    parent = one(
        dataset="digits", hidden="16,8", activation="tanh", bias=False, dropout=0.2, optimizer="sgd:momentum=0.9",
        lr=0.5, l1=1e-5, epochs=7, batch_size=16, validation=0.2, patience=3, seeds=9,
        initialisation="truncated-normal",
    )  # fmt: skip
    (child,) = Sweep.parse({**inherited(parent), "optimizer": "adam"}).jobs(parent)
    changed = {"optimizer": "adam", "lr": 0.001, "optimizer_settings": one(optimizer="adam").optimizer_settings}
    assert child.model_dump() == {**parent.model_dump(), **changed, "patience": None, "parent": parent.hash}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"hidden": "17"}, "hidden is 17 here and 16 in the parent"),
        ({"hidden": "none"}, "hidden is none here and 16 in the parent"),
        ({"dataset": "mnist"}, "dataset is mnist here and digits in the parent"),
        ({"activation": "relu"}, "activation is relu here and sigmoid in the parent"),
        ({"bias": False}, "bias is False here and True in the parent"),
        ({"initialisation": "truncated-normal"}, "initialisation is truncated-normal here and torch in the parent"),
        ({"seeds": "0..3"}, "keeps its seed, 42, not 0"),
        ({"validation": "0.2"}, "another split would hold out images that the parent trained on"),
    ],
)
def test_child_with_another_model_seed_or_split_is_rejected(keys: dict[str, object], message: str) -> None:
    parent = one(dataset="digits", hidden="16")
    with pytest.raises(SpecError, match=message):
        Sweep.parse({**inherited(parent), **keys}).jobs(parent)


positive = st.floats(min_value=1e-300, max_value=1e300)
widths = st.lists(st.integers(1, 64), max_size=3)


@st.composite
def sweeps(draw: st.DrawFn) -> dict[str, object]:
    """Realistic spec files."""
    hidden = draw(widths)
    validation = draw(st.sampled_from([0.0, 0.1, 0.25]))
    keys: dict[str, object] = {
        "dataset": draw(st.sampled_from(sorted(DATASETS))),
        "hidden": hidden or "none",
        "activation": draw(st.sampled_from(["sigmoid", "relu", "tanh"])),
        "bias": draw(st.booleans()),
        "initialisation": draw(st.sampled_from(INITIALISATIONS)),
        "optimizer": draw(st.lists(st.sampled_from(sorted(OPTIMIZERS)), min_size=1, max_size=3)),
        "lr": draw(st.lists(positive, min_size=1, max_size=3)),
        "l1": draw(st.lists(st.floats(0, 1e3), min_size=1, max_size=2)),
        "dropout": draw(st.lists(st.floats(0, 0.99), min_size=1, max_size=2)) if hidden else 0,
        "epochs": draw(st.integers(1, 10_000)),
        "batch_size": draw(st.lists(st.integers(1, 1000), min_size=1, max_size=2)),
        "seeds": draw(st.lists(st.integers(0, 4_294_967_295), min_size=1, max_size=4)),
        "validation": validation,
    }
    if validation and draw(st.booleans()):
        keys["patience"] = draw(st.integers(1, 100))
    return keys


@given(sweeps())
def test_sweep_expands_to_unique_specs_that_survive_json(keys: dict[str, object]) -> None:
    specs = jobs(**keys)
    assert specs
    assert len({spec.hash for spec in specs}) == len(specs)
    assert jobs(**keys) == specs
    for spec in specs:
        for text in (spec.canonical(), spec.model_dump_json(), json.dumps(spec.model_dump(mode="json"), indent=2)):
            back = JobSpec.model_validate(json.loads(text))
            assert back == spec
            assert back.hash == spec.hash


@given(sweeps())
def test_sweep_has_the_same_jobs_from_json_and_from_text(keys: dict[str, object]) -> None:
    """On the command line all values are text; lists have commas."""
    typed = {
        key: ",".join(map(repr, value)) if isinstance(value, list) and key != "optimizer" else value
        for key, value in keys.items()
    }
    assert jobs(**typed) == jobs(**json.loads(json.dumps(keys)))


@given(st.integers(0, 4_294_967_245), st.integers(0, 50))
def test_seed_range_is_inclusive(low: int, more: int) -> None:
    assert parse_seeds(f"{low}..{low + more}") == tuple(range(low, low + more + 1))


@given(sweeps(), st.data())
def test_order_of_keys_does_not_matter(keys: dict[str, object], data: st.DataObject) -> None:
    shuffled = dict(data.draw(st.permutations(list(keys.items()))))
    assert {spec.hash for spec in jobs(**shuffled)} == {spec.hash for spec in jobs(**keys)}


@given(st.text(max_size=20), st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=20)))
def test_arbitrary_values_are_rejected_or_valid(key: str, value: object) -> None:
    for document in ({key: value}, *({known: value} for known in Sweep.model_fields)):
        try:
            specs = Sweep.parse(document).jobs()
        except SpecError:
            continue
        assert specs
