"""SQL: the truth about jobs. `filing` holds what submitters write, `repository` what workers do, `queries` all reads."""
