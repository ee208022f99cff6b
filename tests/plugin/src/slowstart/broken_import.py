"""Fails where it is imported."""

raise RuntimeError("not today")
