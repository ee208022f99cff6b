"""A TCP proxy that misbehaves on demand: what networks and firewalls do to connections."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator


class Proxy:
    """Stands before a service on a loopback port.

    `swallow`: from now on nothing passes, though connections stand and new ones are accepted, as when a firewall forgot
    them; those connections stay dead for good. `delay` holds everything up; `cut` ends all connections.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._swallowing, self._delay = False, 0.0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._dead: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        self._swallowing = True
        self._dead.update(one for pair in self._pairs for one in pair)

    def delay(self, seconds: float) -> None:
        self._delay = seconds

    def cut(self) -> None:
        for one in [one for pair in self._pairs for one in pair]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def pass_again(self) -> None:
        """For connections from now on; those that were swallowed stay dead."""
        self._swallowing, self._delay = False, 0.0

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target), 5)
                    far.settimeout(None)
                except OSError:
                    near.close()
                    continue
                self._pairs.append((near, far))
                if self._swallowing:
                    self._dead.update((near, far))
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self._delay:
                    time.sleep(self._delay)
                if source not in self._dead:
                    sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    opened = Proxy(port)
    try:
        yield opened
    finally:
        opened.close()
