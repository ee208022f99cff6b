"""Entry point of a rank: `python -m mlpq_workers.trainer.rank_main SETTINGS`, which only `ranks.launch` runs."""

from __future__ import annotations

import sys

from mlpq_workers.protocol import TrainingSettings
from mlpq_workers.trainer.pipe import die_with_parent

if __name__ == "__main__":
    settings = TrainingSettings.parse(sys.argv[1])
    die_with_parent(settings.parent)  # before torch is imported, which takes seconds
    from mlpq_workers.trainer.ranks import run_rank

    run_rank(settings)
