"""The training side of mlpq: the only package that imports torch."""
