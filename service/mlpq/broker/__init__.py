"""What mlpq changes in Celery's brokers: nothing that anybody puts into a queue may harm a worker."""
