"""A cache of the latest values, which computes one value at a time and limits how many requests wait."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

from mlpq.errors import MlpqError

MAX_COMPUTATIONS = 8  # values that are computed or wait for it
MAX_WAITING = 32  # requests that wait for one of them; each occupies a thread of the server

Value = TypeVar("Value")


class BusyError(MlpqError):
    """Too many requests wait for a computation."""


class BoundedCache(Generic[Value]):
    """The most recently used values, at most `size`. Requests for cached values never wait for a computation.

    Requests for one value wait for one computation, and get its error where it fails.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._coming: dict[Hashable, Future[Value]] = {}
        self._waiting = 0
        self._lock, self._computing = Lock(), Lock()

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value of `key`, computed where it is not cached. Raises BusyError where too many requests wait."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            coming = self._coming.get(key)
            is_first = coming is None
            if self._waiting >= MAX_WAITING or (coming is None and len(self._coming) >= MAX_COMPUTATIONS):
                raise BusyError("too many comparisons are being computed: try again in a moment")
            if coming is None:
                coming = self._coming[key] = Future()
            self._waiting += 1
        try:
            if is_first:
                self._compute(key, coming, compute)
            return coming.result()
        finally:
            with self._lock:
                self._waiting -= 1

    def _compute(self, key: Hashable, coming: Future[Value], compute: Callable[[], Value]) -> None:
        try:
            with self._computing:
                value = compute()
        except BaseException as error:
            with self._lock:
                del self._coming[key]
            coming.set_exception(error)
            return
        with self._lock:
            del self._coming[key]
            self._values[key] = value
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        coming.set_result(value)
