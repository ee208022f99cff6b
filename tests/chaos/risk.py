"""Running mlpq_at_risk.py at a site, and what a job gives when nothing disturbs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sites import Done, Site

SCRIPT = str(Path(__file__).with_name("mlpq_at_risk.py"))


@contextmanager
def worker_at_risk(site: Site, *arguments: str, **risks: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker with MLPQ_RISK_… set from `risks`; it may be dead when the block begins."""
    with site.worker(
        *arguments, launcher=(SCRIPT, "worker", "--gang", "64"), env=risk(risks), await_life=False
    ) as process:
        yield process


def mlpq_at_risk(site: Site, *arguments: object, **risks: str) -> Done:
    """The command `mlpq`, which may be killed."""
    ended = subprocess.run(
        [sys.executable, SCRIPT, "mlpq", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, cwd=site.folder, env=site.environ(risk(risks)),
    )  # fmt: skip
    return Done(ended.returncode, ended.stdout, ended.stderr)


def risk(risks: dict[str, str]) -> dict[str, str]:
    return {f"MLPQ_RISK_{name.upper()}": value for name, value in risks.items()}
