"""The contents of the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.fresh_clone import clone
from tests.support.installations import Site


@pytest.mark.parametrize("site", ["embedded"], indirect=True)
def test_wheel_alone_creates_a_database(site: Site, tmp_path: Path) -> None:
    source, unpacked = clone(tmp_path / "source"), tmp_path / "unpacked"
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", str(source)]
    subprocess.run([*build, "--wheel-dir", str(tmp_path)], check=True)
    wheel = next(tmp_path.glob("mlpq-*.whl"))
    zipfile.ZipFile(wheel).extractall(unpacked)
    url = f"sqlite:///{tmp_path / 'fresh.db'}"
    only_the_wheel = {"PYTHONPATH": str(unpacked), "MLPQ_DATABASE_URL": url}
    environ = site.environ(only_the_wheel)

    def output(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments], env=environ, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    assert url in output("-m", "mlpq.cli", "db", "upgrade")
    code = "import mlpq, mlpq_migrations, mlpq_workers; print(mlpq.__path__, mlpq_migrations.__path__)"
    assert output("-c", code).count(str(unpacked)) == 2
    contents = {str(file.relative_to(unpacked)) for file in unpacked.rglob("*")}
    service = tmp_path / "source" / "service"
    tracked_data = [
        str(file.relative_to(service)) for file in service.glob("mlpq/**/*") if file.suffix not in (".py", "")
    ]
    assert set(tracked_data) <= contents
    assert len(tracked_data) > 5
