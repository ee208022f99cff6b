"""One base for every error that a person can mend: one clear line, exit status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MlpqError(Exception):
    """Says in one line what is wrong and what to type instead."""


class SettingsError(MlpqError):
    """An environment variable does not hold what it should."""


class SpecError(MlpqError):
    """A spec, a sweep or an option is not valid."""


class DataError(MlpqError):
    """A data set is missing, cut short or has the wrong checksum."""


class StoreError(MlpqError):
    """The database can't be reached, or its schema is not this program's."""


class QueryError(MlpqError):
    """The database does not take a statement, or it would do more than read."""


class QueueError(MlpqError):
    """The broker can't be reached."""


class NotFoundError(MlpqError):
    """No job or experiment goes by that name, or several do."""


def nearest(word: str, known: Iterable[str]) -> str:
    """ " (did you mean 'sgd'?)" for a slip of the keyboard, else the whole list."""
    known = sorted(known)
    return suggestion(word, known) or f" (there are: {', '.join(known)})"


def suggestion(word: str, known: Iterable[str]) -> str:
    """ " (did you mean 'sgd'?)" for a slip of the keyboard, else nothing."""
    close = difflib.get_close_matches(word.lower(), sorted(known), n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
