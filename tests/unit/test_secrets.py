"""Security: nothing is unpickled, and passwords are never shown."""

from __future__ import annotations

import ast
import stat
from pathlib import Path

import pytest

from mlpq.errors import SettingsError
from mlpq.settings import masked, read_settings
from mlpq.store import queries
from tests.support.installations import EMBEDDED, SERVICES, Site

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(file for part in ("service", "workers", "migrations") for file in (ROOT / part).rglob("*.py"))
SECRET = "hunter2-very-secret"
UNPICKLING = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_is_unpickled(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & UNPICKLING
        elif isinstance(node, ast.ImportFrom):
            assert str(node.module).split(".")[0] not in UNPICKLING
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("torch", "load"), ("numpy", "load"), ("np", "load")}


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ann:{SECRET}@host/lab",
        f"postgresql://ann:{SECRET}#a@host/lab",
        f"postgresql://ann:a/{SECRET}@host/lab",
        f"postgresql://ann:a?{SECRET}@host/lab",
        f"postgresql://ann:a@{SECRET}@host/lab",
        f"postgresql://ann:a:{SECRET}@host/lab",
        f"postgresql://host/lab?user=ann&password={SECRET}",
        f"postgresql://ann:a@host/lab?sslpassword=a@{SECRET}&sslmode=require",
        f"redis://:{SECRET}@host/0",
        f"redis://:{SECRET}/a@host:port/0",
        f"rediss://[:{SECRET}@host/0",
        f"postgresql:/ann:{SECRET}@host/lab",
        f"redis//:{SECRET}@host",
        f"postgresql://host/lab?user=ann&passwd={SECRET}",
    ],
)
def test_masked_url_has_no_password(url: str) -> None:
    shown = masked(url)
    assert SECRET not in shown
    assert "***" in shown
    wrong = "MLPQ_BROKER_URL" if url.startswith("postgres") else "MLPQ_DATABASE_URL"
    with pytest.raises(SettingsError, match=f"^{wrong} is malformed, and not shown because it may contain") as error:
        read_settings({wrong: url})
    assert SECRET not in str(error.value)


@pytest.mark.parametrize("url", ["sqlite:////home/ann/mlpq.db", "redis://host:6379/0", "postgresql://ann@host/lab"])
def test_masked_url_without_a_password_is_unchanged(url: str) -> None:
    assert masked(url) == url


@pytest.mark.parametrize("site", [SERVICES], indirect=True)
def test_password_is_in_no_output_log_or_row(site: Site) -> None:
    """The tests' PostgreSQL accepts any password; the default user of their Redis has none."""
    database = site.env["MLPQ_DATABASE_URL"].replace("postgres@", f"postgres:{SECRET}@")
    site.env["MLPQ_DATABASE_URL"] = database
    with site.worker():
        shown = [
            site.mlpq("submit", "--dataset", "digits", "--epochs", 2, "--wait"),
            site.mlpq("doctor"),
            site.mlpq("show", queries.job_records(site.store)[0].id),
            site.mlpq("logs", queries.job_records(site.store)[0].id),
            site.mlpq("jobs", env={"MLPQ_DATABASE_URL": database.replace("127.0.0.1", "host.invalid")}, status=2),
            site.mlpq("doctor", env={"MLPQ_BROKER_URL": f"redis://:{SECRET}@host.invalid/0"}, status=None),
            site.mlpq("submit", "--dataset", "digits", env={"MLPQ_BROKER_URL": f"redis://:{SECRET}@host.invalid/0"}),
        ]
    assert all(SECRET not in done.out + done.err for done in shown)
    logs = [file.read_text() for file in site.folder.glob("worker-*.log")]
    assert logs
    assert all("***" in log and SECRET not in log for log in logs)
    for job in queries.job_records(site.store):
        assert SECRET not in str(queries.attempts_of(site.store, job.id))


@pytest.mark.parametrize("site", [EMBEDDED], indirect=True)
def test_embedded_queue_is_accessible_to_its_owner_only(site: Site) -> None:
    queue = Path(site.env["MLPQ_HOME"]) / "queue"
    queue.mkdir(mode=0o755)
    site.mlpq("submit", "--dataset", "digits")
    modes = {stat.S_IMODE(folder.stat().st_mode) for folder in (queue, *queue.iterdir())}
    assert modes == {0o700}


@pytest.mark.parametrize("dataset", ["/etc/passwd", "../fashion-mnist", "file:///etc/passwd", ""])
def test_path_is_not_accepted_as_a_data_set(alone: Site, dataset: str) -> None:
    done = alone.mlpq("submit", "--dataset", dataset, status=2)
    assert len(done.err.splitlines()) == 1
