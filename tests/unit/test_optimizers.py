"""The table of optimizers: options completed and checked. test_engine_optimizers.py compares it with torch's."""

from __future__ import annotations

import pytest

from mlpq.errors import SpecError
from mlpq.spec.optimizers import OPTIMIZERS, complete, optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_options_all_are_defaults(name: str) -> None:
    assert complete(name, {}) == OPTIMIZERS[name].defaults
    assert complete(name, complete(name, {})) == complete(name, {})


def test_given_options_replace_the_defaults() -> None:
    assert complete("sgd", {"momentum": "0.9", "nesterov": "True"}) == {
        "momentum": 0.9, "dampening": 0.0, "weight_decay": 0.0, "nesterov": True,
    }  # fmt: skip
    assert complete("adam", {"betas": "0.8/0.99"})["betas"] == (0.8, 0.99)
    assert complete("adam", {"betas": [0.8, 0.99]})["betas"] == (0.8, 0.99)


def test_names_are_case_insensitive() -> None:
    assert optimizer("AdamW") is OPTIMIZERS["adamw"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adm", {}, "unknown optimizer 'adm' (did you mean 'adam'?)"),
        ("smd", {}, "unknown optimizer 'smd' (did you mean 'sgd'?)"),
        ("lion", {}, "unknown optimizer 'lion' (choose from: adadelta, adafactor, adagrad,"),
        ("lbfgs", {}, "torch's lbfgs is not offered: it evaluates the loss many times in a step"),
        ("SparseAdam", {}, "torch's SparseAdam is not offered: it takes sparse gradients only"),
        ("muon", {"ns_steps": "2.5"}, "muon:ns_steps must be a whole number, not 2.5"),
        ("muon", {"ns_steps": "100"}, "muon:ns_steps must be a whole number from 1 to 99, not 100"),
        ("muon", {"ns_coefficients": "1/2"}, "muon:ns_coefficients takes 3 numbers"),
        ("muon", {"ns_coefficients": "1/2/inf"}, "muon:ns_coefficients must be a finite number, not 'inf'"),
        ("muon", {"adamw_betas": "0.9/1"}, "muon:adamw_betas must be 0 or more and below 1"),
        ("adafactor", {"beta2_decay": "0.8"}, "adafactor:beta2_decay must be 0 or less, not 0.8"),
        ("adafactor", {"d": "0.5"}, "adafactor:d must be 1 or more, not 0.5"),
        ("sgd", {"momentun": 1}, "sgd has no option 'momentun' (did you mean 'momentum'?)"),
        ("adam", {"momentum": 0.9}, "adam has no option 'momentum'"),
        ("adam", {"fused": True}, "adam has no option 'fused'"),
        ("sgd", {"momentum": "1"}, "sgd:momentum must be 0 or more and below 1, not 1"),
        ("sgd", {"momentum": "-0.1"}, "sgd:momentum must be 0 or more and below 1"),
        ("sgd", {"momentum": "fast"}, "sgd:momentum must be a number, not 'fast'"),
        ("sgd", {"weight_decay": "nan"}, "sgd:weight_decay must be 0 or more"),
        ("sgd", {"weight_decay": "inf"}, "sgd:weight_decay must be 0 or more"),
        ("sgd", {"nesterov": "yes"}, "sgd:nesterov must be true or false"),
        ("sgd", {"nesterov": True}, "sgd:nesterov=true needs a momentum above 0 and no dampening"),
        ("sgd", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "sgd:nesterov=true needs"),
        ("adam", {"betas": "0.9"}, "adam:betas takes 2 numbers, as betas=0.9/0.999"),
        ("adam", {"betas": "0.9/1.0"}, "adam:betas must be 0 or more and below 1"),
        ("adam", {"betas": 0.9}, "adam:betas takes 2 numbers"),
        ("adadelta", {"rho": "1.5"}, "adadelta:rho must be 0 or more and below 1"),
        ("rprop", {"etas": "1.2/0.5"}, "rprop:etas must be one value below 1 and one above 1"),
        ("rprop", {"step_sizes": "50/1"}, "rprop:step_sizes must be the smallest and the largest"),
    ],
)
def test_invalid_option_is_a_one_line_error(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as error:
        complete(name, options)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [True, [0.9], {"a": 1}, None, ""])
def test_momentum_must_be_a_number(value: object) -> None:
    with pytest.raises(SpecError, match="sgd:momentum must be a number"):
        complete("sgd", {"momentum": value})
