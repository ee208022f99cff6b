"""What is typed is what counts, in YAML, JSON and options, or it is rejected with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mlpq.cli import cli
from mlpq.cli.spec_file import read
from mlpq.errors import SpecError
from mlpq.spec.sweep import OF_SUBMISSION, Sweep
from tests.support.command_tree import COMMANDS

# Scalars to which YAML 1.1 gives another type than text, by that type; test_scalars_have_implicit_types checks it.
IMPLICIT = {
    "bool": ("yes", "No", "on", "OFF", "true", "False"),
    "int": ("1_000", "010", "0x1F", "0b101", "1:30", "190:20:30", "+12", "-0", "2024_01_15"),
    "float": ("1.10", "1.", ".5", "6.8523015e+5", "1_0.5", "190:20:30.15", ".inf", "-.INF", ".NaN", "1.0e+2"),
    "timestamp": ("2024-01-15", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43.10"),
    "merge": ("<<",),
    "value": ("=",),
}
SCALARS = [scalar for scalars in IMPLICIT.values() for scalar in scalars]
NULLS = ("", "~", "null", "Null", "NULL")


def file_of(folder: Path, text: str | bytes, name: str = "spec.yaml") -> str:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(file)


def rejected(folder: Path, text: str | bytes, name: str = "spec.yaml") -> str:
    with pytest.raises(SpecError) as error:
        Sweep.parse(read(file_of(folder, text, name))).jobs()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_scalars_have_implicit_types() -> None:
    resolver = yaml.SafeLoader("")
    known = {tag.rpartition(":")[2] for pairs in resolver.yaml_implicit_resolvers.values() for tag, _ in pairs}
    assert known == {*IMPLICIT, "null", "yaml"}  # "yaml" is of the characters that begin no plain scalar
    for type_, scalars in {**IMPLICIT, "null": NULLS}.items():
        for scalar in scalars:
            assert resolver.resolve(yaml.ScalarNode, scalar, (True, False)) == f"tag:yaml.org,2002:{type_}", scalar


@pytest.mark.parametrize("scalar", SCALARS)
def test_name_of_an_experiment_is_the_text_that_was_typed(tmp_path: Path, scalar: str) -> None:
    assert Sweep.parse(read(file_of(tmp_path, f"experiment: {scalar}"))).experiment == scalar
    assert read(file_of(tmp_path, f"{scalar}: 3"))[scalar] == "3"


@pytest.mark.parametrize("scalar", SCALARS)
@pytest.mark.parametrize("key", ["seeds", "epochs", "lr", "bias", "hidden", "priority"])
def test_scalar_means_the_same_in_a_file_and_as_an_option(tmp_path: Path, key: str, scalar: str) -> None:
    """On the command line there are no types."""

    def parsed(document: dict[str, object]) -> object:
        try:
            return Sweep.parse({"experiment": "same", **document})
        except SpecError as error:
            return str(error)

    assert parsed({key: scalar}) == parsed({**read(file_of(tmp_path, f"{key}: {scalar}")), "experiment": "same"})


def test_octal_looking_number_is_decimal(tmp_path: Path) -> None:
    assert Sweep.parse(read(file_of(tmp_path, "seeds: [010, 7]"))).seeds == (10, 7)


@pytest.mark.parametrize("null", NULLS)
def test_null_leaves_the_default(tmp_path: Path, null: str) -> None:
    assert Sweep.parse(read(file_of(tmp_path, f"lr: {null}\npatience: {null}"))).lr is None
    assert "the name of an experiment" in rejected(tmp_path, f"experiment: {null}")
    assert Sweep.parse(read(file_of(tmp_path, f"experiment: 'a{null}'"))).experiment == f"a{null}"


@given(st.recursive(st.text("ab1.0_:-", min_size=1), lambda inner: st.lists(inner, max_size=3), max_leaves=8))
def test_quoted_text_and_lists_are_unchanged(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    folder = tmp_path_factory.mktemp("spec")
    for name in ("spec.yaml", "spec.json"):
        assert read(file_of(folder, json.dumps({"key": value}), name))["key"] == value


@pytest.mark.parametrize("number", ["1.10", "1e5", "12345678901234567890123", "0.1000000000000000055"])
def test_number_in_json_is_the_text_that_was_typed(tmp_path: Path, number: str) -> None:
    assert read(file_of(tmp_path, f'{{"experiment": {number}}}', "spec.json"))["experiment"] == number


@pytest.mark.parametrize("constant", ["true", "NaN", "-Infinity", "null", "[1]", '{"a": 1}'])
def test_value_that_is_no_name_is_rejected_in_json(tmp_path: Path, constant: str) -> None:
    if constant.strip("-").isalpha() and constant not in ("true", "null"):
        assert "lr must be a number" in rejected(tmp_path, f'{{"lr": {constant}}}', "spec.json")
    else:
        assert "the name of an experiment" in rejected(tmp_path, f'{{"experiment": {constant}}}', "spec.json")


DUPLICATES = ("lr: 1\nlr: 2", "{lr: 1, 'lr': 2}", "optimizer:\n  - {name: sgd, lr: 1, lr: 2}", '{"lr": 1, "lr": 2}')


@pytest.mark.parametrize("text", DUPLICATES)
def test_key_that_is_given_twice_is_rejected(tmp_path: Path, text: str) -> None:
    assert "'lr' is given twice" in rejected(tmp_path, text)
    if text.startswith('{"'):
        assert "'lr' is given twice" in rejected(tmp_path, text, "spec.json")
        assert "'lr' is given twice" in rejected(tmp_path, f'{{"optimizer": [{text}]}}', "spec.json")


@pytest.mark.parametrize("name", ["spec.yaml", "spec.json"])
def test_byte_order_mark_is_accepted(tmp_path: Path, name: str) -> None:
    assert read(file_of(tmp_path, b'\xef\xbb\xbf{"epochs": 3}', name))["epochs"] == "3"


NOT_SPECS = (
    ("experiment: {{ name }}", "a key must be text; render templates"),
    ("{{ name }}: 3", "a key must be text; render templates"),
    ("{% if x %}\nlr: 1\n{% endif %}", "is not valid YAML"),
    ("? [1, 2]\n: 3", "a key must be text"),
    ("a: &a [1]\nb: *a", "the alias *a is not supported"),
    ("a: &a [1]\nb: {<<: *a}", "the alias *a is not supported"),
    ("a: !!int 3", "the tag tag:yaml.org,2002:int is not supported"),
    ("a: !!binary aGVsbG8=", "the tag tag:yaml.org,2002:binary is not supported"),
    ("!!python/object:os.system {}", "is not supported"),
    ("a: 1\n---\nb: 2", "there is a second document"),
    ("a: " + "[" * 20 + "]" * 20, "no more than 10 levels"),
    ("[" * 50_000, "is not valid YAML"),
    ("a: " + "{a: " * 50_000, "is not valid YAML"),
)


@pytest.mark.parametrize(("text", "message"), NOT_SPECS, ids=[text[:20] for text, _ in NOT_SPECS])
def test_what_a_spec_does_not_need_is_rejected(tmp_path: Path, text: str, message: str) -> None:
    assert message in rejected(tmp_path, text)


def test_alias_bomb_is_rejected_before_it_grows(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "line 2, column 10" in rejected(tmp_path, "\n".join(lines))


def test_nested_json_is_rejected(tmp_path: Path) -> None:
    assert "nested too deeply" in rejected(tmp_path, "[" * 100_000, "spec.json")


def test_endless_and_huge_files_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="is larger than 4 MB"):
        read("/dev/zero")
    with pytest.raises(SpecError, match="must contain keys and values"):
        read("/dev/null")


def test_most_seeds_of_a_submission_may_be_listed(tmp_path: Path) -> None:
    seeds = list(range(4_000_000_000, 4_000_100_000))
    for name in ("spec.yaml", "spec.json"):
        text = json.dumps({"seeds": seeds}, separators=(",", ":"))
        assert Sweep.parse(read(file_of(tmp_path, text, name))).seeds == tuple(seeds)


@pytest.mark.parametrize("name", ["spec.yaml", "spec.json"])
def test_more_seeds_than_jobs_are_rejected(tmp_path: Path, name: str) -> None:
    text = json.dumps({"seeds": [1] * 100_001}, separators=(",", ":"))
    assert "more than 100000 seeds" in rejected(tmp_path, text, name)


def test_yaml_of_more_values_than_a_spec_needs_is_rejected_while_it_is_read(tmp_path: Path) -> None:
    """Two hundred thousand of them, counting what begins and ends the document, the mapping and the list."""
    most = ",".join("1" * 199_992)
    assert len(read(file_of(tmp_path, f"{{a: [{most}]}}", "spec.yaml"))["a"]) == 199_992  # type: ignore[arg-type]
    assert "more than 200000 values" in rejected(tmp_path, f"{{a: [{most},1]}}")


@pytest.mark.parametrize(
    "keys",
    [
        {"seeds": ",".join(["0..99999"] * 1000)},
        {name: [n / 100_000 for n in range(1, 20_000)] for name in ("lr", "l1", "dropout", "weight_decay")},
        {"optimizer": [{"name": "sgd", "lr": list(range(1, 20_000))}] * 20},
    ],
    ids=["ranges", "product", "optimizers"],
)
def test_product_that_is_too_large_is_rejected_before_it_is_made(keys: dict[str, object]) -> None:
    with pytest.raises(SpecError, match="limit"):
        Sweep.parse(keys).jobs()


@pytest.mark.parametrize("key", ["hidden", "lr", "seeds", "dropout", "batch_size", "l1", "weight_decay", "dataset"])
@pytest.mark.parametrize("text", ["1,,2", "1,", ",1", ",", "1, ,2"])
def test_empty_part_of_a_list_is_rejected(key: str, text: str) -> None:
    with pytest.raises(SpecError, match="comma with nothing before or after it"):
        Sweep.parse({key: text})
    with pytest.raises(SpecError, match="comma with nothing before or after it"):
        Sweep.parse({"optimizer": "sgd:lr=1,,momentum=0.5"})


SPELLINGS = (
    ({"seeds": "0-9"}, "write 0..9"),
    ({"seeds": "0:9"}, "write 0..9"),
    ({"seeds": "1,3-5"}, "write 3..5"),
    ({"seeds": "0...9"}, "write 0..9"),
    ({"lr": "0,1"}, "decimals need a point: 0.1"),
    ({"lr": "0,001"}, "decimals need a point: 0.001"),
    ({"dropout": "0,5"}, "decimals need a point: 0.5"),
    ({"validation": "0,1"}, "decimals need a point: 0.1"),
    ({"hidden": "32x32"}, "write 32,32"),
    ({"hidden": "64 × 32 × 16"}, "write 64,32,16"),
    ({"hidden": "64-32"}, "write 64,32"),
    ({"learning_rate": "0.1"}, "did you mean 'lr'?"),
    ({"batch-size": "32"}, "did you mean 'batch_size'?"),
    ({"layers": "32"}, "did you mean 'hidden'?"),
)


@pytest.mark.parametrize(("keys", "advice"), SPELLINGS, ids=str)
def test_other_spelling_gets_the_right_one(keys: dict[str, object], advice: str) -> None:
    with pytest.raises(SpecError) as error:
        Sweep.parse(keys)
    assert advice in str(error.value)


def test_several_models_and_data_sets_are_swept() -> None:
    keys = {"dataset": "digits,mnist", "hidden": [[32], "64,16", "none"], "activation": ["relu", "tanh"]}
    found = [(spec.dataset, spec.hidden, spec.activation) for spec in Sweep.parse(keys).jobs()]
    models = [((32,), "relu"), ((32,), "tanh"), ((64, 16), "relu"), ((64, 16), "tanh"), ((), "sigmoid")]
    assert found == [(dataset, *model) for dataset in ("digits", "mnist") for model in models]
    assert Sweep.parse({"hidden": [64, 16]}).hidden == ((64, 16),)


def planned(*options: str) -> list[dict[str, object]]:
    done = CliRunner().invoke(cli, ["submit", "--dataset", "digits", *options, "--dry-run", "--format", "json"])
    assert done.exit_code == 0, done.output
    found: list[dict[str, object]] = json.loads(done.output)
    return found


@pytest.mark.parametrize(
    ("option", "values", "field"),
    [
        ("--lr", ["0.1", "0.01,0.001", "1"], "lr"),
        ("--seeds", ["1", "3..4", "7,8"], "seed"),
        ("--dropout", ["0", "0.2,0.3"], "dropout"),
        ("--batch-size", ["16", "32,64"], "batch_size"),
        ("--l1", ["0", "0.1"], "l1"),
        ("--activation", ["relu", "tanh"], "activation"),
        ("--bias", ["true", "false"], "bias"),
        ("--initialisation", ["torch", "truncated-normal"], "initialisation"),
        ("--epochs", ["1", "2,3"], "epochs"),
        ("--validation", ["0", "0.1,0.2"], "validation"),
        ("--weight-decay", ["0", "0.1"], "optimizer_settings"),
        ("--warmup", ["0", "0.1,1"], "warmup"),
        ("--clip-norm", ["none", "1,0.5"], "clip_norm"),
        ("--label-smoothing", ["0", "0.1"], "label_smoothing"),
    ],
)
def test_repeated_option_accumulates(option: str, values: list[str], field: str) -> None:
    repeated = [job[field] for job in planned(*(part for value in values for part in (option, value)))]
    assert repeated == [job[field] for job in planned(option, ",".join(values))]
    assert len(repeated) >= len(values)


def test_repeated_hidden_is_one_model_each() -> None:
    found = [job["hidden"] for job in planned("--hidden", "32", "--hidden", "64,32", "--hidden", "none")]
    assert found == [[32], [64, 32], []]
    assert len(planned("--dataset", "mnist")) == 2


def test_repeated_schedule_is_one_schedule_each() -> None:
    """Commas separate the settings of one."""
    found = planned("--schedule", "linear", "--schedule", "step:size=2,gamma=0.5", "--schedule", "cosine")
    assert [job["schedule"] for job in found] == ["linear", "step", "cosine"]
    assert found[1]["schedule_settings"] == {"size": 2, "gamma": 0.5}


def test_repeated_patience_accumulates() -> None:
    found = planned("--validation", "0.1", "--patience", "none,3", "--patience", "5")
    assert [job["patience"] for job in found] == [None, 3, 5]


def test_layers_without_bias_are_swept_beside_those_with() -> None:
    assert [job["bias"] for job in planned("--no-bias")] == [False]
    assert [job["bias"] for job in planned("--bias", "true", "--no-bias")] == [True, False]


def test_repeated_zip_is_one_group_each() -> None:
    values = ("--lr", "0.1,0.2", "--batch-size", "16,32", "--epochs", "1,2", "--l1", "0,1e-5")
    found = planned(*values, "--zip", "lr,batch-size", "--zip", "epochs,l1")
    assert [(job["lr"], job["batch_size"], job["epochs"]) for job in found] == [
        (0.1, 16, 1), (0.1, 16, 2), (0.2, 32, 1), (0.2, 32, 2),
    ]  # fmt: skip
    assert [job["epochs"] for job in planned(*values[:6], "--zip", "lr,batch-size,epochs")] == [1, 2]


def test_models_of_a_list_are_those_that_are_typed() -> None:
    """Commas separate layers, in a list of texts as well."""
    assert Sweep.parse({"hidden": ["32", "64,32"]}).hidden == ((32,), (64, 32))
    assert Sweep.parse({"lr": ["0.1", "0.2,0.3"]}).lr == (0.1, 0.2, 0.3)


def test_every_option_that_describes_the_training_may_be_repeated() -> None:
    single = {parameter.name for parameter in cli.commands["submit"].params if not parameter.multiple}
    assert single & {*Sweep.model_fields} == {*OF_SUBMISSION} - {"formula"}


def single_options() -> list[tuple[str, str]]:
    return [
        (" ".join(words), option.opts[-1])
        for words, command in COMMANDS.items()
        for option in command.params
        if isinstance(option, click.Option) and not option.is_flag and not option.multiple
    ]


@pytest.mark.parametrize(("command", "option"), single_options(), ids=" ".join)
@pytest.mark.parametrize("joined", [True, False])
def test_option_with_one_value_is_not_given_twice(
    command: str, option: str, joined: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = [f"{option}=1", f"{option}=2"] if joined else [option, "1", option, "2"]
    with pytest.raises(SystemExit) as ended:
        cli.main([*command.split(), *twice], prog_name="mlpq")
    assert ended.value.code == 2
    assert f"Option '{option}' is given twice" in capsys.readouterr().err
