"""The document of a submission: the keys of one sweep, or a list of sweeps and the keys that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlpq.errors import SpecError
from mlpq.spec.formula import parse_formula, parse_formulas
from mlpq.spec.job import JobSpec
from mlpq.spec.parsing import check_count
from mlpq.spec.sweep import OF_SUBMISSION, Contents, Sweep

LIST = "sweeps"  # the key of the list
MAX_SWEEPS = 1000  # of a document

Document = Mapping[str, object]


def with_options(document: Document, options: Document) -> dict[str, object]:
    """The document with options, which take precedence over its keys and over those of each of its sweeps."""
    merged = {**document, **options}
    if LIST not in options and isinstance(each := document.get(LIST), list):
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
    return [_parse(number, {**(defaults or {}), **shared, **own}) for number, own in enumerate(keys, 1)]


def jobs_of(sweeps: Sequence[Sweep], parent: JobSpec | None = None, contents: Contents | None = None) -> list[JobSpec]:
    """The jobs of all sweeps in their order, each once; raises SpecError. For the others see Sweep.jobs."""
    check_count(sum(sweep.size for sweep in sweeps))
    return list({spec.hash: spec for sweep in sweeps for spec in sweep.jobs(parent, contents=contents)}.values())


def check_formulas(document: Document, specs: Sequence[JobSpec]) -> None:
    """Raise SpecError for a formula in the document that none of its jobs uses."""
    used = {spec.optimizer for spec in specs if spec.formula is not None}
    for name, text in parse_formulas(document.get("formula")).items():
        if name not in used:
            raise SpecError(f"the formula {name} is not used: add {parse_formula(name, text).usage}")


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


def _without(document: Document, names: Sequence[str] | Document) -> dict[str, object]:
    return {name: value for name, value in document.items() if name not in names}
