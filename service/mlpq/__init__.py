"""mlpq: a distributed training service with a job queue, for fair comparisons of optimizers."""

__version__ = "0.1.0"
