"""Formulas of optimizers: what their names mean, their canonical text, and how a sweep uses them."""

from __future__ import annotations

import pytest

from mlpq.errors import SpecError
from mlpq.spec.formula import Formula, parse_formula, parse_formulas
from mlpq.spec.formula_program import Operation
from mlpq.spec.job import JobSpec, parse_spec
from mlpq.spec.sweep import Sweep
from mlpq.submit import plan

LION = "u = sign(0.9*m + 0.1*g); m = 0.99*m + 0.01*g; p = p - lr*(u + wd*p)"


def formula(text: str) -> Formula:
    return parse_formula("mine", text)


def jobs(**keys: object) -> list[JobSpec]:
    return Sweep.parse({"dataset": "digits", **keys}).jobs()


def test_names_that_are_read_before_they_are_assigned_are_states_and_unassigned_ones_constants() -> None:
    found = formula("u = a*m + g; m = u*b; n = abs(n) + m; p = p - lr*n/t*norm(g)")
    assert (found.states, found.constants, found.uses_rate) == (("m", "n"), ("a", "b"), True)


def test_a_name_that_is_assigned_before_it_is_read_is_no_state() -> None:
    assert formula("u = g; u = 2*u; p = p - lr*u").states == ()


def test_a_formula_may_change_the_gradient_before_it_reads_it() -> None:
    assert formula("g = g + wd*p; p = p - lr*g").constants == ("wd",)


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        (LION, LION),
        ("p=p-lr*g", "p = p - lr*g"),
        ("\n  p = p - (lr * g) ;\n", "p = p - lr*g"),
        ("m = 0.90*m + (1.0-9e-1)*g  # an average\n\np = p - lr*(m)", "m = 0.9*m + (1 - 0.9)*g; p = p - lr*m"),
        ("p = ((p) - ((lr*g)/(2*t)))", "p = p - lr*g/(2*t)"),
        ("p = p - (lr - (1 - t))*g", "p = p - (lr - (1 - t))*g"),
        ("p = p - +lr*-g", "p = p - lr*-g"),
        ("p = p - -g**2", "p = p - -g**2"),
        ("p = p - (-g)**2", "p = p - (-g)**2"),
        ("p = p - (g**2)**(-1)", "p = p - (g**2)**-1"),
        ("p = p - g**(t**2)", "p = p - g**t**2"),
        ("p = p - (g**t)**2", "p = p - (g**t)**2"),
        ("p = p - ((g>0)*(p<(1)))*lr", "p = p - (g > 0)*(p < 1)*lr"),
        ("p = p - where((g>=0),(1),min(g,lr))", "p = p - where(g >= 0, 1, min(g, lr))"),
        ("p = p - (a < b) == g", "p = p - (a < b) == g"),
        ("p = p - 1e-8*g/.5/5./1E3", "p = p - 1e-08*g/0.5/5/1000"),
        ("p = max(p,\n g)", "p = max(p, g)"),
    ],
)
def test_text_has_one_canonical_form(typed: str, canonical: str) -> None:
    assert formula(typed).text == canonical
    assert formula(canonical) == formula(typed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "formula mine is empty: write what a step does, as p = p - lr*g"),
        ("p - lr*g", "character 3: expected = after p, not '-'"),
        ("p = p - lr*g m", "character 14: expected an operator or ;, not 'm'"),
        ("p = p - lr*g; p += g", "character 17: write p = p + …"),
        ("p = p - lr*(g", "character 14: expected an operator or ), not the end"),
        ("p = p - lr*g)", "character 13: expected an operator or ;, not ')'"),
        ("p = p - lr*", "character 12: expected a number, a name or (, not the end"),
        ("u = 2*\np = p - u", "line 1, character 7: expected a number, a name or (, not the end of the line"),
        ("p = p -\t2m*g", "character 9: '2m' is not a number; a product needs *, as 2*m"),
        ("p = p - lr*g^2", "character 13: '^' is not part of the grammar: write ** for a power"),
        ("p = p − lr*g", "character 7: '−' is not part of the grammar: write -"),
        ("p = p - η*g", "character 9: 'η' is not part of the grammar: a formula has ASCII letters"),
        ("p = p - lr*g.sign()", "character 13: '.' is not part of the grammar: attributes are not supported"),
        ("p = p - lr*g[0]", "character 13: '[' is not part of the grammar: indices are not supported"),
        ("p = p - lr*(g % 2)", "character 15: '%' is not part of the grammar: the remainder is not supported"),
        ("p = p - sgn(g)", "character 9: unknown function 'sgn' (did you mean 'sign'?)"),
        ("p = p - lr(g)", "a product needs *, as lr*(…)"),
        ("p = p - max(g, m, 0)", "character 9: max takes 2 arguments, not 3; nest it, as max(a, max(b, c))"),
        ("p = p - sqrt()", "character 9: sqrt takes 1 argument, not 0"),
        ("p = p - sqrt", "character 9: sqrt is a function and needs its arguments in parentheses"),
        ("p = p - norm(g*g)", "character 9: norm takes the whole gradient or all parameters"),
        ("p = p - lr*g if t > 3 else p", "character 14: write where(condition, a, b)"),
        ("p = p - lr*(g > 0 and m > 0)", "character 19: write a*b for 'a and b'"),
        ("p = p - (0 < g < 1)", "character 16: comparisons can't be chained: write (a < b)*(b < c)"),
        ("p = p - (g = 1)", "character 12: expected an operator or ), not '='; == compares"),
        ("p = p - g//2", "character 10: expected an operator or ;, not '//'; / divides"),
        ("p = p - lambda*g", "character 9: 'lambda' is reserved: choose another name, as lam"),
        ("p = p - __class__*g", "character 9: '__class__' is reserved: choose another name"),
        ("__m = g; p = p - __m", "character 1: '__m' is reserved: choose another name"),
        ("p = p - 1e999*g", "character 9: the number 1e999 is out of range"),
        ("p = p - 1e-999*g", "character 9: the number 1e-999 is out of range"),
        ("p = p - g**1000", "the exponent of g**1000 is 1000; it must be from -64 to 64"),
        ("p = p - 9**9**9*g", "9**9**9 is too large a number"),
        ("3 = p", "character 1: a statement assigns to a name, as p = p - lr*g, not '3'"),
        ("t = t + 1; p = p - t*g", "character 1: t is the number of the step: assign to another name"),
        ("lr = lr/t; p = p - lr*g", "character 1: lr is the learning rate of the step: assign to another name"),
        ("m = g", "formula mine never assigns p: its last statement updates it, as p = p - lr*g"),
        ("u = sign(g); p = p - lr*g", "character 1: u is assigned and never read: remove the statement"),
        ("g = g/2; p = p - g/norm(g)", "character 20: norm(g) is the norm before the step: read it before g changes"),
    ],
    ids=lambda value: value[:25],
)  # fmt: skip
def test_an_invalid_formula_is_a_one_line_error(text: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        formula(text)
    assert message in str(error.value)
    assert str(error.value).startswith("formula mine")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "value", ["lion: p = p - lr*g", {"lion": "p = p - lr*g"}, ["Lion : p=p-lr*g"], [{"lion": "p = p-lr*g"}]]
)
def test_formulas_are_text_a_mapping_or_a_list(value: object) -> None:
    assert parse_formulas(value) == {"lion": "p = p - lr*g"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("p = p - lr*g", "a formula begins with its name and a colon: write --formula 'lion: u = sign("),
        ("my lion: p = p - lr*g", "a formula's name begins with a letter and has up to 40 letters"),
        ("adam: p = p - lr*g", "adam is one of torch's optimizers: give the formula another name, as my-adam"),
        (["a: p = p - lr*g", "A: p = p + lr*g"], "the formula a is given twice"),
        ({"a": ["p = p - lr*g"]}, "the formula a must be text"),
    ],
    ids=str,
)
def test_an_invalid_declaration_is_a_one_line_error(value: object, message: str) -> None:
    with pytest.raises(SpecError) as error:
        Sweep.parse({"formula": value})
    assert str(error.value).startswith(message)


def test_a_sweep_uses_formulas_beside_torchs_optimizers() -> None:
    lion, adam = jobs(formula={"Lion": LION}, optimizer=["lion:lr=1e-4,wd=0.01", "adam"])
    assert (lion.optimizer, lion.lr, lion.optimizer_settings, lion.formula) == ("lion", 1e-4, {"wd": 0.01}, LION)
    assert adam.formula is None


def test_rates_and_constants_of_a_formula_are_swept() -> None:
    given = {"name": "lion", "lr": "0.1,0.01", "wd": [0, "1e-2"]}
    found = jobs(formula={"lion": LION}, optimizer=given)
    assert [(job.lr, job.optimizer_settings["wd"]) for job in found] == [(0.1, 0), (0.1, 0.01), (0.01, 0), (0.01, 0.01)]
    assert len(jobs(formula={"lion": LION}, optimizer=["lion:wd=0", "lion:wd=1"], lr="1,2,3")) == 6


def test_keys_of_all_optimizers_apply_to_formulas() -> None:
    (job,) = jobs(formula="mine: p = p - lr*(g + weight_decay*p)", optimizer="mine", lr=0.5, weight_decay=0.1)
    assert (job.lr, job.optimizer_settings) == (0.5, {"weight_decay": 0.1})


def test_a_formula_without_lr_has_no_learning_rate() -> None:
    keys = {"formula": "mine: p = p - sign(g)/t", "optimizer": ["mine", "sgd"]}
    assert [job.lr for job in jobs(**keys, lr="0.1,0.2")] == [1.0, 0.1, 0.2]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"optimizer": "lion:lr=1"}, "lion needs a value of wd, which its formula reads and never assigns: "
                                     "write --optimizer lion:lr=0.001,wd=0.1"),
        ({"optimizer": "lion:wd=1"}, "lion needs a learning rate: write --optimizer lion:lr=0.001,wd=0.1, or --lr"),
        ({"optimizer": "lion:lr=1,wd=x"}, "lion:wd must be a finite number, not 'x'"),
        ({"optimizer": "lion:lr=1,wd=inf"}, "lion:wd must be a finite number, not 'inf'"),
        ({"optimizer": "lion:lr=1,wd=1,dw=1"}, "lion has no constant 'dw' (choose from: lr, wd)"),
        ({"optimizer": "lion:lr=1,wd=1,m=1"}, "lion has no constant 'm': m is a state, which begins at zero"),
        ({"optimizer": "lion:lr=1,wd=1,u=1"}, "lion has no constant 'u': its formula assigns u; leave it out"),
        ({"optimizer": "lino:lr=1,wd=1"}, "unknown optimizer 'lino' (did you mean 'lion'?)"),
        ({"optimizer": "lion:lr=1,wd=1", "lr": 1}, "every optimizer specifies its own lr: leave --lr out"),
        ({"optimizer": "lion:lr=1,wd=1", "weight_decay": 1}, "lion has no constant 'weight_decay'"),
        ({"formula": "a: p = p - g", "optimizer": "a:lr=1"}, "the formula of a does not read lr: leave lr out"),
        ({"formula": "a: p = p - g", "optimizer": "a", "lr": 1}, "every optimizer specifies its own lr"),
        ({"formula": "a: p = p - g", "optimizer": "a", "schedule": "cosine"}, "the formula of a does not read lr: "
                                                                              "leave --schedule and --warmup out"),
        ({"formula": "a: p = p - g**k", "optimizer": "a:k=65"}, "formula a: the exponent of g**k is 65"),
        ({"formula": {}, "optimizer": "lion:lr=1"}, "unknown optimizer 'lion' (choose from: adadelta, "),
    ],
    ids=str,
)  # fmt: skip
def test_an_invalid_use_of_a_formula_is_a_one_line_error(keys: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as error:
        jobs(**{"formula": {"lion": LION}, **keys})
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_the_error_about_an_unknown_optimizer_mentions_formulas() -> None:
    with pytest.raises(SpecError, match="declare an own one by --formula"):
        jobs(optimizer="lion")


def test_a_formula_that_no_job_uses_is_refused() -> None:
    with pytest.raises(SpecError, match=r"the formula lion is not used: add --optimizer lion:lr=0\.001,wd=0\.1"):
        plan({"dataset": "digits", "formula": {"lion": LION}})


def test_a_spec_with_a_formula_has_a_hash_of_its_own_and_survives_json() -> None:
    (job,) = jobs(formula={"lion": LION}, optimizer="lion:lr=1,wd=0.5")
    (other,) = jobs(formula={"lion": LION.replace("0.99", "0.98")}, optimizer="lion:lr=1,wd=0.5")
    again = JobSpec.model_validate_json(job.canonical())
    assert (again, again.hash) == (job, job.hash)
    assert job.hash != other.hash
    assert "formula" not in jobs()[0].canonical()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"formula": "p=p-lr*g"}, "the formula must be in its canonical form: p = p - lr*g"),
        ({"optimizer_settings": {}}, "lion needs a value of wd"),
        ({"optimizer_settings": {"wd": True}}, "lion:wd must be a finite number"),
        ({"optimizer": "sgd"}, "sgd is one of torch's optimizers"),
        ({"formula": None}, "unknown optimizer 'lion'"),
        ({"formula": "p = p - g", "optimizer_settings": {}, "lr": 0.1}, "the formula of lion does not read lr, so lr"),
    ],
    ids=str,
)
def test_a_spec_from_elsewhere_is_checked(changed: dict[str, object], message: str) -> None:
    (job,) = jobs(formula={"lion": LION}, optimizer="lion:lr=1,wd=0.5")
    with pytest.raises(SpecError) as error:
        parse_spec({**job.model_dump(mode="json"), **changed})
    assert str(error.value).startswith(message)


def test_a_child_has_its_own_formula() -> None:
    (parent,) = jobs(formula={"lion": LION}, optimizer="lion:lr=1,wd=0.5")
    (child,) = Sweep.parse({"dataset": "digits", "optimizer": "adam"}).jobs(parent)
    assert (child.formula, child.parent) == (None, parent.hash)


def test_a_program_computes_scalars_once_and_reuses_registers() -> None:
    program = formula("m = b*m + (1 - b)*g; p = p - lr/(1 - b**t)*m").program({"b": 0.9})
    assert program.constants == (0.9, 1.0)
    assert [operation for operation in program.operations if operation.kind == "scalar"] == [
        Operation("sub", "scalar", 6, 5, 4),
        Operation("pow", "scalar", 7, 4, 0),
        Operation("sub", "scalar", 8, 5, 7),
        Operation("div", "scalar", 9, 1, 8),
    ]
    assert [operation for operation in program.operations if operation.kind == "vector"] == [
        Operation("mul", "vector", 3, -5, 2),
        Operation("mul", "vector", 4, -7, 1),
        Operation("add", "vector", 2, 3, 4),
        Operation("mul", "vector", 3, -10, 2),
        Operation("sub", "vector", 0, 0, 3),
    ]
    assert (program.states, program.vectors, program.scalars) == (1, 5, 10)


def test_equal_expressions_are_computed_once() -> None:
    program = formula("p = p - lr*sqrt(abs(g))/(1 + sqrt(abs(g)))").program({})
    assert [operation.code for operation in program.operations] == ["abs", "sqrt", "mul", "add", "div", "sub"]


@pytest.mark.parametrize(
    ("power", "codes"),
    [
        ("g**2", ["mul"]),
        ("g**4", ["mul", "mul"]),
        ("g**5", ["mul", "mul", "mul"]),
        ("g**-1", ["div"]),
        ("g**0.5", ["sqrt"]),
        ("g**(1/2)", ["sqrt"]),
        ("g**k", ["mul", "mul"]),
        ("g**1.5", ["log", "mul", "exp"]),
        ("g**t", ["log", "mul", "exp"]),
        ("2**g", ["log", "mul", "exp"]),
    ],
)
def test_powers_of_parameters_are_products_where_the_exponent_is_whole(power: str, codes: list[str]) -> None:
    program = formula(f"p = p - {power}").program({"k": 3.0} if "k" in power else {})
    assert [operation.code for operation in program.operations] == [*codes, "sub"]


def test_usage_has_an_example_of_each_constant_and_no_colon_without_one() -> None:
    assert parse_formula("mine", "p = p - lr*(g + wd*p)").usage == "--optimizer mine:lr=0.001,wd=0.1"
    assert parse_formula("mine", "p = p - g").usage == "--optimizer mine"
