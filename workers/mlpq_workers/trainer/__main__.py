"""Entry point of the training process: `python -m mlpq_workers.trainer SETTINGS`, which only a worker runs."""

from __future__ import annotations

import sys
from dataclasses import replace

from mlpq.errors import MlpqError
from mlpq_workers.protocol import TrainingSettings, Unusable
from mlpq_workers.trainer.pipe import die_with_parent, own_output


def main(settings: TrainingSettings) -> None:
    """Train what the worker sends, until standard input ends."""
    die_with_parent(settings.parent)
    pipe = own_output()
    # These import NumPy, and torch where it trains: what comes before must not wait for them.
    from mlpq_workers.trainer import devices
    from mlpq_workers.trainer.kernel_choice import choose_kernel
    from mlpq_workers.trainer.process import TrainingProcess
    from mlpq_workers.trainer.serving import serve

    try:
        device = devices.choose(settings.device)
        size = devices.world_size(device, settings.world_size)
        build = choose_kernel(settings.kernel) if device == "cpu" and size == 1 else None
    except MlpqError as error:
        pipe.send(Unusable(str(error)))
        return
    if size > 1:
        from mlpq_workers.trainer.ranks import launch  # takes half a second more

        launch(size, replace(settings, device=device), pipe)
    elif build is not None:
        from mlpq_workers.trainer.kernel_engine import KernelEngine

        serve(TrainingProcess(pipe, settings, KernelEngine(build, settings.threads)))
    else:
        try:
            from mlpq_workers.trainer.torch_engines import TorchEngines
        except (ImportError, OSError) as error:  # OSError: one of its libraries is missing
            pipe.send(Unusable(f"torch can't be loaded: {error}"))
            return
        try:
            process = TrainingProcess(pipe, settings, TorchEngines(device, settings.threads))
        except MlpqError as error:
            pipe.send(Unusable(str(error)))
            return
        serve(process)


if __name__ == "__main__":
    main(TrainingSettings.parse(sys.argv[1]))
