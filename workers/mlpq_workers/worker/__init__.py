"""The worker: claims jobs, supervises the training process, records results. Never imports torch."""
