"""Hosts: network namespaces on one switch, each with its own name and folder, and cuts between them.

They exist inside the namespaces that `scripts/hosts` makes, and are removed with them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.services import wait_until

ROOT = Path("/run/mlpq-hosts")  # a file system in memory, of `scripts/hosts`
HOME = ROOT / "home"  # where each host has its own folder
SWITCH = "switch"
BOTH, TO, FROM = "both ways", "to it only", "from it only"
COMMAND_SECONDS = 120
# Of a process: the name of its host, and the host's folder. `ip netns exec` has given it its own mounts.
SET_UP = 'hostname "$1" && mount --bind "$2" "$3" && shift 3 && exec "$@"'


@dataclass(frozen=True)
class Host:
    """A host on the switch."""

    name: str
    address: str

    @property
    def folder(self) -> Path:
        """What the host's processes have at HOME."""
        return ROOT / self.name

    def command(self, *arguments: str | Path) -> list[str]:
        """The command line that runs these arguments on the host, with the same process id."""
        launcher = ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c", SET_UP, "sh"]
        return [*launcher, self.name, str(self.folder), str(HOME), *map(str, arguments)]

    def start(self, *arguments: str | Path, log: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a process whose output goes to the file `log`."""
        with log.open("ab") as file:
            return subprocess.Popen(self.command(*arguments), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                    env=env, cwd=ROOT)  # fmt: skip

    def run(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, cwd=ROOT,
            timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip

    def pids(self) -> list[int]:
        return [int(pid) for pid in _do("ip", "netns", "pids", self.name).split()]

    def kill(self) -> None:
        """End all processes at once, as when the power fails; what they sent last may arrive."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(f"nothing runs on {self.name}", lambda: not self.pids())

    def _ignore(self, other: Host) -> None:
        """Drop every packet that arrives from the other host."""
        _do("ip", "netns", "exec", self.name, "iptables", "-w", "-A", "INPUT", "-s", other.address, "-j", "DROP")

    def hear(self) -> None:
        """Drop no more packets."""
        _do("ip", "netns", "exec", self.name, "iptables", "-w", "-F", "INPUT")


def cut(host: Host, other: Host, direction: str = BOTH) -> None:
    """Drop the packets from the host to the other one (TO), from the other one (FROM), or both; `hear` ends it."""
    if direction in (BOTH, TO):
        other._ignore(host)
    if direction in (BOTH, FROM):
        host._ignore(other)


def check_namespaces() -> None:
    """Fail outside of the namespaces of `scripts/hosts`, where nothing would remove what tests leave."""
    if os.getpid() != 1 or not os.path.ismount("/run"):
        pytest.fail("these tests need namespaces of their own: make hosts")


@contextmanager
def network(*names: str) -> Iterator[list[Host]]:
    """Hosts of these names on a new switch."""
    _do("ip", "netns", "add", SWITCH)
    hosts: list[Host] = []
    try:
        _do("ip", "-n", SWITCH, "link", "add", "bridge", "type", "bridge")
        _do("ip", "-n", SWITCH, "link", "set", "bridge", "up")
        for number, name in enumerate(names, 1):
            hosts.append(Host(name, f"10.77.0.{number}"))
            _connect(hosts[-1])
        yield hosts
    finally:
        for host in hosts:
            host.kill()
            _do("ip", "netns", "delete", host.name)
        _do("ip", "netns", "delete", SWITCH)


def _connect(host: Host) -> None:
    name = host.name
    _do("ip", "netns", "add", name)
    _do("ip", "-n", SWITCH, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
    _do("ip", "-n", SWITCH, "link", "set", name, "master", "bridge", "up")
    _do("ip", "-n", name, "address", "add", f"{host.address}/24", "dev", "eth0")
    _do("ip", "-n", name, "link", "set", "eth0", "up")
    _do("ip", "-n", name, "link", "set", "lo", "up")
    for folder in (host.folder, HOME):
        folder.mkdir(parents=True, exist_ok=True)


def _do(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
