"""Whether stored results can be trusted: audits, reruns and grades."""
