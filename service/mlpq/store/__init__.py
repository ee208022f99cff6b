"""SQL: the truth about jobs. `repository` holds all writes, `queries` all reads."""
