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

from mlpq import formatting
from mlpq.dashboard.app import make_app
from mlpq.dashboard.connections import ACCEPTED_AT_ONCE, Connection, Server
from mlpq.errors import MlpqError, SettingsError
from mlpq.store.session import Store

PAGES = ("charts", "experiments", "healthz", "jobs", "metrics", "static", "workers")  # paths of the dashboard
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
STOP_SECONDS = 3  # for requests in progress when the server shuts down


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on that address; port 0 takes a free port. Raises MlpqError."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise MlpqError(
                f"port {port} of {host} is in use: give --port another number, or 0 for a free port"
            ) from error
        raise MlpqError(f"can't listen on port {port} of {host}: {error.strerror}") from error


def check_name(name: str) -> None:
    """Raise SettingsError where that is not a host name, or a pattern of names."""
    is_address = ":" in name and "/" not in name and name.count(":") > 1
    if not is_address and not re.fullmatch(r"\*|(\*\.)?[\w-]+(\.[\w-]+)*\.?", name):
        raise SettingsError(
            f"'{name}' is not a host name: give --allow-host a name without scheme and port, as lab.example.org or "
            "*.example.org"
        )


def check_root_path(path: str) -> str:
    """The path without its last slash; raises SettingsError where it can't be the root path."""
    path = path.removesuffix("/")
    own = {f"/{first}" for first in PAGES}
    if path and (not re.fullmatch(r"(/[\w~-][\w.~-]*)+", path, re.ASCII) or f"/{path.split('/')[1]}" in own):
        raise SettingsError(
            f"--root-path is '{path}': it must look like /mlpq, and not begin with {formatting.listed(sorted(own))}"
        )
    return path


def hosts(host: str, allowed: Sequence[str]) -> list[str]:
    """The host names that requests may have: this machine's own, and `allowed`."""
    own = [] if is_everywhere(host) else [host]
    return [*LOOPBACK, *(f"[{name}]" if ":" in name else name for name in (*own, *allowed))]


def url(host: str, listening: socket.socket) -> str:
    """The URL for a browser on this machine."""
    name = "127.0.0.1" if is_everywhere(host) else f"[{host}]" if ":" in host else host
    return f"http://{name}:{listening.getsockname()[1]}/"


def serve(store: Store, listening: socket.socket, names: Sequence[str], root_path: str = "") -> None:
    """Answer requests for the hosts in `names`; a proxy serves the pages under `root_path`.

    SIGINT and SIGTERM end the process with exit status 0.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    config = uvicorn.Config(
        make_app(store, names, root_path),
        http=Connection,
        ws="none",
        backlog=ACCEPTED_AT_ONCE,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    Server(config).run(sockets=[listening])


def is_everywhere(host: str) -> bool:
    """Whether that address means every address of this machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host
