"""The Python interface, for notebooks and scripts: what `mlpq.Lab` returns shows itself there."""
