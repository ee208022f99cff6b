"""The web server of the dashboard."""

from __future__ import annotations

import errno
import ipaddress
import re
import signal
import socket
import sys
from collections.abc import Sequence

import uvicorn

from mlpq.dashboard.app import make_app
from mlpq.errors import MlpqError, SettingsError
from mlpq.store.session import Store

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
STOP_SECONDS = 3  # what a page that is being made has left when the server is told to end


def listen(host: str, port: int) -> socket.socket:
    """A socket on that address; port 0 takes a free one. Raises MlpqError."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise MlpqError(f"port {port} of {host} is in use: give --port another one, or 0 for a free one") from error
        raise MlpqError(f"can't listen on port {port} of {host}: {error.strerror}") from error


def check_name(name: str) -> None:
    """Raises SettingsError where no request can come under that name."""
    is_address = ":" in name and "/" not in name and name.count(":") > 1
    if not is_address and not re.fullmatch(r"\*|(\*\.)?[\w-]+(\.[\w-]+)*\.?", name):
        raise SettingsError(
            f"'{name}' is no host's name: give --allow-host a name without port or scheme, as lab.example.org, or "
            "*.example.org"
        )


def hosts(host: str, allowed: Sequence[str]) -> list[str]:
    """The names that a request may come under, those of `allowed` among them."""
    own = [] if is_everywhere(host) else [host]
    return [*LOOPBACK, *(f"[{name}]" if ":" in name else name for name in (*own, *allowed))]


def url(host: str, listening: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    name = "127.0.0.1" if is_everywhere(host) else f"[{host}]" if ":" in host else host
    return f"http://{name}:{listening.getsockname()[1]}/"


def serve(store: Store, listening: socket.socket, names: Sequence[str]) -> None:
    """Answer requests that come under one of `names` until SIGINT or SIGTERM, which then end the process with 0."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    config = uvicorn.Config(
        make_app(store, names),
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listening])


def is_everywhere(host: str) -> bool:
    """Whether that address stands for all of this machine's."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host
