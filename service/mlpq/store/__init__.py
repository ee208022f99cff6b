"""SQL: the truth about jobs. `filing`: what submitters write, `repository`: what workers write, `queries`: all reads."""
