"""Temporary folders of training processes: those of dead workers are removed, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mlpq_workers.worker.scratch import Scratch, remove_stale


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def dead() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def made(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir()
    (path / "log").write_text("x")
    return path


def test_the_folder_of_a_killed_worker_is_removed(folder: Path) -> None:
    program = f"""
import os, signal, tempfile
tempfile.tempdir = {str(folder)!r}
from mlpq_workers.worker.scratch import Scratch
scratch = Scratch()
open(scratch.path + "/log", "w").close()
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program])
    assert len(list(folder.iterdir())) == 1
    remove_stale()
    assert list(folder.iterdir()) == []


def test_the_folder_of_a_live_worker_stays(folder: Path) -> None:
    scratch = Scratch()
    remove_stale()
    assert Path(scratch.path).is_dir()
    scratch.remove()
    scratch.remove()
    assert list(folder.iterdir()) == []


def test_a_locked_folder_stays_though_its_process_id_is_dead_here(folder: Path, dead: int) -> None:
    """Its worker may live in another container."""
    scratch = Scratch()
    other = folder / f"mlpq-training-{dead}-abc"
    Path(scratch.path).rename(other)
    remove_stale()
    assert other.is_dir()


def test_nothing_but_folders_of_dead_workers_is_removed(folder: Path, dead: int) -> None:
    elsewhere = made(folder, "elsewhere")
    kept = [
        elsewhere,
        made(folder, "mlpq-training-abcdefgh"),  # of an earlier version, without a process id
        made(folder, f"mlpq-training-{dead}-a b"),
        made(folder, f"other-{dead}-abc"),
        made(folder, "mlpq-training-1-abc"),
        made(folder, f"mlpq-training-{10**40}-abc"),
    ]
    link, file = folder / f"mlpq-training-{dead}-link", folder / f"mlpq-training-{dead}-file"
    link.symlink_to(elsewhere)
    file.write_text("x")
    stale = made(folder, f"mlpq-training-{dead}-stale")
    (stale / "link").symlink_to(elsewhere)
    remove_stale()
    assert sorted(folder.iterdir()) == sorted([*kept, link, file])
    assert all((path / "log").is_file() for path in kept)
