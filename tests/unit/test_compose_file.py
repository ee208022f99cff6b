"""Security of docker-compose.yml, and what the images are built from, checked without Docker; tests/compose runs it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.support.broker_acl import script
from tests.support.installations import ROOT

TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES = yaml.safe_load(TEXT)["services"]
# Service: the role with which it connects to PostgreSQL, the user with which it connects to Redis, its networks.
ACCESS = {
    "postgres": (None, None, {"database"}),
    "redis": (None, None, {"broker"}),
    "roles": ("mlpq", None, {"database"}),
    "migrate": ("mlpq_owner", None, {"database"}),
    "worker": ("mlpq_worker", "worker", {"database", "broker"}),
    "worker-gpu": ("mlpq_worker", "worker", {"database", "broker"}),
    "dashboard": ("mlpq_reader", None, {"database", "web"}),
    "cli": ("mlpq_submitter", "submit", {"database", "broker"}),
}
PASSWORDS = {
    "mlpq": "POSTGRES_PASSWORD",
    "mlpq_owner": "POSTGRES_OWNER_PASSWORD",
    "mlpq_worker": "POSTGRES_WORKER_PASSWORD",
    "mlpq_submitter": "POSTGRES_SUBMITTER_PASSWORD",
    "mlpq_reader": "POSTGRES_READER_PASSWORD",
    "worker": "REDIS_WORKER_PASSWORD",
    "submit": "REDIS_SUBMITTER_PASSWORD",
}
SERVERS = {"postgres", "redis", "roles"}  # they set passwords


def test_only_the_dashboard_can_be_published_beyond_this_machine() -> None:
    addresses = {port.rpartition(":$")[0] for service in SERVICES.values() for port in service.get("ports", [])}
    assert addresses == {"127.0.0.1", "${DASHBOARD_ADDRESS:-127.0.0.1}"}


def test_dependencies_of_images_are_installed_with_the_module_that_has_the_version() -> None:
    """Before all other files are copied, so that a change of these installs no dependency again."""
    attribute = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    module = Path("service", *attribute.split(".")[:-1]).with_suffix(".py")
    assert f"COPY {module} {module.parent}/\n" in (ROOT / "Dockerfile").read_text().partition("FROM dependencies")[0]


def test_no_password_has_a_default() -> None:
    passwords = re.findall(r"\$\{\w*PASSWORD[^}]*\}", TEXT)
    shapes = {re.sub(r"\w+_PASSWORD(?:_IN_URL)?", "X", password) for password in passwords}
    assert shapes == {"${X:?run scripts/secrets first}"}


def test_every_container_is_limited() -> None:
    for name, service in SERVICES.items():
        assert service["mem_limit"], name
        assert service["pids_limit"], name
        assert ("cpus" in service) != ("cpu_quota" in service), f"{name}: Docker takes one of them"
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
        for mount in service["tmpfs"]:
            options = mount.partition(":")[2].split(",")
            assert {"noexec", "nosuid", "nodev"} < set(options), name
            assert [option for option in options if option.startswith("size=")], name


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_has_the_least_access(name: str) -> None:
    role, user, networks = ACCESS[name]
    service = SERVICES[name]
    environment = service.get("environment", {})
    database, broker = environment.get("MLPQ_DATABASE_URL", ""), environment.get("MLPQ_BROKER_URL", "")
    assert set(service["networks"]) == networks
    assert (re.findall(r"//(\w+)@", database) or [environment.get("PGUSER")]) == [role]
    assert (re.findall(r"//(\w+):", broker) or [None]) == [user]
    if name not in SERVERS:
        used = {
            password.removesuffix("_IN_URL") for password in re.findall(r"\w+_PASSWORD(?:_IN_URL)?", str(environment))
        }
        assert used - {"PGPASSWORD"} == {PASSWORDS[each] for each in (role, user) if each}


@pytest.mark.parametrize(
    ("version", "is_accepted"),
    [("7.0.15", True), ("7.2.0", False), ("7.4.8", False), ("7.4.9", True), ("7.4.10", True), ("8.0.1", False),
     ("8.6.2", False), ("8.6.3", True), ("8.10.0", True)],
)  # fmt: skip
def test_redis_with_a_known_hole_does_not_start(tmp_path: Path, version: str, is_accepted: bool) -> None:
    stub = tmp_path / "redis-server"
    stub.write_text(f'#!/bin/sh\ncase $1 in --version) echo "Redis server v={version} sha=0";; *) cat;; esac\n')
    stub.chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "REDIS_WORKER_PASSWORD": "a", "REDIS_SUBMITTER_PASSWORD": "b"}
    done = subprocess.run(["sh", "-ec", script()], capture_output=True, text=True, check=False, env=env)
    assert (done.returncode == 0) is is_accepted
    if is_accepted:
        assert done.stdout.startswith("user default off\n")
        assert ("client|setinfo" in done.stdout) is not version.startswith("7.0")
    else:
        assert "docker-compose pull redis" in done.stderr
