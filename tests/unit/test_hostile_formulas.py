"""Texts that are no formulas are refused in one line, and none can take long: their size is limited."""

from __future__ import annotations

import pytest

from mlpq.errors import SpecError
from mlpq.spec import formula_syntax
from mlpq.spec.formula import parse_formula
from mlpq.spec.formula_syntax import Source
from tests.support.hostile_formulas import FAMILIES, hostile_formulas

COUNT = 2_000


@pytest.mark.parametrize("family", [family.__name__ for family in FAMILIES])
def test_hostile_formulas_are_refused_in_one_line(family: str) -> None:
    texts = [text for name, text in hostile_formulas(COUNT) if name == family]
    assert len(texts) >= COUNT // len(FAMILIES)
    for text in texts:
        with pytest.raises(SpecError) as error:
            parse_formula("hostile", text)
        message = str(error.value)
        assert message.startswith("formula hostile"), text
        assert message.isprintable(), text
        assert len(message) < 400, text


def test_families_are_not_refused_for_one_reason() -> None:
    reasons = set()
    for _, text in hostile_formulas(COUNT):
        with pytest.raises(SpecError) as error:
            parse_formula("hostile", text)
        reasons.add(str(error.value).rpartition(": ")[0].rpartition(": ")[2][:20])
    assert len(reasons) > 50


def test_a_text_is_not_read_beyond_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens, operations and depth bound all that the parser and the compiler do."""
    read: list[int] = []
    tokens = formula_syntax._tokens

    def counted(source: Source) -> object:
        for token in tokens(source):
            read.append(token.at)
            yield token

    monkeypatch.setattr(formula_syntax, "_tokens", counted)
    for _, text in hostile_formulas(COUNT):
        read.clear()
        with pytest.raises(SpecError):
            parse_formula("bounded", text)
        assert len(read) <= min(len(text), 2_000) + 1
        assert not read or len(text) <= 2_000


def test_the_limits_leave_room_for_the_largest_formulas() -> None:
    statements = [f"m{i} = 0.9*m{i} + 0.1*abs(g)**{i + 1}" for i in range(8)]
    largest = "; ".join([*statements, f"p = p - lr*({' + '.join(f'm{i % 8}*c{i}' for i in range(40))})"])
    assert len(parse_formula("large", largest).constants) == 40
    assert parse_formula("large", f"p = {'(' * 40}p - g{')' * 40}").text == "p = p - g"
