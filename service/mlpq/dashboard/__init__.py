"""The read-only web page: experiments, their comparisons, jobs and workers."""
