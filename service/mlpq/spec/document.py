"""The document of a submission: the keys of one sweep, or a list of sweeps and the keys that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from mlpq.errors import SpecError
from mlpq.spec.formula import parse_formulas
from mlpq.spec.job import JobSpec
from mlpq.spec.optimizer_choice import check_use
from mlpq.spec.parsing import check_count, parse_optimizers
from mlpq.spec.sweep import OF_SUBMISSION, Contents, Sweep

LIST = "sweeps"  # the key of the list
MAX_SWEEPS = 1000  # of a document

Document = Mapping[str, object]
T = TypeVar("T")


def with_options(document: Document, options: Document) -> dict[str, object]:
    """The document with options, which take precedence over its keys and over those of each of its sweeps."""
    merged = {**document, **options}
    if isinstance(each := document.get(LIST), list):
        merged[LIST] = [_without(sweep, options) if isinstance(sweep, Mapping) else sweep for sweep in each]
    return merged


def sweeps_of(document: Document, defaults: Document | None = None) -> list[Sweep]:
    """The sweeps of a document, at least one; raises SpecError.

    Keys beside the list are shared by the sweeps that leave them out, and `defaults` by those without a key in either.
    """
    if document.get(LIST) is None:
        return [Sweep.parse({**(defaults or {}), **_without(document, (LIST,))})]
    listed, shared = document[LIST], _without(document, (LIST,))
    if not isinstance(listed, list) or not listed:
        raise SpecError(f"{LIST} takes a list of sweeps, each with keys of its own, as '- optimizer: sgd'")
    if len(listed) > MAX_SWEEPS:
        raise SpecError(f"{len(listed)} sweeps in one document; the limit is {MAX_SWEEPS}: split it")
    keys = [_keys_of(number, sweep) for number, sweep in enumerate(listed, 1)]
    for name in shared:
        if all(name in own for own in keys):
            raise SpecError(f"every sweep gives {name} itself: leave it out beside '{LIST}'")
    documents = [{**(defaults or {}), **shared, **own} for own in keys]
    if shared.get("formula") is not None:
        _deal_out_formulas(shared, documents)
    return [_parse(number, document) for number, document in enumerate(documents, 1)]


def jobs_of(sweeps: Sequence[Sweep], parent: JobSpec | None = None, contents: Contents | None = None) -> list[JobSpec]:
    """The jobs of all sweeps in their order, each once; raises SpecError. For the others see Sweep.jobs."""
    check_count(sum(sweep.size for sweep in sweeps))
    return list({spec.hash: spec for sweep in sweeps for spec in sweep.jobs(parent, contents=contents)}.values())


def _keys_of(number: int, sweep: object) -> Document:
    if not isinstance(sweep, Mapping):
        raise SpecError(f"sweep {number} has no keys: write each as '- optimizer: sgd'")
    for name in OF_SUBMISSION:
        if name in sweep:
            raise SpecError(f"sweep {number}: {name} holds for all jobs of a submission: move it beside '{LIST}'")
    return sweep


def _parse(number: int, keys: Document) -> Sweep:
    try:
        return Sweep.parse(keys)
    except SpecError as error:
        raise SpecError(f"sweep {number}: {error}") from None


def _deal_out_formulas(shared: Document, documents: Sequence[dict[str, object]]) -> None:
    """Leave each sweep those of the shared formulas that its optimizers name; raises SpecError for one without use."""
    formulas = parse_formulas(shared["formula"])
    unused = dict(formulas)
    for number, document in enumerate(documents, 1):
        if document.get("formula") is shared["formula"]:
            try:
                names = [entry["name"] for entry in parse_optimizers(document.get("optimizer", "sgd"))]
            except ValueError as error:
                raise SpecError(f"sweep {number}: {error}") from None
            document["formula"] = {name: text for name, text in formulas.items() if name in names}
            unused = _without(unused, names)
    check_use((), unused, ())


def _without(document: Mapping[str, T], names: Sequence[str] | Document) -> dict[str, T]:
    return {name: value for name, value in document.items() if name not in names}
