"""`python -m mlpq.cli` is `mlpq`."""

from mlpq.cli import main

main()
