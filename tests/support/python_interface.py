"""The Python interface on a site."""

from __future__ import annotations

from typing import Any

import mlpq
from tests.support.installations import Site

SWEEP: dict[str, Any] = {"dataset": "digits", "optimizer": ["sgd:lr=0.5", "adam:lr=0.01"], "epochs": 2, "hidden": 8}


def lab_of(site: Site, **settings: Any) -> mlpq.Lab:
    """A lab with the site's settings, which shows no progress."""
    given = {name.removeprefix("MLPQ_").lower(): value for name, value in site.env.items()}
    return mlpq.Lab(**{"progress": False, "threads": 1, **given, **settings})
