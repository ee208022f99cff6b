"""The read-only web page, and what a Prometheus server scrapes."""
