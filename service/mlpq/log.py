"""Logging of the long-running commands: plain lines, or one JSON object per line."""

from __future__ import annotations

import logging
import sys
import time


def set_up(log_format: str) -> None:
    """Log to standard error, as "text" or "json"; times are UTC.

    A JSON line has `time`, `level`, `logger` and `message`; `job` and `attempt` where it concerns a job; `exc_info` for
    an exception.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(log_format))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])  # of libraries
    logging.getLogger("mlpq").setLevel(logging.INFO)


def _formatter(log_format: str) -> logging.Formatter:
    if log_format == "json":
        from pythonjsonlogger.json import JsonFormatter

        renamed = {"levelname": "level", "name": "logger"}
        return JsonFormatter("%(levelname)s %(name)s %(message)s", rename_fields=renamed, timestamp="time")
    formatter = logging.Formatter("%(asctime)s %(message)s")
    formatter.converter = time.gmtime
    return formatter
