"""The migrations of the results database."""
