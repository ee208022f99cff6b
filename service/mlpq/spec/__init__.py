"""What a job is, and how it is typed. Pure."""
