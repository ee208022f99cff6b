"""The options of a comparison: how text becomes a metric and fields, and which errors it gives."""

from __future__ import annotations

import pytest

from mlpq.analysis.params import ComparisonParams
from mlpq.errors import SpecError


def test_text_becomes_a_metric_and_fields() -> None:
    params = ComparisonParams(by="optimizer, lr,optimizer", metric="epochs", target="85,5")
    assert params.parsed_by() == ("optimizer", "lr")
    assert params.parsed_metric().title == "epochs to 85.5 % accuracy"
    assert (ComparisonParams().parsed_by(), ComparisonParams().parsed_metric().name) == ((), "accuracy")


def test_options_at_their_defaults_are_not_given() -> None:
    assert ComparisonParams().given() == {}
    assert ComparisonParams(by="lr", metric="loss", against="adam").given() == {
        "by": "lr",
        "metric": "loss",
        "against": "adam",
    }


@pytest.mark.parametrize(
    ("metric", "target", "words"),
    [
        ("acuracy", "", "unknown metric 'acuracy' (did you mean 'accuracy'?)"),
        ("epochs", "", "--metric epochs needs the accuracy to reach, in percent: add --target 85"),
        ("epochs", "0", "--target must be an accuracy in percent, above 0 and at most 100, not 0"),
        ("loss", "85", "--target is for --metric epochs or seconds, not for loss: leave it out"),
        ("epochs", "high", "the target 'high' is not a number: type percent, as 85"),
    ],
)
def test_an_invalid_metric_is_rejected(metric: str, target: str, words: str) -> None:
    with pytest.raises(SpecError) as rejected:
        ComparisonParams(metric=metric, target=target).parsed_metric()
    assert words in str(rejected.value)


@pytest.mark.parametrize(
    ("by", "words"), [("opti-mizer", "(did you mean 'optimizer'?)"), ("seed", "arms can't be compared by seed")]
)
def test_an_invalid_field_is_rejected(by: str, words: str) -> None:
    with pytest.raises(SpecError) as rejected:
        ComparisonParams(by=by).parsed_by()
    assert words in str(rejected.value)
