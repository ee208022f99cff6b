"""Limits of what is submitted: the largest value of each is accepted, and the next is refused by what names the limit.

Every number is written out here, so that a limit in the code can't change without one here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from pydantic import ValidationError

from mlpq.analysis.question_terms import Goal
from mlpq.cli.spec_file import read
from mlpq.errors import SettingsError, SpecError
from mlpq.report.figures import style_of
from mlpq.settings import read_settings
from mlpq.spec.data_content import parse_name, parse_reference
from mlpq.spec.document import jobs_of, sweeps_of
from mlpq.spec.formula import parse_formula, parse_formulas
from mlpq.spec.job import parse_spec
from mlpq.spec.parsing import check_count
from mlpq.spec.plugin import Declaration
from mlpq.spec.sweep import Sweep

Keys = dict[str, Any]


class Edge(NamedTuple):
    """A value of a key that is just accepted, the next beyond it, and how the message about that one begins."""

    key: str
    accepted: Any
    refused: Any
    message: str
    others: Mapping[str, Any] = MappingProxyType({})


BELOW_ONE = math.nextafter(1, 0)
SMALLEST = math.nextafter(0, 1)
HELD_OUT: Keys = {"validation": 0.1}
HIDDEN_MESSAGE = "hidden must be a whole number from 1 to 16384"
VALIDATION_MESSAGE = "validation must be a number from 0 to below 1"
EMPTY_PART = "of 60000 images leaves one of the two parts empty"
NAME_MESSAGE = "the name of an experiment has 1 to 100 printable characters"
ETAS = "rprop:etas must be one value below 1 and one above 1, as etas=0.5/1.2, not"
STEPS = "rprop:step_sizes must be the smallest and the largest, as step_sizes=1e-06/50, not 1.5/1.25"
MOMENTUM = "sgd:momentum must be 0 or more and below 1"
BETAS = "adam:betas must be 0 or more and below 1"
MUON = "muon:ns_steps must be a whole number from 1 to 99, not"
DECAY = "adafactor:beta2_decay must be 0 or less, not 0.1"
GAMMA = "exponential:gamma must be a number above 0 and at most 1"
SHARE = "one-cycle:pct_start must be a number from 0 to 1"
END = "linear:end_factor must be a number from 0 to 1"
HALF = "one-cycle:pct_start must be at most 0.5 with three_phase=true"
DIVISOR = "one-cycle:div_factor must be a number of 1 or more"
EDGES = (
    Edge("epochs", 10_000, 10_001, "epochs must be a whole number from 1 to 10000, not '10001'"),
    Edge("epochs", 1, 0, "epochs must be a whole number from 1 to 10000, not '0'"),
    Edge("batch_size", 100_000, 100_001, "batch_size must be a whole number from 1 to 100000, not '100001'"),
    Edge("batch_size", 1, 0, "batch_size must be a whole number from 1 to 100000, not '0'"),
    Edge("patience", 10_000, 10_001, "patience must be a whole number from 1 to 10000, not '10001'", HELD_OUT),
    Edge("patience", 1, 0, "patience must be a whole number from 1 to 10000, not '0'", HELD_OUT),
    Edge("hidden", [16_384], [16_385], f"{HIDDEN_MESSAGE}, not '16385'"),
    Edge("hidden", [1], [0], f"{HIDDEN_MESSAGE}, not '0'"),
    Edge("hidden", [2] * 32, [2] * 33, "hidden takes 1 to 32 layers or 'none', not 33"),
    Edge(
        "hidden", [10_000, 2_390, 7_600], [5_000, 3_351, 8_720],
        "hidden 5000,3351,8720 makes 50,000,001 parameters; the limit is 50,000,000",
    ),
    Edge("seeds", 4_294_967_295, 4_294_967_296, "seeds must be a whole number from 0 to 4294967295, not '4294967296'"),
    Edge("seeds", 0, -1, "seeds must be a whole number from 0 to 4294967295, not '-1'"),
    Edge("lr", SMALLEST, 0, "lr must be a number above 0, not '0'"),
    Edge("weight_decay", 0, -SMALLEST, "weight_decay must be a number of 0 or more"),
    Edge("l1", 0, -SMALLEST, "l1 must be a number of 0 or more"),
    Edge("dropout", BELOW_ONE, 1, "dropout must be a number from 0 to below 1, not '1'"),
    Edge("dropout", 0, -SMALLEST, "dropout must be a number from 0 to below 1"),
    Edge("label_smoothing", BELOW_ONE, 1, "label_smoothing must be a number from 0 to below 1, not '1'"),
    Edge("label_smoothing", 0, -SMALLEST, "label_smoothing must be a number from 0 to below 1"),
    Edge("clip_norm", SMALLEST, 0, "clip_norm must be a number above 0 or none, not '0'"),
    Edge("warmup", 0, -SMALLEST, "warmup must be a number of 0 or more"),
    Edge("warmup", math.nextafter(7, 0), 7, "warmup 7 takes all of 7 epochs", {"epochs": 7}),
    Edge("validation", 0, -SMALLEST, VALIDATION_MESSAGE),
    Edge("validation", 0.6 / 60_000, 0.4 / 60_000, f"validation {0.4 / 60_000} {EMPTY_PART}"),
    Edge("validation", 1 - 0.6 / 60_000, 1 - 0.4 / 60_000, f"validation {1 - 0.4 / 60_000} {EMPTY_PART}"),
    Edge("validation", 0.9999, 1, f"{VALIDATION_MESSAGE}, not '1'"),
    Edge("optimizer", f"sgd:momentum={BELOW_ONE}", "sgd:momentum=1", MOMENTUM),
    Edge("optimizer", f"adam:betas=0/{BELOW_ONE}", "adam:betas=0/1", BETAS),
    Edge("optimizer", "rprop:step_sizes=1.5/1.5", "rprop:step_sizes=1.5/1.25", STEPS),
    Edge("optimizer", f"rprop:etas={SMALLEST}/1.2", "rprop:etas=0/1.2", f"{ETAS} 0.0/1.2"),
    Edge("optimizer", f"rprop:etas={BELOW_ONE}/1.2", "rprop:etas=1/1.2", f"{ETAS} 1.0/1.2"),
    Edge("optimizer", f"rprop:etas=0.5/{math.nextafter(1, 2)}", "rprop:etas=0.5/1", f"{ETAS} 0.5/1.0"),
    Edge("optimizer", "muon:ns_steps=99", "muon:ns_steps=100", f"{MUON} 100"),
    Edge("optimizer", "muon:ns_steps=1", "muon:ns_steps=0", f"{MUON} 0"),
    Edge("optimizer", "adafactor:beta2_decay=0", "adafactor:beta2_decay=0.1", DECAY),
    Edge("optimizer", "adafactor:d=1", "adafactor:d=0.9", "adafactor:d must be 1 or more, not 0.9"),
    Edge("schedule", "exponential:gamma=1", f"exponential:gamma={math.nextafter(1, 2)}", GAMMA),
    Edge("schedule", f"exponential:gamma={SMALLEST}", "exponential:gamma=0", GAMMA),
    Edge("schedule", "step:size=1", "step:size=0", "step:size must be a number of epochs, a whole one of 1 or more"),
    Edge("schedule", "linear:end_factor=1", f"linear:end_factor={math.nextafter(1, 2)}", END),
    Edge("schedule", "linear:end_factor=0", f"linear:end_factor={-SMALLEST}", END),
    Edge("schedule", "one-cycle:pct_start=1", f"one-cycle:pct_start={math.nextafter(1, 2)}", SHARE),
    Edge(
        "schedule", "one-cycle:three_phase=true,pct_start=0.5", "one-cycle:three_phase=true,pct_start=0.51", HALF
    ),
    Edge("schedule", "one-cycle:div_factor=1", f"one-cycle:div_factor={BELOW_ONE}", DIVISOR),
    Edge("schedule", "cosine:eta_min=0.5", "cosine:eta_min=0.51", "cosine:eta_min must be at most", {"lr": 0.5}),
    Edge("schedule", "cosine:eta_min=0", f"cosine:eta_min={-SMALLEST}", "cosine:eta_min must be a number of 0 or more"),
    Edge("world_size", 64, 65, "world_size must be a whole number from 1 to 64, not '65'; or auto"),
    Edge("world_size", 1, 0, "world_size must be a whole number from 1 to 64, not '0'; or auto"),
    Edge("priority", 1000, 1001, "priority must be a whole number from -1000 to 1000, not '1001'"),
    Edge("priority", -1000, -1001, "priority must be a whole number from -1000 to 1000, not '-1001'"),
    Edge("attempts", 1000, 1001, "attempts must be a whole number from 1 to 1000, not '1001'"),
    Edge("attempts", 1, 0, "attempts must be a whole number from 1 to 1000, not '0'"),
    Edge("experiment", "x" * 100, "x" * 101, NAME_MESSAGE),
    Edge("experiment", "x", "", NAME_MESSAGE),
    Edge("zip", ["lr", "l1"], ["lr"], "zip takes two or more keys", {"lr": "1,2", "l1": "1,2"}),
)  # fmt: skip


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: f"{edge.key}-{str(edge.refused)[:25]}")
def test_largest_value_of_a_key_is_accepted_and_the_next_is_refused(edge: Edge) -> None:
    assert Sweep.parse({**edge.others, edge.key: edge.accepted}).jobs()
    with pytest.raises(SpecError) as error:
        Sweep.parse({**edge.others, edge.key: edge.refused}).jobs()
    assert str(error.value).startswith(edge.message)


def test_every_key_with_a_limit_has_its_edges_here() -> None:
    of_words = {"dataset", "activation", "bias", "initialisation", "formula", "continue_from", "device"}
    assert {edge.key for edge in EDGES} == Sweep.model_fields.keys() - of_words


def test_validation_holds_out_one_image_at_least_and_leaves_one() -> None:
    parts = [Sweep.parse({"validation": share}).jobs()[0] for share in (0.6 / 60_000, 1 - 0.6 / 60_000)]
    assert [spec.validation_size for spec in parts] == [1, 59_999]


def test_a_hundred_thousand_seeds_are_accepted_and_no_more() -> None:
    assert [Sweep.parse({"seeds": seeds}).size for seeds in ("1..100000", "0..99998,7")] == [100_000, 99_999]
    for refused, message in (
        ("1..100001", r"^the seed range '1\.\.100001' is longer than 100000 jobs$"),
        ("0..99999,7", "^more than 100000 seeds, which is the limit of jobs in one submission: split it$"),
    ):
        with pytest.raises(SpecError, match=message):
            Sweep.parse({"seeds": refused})


def test_a_hundred_thousand_jobs_are_accepted_and_no_more() -> None:
    """Those of all sweeps of a document together; refused before they are made."""
    check_count(100_000)
    halves = [{"seeds": "0..49999"}, {"seeds": "50000..99999"}]
    with pytest.raises(SpecError, match=r"^100001 jobs in one submission; the limit is 100000: split it$"):
        jobs_of(sweeps_of({"sweeps": [*halves, {"seeds": 100_000}]}))


def test_document_of_a_thousand_sweeps_is_accepted_and_of_one_more_refused() -> None:
    assert len(sweeps_of({"sweeps": [{}] * 1000})) == 1000
    with pytest.raises(SpecError, match=r"^1001 sweeps in one document; the limit is 1000: split it$"):
        sweeps_of({"sweeps": [{}] * 1001})


# --- formulas


def operations(count: int) -> str:
    """That many operations as they are typed, none of which equals another one."""
    parts, before = [], "g"
    for name in "abcde":
        parts.append(f"{name} = {before}{'*g' * 48}")
        before = name
    return "; ".join([*parts, f"p = {before}{'*g' * (count - 240)}"])


def compiled_operations(count: int) -> str:
    """Powers, each of which is 11 operations when it is compiled, and so many products that there are `count`."""
    return f"p = ({' + '.join(f'(g + {i})**63' for i in range(1, 21))}){'*g' * (count - 239)}"


def vectors(count: int) -> str:
    """Beside p and g, all temporaries are read after the last one is assigned."""
    names = [f"u{i}" for i in range(count - 2)]
    return "; ".join([*(f"{name} = g + {i}" for i, name in enumerate(names)), f"p = {'*'.join(names)}"])


def states(count: int) -> str:
    names = [f"m{i}" for i in range(count)]
    return "; ".join([*(f"{name} = {name} + g" for name in names), f"p = p - {'*'.join(names)}"])


def constants(named: int, numbers: int = 0) -> str:
    names = [f"c{i}" for i in range(named)]
    values = [*names[32:], *(f"{i}.5" for i in range(numbers))]
    return f"u = {' + '.join(names[:32])}; p = u*g*({' + '.join(values)})"


FORMULAS = {
    "characters": ("p = p - lr*g".ljust(2000), "p = p - lr*g".ljust(2001), "has 2,001 characters; the limit is 2,000"),
    "signs": (f"p = {'-' * 49}g", f"p = {'-' * 50}g", "character 55: nested more than 50 deep: give a part of it a"),
    "parentheses": (f"p = {'(' * 49}g{')' * 49}", f"p = {'(' * 50}g{')' * 50}", "nested more than 50 deep"),
    "sums": (f"p = g{'+g' * 49}", f"p = g{'+g' * 50}", "nested more than 50 deep"),
    "name": (f"p = p - {'x' * 40}*g", f"p = p - {'x' * 41}*g", "is longer than 40 characters"),
    "digits": (f"p = p - {'1' * 40}*g", f"p = p - {'1' * 41}*g", "is out of range: it has up to 40 characters and"),
    "exponent": ("p = p - g**64", "p = p - g**65", "the exponent of g**65 is 65; it must be from -64 to 64"),
    "reciprocal": ("p = p - g**-64", "p = p - g**-65", "the exponent of g**-65 is -65; it must be from -64 to 64"),
    "operations": (operations(256), operations(257), "a formula has up to 256 operations"),
    "compiled": (compiled_operations(256), compiled_operations(257), "257 operations with 5 values at a time and 20"),
    "values": (vectors(32), vectors(33), "33 values at a time and 31 constants; the limits are 256, 32 and 64"),
    "states": (states(8), states(9), "has 9 states; the limit is 8"),
    "named constants": (constants(64), constants(65), "has 65 constants; the limit is 64"),
    "numbers": (constants(40, 24), constants(40, 25), "and 65 constants; the limits are 256, 32 and 64"),
}


@pytest.mark.parametrize(("accepted", "refused", "message"), FORMULAS.values(), ids=FORMULAS.keys())
def test_largest_formula_is_accepted_and_the_next_is_refused(accepted: str, refused: str, message: str) -> None:
    parse_formula("f", accepted)
    with pytest.raises(SpecError) as error:
        parse_formula("f", refused)
    assert message in str(error.value)


def test_a_hundred_formulas_with_names_of_forty_characters_are_accepted_and_no_more() -> None:
    most = {f"f{number:039}": "p = p - lr*g" for number in range(100)}
    assert len(parse_formulas(most)) == 100
    with pytest.raises(SpecError, match=r"^more than 100 formulas in one submission: split it$"):
        parse_formulas({**most, "another": "p = p - lr*g"})
    with pytest.raises(SpecError, match=r"^a formula's name begins with a letter and has up to 40 letters"):
        parse_formulas({"f" * 41: "p = p - lr*g"})


# --- optimizers of packages, and own data sets


DECLARATIONS = {
    "numbers": ({"defaults": {"a": (0.0,) * 63, "b": 1}}, {"defaults": {"a": (0.0,) * 64, "b": 1}}, "have 1 to 64 num"),
    "option": ({"defaults": {"a" * 40: 1}}, {"defaults": {"a" * 41: 1}}, "an optimizer can't have the option 'a{41}'"),
    "class": ({"class_path": f"{'a' * 198}:C"}, {"class_path": f"{'a' * 199}:C"}, "at most 200 characters"),
}


@pytest.mark.parametrize(("accepted", "refused", "message"), DECLARATIONS.values(), ids=DECLARATIONS.keys())
def test_largest_declaration_of_an_optimizer_is_accepted_and_the_next_is_refused(
    accepted: Keys, refused: Keys, message: str
) -> None:
    plain = {"class_path": "a.b:C", "defaults": {}}
    Declaration.model_validate({**plain, **accepted})
    with pytest.raises(ValidationError, match=message):
        Declaration.model_validate({**plain, **refused})


def content(**changes: int) -> Keys:
    return {"sha256": "ab" * 32, "features": 4, "classes": 2, "train": 10, "test": 5, **changes}


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [("features", 1, 100_000), ("classes", 2, 1000), ("train", 1, 1_000_000), ("test", 1, 1_000_000)],
)
def test_sizes_of_an_own_data_set_in_a_spec_are_limited(field: str, least: int, most: int) -> None:
    (spec,) = Sweep.parse({"hidden": "none"}).jobs()
    for size in (least, most):
        found = parse_spec({**spec.model_dump(), "dataset": "own", "content": content(**{field: size})})
        assert getattr(found.content, field) == size
    for size, rule in ((least - 1, "greater"), (most + 1, "less")):
        with pytest.raises(SpecError, match=rf"^content\.{field}: Input should be {rule} than or equal to \d+$"):
            parse_spec({**spec.model_dump(), "dataset": "own", "content": content(**{field: size})})


def test_name_of_a_data_set_has_64_characters_at_most() -> None:
    assert parse_name("x" * 64) == "x" * 64
    with pytest.raises(ValueError, match=r"^the name of a data set has 1 to 64 letters a-z, digits"):
        parse_name("x" * 65)


def test_hash_of_a_data_set_is_typed_with_8_to_64_digits() -> None:
    assert [len(parse_reference(f"own@{'a' * digits}")) for digits in (8, 64)] == [12, 68]
    for digits in (7, 65):
        with pytest.raises(ValueError, match=r"needs 8 to 64 hexadecimal digits after '@', as mlpq data list shows$"):
            parse_reference(f"own@{'a' * digits}")


def test_seed_of_a_stored_spec_has_the_limits_of_a_sweeps() -> None:
    (spec,) = Sweep.parse({"seeds": 4_294_967_295}).jobs()
    assert parse_spec(spec.model_dump()) == spec
    with pytest.raises(SpecError, match=r"^seed must be a whole number from 0 to 4294967295, not '4294967296'$"):
        parse_spec({**spec.model_dump(), "seed": 4_294_967_296})


# --- files


def written(folder: Path, text: str, name: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_spec_file_has_four_million_bytes_at_most(tmp_path: Path) -> None:
    text = '{"lr": 1}'
    assert read(written(tmp_path, text.ljust(4_000_000), "spec.json")) == {"experiment": "spec", "lr": "1"}
    with pytest.raises(SpecError, match=r"is no spec file: it is larger than 4 MB; write seeds as 0\.\.99999$"):
        read(written(tmp_path, text.ljust(4_000_001), "spec.json"))


def test_spec_file_has_ten_levels_at_most(tmp_path: Path) -> None:
    assert read(written(tmp_path, f"a: {'[' * 9}1{']' * 9}", "spec.yaml"))["a"]
    with pytest.raises(SpecError, match="a spec has no more than 10 levels"):
        read(written(tmp_path, f"a: {'[' * 10}1{']' * 10}", "spec.yaml"))


# --- settings and options


@pytest.mark.parametrize(("name", "least", "most"), [("MLPQ_THREADS", 1, 1024), ("MLPQ_CHECKPOINT_SECONDS", 0, 86_400)])
def test_numbers_in_settings_are_limited(name: str, least: int, most: int) -> None:
    field = name.removeprefix("MLPQ_").lower()
    assert [getattr(read_settings({name: str(value)}), field) for value in (least, most)] == [least, most]
    for value in (least - 1, most + 1):
        with pytest.raises(
            SettingsError, match=f"^{name} is '{value}'; it must be a whole number from {least} to {most}$"
        ):
            read_settings({name: str(value)})


def test_question_is_decided_with_a_thousand_seeds_at_most() -> None:
    for accepted in (1, 1000):
        Goal(1.0, max_seeds=accepted).check()
    for refused in (0, 1001):
        with pytest.raises(SpecError, match=f"^--max-seeds must be from 1 to 1000, not {refused}$"):
            Goal(1.0, max_seeds=refused).check()


def test_figure_is_from_one_and_a_half_to_forty_inches_wide() -> None:
    assert [style_of("paper", width) is not None for width in ("1.5in", "40in")] == [True, True]
    for refused in ("1.49in", "40.1in"):
        with pytest.raises(SpecError, match=f"^the width {refused} is not between 1.5 and 40 inches$"):
            style_of("paper", refused)
