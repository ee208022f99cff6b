"""Logging of the long-running commands: plain lines, or one JSON object per line."""

from __future__ import annotations

import logging
import sys
import threading
import time

from mlpq.text import printable

REPEAT_SECONDS = 60  # between two lines of one kind that an outside cause may repeat without end


def set_up(log_format: str) -> None:
    """Log to standard error, as "text" or "json"; times are UTC.

    A JSON line has `time`, `level`, `logger` and `message`; `job` and `attempt` where it concerns a job; `exc_info` for
    an exception.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(log_format))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])  # of libraries
    logging.getLogger("mlpq").setLevel(logging.INFO)


class _PrintableFormatter(logging.Formatter):
    """Errors and names come from the database: they must not control the terminal. JSON escapes what they contain."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _formatter(log_format: str) -> logging.Formatter:
    if log_format == "json":
        from pythonjsonlogger.json import JsonFormatter

        renamed = {"levelname": "level", "name": "logger"}
        return JsonFormatter("%(levelname)s %(name)s %(message)s", rename_fields=renamed, timestamp="time")
    formatter = _PrintableFormatter("%(asctime)s %(message)s")
    formatter.converter = time.gmtime
    return formatter


class RateLimit(logging.Filter):
    """Passes one record of each kind (the text without its values) in REPEAT_SECONDS, and counts the others."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._until: dict[object, float] = {}
        self._held: dict[object, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind, clock = record.msg, time.monotonic()
        with self._lock:
            if clock < self._until.get(kind, 0.0):
                self._held[kind] = self._held.get(kind, 0) + 1
                return False
            self._until[kind] = clock + REPEAT_SECONDS
            held = self._held.pop(kind, 0)
        if held:
            record.msg = f"{record.getMessage()} ({held} more since the last such line)"
            record.args = None
        return True
