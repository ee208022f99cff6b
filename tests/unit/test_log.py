"""Logging: plain lines, or one JSON object per line."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

PROGRAM = """
import logging, sys
from mlpq.log import set_up
set_up(sys.argv[1])
log = logging.getLogger("mlpq.test")
log.info("job %s ends\\nwell", "x", extra={"job": "x", "attempt": 2})
try:
    raise ValueError("it broke")
except ValueError:
    log.exception("an error")
"""


def logged(log_format: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, log_format], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr.splitlines()


def test_json_line_has_the_job_and_the_attempt() -> None:
    first, second = (json.loads(line) for line in logged("json"))
    assert abs(datetime.fromisoformat(first.pop("time")) - datetime.now(UTC)) < timedelta(minutes=5)
    assert first == {"level": "INFO", "logger": "mlpq.test", "message": "job x ends\nwell", "job": "x", "attempt": 2}
    assert (second["level"], second["message"]) == ("ERROR", "an error")
    assert "ValueError: it broke" in second["exc_info"]
    assert "job" not in second


def test_text_lines() -> None:
    lines = logged("text")
    assert lines[0].endswith(" job x ends")
    assert lines[-1] == "ValueError: it broke"
