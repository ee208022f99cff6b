"""The server's connections: clients that are slow, silent or too many can't keep it from answering others."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import time
from collections.abc import Iterable
from typing import ClassVar

import anyio.to_thread
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0  # for the head of a request, from the connection or the end of the response before it
RESPONSE_SECONDS = 300.0  # for a response: the slowest page takes some ten seconds, and may wait for others
MAX_CONNECTIONS = 256  # or a quarter of the files that the process may open, if that is less
ACCEPTED_AT_ONCE = 16  # in one round of the event loop: a connection is counted, and one closed, three rounds later
QUEUE = 1024  # connections that the kernel holds meanwhile
THREADS = 80  # for requests: more than can wait for comparisons and charts
LOG_RECORDS, LOG_SECONDS = 10, 60.0  # of the server's own log: at most so many records in that time


class Connection(H11Protocol):
    """A connection with deadlines. Where there are too many, the one that has waited longest for its client closes."""

    all: ClassVar[dict[Connection, None]] = {}  # of this process, in the order in which they began to wait
    _deadline: asyncio.TimerHandle | None = None
    _was_busy = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin(HEADER_SECONDS)
        if len(self.all) > max_connections():
            _longest_waiting(self.all)._close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.is_busy != self._was_busy:
            self._begin(RESPONSE_SECONDS if self.is_busy else HEADER_SECONDS)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._begin(RESPONSE_SECONDS if self.is_busy else HEADER_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self.all.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    @property
    def is_busy(self) -> bool:
        """Whether a response is being made or sent."""
        return self.cycle is not None and not self.cycle.response_complete

    def _begin(self, seconds: float) -> None:
        """Wait for a request, or make a response, for that long at most."""
        if self._deadline is not None:
            self._deadline.cancel()
        if self.transport.is_closing():
            return
        self._was_busy = self.is_busy
        self.all.pop(self, None)
        self.all[self] = None
        self._deadline = self.loop.call_later(seconds, self._close)

    def _close(self) -> None:
        self.all.pop(self, None)  # now: connection_lost is called in the next round of the event loop
        self.transport.abort()


class Server(uvicorn.Server):
    """A server with enough threads for the requests that wait, and a log that can't fill a disk."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        for name in ("asyncio", "uvicorn.error"):
            logging.getLogger(name).addFilter(RateLimit())
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(QUEUE)  # asyncio has one number for the kernel's queue and for what it accepts at once


class RateLimit(logging.Filter):
    """Lets LOG_RECORDS records pass in LOG_SECONDS; the next one after that says how many were left out."""

    def __init__(self) -> None:
        super().__init__()
        self._since, self._records = time.monotonic(), 0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now - self._since >= LOG_SECONDS:
            if left_out := max(0, self._records - LOG_RECORDS):
                record.msg, record.args = f"{record.getMessage()} ({left_out} messages before it were left out)", ()
            self._since, self._records = now, 0
        self._records += 1
        return self._records <= LOG_RECORDS


def max_connections() -> int:
    """How many connections may be open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files // 4)


def _longest_waiting(connections: Iterable[Connection]) -> Connection:
    """The oldest that waits for a request, else for its client to read, else the newest."""
    *older, newest = connections
    waiting = (each for each in older if not each.is_busy)
    unread = (each for each in older if each.transport.get_write_buffer_size())
    return next(waiting, None) or next(unread, newest)
