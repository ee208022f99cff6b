"""The CPU engine's arithmetic, in C: one network at a time, with the same bits on every CPU, without torch.

A job, from its seed to its result:

    build = kernel.build("auto")  # or "avx512", "avx2", "plain"; raises KernelUnavailable with one line for people
    images = Images(train_pixels, train_labels, scale)  # uint8 or float32 [n, features], int64 [n]; checked once
    network = Network(spec, scale, build)
    weights, dropout = initial_weights(spec, build)  # or what a parent or a checkpoint left, as arrays
    network.put_weights(weights)  # names as in the plain engine's state_dict
    shuffle = Generator(build, spec.seed)
    rows, held_out = training_rows(spec, len(images.labels), build)
    for _ in range(spec.epochs):
        epoch = Epoch(rows[shuffle.epoch_order(len(rows))], spec.batch_size, spec.lr)
        network.train(images, epoch, dropout)  # one call an epoch; releases the interpreter's lock
        epoch.loss, network.evaluate(images, held_out), network.evaluate(test_images)

While `train` runs, another thread may read `epoch.done`, the number of batches trained, and call `epoch.stop()`:
`train` then returns False before the next batch, and after `epoch.resume()` another call continues exactly. `rates` of
an Epoch may be one learning rate for each batch.

What the rest of a training depends on, between any two batches, is `network.take_weights()`, `network.take_state()`,
the states of the two generators, and within an epoch `epoch.order`, `epoch.done` and `epoch.summed_loss`;
`put_weights`, `put_state`, `set_state` and the epoch's attributes restore it. A generator's state has the bytes of
torch.Generator.get_state(), so an engine that uses torch can continue from it, and the other way round.

`ARITHMETIC` numbers the arithmetic: where it agrees, equal specs have equal bits. See docs/explanation/kernel.md.
"""

from __future__ import annotations

from mlpq_workers.kernel.images import Images
from mlpq_workers.kernel.library import ARITHMETIC, BUILDS, Build, KernelUnavailable, build
from mlpq_workers.kernel.network import Epoch, Evaluation, Network
from mlpq_workers.kernel.seeding import Generator, initial_weights, training_rows

__all__ = [
    "ARITHMETIC",
    "BUILDS",
    "Build",
    "Epoch",
    "Evaluation",
    "Generator",
    "Images",
    "KernelUnavailable",
    "Network",
    "build",
    "initial_weights",
    "training_rows",
]
