"""`mlpq export`: a job trained by a real worker comes out of a plain script again."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.installations import EMBEDDED, Site
from tests.support.linked_environment import without_mlpq

pytestmark = pytest.mark.parametrize("served", [EMBEDDED], indirect=True)

ROUNDING = 5  # images of 10,000


def test_script_reproduces_the_textbooks_chain_where_only_torch_and_numpy_are(
    served: Site, bare_torch: Path, fashion_mnist: Path, tmp_path: Path
) -> None:
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

    environ = without_mlpq(served.environ())
    absent = "import importlib.util as u, sys; sys.exit(any(map(u.find_spec, ('mlpq', 'torchvision', 'sklearn'))))"
    subprocess.run([str(bare_torch), "-c", absent], check=True, env=environ, cwd=tmp_path)
    run = [str(bare_torch), file.name]
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
