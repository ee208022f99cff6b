"""Messages in the queues: anything may be there, and only wake-ups are used."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given

from mlpq.broker.messages import is_wake_up, wake_up
from mlpq.log import RateLimit
from tests.support.messages import JSON, altered_wake_ups, messages


def headers_of(content: bytes) -> object:
    """The headers of a message that is JSON; None for others."""
    try:
        message = json.loads(content)
    except ValueError:
        return None
    return message.get("headers") if isinstance(message, dict) else None


@given(messages())
def test_any_bytes_are_a_wake_up_by_their_headers_alone(content: bytes) -> None:
    headers = headers_of(content)
    expected = isinstance(headers, dict) and headers.get("task") == "mlpq.wake" and not headers.get("compression")
    assert is_wake_up(content, "mlpq.auto") is expected


@given(altered_wake_ups())
def test_wake_up_is_recognized_by_its_task_alone(message: dict[str, Any]) -> None:
    headers = message.get("headers")
    expected = isinstance(headers, dict) and headers.get("task") == "mlpq.wake" and not headers.get("compression")
    assert is_wake_up(json.dumps(message).encode(), "mlpq.auto") is expected


@given(JSON)
def test_compressed_message_is_refused(compression: Any) -> None:
    message = wake_up("mlpq.auto")
    message["headers"]["compression"] = compression
    assert is_wake_up(json.dumps(message).encode(), "mlpq.auto") is not bool(compression)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"\xff\xfe",
        b"[" * 65_536,
        b"9" * 65_536,
        b'"' + b"a" * 65_536 + b'"',
        b"null",
        b"[]",
        b"5",
        b"{}",
        b'{"headers": []}',
        b'{"headers": {"task": ["mlpq.wake"]}}',
        b'{"headers": {"task": {"__type__": "uuid", "__value__": 5}}}',
    ],
    ids=lambda content: repr(content[:40]),
)
def test_what_is_not_a_wake_up_is_refused(content: bytes) -> None:
    assert not is_wake_up(content, "mlpq.auto")


def test_own_wake_up_is_one_up_to_64_kib() -> None:
    content = json.dumps(wake_up("mlpq.cpu")).encode()
    assert is_wake_up(content, "mlpq.cpu")
    assert is_wake_up(content.ljust(65_536), "mlpq.cpu")
    assert not is_wake_up(content.ljust(65_537), "mlpq.cpu")


def test_repeated_lines_are_logged_once_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    limit = RateLimit()
    records = [logging.makeLogRecord({"msg": "line %s", "args": (number,)}) for number in range(5)]
    assert [limit.filter(record) for record in records] == [True, False, False, False, False]
    assert limit.filter(logging.makeLogRecord({"msg": "another %s", "args": (1,)}))
    limit._until.clear()
    later = logging.makeLogRecord({"msg": "line %s", "args": (9,)})
    assert limit.filter(later)
    assert later.getMessage() == "line 9 (4 more since the last such line)"
