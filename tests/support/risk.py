"""Running mlpq_at_risk.py at a site, and what a job gives when nothing disturbs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support import forked_commands
from tests.support.installations import COMMAND_SECONDS, Done, Site, Worker

SCRIPT = ("-m", "tests.support.mlpq_at_risk")


@contextmanager
def worker_at_risk(site: Site, *arguments: str, **risks: str) -> Iterator[Worker]:
    """A worker with MLPQ_RISK_… set from `risks`; it may be dead when the block begins."""
    launcher = (*SCRIPT, "worker", "--gang", "64")
    forked = "lease" not in risks  # which must be set before the imports
    with site.worker(*arguments, launcher=launcher, forked=forked, env=risk(risks), await_life=False) as process:
        yield process


def mlpq_at_risk(site: Site, *arguments: object, **risks: str) -> Done:
    """The command `mlpq`, which may be killed."""
    command = [*SCRIPT, "mlpq", *map(str, arguments)]
    return Done(*forked_commands.run(command, "", site.folder, site.environ(risk(risks)), COMMAND_SECONDS))


def risk(risks: dict[str, str]) -> dict[str, str]:
    return {f"MLPQ_RISK_{name.upper()}": value for name, value in risks.items()}
