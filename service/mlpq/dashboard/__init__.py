"""The read-only web page: experiments, their comparisons, jobs and workers; and what Prometheus scrapes."""
