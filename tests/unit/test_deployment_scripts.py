"""scripts/secrets and scripts/laptop, with passwords of one's own."""

from __future__ import annotations

import re
import shutil
import string
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from mlpq.urls import is_well_formed, masked
from tests.support.installations import ROOT

pytestmark = pytest.mark.slow

NAMES = [f"{role}_PASSWORD" for role in ("POSTGRES", "POSTGRES_OWNER", "POSTGRES_WORKER", "POSTGRES_SUBMITTER",
                                         "POSTGRES_READER", "REDIS_WORKER", "REDIS_SUBMITTER")]  # fmt: skip
SUBMITTER = ("POSTGRES_SUBMITTER_PASSWORD", "REDIS_SUBMITTER_PASSWORD")
OWN = st.text(
    string.ascii_letters + string.digits + string.punctuation.replace("'", "").replace("\\", "") + " ü", min_size=1
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    return tmp_path


def run(clone: Path, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([clone / "scripts" / script], capture_output=True, text=True, check=False)


def variables(clone: Path) -> dict[str, str]:
    lines = (clone / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def test_secrets_are_made_once_each_different_and_private(clone: Path) -> None:
    (clone / ".env").write_text("DASHBOARD_PORT=8001")
    assert run(clone, "secrets").returncode == 0
    made = variables(clone)
    assert (clone / ".env").stat().st_mode & 0o777 == 0o600
    assert [name for name in NAMES if not re.fullmatch("[0-9a-f]{48}", made[name])] == []
    assert len({made[name] for name in NAMES}) == len(NAMES)
    assert made["DASHBOARD_PORT"] == "8001"
    assert run(clone, "secrets").stdout.count("unchanged") == len(NAMES)
    assert variables(clone) == made


def test_deployment_of_an_earlier_version_gets_the_missing_passwords(clone: Path) -> None:
    (clone / ".env").write_text(f"POSTGRES_PASSWORD={'a' * 48}\nREDIS_PASSWORD={'b' * 48}\n")
    assert run(clone, "secrets").stdout.count("added") == len(NAMES) - 1
    assert variables(clone)["POSTGRES_PASSWORD"] == "a" * 48


def test_laptop_gets_the_submitters_passwords_only(clone: Path) -> None:
    run(clone, "secrets")
    printed, made = run(clone, "laptop").stdout, variables(clone)
    assert [name for name in NAMES if made[name] in printed] == list(SUBMITTER)
    assert "postgresql+psycopg://mlpq_submitter:" in printed
    assert "redis://submit:" in printed


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(OWN)
@example("p@ss/w$rd#1")
@example("%41")
def test_password_of_ones_own_reaches_the_urls(clone: Path, own: str) -> None:
    (clone / ".env").write_text("".join(f"{name}='{own}'\n" for name in SUBMITTER))
    assert run(clone, "secrets").returncode == 0
    assert unquote(variables(clone)["REDIS_SUBMITTER_PASSWORD_IN_URL"]) == own
    urls = re.findall(r"^export \w+=(\S+)$", run(clone, "laptop").stdout, re.MULTILINE)
    assert [make_url(url).password for url in urls] == [own, own]
    assert all(is_well_formed(url) and masked(url).count("***") == 1 for url in urls)


@pytest.mark.parametrize("line", ["p@ss/w$rd#1", '"quoted"', "two words", "'it''s'", r"'back\slash'", "a`b`"])
@pytest.mark.parametrize("script", ["secrets", "laptop"])
def test_ambiguous_password_is_refused(clone: Path, line: str, script: str) -> None:
    """docker-compose and `docker compose` read such lines differently."""
    run(clone, "secrets")
    text = re.sub(r"^POSTGRES_SUBMITTER_PASSWORD=.*", lambda _: f"POSTGRES_SUBMITTER_PASSWORD={line}",
                  (clone / ".env").read_text(), flags=re.MULTILINE)  # fmt: skip
    (clone / ".env").write_text(text)
    done = run(clone, script)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("POSTGRES_SUBMITTER_PASSWORD in .env ")
    assert line.strip("'") not in done.stderr


def test_laptop_without_secrets_says_what_to_do(clone: Path) -> None:
    assert "run scripts/secrets first" in run(clone, "laptop").stderr
    (clone / ".env").write_text("POSTGRES_PASSWORD=a\nREDIS_PASSWORD=b\n")  # of an earlier version
    assert "run scripts/secrets first" in run(clone, "laptop").stderr
