"""Arms side by side: what is paired, what is chosen, what is left out, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from rich.console import Console

from mlpq.analysis.arms import arms
from mlpq.analysis.best_of_k import best_of
from mlpq.analysis.comparison import Comparison, compare
from mlpq.analysis.fairness import notes
from mlpq.analysis.grouping import parse_by
from mlpq.analysis.metrics import metric
from mlpq.analysis.planning import needs, seeds_for
from mlpq.analysis.verdicts import overall, p_phrase, verdict
from mlpq.errors import SpecError
from mlpq.report.charts import by_learning_rate
from mlpq.report.comparison_tables import comparison_markdown, print_comparison, to_document
from tests.support.result_rows import row, specs

ACCURACY = metric("accuracy")
Row = Mapping[str, Any]


def arm(
    first: int, counts: Mapping[int, int | None], validated: int | None = None, **keys: Any
) -> list[dict[str, Any]]:
    """The rows of an arm: for each seed the count of correct images, of 500."""
    found = []
    for offset, (seed, correct) in enumerate(counts.items()):
        (spec,) = specs(seeds=seed, **({"validation": 0.1} if validated is not None else {}), **keys)
        figures = {} if validated is None else {"validation_accuracy": validated / 100}
        found.append(row(spec, first + offset, correct, **figures))
    return found


def counts(*values: int) -> dict[int, int]:
    return dict(enumerate(values))


def compared(*sides: Sequence[Row], by: str | None = None, name: str = "accuracy", **more: Any) -> Comparison:
    rows = [row for side in sides for row in side]
    return compare(rows, [], more.pop("curves", {}), metric(name, more.pop("target", None)), parse_by(by), **more)


def said(comparison: Comparison) -> str:
    return "\n".join(verdict(pair, comparison.metric, len(comparison.pairs)) for pair in comparison.pairs)


SGD = arm(0, counts(440, 441, 439, 442, 440, 438, 441, 440, 439, 442), optimizer="sgd:lr=0.1")
ADAM = arm(50, counts(442, 444, 441, 443, 442, 440, 444, 442, 441, 443), optimizer="adam")


def test_arms_are_ranked_by_their_means_and_paired_by_seed() -> None:
    found = compared(SGD, ADAM)
    assert [side.label for side in found.sides] == ["adam lr=0.001", "sgd lr=0.1"]
    (pair,) = found.pairs
    assert (pair.a.label, pair.seeds) == ("adam lr=0.001", tuple(range(10)))
    assert pair.paired is not None
    assert pair.paired.difference == pytest.approx(0.4)
    assert said(found) == "adam lr=0.001 is better than sgd lr=0.1 by 0.40 ± 0.10 points (n = 10 pairs, p = 0.002)"


def test_seeds_that_one_arm_lacks_are_named_and_left_out_of_the_pairs() -> None:
    short = arm(50, {0: 442, 1: 444, 2: None, 11: 460}, optimizer="adam")
    found = compared(SGD[:5], short)
    assert found.pairs[0].seeds == (0, 1)
    assert notes(found) == [
        "adam lr=0.001: seed 2 queued, seeds 3,4 not submitted: left out",
        "sgd lr=0.1: seed 11 not submitted: left out",
    ]


def test_the_better_arm_of_a_pair_is_the_one_that_is_better_on_the_seeds_of_both() -> None:
    found = compared(arm(0, {0: 400, 1: 400}, optimizer="sgd"), arm(9, {0: 399, 1: 398, 2: 500}, optimizer="adam"))
    assert found.sides[0].label == "adam lr=0.001"
    assert found.pairs[0].a.label == "sgd lr=0.001"


def test_without_a_common_seed_there_is_no_verdict() -> None:
    found = compared(arm(0, {0: 400}, optimizer="sgd"), arm(9, {1: 410}, optimizer="adam"))
    assert said(found) == "can't compare adam lr=0.001 and sgd lr=0.001: no seed has a figure in both"


def test_a_few_seeds_that_can_prove_nothing_are_told_how_many_could() -> None:
    found = compared(SGD[:4], ADAM[:4])
    assert "can't tell adam lr=0.001 from sgd lr=0.1: 0.40 ± 0.26 points (n = 4 pairs, p = 0.12)" in said(found)
    assert said(found).endswith("no result of 4 pairs could: at least 6 are needed")


def test_a_difference_that_is_small_for_its_spread_is_told_how_many_more_seeds_it_takes() -> None:
    other = arm(50, counts(441, 440, 440, 441, 441, 437, 443, 439, 441, 442), optimizer="adam")
    assert "about 129 more seeds would be needed for a difference this small" in said(compared(SGD, other))


def test_equal_figures_are_no_difference() -> None:
    same = arm(50, {seed: row["test_correct"] for seed, row in enumerate(SGD)}, optimizer="adam")
    assert "p = 1.00); the means are equal" in said(compared(SGD, same))


def test_of_several_arms_it_is_said_which_cannot_be_told_from_the_best() -> None:
    near = arm(70, counts(443, 442, 443, 441, 442, 442, 443, 442, 441, 442), optimizer="adamw")
    far = arm(90, counts(*[430] * 10), optimizer="adagrad")
    assert overall(compared(ADAM, near, far)) == (
        "adam lr=0.001 has the best mean; adamw lr=0.001 can't be told from it; adagrad lr=0.01 is worse"
    )
    assert overall(compared(ADAM, near)) is None


def test_several_comparisons_are_corrected_and_one_with_a_reference_is_fewer() -> None:
    third = arm(90, counts(*[430] * 10), optimizer="adagrad")
    every = compared(SGD, ADAM, third)
    assert [pair.p_adjusted for pair in every.pairs] == pytest.approx([3 * 2 / 1024] * 3)
    against = compared(SGD, ADAM, third, against="adag")
    assert [(pair.a.label[:4], pair.b.label[:4]) for pair in against.pairs] == [("adam", "adag"), ("sgd ", "adag")]
    assert [pair.p_adjusted for pair in against.pairs] == pytest.approx([2 * 2 / 1024] * 2)
    with pytest.raises(SpecError, match="several arms begin with 'ada': type one of adam"):
        compared(SGD, ADAM, third, against="ada")
    with pytest.raises(SpecError, match="no arm is called 'lion'"):
        compared(SGD, ADAM, third, against="lion")


def test_an_optimizer_with_several_settings_is_chosen_by_validation_and_never_by_the_test_set() -> None:
    good = arm(0, counts(400, 400), validated=90, optimizer="sgd:lr=0.1")
    lucky = arm(20, counts(450, 450), validated=80, optimizer="sgd:lr=0.5")
    adam = arm(40, counts(420, 420), validated=85, optimizer="adam")
    found = compared(good, lucky, adam, by="optimizer")
    sides = {side.label: side.arm.first["lr"] for side in found.sides}
    assert sides == {"adam": 0.001, "sgd": 0.1}
    assert "sgd is sgd lr=0.1, chosen from 2 settings by mean validation accuracy on seeds 0,1" in notes(found)
    assert any(note.startswith("unequal tuning: adam with 1 setting, sgd with 2 settings") for note in notes(found))


def test_without_validation_no_setting_is_chosen() -> None:
    found = compared(SGD, arm(20, counts(450, 450), optimizer="sgd:lr=0.5"), ADAM, by="optimizer")
    assert [side.label for side in found.sides] == ["sgd lr=0.5", "adam", "sgd lr=0.1"]
    assert any(note.startswith("no validation figures, so no setting may be chosen") for note in notes(found))


@pytest.mark.parametrize(
    ("keys", "note"),
    [
        ({"epochs": 20}, "unequal epochs: 20 in adam lr=0.001, epochs=20; 10 in sgd lr=0.1, epochs=10"),
        ({"batch_size": 64}, "unequal batch size: 64 in adam lr=0.001, batch size=64; 32 in sgd lr=0.1, batch size=32"),
        ({"hidden": "64,32"}, "unequal hidden: 64,32 in MLP 64,32 sigmoid, adam lr=0.001; 32 in MLP 32 sigmoid, sgd"),
        ({"dropout": 0.2}, "unequal dropout: 0.2 in MLP 32 sigmoid, dropout 0.2, adam lr=0.001; 0 in"),
    ],
)  # fmt: skip
def test_what_is_not_equal_is_said(keys: dict[str, Any], note: str) -> None:
    found = notes(compared(SGD, arm(50, counts(450, 451), optimizer="adam", **keys)))
    assert any(line.startswith(note) for line in found), found
    shared = "the models are not of one shape: pairs share the seed, not the initial weights"
    assert (shared in found) == ("hidden" in keys)


def test_what_is_compared_by_may_differ() -> None:
    big = arm(50, counts(450, 451), optimizer="sgd:lr=0.1", batch_size=64)
    found = compared(SGD[:2], big, by="batch_size")
    assert [side.label for side in found.sides] == ["batch size=64", "batch size=32"]
    assert notes(found) == []


def test_other_weights_to_start_from_and_other_devices_are_said() -> None:
    (parent,) = arm(0, {0: 400}, optimizer="sgd")
    (child,) = arm(1, {0: 430}, optimizer="adam")
    child |= {"parent_id": parent["id"], "device": "cuda", "world_size": 2}
    found = notes(compared([parent], [child]))
    starts = "those that sgd lr=0.001 left in adam lr=0.001, on from sgd lr=0.001; from the seed in sgd lr=0.001"
    assert f"unequal initial weights: {starts}" in found
    assert "unequal device: cuda by 2 processes in adam lr=0.001, on from sgd lr=0.001; cpu in sgd lr=0.001" in found


def curve(*percents: int, side: str = "test") -> list[dict[str, Any]]:
    base = {"validation_correct": None, "validation_total": None, "test_total": 100, "seconds": 0.5, "test_loss": 1.0}
    return [
        {**base, "test_correct": 0, "epoch": epoch, f"{side}_correct": correct, f"{side}_total": 100}
        for epoch, correct in enumerate(percents, 1)
    ]


def test_epochs_and_seconds_to_a_target_are_counted_on_the_validation_split_where_there_is_one() -> None:
    fast, slow, never = arm(0, {0: 1, 1: 1}, optimizer="adam"), arm(9, {0: 1, 1: 1}, optimizer="sgd"), []
    curves = {
        fast[0]["id"]: curve(10, 86, 90, side="validation"), fast[1]["id"]: curve(85, 90),
        slow[0]["id"]: curve(10, 20, 85), slow[1]["id"]: curve(10, 20, 84),
    }  # fmt: skip
    found = compared(fast, slow, never, name="epochs", target=85, curves=curves)
    assert [dict(side.values) for side in found.sides] == [{0: 2, 1: 1}, {0: 3}]
    assert notes(found) == ["sgd lr=0.001: seed 1 never reached 85 %: left out"]
    assert said(found).startswith("can't tell adam lr=0.001 from sgd lr=0.001: 1.0 epochs (n = 1 pair, p = 1.00)")
    seconds = compared(fast, slow, name="seconds", target=85, curves=curves)
    assert [dict(side.values) for side in seconds.sides] == [{0: 1.0, 1: 0.5}, {0: 1.5}]


def test_a_lower_loss_is_better() -> None:
    low = [{**each, "test_loss": 0.3 + seed / 1000} for seed, each in enumerate(SGD)]
    high = [{**each, "test_loss": 0.4 + seed / 900} for seed, each in enumerate(ADAM)]
    found = compared(low, high, name="loss")
    assert said(found).startswith("sgd lr=0.1 is better than adam lr=0.001 by 0.1005 ± 0.0002 nats")
    document = to_document(found, [])
    assert document["pairs"][0]["superiority"] == 1.0


@pytest.mark.parametrize(
    ("name", "target", "words"),
    [
        ("acuracy", None, "unknown metric 'acuracy' (did you mean 'accuracy'?)"),
        ("epochs", None, "--metric epochs needs the accuracy that is to be reached, in percent: add --target 85"),
        ("epochs", 0.0, "--target is an accuracy in percent, above 0 and at most 100, not 0"),
        ("loss", 85.0, "--target goes with --metric epochs or seconds, not with loss"),
    ],
)
def test_a_metric_that_cannot_be_is_refused(name: str, target: float | None, words: str) -> None:
    with pytest.raises(SpecError) as refused:
        metric(name, target)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("by", "words"), [("optimiser", "(did you mean 'optimizer'?)"), ("seed", "arms differ in more than the seed")]
)
def test_a_field_that_cannot_be_compared_by_is_refused(by: str, words: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse_by(by)
    assert words in str(refused.value)


def test_options_of_optimizers_are_fields_too() -> None:
    heavy = arm(50, counts(450, 451), optimizer="sgd:lr=0.1,momentum=0.9")
    found = compared(SGD[:2], heavy, ADAM[:2], by="optimizer,momentum")
    assert [side.label for side in found.sides] == ["sgd momentum=0.9", "adam", "sgd"]


def test_best_of_k_chooses_by_validation_and_reports_the_test_set() -> None:
    rows = [
        *arm(0, counts(400, 410), validated=90, optimizer="sgd:lr=0.1"),
        *arm(10, counts(450, 450), validated=80, optimizer="sgd:lr=0.5"),
        *arm(20, counts(430, 430), validated=85, optimizer="adam"),
    ]
    (sgd,) = best_of(rows)
    assert (sgd.optimizer, sgd.seeds) == ("sgd", (0, 1))
    assert [summary.mean for summary in sgd.expected] == pytest.approx([85.5, 81.0])
    assert best_of([*SGD, *ADAM]) == []


def test_a_plan_says_how_many_seeds_show_a_difference_and_which() -> None:
    found = compared(SGD, ADAM)
    (need,) = needs(found, 0.1, 0.8)
    assert need.needed == 16
    assert need.range[0] < need.needed < need.range[1]
    assert seeds_for(found, 12) == list(range(12))
    assert seeds_for(found, 3) == [0, 1, 2]
    lost = [{**SGD[0], "status": "failed", "test_correct": None}, *SGD[1:]]
    assert seeds_for(compared(lost, ADAM), 10) == list(range(1, 11))
    with pytest.raises(SpecError, match="no two arms have two seeds in common"):
        needs(compared(SGD[:1], ADAM[:1]), 0.1, 0.8)


def test_the_tables_fit_80_columns_and_say_the_same_in_every_format() -> None:
    comparison = compared(SGD, ADAM, arm(90, counts(*range(425, 435)), optimizer="rmsprop:lr=0.01,momentum=0.5"))
    out = Console(width=80, force_terminal=False)
    with out.capture() as capture:
        print_comparison(out, comparison, [])
    shown, markdown = capture.get(), comparison_markdown(comparison, [])
    assert all(len(line) <= 80 for line in shown.splitlines())
    for figure in ("88.44 ± 0.26", "88.25 to 88.63", "88.80 (1)", "88.00 (5)", "+0.40"):
        assert figure in shown
        assert figure in markdown
    document = json.loads(json.dumps(to_document(comparison, [])))
    assert [arm["n"] for arm in document["arms"]] == [10, 10, 10]
    assert [pair["verdict"] for pair in document["pairs"]] == said(comparison).splitlines()


def test_of_many_pairs_those_with_the_best_arm_are_shown_and_the_others_counted() -> None:
    many = [arm(100 * i, counts(*[400 + i] * 6), optimizer=f"sgd:lr=0.{i}") for i in range(1, 8)]
    markdown = comparison_markdown(compared(*many), [])
    assert markdown.count("- can't tell sgd lr=0.7 from") == 6
    assert "- 15 more pairs without sgd lr=0.7: --format json has them" in markdown


def test_all_pairs_with_a_reference_are_shown_however_many() -> None:
    many = [arm(100 * i, counts(*[400 + i] * 6), optimizer=f"sgd:lr=0.{i:02}") for i in range(1, 19)]
    markdown = comparison_markdown(compared(*many, against="sgd lr=0.05"), [])
    assert markdown.count("- can't tell") == 17
    assert "more pairs" not in markdown


def diverged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same, but that they diverged."""
    ended = {"status": "failed", "outcome": "diverged", "test_correct": None, "validation_accuracy": None}
    return [{**row, **ended} for row in rows]


def test_a_lucky_seed_of_a_setting_that_diverged_on_the_others_is_not_chosen() -> None:
    steady = arm(0, counts(*[440] * 10), validated=88, optimizer="sgd:lr=0.1")
    wild = arm(20, counts(*[450] * 10), validated=89, optimizer="sgd:lr=1")
    found = compared(steady, [*wild[:1], *diverged(wild[1:])], by="optimizer")
    assert [side.arm.first["lr"] for side in found.sides] == [0.1]
    assert any(
        "chosen from 1 of 2 settings (the others have seeds that failed, or no result)" in n for n in notes(found)
    )


def test_settings_are_chosen_on_the_seeds_that_all_of_them_have() -> None:
    few = arm(0, counts(440, 440), validated=88, optimizer="sgd:lr=0.1")
    many = arm(20, counts(440, 440), validated=87, optimizer="sgd:lr=1")
    many += arm(30, dict.fromkeys(range(2, 9), 440), validated=95, optimizer="sgd:lr=1")
    (side,) = compared(few, many, by="optimizer").sides
    assert (side.arm.first["lr"], side.choice.seeds) == (0.1, (0, 1))


def test_figures_on_other_data_are_no_settings_to_choose_from() -> None:
    rows = []
    for number, (name, correct) in enumerate((("digits", 400), ("mnist", 490))):
        for each in arm(20 * number, counts(correct, correct), validated=correct // 5, optimizer="adam"):
            rows.append({**each, "dataset": name, "spec_hash": f"{name} {each['seed']}"})
    found = compared(rows, arm(60, counts(410, 410), validated=80, optimizer="sgd"), by="optimizer")
    assert [side.label for side in found.sides] == ["adam, mnist", "sgd, digits", "adam, digits"]
    assert [each.optimizer for each in best_of(rows)] == []


def test_arms_that_would_have_one_label_stay_apart() -> None:
    def chain(first: int, epochs: int) -> list[dict[str, Any]]:
        (parent,) = arm(first, {0: 300}, optimizer="sgd", epochs=epochs)
        (child,) = arm(first + 1, {0: 400 + epochs}, optimizer="adam")
        return [parent, {**child, "parent_id": parent["id"], "spec_hash": f"child of {epochs}"}]

    labels = [side.label for side in compared(chain(1, 1), chain(10, 3)).sides]
    assert len(set(labels)) == len(labels) == 4
    assert {label for label in labels if "on from" in label} == {
        f"adam lr=0.001, epochs=10, on from sgd lr=0.001 [{number:08x}]" for number in (2, 11)
    }


def test_what_was_not_tested_is_not_corrected_for() -> None:
    unborn = arm(90, dict.fromkeys(range(6)), optimizer="adagrad")
    found = compared(SGD[:6], ADAM[:6], unborn)
    assert found.tests == 1
    assert "for a difference this small" in said(found) or "is better" in said(found)
    assert "adagrad lr=0.01 can't be compared with it" in str(overall(found))


def test_an_arm_that_is_better_on_common_seeds_is_not_called_tied() -> None:
    lucky = arm(0, {**dict.fromkeys(range(8), 440), **dict.fromkeys(range(8, 12), 499)}, optimizer="adam")
    third = arm(60, dict.fromkeys(range(12), 300), optimizer="adagrad")
    found = compared(lucky, arm(30, dict.fromkeys(range(8), 445), optimizer="sgd"), third)
    assert overall(found) == (
        "adam lr=0.001 has the best mean; adagrad lr=0.01 is worse; sgd lr=0.001 is better on the seeds that both have"
    )


def test_tuning_over_other_fields_is_counted_and_named_too() -> None:
    batches = [
        arm(20 * i, counts(430, 430 + i), validated=80 + i, optimizer="adam", batch_size=2**i) for i in (4, 5, 6)
    ]
    found = notes(compared(*batches, arm(0, counts(400, 400), validated=70, optimizer="sgd"), by="optimizer"))
    assert any(note.startswith("unequal tuning: adam with 3 settings, sgd with 1 setting") for note in found)
    assert any(note.startswith("adam is adam lr=0.001, batch size=64, chosen from 3 settings") for note in found)
    assert any(note.startswith("unequal batch size: 64 in adam; 32 in sgd") for note in found)


def test_regularisation_by_the_optimizer_is_compared_too() -> None:
    found = notes(
        compared(arm(0, counts(400), optimizer="sgd:weight_decay=0.01"), arm(5, counts(400), optimizer="adam"))
    )
    assert "unequal weight decay: 0.01 in sgd lr=0.001 weight_decay=0.01; 0 in adam lr=0.001" in found


def test_seconds_of_jobs_of_one_gang_are_told_to_say_little() -> None:
    rows = [{**row, "gang_size": 8} for row in (*SGD[:2], *ADAM[:2])]
    curves = {row["id"]: curve(90, 91) for row in rows}
    assert any(
        "equal shares of its time" in note for note in notes(compared(rows, name="seconds", target=85, curves=curves))
    )
    assert not notes(compared(rows, name="epochs", target=85, curves=curves))


def test_a_diverged_run_counts_as_chance_in_the_best_of_k() -> None:
    good = arm(0, counts(400, 400), validated=90, optimizer="sgd:lr=0.1")
    wild = diverged(arm(10, counts(450, 450), validated=80, optimizer="sgd:lr=1e30"))
    (sgd,) = best_of([*good, *wild])
    assert [summary.mean for summary in sgd.expected] == pytest.approx([(80 + 10) / 2, 80])
    (none,) = best_of([*good[:1], *arm(30, {5: 400}, validated=70, optimizer="sgd:lr=0.5")])
    assert (none.settings, none.expected) == (2, ())


def test_learning_rates_of_other_models_are_not_drawn_as_one() -> None:
    rows = [
        row
        for number, (width, lr) in enumerate(((16, 0.1), (16, 0.5), (64, 0.1), (64, 0.5)))
        for row in arm(10 * number, counts(400, 401), hidden=width, optimizer=f"sgd:lr={lr}")
    ]
    drawn = json.dumps(by_learning_rate(arms(rows)).to_dict())
    assert "MLP 16 sigmoid, sgd" in drawn
    assert "n = 2 at each rate" in drawn


def test_small_ps_read_well() -> None:
    assert [p_phrase(p) for p in (0.0004, 0.004, 0.21, 1.0)] == ["p < 0.001", "p = 0.004", "p = 0.21", "p = 1.00"]
