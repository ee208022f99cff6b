"""Files that mlpq creates are readable by their owner only, whatever the umask."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mlpq.cli import cli
from mlpq.local_worker import LocalWorker
from mlpq.settings import read_settings, settings
from mlpq.store.migrate import ready_store


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_the_database_and_its_home_are_private(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    before = os.umask(0)
    try:
        store = ready_store(read_settings({"MLPQ_HOME": str(home)}))
        with store.write():
            found = modes(home)
    finally:
        os.umask(before)
        store.close()
    assert found == {"mlpq.db": 0o600, "mlpq.db-wal": 0o600, "mlpq.db-shm": 0o600}
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_permissions_of_an_existing_database_stay(tmp_path: Path) -> None:
    config = read_settings({"MLPQ_HOME": str(tmp_path)})
    ready_store(config).close()
    (tmp_path / "mlpq.db").chmod(0o640)
    ready_store(config).close()
    assert modes(tmp_path)["mlpq.db"] == 0o640


def test_logging_shows_no_lines_of_libraries(tmp_path: Path) -> None:
    program = """
from mlpq.log import set_up
from mlpq.settings import settings
from mlpq.store.migrate import ready_store
set_up("text")
ready_store(settings())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "MLPQ_HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_home_is_private_whichever_command_creates_it_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "files").mkdir()
    monkeypatch.setenv("MLPQ_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    before = os.umask(0)
    try:
        with pytest.raises(SystemExit):
            cli(["data", "import", "mnist", str(tmp_path / "files")])
        LocalWorker(settings())._opened_log().close()
    finally:
        os.umask(before)
        settings.cache_clear()
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
    assert modes(tmp_path / "home") == {"worker.log": 0o600}
