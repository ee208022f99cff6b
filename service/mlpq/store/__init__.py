"""SQL: the truth about jobs. Submitters write by `filing`, workers by `repository`; all reads are in `queries`.

But for those that a person types: `sql` runs them.
"""
