"""The way into the training process: `python -m mlpq_workers.trainer SETTINGS`, which only a worker starts."""

from __future__ import annotations

import sys

from mlpq.errors import MlpqError
from mlpq_workers.protocol import TrainingSettings, die_with_parent, own_output


def main(told: TrainingSettings) -> None:
    """Train what comes in, until standard input ends."""
    die_with_parent(told.parent)
    pipe = own_output()
    # Torch is imported here, and only here: after all that must not wait for it.
    from mlpq_workers.trainer import devices
    from mlpq_workers.trainer.training import Child

    try:
        device = devices.choose(told.device)
        size = devices.world_size(device, told.world_size)
    except MlpqError as error:
        pipe.tell("unusable", error=str(error))
        return
    if size == 1:
        devices.prepare(device)
        Child(pipe, told, device, device).serve()
    else:
        from mlpq_workers.trainer.ranks import launch  # half a second, and only here

        launch(size, told, pipe)


if __name__ == "__main__":
    main(TrainingSettings.parse(sys.argv[1]))
