"""A cache of the latest values, which computes one value at a time and limits how many requests wait."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import BoundedSemaphore, Lock
from typing import Generic, TypeVar

from mlpq.errors import MlpqError

MAX_WAITING = 8  # requests that wait for a computation; each occupies a thread of the server

Value = TypeVar("Value")


class BusyError(MlpqError):
    """Too many requests wait for a computation."""


class BoundedCache(Generic[Value]):
    """The most recently used values, at most `size`. Requests for cached values never wait for a computation."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._values_lock, self._computing = Lock(), Lock()
        self._places = BoundedSemaphore(MAX_WAITING)

    def get(self, key: Hashable, compute: Callable[[], Value]) -> Value:
        """The value of `key`, computed where it is not cached. Raises BusyError where too many requests wait."""
        found = self._cached(key)
        if found is not None:
            return found
        if not self._places.acquire(blocking=False):
            raise BusyError("too many comparisons are being computed: try again in a moment")
        try:
            with self._computing:
                found = self._cached(key)
                return self._store(key, compute()) if found is None else found
        finally:
            self._places.release()

    def _store(self, key: Hashable, value: Value) -> Value:
        with self._values_lock:
            self._values[key] = value
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        return value

    def _cached(self, key: Hashable) -> Value | None:
        with self._values_lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)
