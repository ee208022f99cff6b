"""Training itself: torch and mlpq.spec.job only."""
