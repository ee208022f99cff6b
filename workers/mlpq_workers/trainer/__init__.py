"""The training process: no SQL, no Celery."""
