"""The messages in a queue: wake-ups, of which nothing is used but that they came.

A worker checks that a message is a wake-up and then gives Celery one that it makes itself. Whatever else the received
one contains (bodies, encodings, compression, callbacks, time limits, delivery tags) is not interpreted.
"""

from __future__ import annotations

import base64
import json
import logging
import uuid
from typing import Any

from mlpq.log import RateLimit

WAKE = "mlpq.wake"  # the task that wake-ups run
MAX_BYTES = 64 * 1024  # a wake-up has less than one KiB

log = logging.getLogger("mlpq.queue")
log.addFilter(RateLimit())


def is_wake_up(content: bytes, queue: str) -> bool:
    """Whether a message is a wake-up; logs why where it isn't."""
    if fault := _fault(content):
        log.warning("dropped a message in the queue %s that is not a wake-up: %s", queue, fault)
    return not fault


def wake_up(queue: str) -> dict[str, Any]:
    """A wake-up in the form in which kombu stores messages."""
    id_ = str(uuid.uuid4())
    body = json.dumps([[queue], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": WAKE, "id": id_, "root_id": id_, "parent_id": None, "group": None},
        "properties": {
            "correlation_id": id_,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": id_,
        },
    }


def _fault(content: bytes) -> str:
    """What keeps a message from being a wake-up; empty where nothing does."""
    if len(content) > MAX_BYTES:
        return f"longer than {MAX_BYTES} bytes"
    try:
        message = json.loads(content)
    except (ValueError, RecursionError):
        return "not JSON"
    headers = message.get("headers") if isinstance(message, dict) else None
    if not isinstance(headers, dict):
        return "without headers"
    if headers.get("task") != WAKE:
        return "for another task"
    return "compressed" if headers.get("compression") else ""
