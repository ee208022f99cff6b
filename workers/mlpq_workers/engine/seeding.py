"""What a job draws before its first epoch, and where it resumes: the same in both engines.

A seed means the same run everywhere, because all of it is drawn on the CPU and in the order of a plain PyTorch script,
by four generators that all derive from the seed (see MMiDS 8.5 for the script):
- the default generator, for the duration of `network.build`: the initial weights, layer after layer;
- the dropout generator, which continues where the default one then stands: a mask for each batch and hidden layer, by
  `network.Dropout` and `stack.Masks`;
- the shuffle generator, the DataLoader's: the order of the images of each epoch, by `data.epoch_order`;
- the split's own generator: the rows that are held out, once, by `data.split`.

A job that continues from another one, or resumes from a checkpoint, takes its weights and the states of the dropout and
shuffle generators from there; its split is drawn again, and is the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlpq.spec.job import JobSpec
from mlpq_workers.engine.data import split
from mlpq_workers.engine.network import build
from mlpq_workers.engine.tensors import to_tensor, to_tensors
from mlpq_workers.engine.training_state import EngineJob


def starting_network(job: EngineJob) -> tuple[nn.Sequential, torch.Generator]:
    """The network that a job starts or resumes with, on the CPU, and the generator of its dropout masks."""
    network, dropout = build(job.spec)
    if job.begin:
        network.load_state_dict(to_tensors(job.begin.weights))
        dropout.set_state(to_tensor(job.begin.dropout_state))
    return network, dropout


def shuffle_generator(job: EngineJob) -> torch.Generator:
    """The generator that draws the order of the images, from the epoch on at which the job starts or resumes."""
    shuffle = torch.Generator().manual_seed(job.spec.seed)
    if job.begin:
        shuffle.set_state(to_tensor(job.begin.shuffle_state))
    return shuffle


def training_rows(spec: JobSpec, n: int) -> tuple[Tensor, Tensor]:
    """Which of n images are trained on and which are held out for validation: row numbers, int64.

    Without a validation split none is held out, and nothing is drawn.
    """
    if not spec.validation:
        return torch.arange(n), torch.empty(0, dtype=torch.int64)
    return split(n, spec.validation_size, spec.seed)
