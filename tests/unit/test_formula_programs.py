"""Compiled formulas compute what their text says: programs in NumPy beside Python's own execution of the text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlpq.errors import SpecError
from mlpq.spec.formula import Formula, parse_formula
from mlpq.spec.formula_program import FIRST_STATE, GRADIENT, OPERANDS, Program
from tests.support.formula_evaluation import runs
from tests.support.own_optimizers import EVERY_OPERATION, LIKE_TORCH

TARGETS = ("m", "v", "u", "w", "g", "p")
CONSTANTS = {"a": 0.75, "b": -1.5, "m": 2.0, "v": 0.3, "u": -0.1, "w": 7.0}  # the last where nothing assigns them
SIZE = 24

leaves = st.sampled_from(
    [*TARGETS, "t", "lr", "a", "b", "0", "1", "2", "0.5", ".1", "3.25", "1e-3", "norm(g)", "norm(p)"]
)


def larger(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    functions = st.sampled_from(["", "-", "sqrt", "abs", "sign", "exp", "log", "tanh"])
    exponents = st.sampled_from(["0", "1", "2", "3", "7", "-1", "-2", "0.5", "1.5", "(1 + 1)", "a"])
    return st.one_of(
        st.tuples(part, st.sampled_from(["+", "-", "*", "/", " - ", " * "]), part).map("".join),
        st.tuples(part, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), part).map(lambda x: f"({''.join(x)})"),
        st.tuples(functions, part).map(lambda x: f"{x[0]}({x[1]})"),
        st.tuples(st.sampled_from(["min", "max"]), part, part).map(lambda x: f"{x[0]}({x[1]}, {x[2]})"),
        st.tuples(part, part, part).map(lambda x: f"where({', '.join(x)})"),
        st.tuples(part, exponents).map(lambda x: f"({x[0]})**{x[1]}"),
    )


expressions = st.recursive(leaves, larger, max_leaves=12)
assignments = st.tuples(st.sampled_from(TARGETS), expressions).map(" = ".join)
texts = st.tuples(st.lists(assignments, max_size=6), expressions).map(
    lambda x: "; ".join([*x[0], f"p = where(m + v + u + w + g == 0.125, p, p - 0.1*({x[1]}))"])
)


def parsed(text: str) -> Formula | None:
    """The formula; None where a random text breaks one of the rules on names."""
    try:
        return parse_formula("random", text)
    except SpecError as error:
        if not any(rule in str(error) for rule in ("never read", "before the step", "too large", "it must be from")):
            raise
        return None


def check_agreement(formula: Formula, constants: dict[str, float], steps: int = 4) -> None:
    """Both evaluators have the same bits of all parameters and states after each step."""
    generator = np.random.default_rng(7)
    start, *gradients = generator.normal(size=(steps + 1, SIZE)).astype(np.float32)
    start[:2] = 0
    program, python = runs(formula, {name: constants[name] for name in formula.constants}, start)
    with np.errstate(all="ignore"):
        for g in gradients:
            g[::5] = 0
            try:
                python.step(g, 0.1)
            except (ArithmeticError, ValueError, TypeError):  # of Python's floats, where IEEE's have infinities and NaN
                return
            program.step(g, 0.1)
            for mine, theirs in zip(program.values(), python.values(), strict=True):
                assert np.array_equal(mine, theirs, equal_nan=True), formula.text


def check_registers(program: Program) -> None:
    """Every operand was written before, g never is, and a scalar operation reads scalars only."""
    scalars = set(range(4 + len(program.constants)))
    vectors = set(range(FIRST_STATE + program.states))
    kinds = [operation.kind for operation in program.operations]
    assert kinds == sorted(kinds)  # scalar ones first
    for code, kind, dst, *operands in program.operations:
        for operand in operands[: OPERANDS[code]]:
            is_scalar = kind == "scalar" or operand < 0
            assert (operand if kind == "scalar" else -1 - operand) in scalars if is_scalar else operand in vectors
        assert all(operand == 0 for operand in operands[OPERANDS[code] :])
        assert dst < (program.scalars if kind == "scalar" else program.vectors)
        assert kind == "scalar" or (dst != GRADIENT and code != "pow")
        (scalars if kind == "scalar" else vectors).add(dst)
    assert program.vectors <= 32
    assert len(program.operations) <= 256


@settings(max_examples=400, deadline=None)
@given(texts)
@example("m = m**0; p = where(m + v + u + w + g == 0.125, p, p - 0.1*(m + u))")
def test_random_formulas_compute_what_python_computes(text: str) -> None:
    formula = parsed(text)
    if formula is not None:
        check_registers(formula.program({name: CONSTANTS[name] for name in formula.constants}))
        check_agreement(formula, CONSTANTS)


@settings(max_examples=200, deadline=None)
@given(texts)
def test_the_canonical_text_means_the_same(text: str) -> None:
    formula = parsed(text)
    if formula is not None:
        again = parse_formula("random", formula.text)
        assert (again, again.text) == (formula, formula.text)
        values = {name: CONSTANTS[name] for name in formula.constants}
        assert again.program(values) == formula.program(values)


@pytest.mark.parametrize("text", [statements for statements, _, _ in LIKE_TORCH.values()])
def test_formulas_of_torchs_optimizers_compute_what_python_computes(text: str) -> None:
    values = {"mu": 0.9, "wd": 0.01, "a": 0.9, "b1": 0.9, "b2": 0.999}
    check_agreement(parse_formula("mine", text), values, steps=20)


@pytest.mark.parametrize(
    "text",
    [
        EVERY_OPERATION,
        "a = b + g; b = a; p = p - lr*b",  # two states with one value
        "u = a; a = b; b = u + g; p = p - lr*a",  # a swap
        "m = g; n = m; m = 2*n; p = p - lr*(m + n)",
        "m = t; p = p - m*lr*g",  # a state that is a scalar
        "m = m; p = 0.5",
        "old = p; p = p - lr*g; q = p - old + 0.9*q; p = p + 0.1*q",
        "m = m + 1; p = p - lr*g*(m == t)",
        "p = p - lr*g/max(c, norm(g)) - 0.01*p/norm(p)",
    ],
)
def test_registers_keep_what_is_read_later(text: str) -> None:
    formula = parse_formula("mine", text)
    check_registers(formula.program(dict.fromkeys(formula.constants, 0.5)))
    check_agreement(formula, dict.fromkeys(formula.constants, 0.5), steps=6)


def test_state_that_keeps_its_value_takes_no_operation() -> None:
    assert len(parse_formula("mine", "m = m; p = p - g*m").program({}).operations) == 2
    assert len(parse_formula("mine", "m = 0.5*m; p = p - g*m").program({}).operations) == 3


def test_exponent_is_computed_where_it_is_constant() -> None:
    lengths = [len(parse_formula("mine", f"p = p - lr*g**{each}").program({}).operations) for each in ("(2*3)", "6")]
    assert lengths[0] == lengths[1]
