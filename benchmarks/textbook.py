"""The source's own loop: torchvision's data set and ToTensor for each image, DataLoader, autograd, torch.optim.

With torch's own number of threads, as the source leaves it, and with one.

    python -m benchmarks.textbook [EPOCHS [REPETITIONS]]
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from mlpq.settings import settings
from mlpq.spec.datasets import dataset_named, own_folder, read_bytes, verify
from mlpq_workers.trainer.data import locate, torchvision_datasets

from .report import machine, repeat, spread, table, versions
from .workload import DATASET, RATES, Run

Pair = tuple[Any, Any]  # torchvision's data sets, for training and for testing


def torchvision_pair(name: str = DATASET) -> Pair:
    """torchvision's own data set objects, with ToTensor; they hold the bytes of the images in memory."""
    dataset = dataset_named(name)
    files = verify(dataset, locate(dataset, settings().data_dir))
    make = getattr(torchvision_datasets(), str(dataset.torchvision))
    from torchvision.transforms import ToTensor  # only after torchvision_datasets: it helps the import

    with tempfile.TemporaryDirectory() as root:
        folder = own_folder(dataset, Path(root))
        folder.mkdir(parents=True)
        for file, found in files.items():
            (folder / file).write_bytes(read_bytes(found))
        return make(root, train=True, transform=ToTensor()), make(root, train=False, transform=ToTensor())


def textbook_loop(optimizer: str, lr: float, epochs: int, seed: int, dataset: Pair) -> Run:
    """Train as the source does, and count correct answers once, after the last epoch."""
    train_set, test_set = dataset
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(seed)
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True, generator=g)
    test_loader = DataLoader(test_set, batch_size=32, shuffle=False)
    model = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 32), nn.Sigmoid(), nn.Linear(32, 10))
    loss_fn = nn.CrossEntropyLoss()
    steps = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer](model.parameters(), lr=lr)

    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(epochs):
        model.train()
        for x, y in train_loader:
            loss = loss_fn(model(x), y)
            steps.zero_grad()
            loss.backward()
            steps.step()
    trained = time.perf_counter()
    model.eval()
    correct = 0
    with torch.no_grad():
        for x, y in test_loader:
            correct += int((model(x).argmax(dim=1) == y).sum().item())
    return Run(trained - began, time.perf_counter() - trained, (correct,), time.process_time() - cpu)


def main(epochs: int, repetitions: int) -> None:
    print(f"{machine()}, {versions('torch', 'torchvision')}\n")
    dataset = torchvision_pair()
    rows = []
    for threads, (optimizer, lr) in itertools.product({1, torch.get_num_threads()}, RATES.items()):
        torch.set_num_threads(threads)
        runs = repeat(repetitions, partial(textbook_loop, optimizer, lr, epochs, 42, dataset))
        for name, times in (
            ("training", [run.train_seconds for run in runs]),
            ("testing", [run.test_seconds for run in runs]),
        ):
            rows.append((f"{optimizer}, {name}, {threads} threads", *spread(times), str(runs[0].correct[0])))
    print(table((f"one model, epochs: {epochs}", "n", "median s", "range", "correct of 10,000"), rows))


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:3]), *(1, 3)[len(sys.argv[1:3]) :])
