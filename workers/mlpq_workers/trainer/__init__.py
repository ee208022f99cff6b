"""The training process. Imports no SQL and no Celery; shares with the worker only mlpq_workers.protocol."""
