"""Errors that the user can correct: each is printed as one line, and the exit status is 2."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class MlpqError(Exception):
    """The base of all of them. The message says what is wrong and what to type instead."""


class SettingsError(MlpqError):
    """An environment variable has an invalid value."""


class SpecError(MlpqError):
    """A spec, a sweep or an option is not valid."""


class DataError(MlpqError):
    """A data set is missing, truncated or has the wrong checksum."""


class StoreError(MlpqError):
    """The database can't be reached, or its schema has another revision than this program needs."""


class QueryError(MlpqError):
    """The database rejects a statement, or the statement is not read-only."""


class QueueError(MlpqError):
    """The broker can't be reached."""


class NotFoundError(MlpqError):
    """No job or experiment has that name, or the name is ambiguous."""


def reason_of(error: OSError) -> str:
    """Why a file can't be used, in a few words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    return error.strerror or " ".join(str(error).split()) or type(error).__name__


def nearest(word: str, known: Iterable[str]) -> str:
    """The closest known word, as " (did you mean 'sgd'?)", or all known words where none is close."""
    known = sorted(known)
    return suggestion(word, known) or f" (choose from: {', '.join(known)})"


def suggestion(word: str, known: Iterable[str]) -> str:
    """The closest known word, as " (did you mean 'sgd'?)"; empty where none is close."""
    spelled = {each.lower(): each for each in sorted(known)}
    close = difflib.get_close_matches(word.lower(), spelled, n=1, cutoff=0.6)
    return f" (did you mean '{spelled[close[0]]}'?)" if close else ""
