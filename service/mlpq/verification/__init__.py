"""Whether stored results can be trusted: audits, re-runs and grades."""
