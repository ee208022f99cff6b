"""The way into a rank: `python -m mlpq_workers.trainer.rank_main SETTINGS`, which only a launcher starts."""

from __future__ import annotations

import sys

from mlpq_workers.protocol import TrainingSettings, die_with_parent

if __name__ == "__main__":
    told = TrainingSettings.parse(sys.argv[1])
    die_with_parent(told.parent)  # before torch is imported, which takes seconds
    from mlpq_workers.trainer.ranks import rank

    rank(told)
