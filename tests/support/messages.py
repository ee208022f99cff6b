"""Messages that anybody could put into a queue: bytes, JSON, and wake-ups of which parts were replaced."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from mlpq.broker.messages import wake_up

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20)
NAMES = st.sampled_from(
    ["task", "id", "headers", "properties", "body", "delivery_tag", "delivery_info", "body_encoding", "compression",
     "content-type", "content-encoding", "timelimit", "eta", "expires", "retries", "callbacks", "__type__", "reply_to"]
) | st.text(max_size=10)  # fmt: skip
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)
HEADERS = {
    "timelimit": 5,
    "eta": "never",
    "expires": {"a": 1},
    "retries": "x",
    "compression": "application/x-gzip",
    "stamped_headers": 7,
    "stamps": [],
    "replaced_task_nesting": "deep",
    "group": {},
    "argsrepr": 1,
    "shadow": [],
}


@st.composite
def altered_wake_ups(draw: st.DrawFn) -> dict[str, Any]:
    """A wake-up of which some parts are missing, added or replaced by any JSON."""
    message = wake_up("mlpq.auto")
    message["headers"] |= draw(st.dictionaries(st.sampled_from(sorted(HEADERS)), JSON, max_size=3))
    for _ in range(draw(st.integers(0, 3))):
        where = draw(st.sampled_from([message, message.get("headers"), message.get("properties")]))
        if isinstance(where, dict) and where:
            name = draw(st.sampled_from(sorted(where)) | NAMES)
            if draw(st.booleans()):
                where[name] = draw(JSON)
            else:
                where.pop(name, None)
    return message


def messages() -> st.SearchStrategy[bytes]:
    """The bytes of a message of any kind."""
    some_json = (JSON | altered_wake_ups()).map(lambda value: json.dumps(value).encode())
    cut = some_json.flatmap(lambda content: st.integers(0, len(content)).map(lambda end: content[:end]))
    return st.binary(max_size=200) | some_json | cut | st.just(b'{"headers": {"task": "mlpq.wake", "timelimit": 5}}')
