"""Optimizers for the tests of mlpq."""

from slowstart.optimizer import Jitter, Slowstart

__all__ = ["Jitter", "Slowstart"]
