"""`mlpq export`: a job trained by a real worker comes out of a plain script again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.installations import EMBEDDED, Site

pytestmark = pytest.mark.parametrize("served", [EMBEDDED], indirect=True)

ROUNDING = 5  # images of 10,000


def test_script_without_mlpq_reproduces_the_textbooks_chain(served: Site, fashion_mnist: Path, tmp_path: Path) -> None:
    command = ("submit", "--preset", "textbook", "--epochs", 1, "--experiment", "exported", "--wait")
    *_, job = served.mlpq(*command, "--format", "json").json
    file = tmp_path / "job.py"
    assert served.mlpq("export", job["id"][:8], "--script", "-o", file).out == ""
    text = file.read_text()
    assert served.mlpq("export", job["id"], "--script").out == text
    head = text.split("import")[0].replace("\n# ", " ")
    for piece in (job["id"], job["spec_hash"], f"{job['test_correct']} of 10000 correct", "mlpq 0.", "(arithmetic 1)"):
        assert piece in head
    assert "import mlpq" not in text
    assert "torchvision" not in text
    assert str(fashion_mnist) in text
    assert len(text.splitlines()) <= 95

    # As its reader would: in a new Python, without mlpq on its path.
    environ = {name: value for name, value in served.environ().items() if not name.startswith(("MLPQ_", "PYTHON"))}
    run = [sys.executable, file.name]
    done = subprocess.run(run, capture_output=True, text=True, timeout=250, cwd=tmp_path, env=environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1: train loss") == 2
    found = re.search(r"^(\d+) of 10000 test images correct", done.stdout, flags=re.MULTILINE)
    assert found, done.stdout
    assert abs(int(found[1]) - job["test_correct"]) <= ROUNDING


def test_queued_job_is_exported(served: Site) -> None:
    (job,) = served.submit("--dataset", "digits", "--experiment", "to be exported", "--device", "mps")
    text = served.mlpq("export", job["id"], "--script").out
    served.mlpq("cancel", job["id"])
    assert "its status is queued" in text
    compile(text, "job.py", "exec")
