"""The deployment of docker-compose.yml as a user has it: built, started, disturbed, backed up and restored.

`make test-compose` runs this; it takes minutes, and Docker. Its containers and volumes are its own and are removed; its
images stay, as a cache.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from mlpq.errors import StoreError
from mlpq.jobs import Outcome
from mlpq.spec.presets import TEXTBOOK_FIGURES
from mlpq.store.session import Store
from tests.support.docs_pages import DOCS, blocks
from tests.support.fresh_clone import clone
from tests.support.installations import SERVICES, Done, Site
from tests.support.services import free_port, wait_until

pytestmark = pytest.mark.timeout(1800)

DEPLOY, OPERATE = DOCS / "how-to" / "deploy.md", DOCS / "how-to" / "operate.md"
PROJECT = "mlpq-test-compose"
COUNTED = [figure.counted for figure in TEXTBOOK_FIGURES if figure.counted != 8502]  # at the end of the three jobs
ROUNDING = 5
HEALTHY_SECONDS = 240
OURS = ("postgres", "redis", "worker", "dashboard")


@dataclass(frozen=True)
class Deployment:
    """A clone, its containers, and how a laptop sees them."""

    folder: Path
    env: dict[str, str]

    def run(self, *command: str, status: int | None = 0) -> Done:
        """Run a command in the clone to its end; its exit status must be `status` unless that is None."""
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if status is not None and ended.returncode != status:
            pytest.fail(f"{shlex.join(command)} exited {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
        return Done(ended.returncode, ended.stdout, ended.stderr)

    def compose(self, *arguments: str, status: int | None = 0) -> Done:
        return self.run(*compose_command(), *arguments, status=status)

    def line(self, line: str) -> Done:
        """Run a line of the docs."""
        return self.run("bash", "-c", line.replace("docker-compose", shlex.join(compose_command())))

    def mlpq(self, *arguments: str) -> Done:
        """Run mlpq in a container."""
        return self.compose("run", "--rm", "-T", "cli", *arguments)

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """What Docker knows of the containers of these services, stopped ones included."""
        mark = f"label=com.docker.compose.project={PROJECT}"
        ids = self.run("docker", "ps", "--all", "--quiet", "--no-trunc", "--filter", mark).out.split()
        found = self.run("docker", "inspect", *ids).json if ids else []
        label = "com.docker.compose.service"
        return [each for each in found if each["Config"]["Labels"][label] in services]

    def wait_until_healthy(self, *services: str) -> None:
        wait_until(
            f"{services} are healthy",
            lambda: all(each["State"]["Health"]["Status"] == "healthy" for each in self.containers(*services)),
            HEALTHY_SECONDS,
        )

    def laptop(self, folder: Path) -> Site:
        """mlpq outside of the containers, with the variables that scripts/laptop prints."""
        printed = re.findall(r"^export (\w+)=(\S+)$", self.run("scripts/laptop").out, re.MULTILINE)
        env = dict(printed)
        folder.mkdir(exist_ok=True)
        return Site(SERVICES, folder, Store(env["MLPQ_DATABASE_URL"]), {**env, "MLPQ_HOME": str(folder / "home")})

    def start_workers(self, number: int) -> None:
        self.compose("up", "-d", "--scale", f"worker={number}")
        wait_until(f"{number} workers beat", lambda: len(self.live_hosts()) >= number, HEALTHY_SECONDS)

    def live_hosts(self) -> set[str]:
        """The hosts of live workers whose container runs."""
        running = {each["Config"]["Hostname"] for each in self.containers("worker") if each["State"]["Running"]}
        return running & {worker["host"] for worker in self.mlpq("workers", "--format", "json").json}


def compose_command() -> list[str]:
    """Today's `docker compose` where there is one."""
    there = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    return ["docker", "compose"] if there else ["docker-compose"]


@pytest.fixture(scope="module")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A fresh clone; what it starts is removed in the end, and what an interrupted run left before."""
    if shutil.which("docker") is None:
        pytest.fail("Docker is missing")
    folder = clone(tmp_path_factory.mktemp("deployment") / "mlpq")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLPQ_")}
    ports = {name: str(free_port()) for name in ("POSTGRES_PORT", "REDIS_PORT", "DASHBOARD_PORT")}
    deployment = Deployment(folder, {**inherited, "COMPOSE_PROJECT_NAME": PROJECT, **ports})
    remove(deployment)
    yield deployment
    print(deployment.compose("logs", "--no-color", "--tail", "200", status=None).out)
    remove(deployment)


def remove(deployment: Deployment) -> None:
    """Containers, volumes and the network; passwords are asked for even then."""
    text = (deployment.folder / "docker-compose.yml").read_text()
    env = {**deployment.env, **dict.fromkeys(re.findall(r"\$\{(\w+):\?", text), "-")}
    Deployment(deployment.folder, env).compose("--profile", "cli", "down", "--volumes", "--remove-orphans")


@pytest.fixture(scope="module")
def deployment(cloned: Deployment) -> Deployment:
    """A deployment as docs/how-to/deploy.md starts it, all of whose commands ran; two workers."""
    ports = "".join(f"{name}={port}\n" for name, port in cloned.env.items() if name.endswith("_PORT"))
    (cloned.folder / ".env").write_text(ports)
    cloned.run("scripts/secrets")
    # As for an upgrade: `up` and `run` would take images that an earlier run left.
    (build,) = [
        line
        for line in blocks(OPERATE, "console", "Upgrade while jobs are running")[0].splitlines()
        if " build" in line
    ]
    cloned.line(build)
    for section in ("Start", "Submit and look"):
        for line in blocks(DEPLOY, "console", section)[0].splitlines():
            print(line, cloned.line(line).out, sep="\n")
    cloned.wait_until_healthy(*OURS)
    return cloned


@pytest.fixture(scope="module")
def laptop(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return deployment.laptop(tmp_path_factory.mktemp("laptop"))


def results(site: Site, experiment: str) -> list[tuple[Any, ...]]:
    """Read from PostgreSQL, in the order of submission."""
    columns = "id, status, test_correct, test_total, weights_sha256"
    query = text(f"SELECT {columns} FROM results WHERE experiment = :name ORDER BY seq")
    with site.store.read() as connection:
        return [tuple(row) for row in connection.execute(query, {"name": experiment})]


def assert_textbook(site: Site, experiment: str) -> None:
    rows = results(site, experiment)
    assert [(status, total) for _, status, _, total, _ in rows] == [("succeeded", 10_000)] * 3
    assert all(abs(row[2] - counted) <= ROUNDING for row, counted in zip(rows, COUNTED, strict=True)), rows


def test_without_passwords_nothing_starts_and_one_line_says_what_to_do(cloned: Deployment) -> None:
    assert not (cloned.folder / ".env").exists()
    said = cloned.compose("run", "--rm", "cli", "submit", "--preset", "textbook", "--wait", status=None)
    assert said.status != 0
    assert "run scripts/secrets first" in said.err
    assert "Traceback" not in said.err
    assert cloned.containers(*OURS, "migrate", "cli") == []


def test_the_secrets_are_for_their_owner_only_and_are_never_made_twice(deployment: Deployment) -> None:
    file = deployment.folder / ".env"
    before = file.read_text()
    assert re.search(r"^POSTGRES_PASSWORD=[0-9a-f]{48}$", before, re.MULTILINE)
    assert f"POSTGRES_PORT={deployment.env['POSTGRES_PORT']}\n" in before
    deployment.run("scripts/secrets")
    assert (file.read_text(), file.stat().st_mode & 0o777) == (before, 0o600)


def test_the_readmes_commands_brought_the_textbooks_figures(laptop: Site) -> None:
    assert_textbook(laptop, "textbook")


def test_the_migration_has_ended_and_everything_else_is_healthy(deployment: Deployment) -> None:
    for service in ("roles", "migrate"):
        (container,) = deployment.containers(service)
        assert (container["State"]["Status"], container["State"]["ExitCode"]) == ("exited", 0)
    assert len(deployment.containers(*OURS)) == 5


def test_scaling_adds_workers(deployment: Deployment) -> None:
    deployment.start_workers(3)
    assert len(deployment.live_hosts()) == 3


def test_nothing_is_published_beyond_this_machine(deployment: Deployment) -> None:
    for each in deployment.containers(*OURS):
        published = [place for places in each["NetworkSettings"]["Ports"].values() for place in places or ()]
        assert {place["HostIp"] for place in published} <= {"127.0.0.1"}


def test_nothing_runs_as_root(deployment: Deployment) -> None:
    for each in deployment.containers(*OURS):
        processes = deployment.run("docker", "top", each["Id"], "-eo", "uid,pid").out.splitlines()[1:]
        users = [process.split()[0] for process in processes]
        assert users
        assert "0" not in users, each["Name"]


def test_no_command_carries_a_password(deployment: Deployment) -> None:
    passwords = re.findall(r"_PASSWORD=(\S+)", (deployment.folder / ".env").read_text())
    assert len(passwords) == 7
    for each in deployment.containers(*OURS, "roles", "migrate"):
        shown = json.dumps([each["Path"], each["Args"], each["Config"]["Cmd"], each["Config"].get("Healthcheck")])
        shown += deployment.run("docker", "top", each["Id"], "-eo", "pid,args").out if each["State"]["Running"] else ""
        assert not [password for password in passwords if password in shown], each["Name"]


def test_memory_and_logs_are_limited_and_what_ends_is_started_again(deployment: Deployment) -> None:
    for each in deployment.containers(*OURS):
        host = each["HostConfig"]
        assert host["Memory"] > 0
        assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "5", "max-size": "10m"}}
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
        assert host["CapDrop"] == ["ALL"]
        assert host["ReadonlyRootfs"]
        assert host["PidsLimit"] > 0
        assert host["NanoCpus"] > 0 or host["CpuQuota"] > 0
        assert "no-new-privileges:true" in host["SecurityOpt"]


def test_the_dashboard_and_its_metrics_answer(deployment: Deployment) -> None:
    address = f"http://127.0.0.1:{deployment.env['DASHBOARD_PORT']}"
    for path, expected in (("/healthz", "ok"), ("/", "textbook"), ("/metrics", "mlpq_")):
        with urllib.request.urlopen(address + path) as answer:
            assert expected in answer.read().decode()


def test_workers_log_json_with_job_and_attempt(deployment: Deployment, laptop: Site) -> None:
    job = results(laptop, "textbook")[0][0]
    logged = deployment.compose("logs", "--no-color", "worker").out
    lines = [json.loads(line[line.index("{") :]) for line in logged.splitlines() if "{" in line]
    assert [line for line in lines if line.get("job") == job and line.get("attempt") == 1]


def test_no_service_has_more_rights_than_it_needs(deployment: Deployment, laptop: Site) -> None:
    for service, role in (("worker", "mlpq_worker"), ("dashboard", "mlpq_reader"), ("cli", "mlpq_submitter")):
        shown = deployment.compose("run", "--rm", "-T", "--no-deps", service, "doctor", status=None).out
        assert role in shown
        assert "is a superuser" not in shown
        assert "is the owner" not in shown
    with pytest.raises(StoreError, match="pg_execute_server_program"), laptop.store.write() as connection:
        connection.execute(text("COPY jobs TO PROGRAM 'id'"))


def test_a_laptop_submits_with_two_variables(laptop: Site) -> None:
    laptop.mlpq("submit", "--experiment", "laptop", "--dataset", "digits", "--epochs", 1, "--seeds", "0..1", "--wait")
    assert [row[1] for row in results(laptop, "laptop")] == ["succeeded"] * 2


def test_a_worker_that_dies_is_started_again(deployment: Deployment) -> None:
    (victim, *_) = deployment.containers("worker")
    deployment.run("docker", "exec", victim["Id"], "sh", "-c", "kill -9 -1", status=None)

    def lives_again() -> bool:
        (now,) = (each for each in deployment.containers("worker") if each["Id"] == victim["Id"])
        return bool(now["State"]["Running"]) and now["RestartCount"] == victim["RestartCount"] + 1

    wait_until("the worker's container was started again", lives_again)


def test_killed_workers_and_restarted_services_cost_time_and_no_result(deployment: Deployment, laptop: Site) -> None:
    deployment.start_workers(3)
    submission = ("submit", "--preset", "textbook", "--experiment", "disturbed")
    ids = [row["id"] for row in laptop.submit("--preset", "textbook", "--experiment", "disturbed")]
    wait_until("a job runs", lambda: any(laptop.row(job).status == "running" for job in ids))
    worker = next(row.worker for row in map(laptop.row, ids) if row.status == "running" and row.worker)
    deployment.run("docker", "kill", worker.partition(":")[0])
    deployment.compose("restart", "redis", "postgres")
    deployment.mlpq(*submission, "--wait")
    assert_textbook(laptop, "disturbed")
    outcomes = [outcome for job in ids for _, outcome in laptop.outcomes(job)]
    assert (outcomes.count(Outcome.LOST) > 0, outcomes.count(Outcome.SUCCEEDED)) == (True, 3)
    undisturbed = [row[4] for row in results(laptop, "textbook")]
    assert [row[4] for row in results(laptop, "disturbed")] == undisturbed


def test_stopped_workers_give_jobs_back_and_others_go_on_to_the_same_bits(deployment: Deployment, laptop: Site) -> None:
    """As docs/how-to/operate.md upgrades a deployment."""
    spec = ("--hidden", "64,64", "--epochs", 30)
    (job,) = [row["id"] for row in laptop.submit("--experiment", "drained", *spec)]
    reached = text("SELECT count(*) FROM epochs WHERE job_id = :job")

    def epochs() -> int:
        with laptop.store.read() as connection:
            return int(connection.execute(reached, {"job": job}).scalar_one())

    wait_until("two epochs are done", lambda: epochs() >= 2, 90)
    deployment.compose("stop", "worker")
    deployment.compose("up", "-d", "postgres", "redis")
    assert laptop.row(job).status == "queued"
    deployment.compose("run", "--rm", "migrate")
    deployment.start_workers(2)
    laptop.mlpq("submit", "--experiment", "undrained", *spec)
    deployment.mlpq("watch", "drained")
    deployment.mlpq("watch", "undrained")
    assert [outcome for _, outcome in laptop.outcomes(job)] == ["released", "succeeded"]
    logged = deployment.compose("logs", "--no-color", "worker").out.splitlines()
    assert [line for line in logged if job in line and "resuming from the checkpoint" in line]
    (drained,), (undrained,) = (results(laptop, name) for name in ("drained", "undrained"))
    assert drained[2:] == undrained[2:]


def test_a_restart_of_everything_keeps_the_results(deployment: Deployment, laptop: Site) -> None:
    before = results(laptop, "textbook")
    deployment.compose("stop")
    deployment.start_workers(2)
    assert results(laptop, "textbook") == before
    deployment.wait_until_healthy(*OURS)


def test_passwords_are_changed_as_the_page_says(deployment: Deployment, tmp_path: Path) -> None:
    before = results(deployment.laptop(tmp_path / "before"), "textbook")
    old = (deployment.folder / ".env").read_text()
    for line in blocks(OPERATE, "console", "Change the passwords")[0].splitlines():
        deployment.line(line)
    assert not set(re.findall(r"_PASSWORD=\S+", old)) & set((deployment.folder / ".env").read_text().split())
    site = deployment.laptop(tmp_path / "after")
    assert results(site, "textbook") == before
    site.mlpq("submit", "--experiment", "changed", "--dataset", "digits", "--epochs", 1, "--wait")


def test_a_backup_restored_into_an_empty_deployment_is_whole(
    deployment: Deployment, laptop: Site, tmp_path: Path
) -> None:
    folder = "backups/monday"
    before = {name: results(deployment.laptop(tmp_path), name) for name in ("textbook", "disturbed", "drained")}
    deployment.mlpq(
        "submit", "--experiment", "busy", "--dataset", "digits", "--seeds", "0..9"
    )  # a backup can run while jobs are running
    deployment.run("scripts/backup", folder)
    assert "exists already" in deployment.run("scripts/backup", folder, status=2).err
    deployment.compose("down", "--volumes")
    deployment.run("scripts/restore", folder)
    deployment.start_workers(2)
    assert {name: results(deployment.laptop(tmp_path), name) for name in before} == before
    verified = deployment.mlpq("verify", "textbook", "--format", "json").json["verifications"]
    assert [row["grade"] for row in verified] == ["same_bits"] * 3
    assert "has tables already" in deployment.run("scripts/restore", folder, status=1).err
