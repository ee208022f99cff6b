"""Clients that send half a request, or read nothing, keep the dashboard from nobody."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlpq.dashboard.connections import RateLimit

FILES = 256  # that the dashboard may open
CLIENTS = 300
PROGRAM = """
import sys
from mlpq.dashboard import connections
connections.HEADER_SECONDS = float(sys.argv[1])
from mlpq.cli import main
sys.argv = ["mlpq", "dashboard", "--port", "0"]
main()
"""


@contextlib.contextmanager
def dashboard(home: Path, header_seconds: float) -> Iterator[tuple[int, Path]]:
    """The port of a dashboard on a new database, and its log."""
    log = home / "log"
    with log.open("wb") as stderr, subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(header_seconds)],
        env={**os.environ, "MLPQ_HOME": str(home), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=stderr, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES)),
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield int(line.split("/")[2].partition(":")[2]), log
        finally:
            process.kill()


def status(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/healthz")
        return connection.getresponse().status


def half_sent(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    with contextlib.suppress(ConnectionError):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
    return connection


def test_half_sent_requests_keep_the_dashboard_from_nobody(tmp_path: Path) -> None:
    with dashboard(tmp_path, header_seconds=3600) as (port, log), contextlib.ExitStack() as stack:
        for number in range(CLIENTS):
            stack.enter_context(half_sent(port))
            if number % 100 == 0:
                assert status(port) == 200
        assert status(port) == 200
        assert log.read_bytes() == b""


def test_half_a_request_is_closed_at_its_deadline(tmp_path: Path) -> None:
    with dashboard(tmp_path, header_seconds=0.5) as (port, _), half_sent(port) as connection:
        with contextlib.suppress(ConnectionError):
            for _ in range(600):  # what dribbles in moves no deadline
                connection.sendall(b"a")
                time.sleep(0.05)
            pytest.fail("the connection stays open")
        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b""


def test_a_second_request_has_a_deadline_too(tmp_path: Path) -> None:
    with dashboard(tmp_path, header_seconds=0.5) as (port, _), half_sent(port) as connection:
        connection.sendall(b"\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            while connection.recv(65536):
                pass


def test_requests_that_are_not_http_fill_no_log(tmp_path: Path) -> None:
    with dashboard(tmp_path, header_seconds=5) as (port, log):
        for _ in range(CLIENTS):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(b"\x16\x03\x01\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    connection.recv(1)
        assert status(port) == 200
        assert 0 < len(log.read_text().splitlines()) <= 10


def test_the_log_says_how_many_records_were_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def record() -> logging.LogRecord:
        return logging.LogRecord("x", logging.WARNING, "", 0, "bad %s", ("request",), None)

    limit = RateLimit()
    assert sum(limit.filter(record()) for _ in range(25)) == 10
    monkeypatch.setattr("mlpq.dashboard.connections.LOG_SECONDS", 0.0)
    last = record()
    assert limit.filter(last)
    assert last.getMessage() == "bad request (15 messages before it were left out)"
