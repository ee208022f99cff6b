"""The deployment's roles, with the real commands and workers: everything works with the least rights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from mlpq.store.session import Store
from tests.support.broker_acl import PASSWORDS, RedisOfDeployment
from tests.support.installations import SERVICES, Site
from tests.support.roles import READER, SUBMITTER, WORKER, create_roles, upgrade_as_owner
from tests.support.services import Postgres


@pytest.fixture(scope="module")
def postgres_with_roles() -> Iterator[tuple[Postgres, str]]:
    server = Postgres()
    try:
        server.start()
        database = server.create()
        create_roles(server, database)
        upgrade_as_owner(server, database)
        yield server, database
    finally:
        server.stop()


@pytest.fixture(scope="module")
def broker() -> Iterator[RedisOfDeployment]:
    server = RedisOfDeployment()
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def as_role(postgres_with_roles: tuple[Postgres, str], broker: RedisOfDeployment, tmp_path: Path) -> dict[str, Site]:
    """A site per role, of one database; readers have no broker."""
    server, database = postgres_with_roles
    users = {WORKER: ("worker", "REDIS_WORKER_PASSWORD"), SUBMITTER: ("submit", "REDIS_SUBMITTER_PASSWORD")}
    sites = {}
    for role in (WORKER, SUBMITTER, READER):
        env = {"MLPQ_HOME": str(tmp_path / "home"), "MLPQ_DATABASE_URL": server.role_url(role, database)}
        if role in users:
            user, variable = users[role]
            password = quote(PASSWORDS[variable], safe="")
            env["MLPQ_BROKER_URL"] = f"redis://{user}:{password}@127.0.0.1:{broker.port}/0"
        sites[role] = Site(SERVICES, tmp_path, Store(env["MLPQ_DATABASE_URL"]), env)
    return sites


def test_everything_works_with_the_least_rights(as_role: dict[str, Site]) -> None:
    submitter, reader = as_role[SUBMITTER], as_role[READER]
    spec = ("--experiment", "lab", "--dataset", "digits", "--epochs", 1)
    with as_role[WORKER].worker() as worker:
        submitter.mlpq("submit", *spec, "--lr", "0.1,0.01", "--seeds", "0..2", "--wait")
        submitter.mlpq("submit", *spec, "--lr", "0.1", "--seeds", "0..2", "--again", "--wait")
        (waiting,) = submitter.submit(*spec, "--seeds", 7, "--device", "cuda")
        submitter.mlpq("cancel", waiting["id"])
        submitter.mlpq("retry", waiting["id"])
        submitter.mlpq("cancel", "lab")
        graded = submitter.mlpq("verify", "lab", "--format", "json", status=None)
        assert {row["grade"] for row in graded.json["verifications"]} == {"same_bits"}
        submitter.mlpq("doctor")
        for command in ("jobs", "results", "compare"):
            reader.mlpq(command, "lab")
        reader.mlpq("plan", "lab", "--difference", 5)
        reader.mlpq("report", "lab", "-o", "report.html")
        reader.mlpq("workers")
        assert worker.poll() is None
    assert reader.mlpq("sql", "SELECT current_user AS u", "--format", "csv").out.split() == ["u", READER]
    assert submitter.mlpq("sql", "SELECT current_user AS u", "--format", "csv").out.split() == ["u", READER]
    with reader.dashboard() as url:
        for page in ("/", "/experiments/lab", "/workers", "/metrics", "/healthz"):
            with urlopen(f"{url.rstrip('/')}{page}") as response:
                assert response.status == 200, page


def test_reader_cannot_submit_and_says_so_in_one_line(as_role: dict[str, Site]) -> None:
    done = as_role[READER].mlpq("submit", "--dataset", "digits", status=2)
    assert len(done.err.splitlines()) == 1
    assert "read-only transaction" in done.err


def test_doctor_warns_of_a_superuser(as_role: dict[str, Site]) -> None:
    site = as_role[SUBMITTER]
    assert "superuser" not in site.mlpq("doctor").out
    superuser = site.env["MLPQ_DATABASE_URL"].replace(f"{SUBMITTER}@", "postgres@")
    said = " ".join(site.mlpq("doctor", env={"MLPQ_DATABASE_URL": superuser, "COLUMNS": "400"}).out.split())
    assert "postgres is a superuser, who can run commands on the server" in said
