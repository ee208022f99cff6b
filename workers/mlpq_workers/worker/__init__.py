"""The worker: claims, supervises the training process, records. No torch."""
