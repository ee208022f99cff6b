"""Training by several ranks equals that of one up to rounding; and ranks that die, fail or hang."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from mlpq.errors import MlpqError
from mlpq.settings import read_settings, training_environ
from mlpq.spec.job import JobSpec
from mlpq.worker_records import TrainingSetup
from mlpq_workers.protocol import Died, EpochDone, Event, JobFailed, JobStopped, JobSucceeded, TrainJob
from mlpq_workers.trainer.ranks import RankFailure, root_cause
from mlpq_workers.worker.trainer_client import Trainer
from tests.support.gang_training import job
from tests.support.installations import ROOT, SOURCE_ROOTS, processes
from tests.support.rank_training import DOUBLE, JOBS, MANY, OF_PLAIN, SINGLE, rows_of
from tests.support.services import wait_until

pytestmark = pytest.mark.xdist_group("ranks")  # its fixtures are slow, so one process makes them once

WORLD_SIZE = 2  # of the training process that the tests share
SIZES = (1, 2, 2, 3)  # 2 is repeated, to compare its bits
LOSSES = ("train_loss", "validation_loss", "test_loss")
RUNS = [
    f"{engine}: {name}, {precision}"
    for engine, names in (("plain", [*JOBS, *OF_PLAIN]), ("gang", JOBS))
    for name in names
    for precision in (SINGLE, DOUBLE)
]


def name_of(run: str) -> str:
    """The name of the job in JOBS."""
    return run.partition(": ")[2].rpartition(", ")[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of the same jobs in worlds of those sizes."""
    paths = os.pathsep.join(str(ROOT / name) for name in SOURCE_ROOTS)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.rank_training", str(tmp_path_factory.mktemp("rendezvous")),
         *map(str, SIZES)],
        stdout=subprocess.PIPE, text=True, env={**training_environ(), "PYTHONPATH": paths}, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0
    worlds = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(worlds) == len(SIZES)
    return worlds


@pytest.mark.parametrize("run", RUNS)
def test_losses_of_every_world_size_equal_those_of_one_rank(trained: list[dict[str, Any]], run: str) -> None:
    curves = [world["trained"][run]["curves"] for world in trained]
    tolerance = 1e-10 if DOUBLE in run else 2e-6
    for world in curves[1:]:
        assert world.keys() == curves[0].keys()
        for name, curve in curves[0].items():
            for epoch, same in zip(curve, world[name], strict=True):
                for loss in LOSSES:
                    assert same[loss] == (epoch[loss] and pytest.approx(epoch[loss], rel=tolerance)), loss


@pytest.mark.parametrize("run", RUNS)
def test_every_test_image_is_counted_once(trained: list[dict[str, Any]], run: str) -> None:
    counts = [
        [(epoch["test_correct"], epoch["test_total"], epoch["validation_correct"]) for epoch in curve]
        for world in trained
        for curve in world["trained"][run]["curves"].values()
    ]
    assert all(total == rows_of(name_of(run)) for world in counts for _, total, _ in world)
    if DOUBLE in run:
        half = len(counts) // len(SIZES)
        assert all(counts[i : i + half] == counts[:half] for i in range(0, len(counts), half))


@pytest.mark.parametrize("run", RUNS)
def test_predictions_are_of_every_test_image(trained: list[dict[str, Any]], run: str) -> None:
    for world in trained:
        for name, found in world["trained"][run]["predictions"].items():
            assert len(found["classes"]) == len(found["confidences"]) == rows_of(name_of(run))
            assert (max(found["classes"]) > 255) == (name_of(run) == MANY)
            assert found["correct"] == world["trained"][run]["curves"][name][-1]["test_correct"]
            if DOUBLE in run:
                assert found["classes"] == trained[0]["trained"][run]["predictions"][name]["classes"]


@pytest.mark.parametrize("run", RUNS)
def test_same_world_size_gives_the_same_bits(trained: list[dict[str, Any]], run: str) -> None:
    assert SIZES[1] == SIZES[2]
    assert trained[1]["trained"][run] == trained[2]["trained"][run]
    assert trained[1]["trained"][run]["weights"] != trained[0]["trained"][run]["weights"]


@pytest.mark.parametrize("i", range(len(SIZES)), ids=SIZES)
def test_resumed_job_has_the_bits_of_an_uninterrupted_one(trained: list[dict[str, Any]], i: int) -> None:
    for whole, resumed in trained[i]["interrupted"]:
        assert resumed == whole


def test_broadcast_gives_every_rank_the_value_of_rank_0(trained: list[dict[str, Any]]) -> None:
    assert [world["broadcast"] for world in trained] == [[0, 1, 2, 3], [0, 1, 1, 2], [0, 1, 1, 2], [0, 1, 1, 1]]


# --- ranks under a worker


def wait_for_the_end_of(ranks: list[int]) -> None:
    wait_until("no rank is left", lambda: not {each.pid for each in processes()} & set(ranks), 20)


def ranks_of(trainer: Trainer) -> list[int]:
    """The process ids of the ranks, in order."""
    assert trainer._process is not None
    launcher = trainer._process.pid
    return sorted(
        each.pid for each in processes() if each.parent == launcher and "mlpq_workers.trainer.rank_main" in each.command
    )


def hand_over(trainer: Trainer, folder: Path, parent: JobSpec | None = None, **keys: object) -> str:
    """Train a job; returns its token."""
    name = str(uuid.uuid4())
    command = TrainJob(
        id=name,
        attempt=1,
        spec=job(parent, **keys),
        parent_weights=folder / "missing.safetensors",
        parent_sha256="0" * 64,
        weights_file=folder / name / "attempt-1.safetensors",
    )
    trainer.train([command])
    return command.token


def next_event(trainer: Trainer, seconds: float = 60) -> Event:
    """The next event that is not an epoch."""
    while isinstance(event := trainer.event(seconds), EpochDone):
        pass
    assert event is not None, "no event"
    return event


def next_died(trainer: Trainer) -> Died:
    event = next_event(trainer)
    assert isinstance(event, Died)
    return event


@pytest.mark.parametrize("hidden", ["16", "1000,500"], ids=["gang", "plain"])
def test_ranks_report_each_event_once(trainer: Trainer, tmp_path: Path, hidden: str) -> None:
    assert (trainer.device, trainer.world_size, trainer.facts["world_size"]) == ("cpu", 2, 2)
    for _ in range(2):  # the ranks stay warm
        token = hand_over(trainer, tmp_path, epochs=3, hidden=hidden)
        *epochs, last = (trainer.event(60) for _ in range(4))
        assert [each.token for each in epochs if isinstance(each, EpochDone)] == [token] * 3
        assert isinstance(last, JobSucceeded)
        assert (last.token, last.result.world_size) == (token, 2)
        assert Path(last.result.weights_file).exists()


@pytest.mark.parametrize("hidden", ["16", "1000,500"], ids=["gang", "plain"])
def test_all_ranks_stop_a_job_before_the_same_batch(trainer: Trainer, tmp_path: Path, hidden: str) -> None:
    token = hand_over(trainer, tmp_path, epochs=10_000, hidden=hidden)
    assert trainer.event(60) is not None
    trainer.stop_job(token)
    assert next_event(trainer) == JobStopped(token)
    hand_over(trainer, tmp_path, epochs=1)
    assert isinstance(next_event(trainer), JobSucceeded)


def test_death_of_rank_0_ends_the_others_and_is_reported(trainer: Trainer, tmp_path: Path) -> None:
    """tests/acceptance/test_devices.py tests the death of another rank."""
    hand_over(trainer, tmp_path, epochs=10_000)
    assert trainer.event(60) is not None
    ranks = ranks_of(trainer)
    os.kill(ranks[0], signal.SIGKILL)
    assert next_died(trainer).error == "rank 0: signal SIGKILL"
    wait_for_the_end_of(ranks)


def test_rank_that_hangs_ends_the_attempt(trainer: Trainer, tmp_path: Path) -> None:
    hand_over(trainer, tmp_path, epochs=10_000)
    assert trainer.event(60) is not None
    ranks = ranks_of(trainer)
    os.kill(ranks[1], signal.SIGSTOP)
    assert "a rank hangs: rank 0 waited 30 s" in next_died(trainer).error
    wait_for_the_end_of(ranks)


def test_ranks_end_with_their_launcher(trainer: Trainer, tmp_path: Path) -> None:
    hand_over(trainer, tmp_path, epochs=3, hidden="3000,3000", batch_size=1)  # an epoch takes long
    ranks = ranks_of(trainer)
    assert trainer._process is not None
    trainer._process.send_signal(signal.SIGKILL)
    wait_for_the_end_of(ranks)
    next_died(trainer)


def test_rank_out_of_memory_reports_its_error(trainer: Trainer, tmp_path: Path) -> None:
    rank = ranks_of(trainer)[1]
    pages = int(Path(f"/proc/{rank}/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + 50_000_000
    resource.prlimit(rank, resource.RLIMIT_AS, (size, size))
    hand_over(trainer, tmp_path, hidden="4000,4000", optimizer="adam")
    error = next_died(trainer).error
    assert error.startswith("rank 1: RuntimeError: ")
    assert "memory" in error


def test_job_that_fails_before_training_does_not_end_the_ranks(trainer: Trainer, tmp_path: Path) -> None:
    token = hand_over(trainer, tmp_path, parent=job(optimizer="sgd"), optimizer="adam")
    failed = next_event(trainer)
    assert isinstance(failed, JobFailed)
    assert failed.token == token
    assert "missing.safetensors" in failed.error
    ranks = ranks_of(trainer)
    hand_over(trainer, tmp_path, epochs=1)
    assert isinstance(next_event(trainer), JobSucceeded)
    assert ranks_of(trainer) == ranks


def test_ranks_end_if_their_launcher_is_killed_while_they_start(tmp_path: Path) -> None:
    starting = Trainer(read_settings({"MLPQ_HOME": str(tmp_path), "MLPQ_THREADS": "1"}), "cpu", 2)
    starting.spawn()
    wait_until("the ranks start", lambda: len(ranks_of(starting)) == 2, 60)
    ranks = ranks_of(starting)
    starting.kill()
    wait_for_the_end_of(ranks)


def test_impossible_world_size_is_an_error_and_the_usual_one_still_works(tmp_path: Path) -> None:
    trainer = Trainer(read_settings({"MLPQ_HOME": str(tmp_path), "MLPQ_THREADS": "1"}), "cpu")
    trainer.start()
    calls = []
    with pytest.raises(MlpqError, match="world size 1000 is too large"):
        trainer.ensure_ready(TrainingSetup(1000), lambda: calls.append(1))
    assert calls
    trainer.ensure_ready()
    assert trainer.world_size == 1
    trainer.kill()


LOST = "DistBackendError: NCCL: remote process exited"
WAITED = "RuntimeError: gloo: Timed out waiting 30000ms for recv operation to complete"


@pytest.mark.parametrize(
    ("failures", "cause"),
    [
        ([RankFailure(1, "ValueError: bad", 0, 5), RankFailure(0, LOST, 0, 4)], "rank 1: ValueError: bad"),
        (
            [RankFailure(1, "OutOfMemoryError: CUDA", 6, 5), RankFailure(0, "", 15, 4)],
            "rank 1: OutOfMemoryError: CUDA",
        ),
        ([RankFailure(0, "", 15, 4), RankFailure(1, "", 9, 4)], "rank 1: signal SIGKILL"),
        ([RankFailure(0, LOST, 0, 4), RankFailure(1, "", 11, 5)], "rank 1: signal SIGSEGV"),
        ([RankFailure(0, "", 9, 4), RankFailure(1, WAITED, 0, 5)], "a rank hangs: rank 1 waited 30 s for it"),
        ([RankFailure(0, "", 15, 4), RankFailure(1, LOST, 0, 5)], f"rank 1: {LOST}"),
        ([RankFailure(2, "", 0, 4)], "rank 2: exited unexpectedly"),
    ],
)
def test_root_cause_is_the_error_of_the_rank_that_failed_first(failures: list[RankFailure], cause: str) -> None:
    assert root_cause(failures) == cause


ABORTED = RankFailure(0, "", signal.SIGABRT, 4)


@pytest.mark.parametrize("other", [RankFailure(1, "", 15, 5), RankFailure(1, "", 9, 5), RankFailure(1, LOST, 0, 5)])
def test_rank_that_nccl_aborts_waited_for_another_one(other: RankFailure) -> None:
    assert root_cause([other, ABORTED], on_cuda=True).startswith("a rank hangs: rank 0 waited 30 s for it, and NCCL")
    assert root_cause([other, ABORTED]) == "rank 0: signal SIGABRT"
    assert root_cause([RankFailure(1, "", 9, 3), ABORTED], on_cuda=True) == "rank 1: signal SIGKILL"
    assert root_cause([RankFailure(1, "ValueError: bad", 0, 5), ABORTED], on_cuda=True) == "rank 1: ValueError: bad"
