"""What a shell completes: experiments, data sets, jobs and the names that options take.

A shell runs the command at each press of the key: what fails completes nothing, and no database is created.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from mlpq.errors import MlpqError

if TYPE_CHECKING:
    from mlpq.store.session import Store

MOST = 500  # words that a shell gets
Completer = Callable[[str], list[CompletionItem]]


def attach(command: click.Command) -> None:
    """Let a shell complete the parameters of the command, by their names; those of a choice complete themselves."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            attach(inner)
    of_data = command.callback is not None and "data" in command.callback.__module__
    for parameter in command.params:
        name = parameter.name or ""
        completer = _data_names if of_data and name == "name" else _COMPLETERS.get(name)
        if completer is not None and not isinstance(parameter.type, click.Choice):
            parameter.shell_complete = partial(_complete, completer)  # type: ignore[method-assign]


def _complete(completer: Completer, _: click.Context, incomplete: str) -> list[CompletionItem]:
    with contextlib.suppress(MlpqError, OSError):
        return completer(incomplete)[:MOST]
    return []


def _words(names: Callable[[], Iterable[str]], separator: str = "") -> Completer:
    """A completer of the words that `names` returns; with a separator, of the last of several words."""

    def complete(incomplete: str) -> list[CompletionItem]:
        before, found, start = incomplete.rpartition(separator) if separator else ("", "", incomplete)
        return [CompletionItem(f"{before}{found}{name}") for name in names() if name.startswith(start)]

    return complete


def _stores() -> Iterator[Store]:
    """The store, if there is a database."""
    from mlpq.settings import settings
    from mlpq.store.migrate import has_database, ready_store

    if has_database(settings()):
        yield ready_store(settings())


def _experiments() -> list[str]:
    from mlpq.store import completion

    return [name for store in _stores() for name in completion.experiments(store, MOST)]


def _own_data_sets() -> list[str]:
    from mlpq.store import completion

    return [name for store in _stores() for name in completion.data_sets(store, MOST)]


def _data_sets() -> list[str]:
    from mlpq.spec.datasets import DATASETS

    return [*DATASETS, *_own_data_sets()]


def _jobs(incomplete: str) -> list[CompletionItem]:
    """The latest jobs whose ids begin so, with what they are."""
    from mlpq import formatting
    from mlpq.store import completion

    found = [each for store in _stores() for each in completion.jobs(store, incomplete, MOST)]
    return [
        CompletionItem(short if (short := formatting.short_id(job)).startswith(incomplete) else job, help=about)
        for job, about in found
    ]


def _experiments_or_jobs(incomplete: str) -> list[CompletionItem]:
    """Jobs only after their first digit, since there are many."""
    return [*_words(_experiments)(incomplete), *(_jobs(incomplete) if incomplete else [])]


def _files(incomplete: str) -> list[CompletionItem]:
    """Files, which the shell completes itself."""
    return [CompletionItem(incomplete, type="file")]


def _fields() -> Iterable[str]:
    from mlpq.analysis.grouping import FIELDS

    return FIELDS


def _metrics() -> Iterable[str]:
    from mlpq.analysis.metrics import NAMES

    return NAMES


def _optimizers() -> Iterable[str]:
    from mlpq.spec.optimizers import OPTIMIZERS

    return OPTIMIZERS


def _schedules() -> Iterable[str]:
    from mlpq.spec.schedules import SCHEDULES

    return SCHEDULES


def _presets() -> Iterable[str]:
    from mlpq.spec.presets import PRESETS

    return PRESETS


def _activations() -> Iterable[str]:
    from mlpq.spec.job import ACTIVATIONS

    return ACTIVATIONS


def _statuses() -> list[str]:
    from mlpq.jobs import Outcome, Status

    return [*map(str, Status), str(Outcome.DIVERGED)]


_data_names = _words(_data_sets)
_COMPLETERS: Mapping[str, Completer] = {
    "experiment": _words(_experiments),
    "experiments": _words(_experiments, ","),
    "job": _jobs,
    "name": _experiments_or_jobs,
    "names": _experiments_or_jobs,
    "continue_from": _jobs,
    "dataset": _data_names,
    "preset": _words(_presets),
    "activation": _words(_activations),
    "optimizer": _words(_optimizers),
    "schedule": _words(_schedules),
    "device": _words(lambda: ("auto", "cpu", "cuda", "mps")),
    "statuses": _words(_statuses, ","),
    "by": _words(_fields, ","),
    "metric": _words(_metrics),
    "chart": _words(lambda: ("curves", "differences", "rates", "best-of-k", "race")),
    "style": _words(lambda: ("paper", "slides")),
    "file": _files,
    "plot": _files,
    "output": _files,
}
