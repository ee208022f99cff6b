"""Training by several ranks: the run of one, up to rounding; and what becomes of ranks that die, fail or hang."""

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
from mlpq_workers.trainer.ranks import Failed, first_to_fail
from mlpq_workers.worker.trainer_client import Event, Trainer
from tests.support.gang_training import job
from tests.support.installations import ROOT, SOURCE_ROOTS, processes
from tests.support.rank_training import DOUBLE, JOBS, SINGLE, TEST_IMAGES
from tests.support.services import wait_until

pytestmark = pytest.mark.xdist_group("ranks")  # its fixtures are dear: made once, by one process

WORLD_SIZE = 2  # of the training process that the tests share
SIZES = (1, 2, 2, 3)  # 2 once more, to see that it gives the same again
LOSSES = ("train_loss", "validation_loss", "test_loss")
RUNS = [f"{way}: {name}, {precision}" for way in ("plain", "gang") for name in JOBS for precision in (SINGLE, DOUBLE)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What worlds of those sizes made of the same jobs."""
    paths = os.pathsep.join(str(ROOT / name) for name in SOURCE_ROOTS)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.rank_training", str(tmp_path_factory.mktemp("meetings")),
         *map(str, SIZES)],
        stdout=subprocess.PIPE, text=True, env={**training_environ(), "PYTHONPATH": paths}, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0
    worlds = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(worlds) == len(SIZES)
    return worlds


@pytest.mark.parametrize("run", RUNS)
def test_the_losses_of_every_world_size_are_those_of_one_rank(trained: list[dict[str, Any]], run: str) -> None:
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
    assert all(total == TEST_IMAGES for world in counts for _, total, _ in world)
    if DOUBLE in run:
        half = len(counts) // len(SIZES)
        assert all(counts[i : i + half] == counts[:half] for i in range(0, len(counts), half))


@pytest.mark.parametrize("run", RUNS)
def test_the_same_world_size_gives_the_same_bits_again(trained: list[dict[str, Any]], run: str) -> None:
    assert SIZES[1] == SIZES[2]
    assert trained[1]["trained"][run] == trained[2]["trained"][run]
    assert trained[1]["trained"][run]["weights"] != trained[0]["trained"][run]["weights"]


@pytest.mark.parametrize("i", range(len(SIZES)), ids=SIZES)
def test_a_job_that_goes_on_from_a_checkpoint_gets_the_bits_of_one_trained_in_one_go(
    trained: list[dict[str, Any]], i: int
) -> None:
    for whole, resumed in trained[i]["interrupted"]:
        assert resumed == whole


def test_what_rank_0_says_counts(trained: list[dict[str, Any]]) -> None:
    assert [world["rank 0 says"] for world in trained] == [[0, 1, 2, 3], [0, 1, 1, 2], [0, 1, 1, 2], [0, 1, 1, 1]]


# --- as a worker has them


def wait_for_the_end_of(ranks: list[int]) -> None:
    wait_until("no rank is left", lambda: not {each.pid for each in processes()} & set(ranks), 20)


def ranks_of(trainer: Trainer) -> list[int]:
    """The processes of the ranks, in order."""
    assert trainer._child is not None
    launcher = trainer._child.pid
    return sorted(
        each.pid for each in processes() if each.parent == launcher and "mlpq_workers.trainer.rank_main" in each.command
    )


def hand_over(trainer: Trainer, folder: Path, parent: JobSpec | None = None, **keys: object) -> str:
    """A job for the trainer; its token."""
    spec, name = job(parent, **keys), str(uuid.uuid4())
    trainer.train(
        [
            {
                "token": f"{name}/1", "spec": spec.model_dump(mode="json"), "attempt": 1,
                "parent_weights": str(folder / "missing.safetensors"), "parent_sha256": "0" * 64,
                "weights_file": str(folder / name / "attempt-1.safetensors"),
            }
        ]
    )  # fmt: skip
    return f"{name}/1"


def next_but_epochs(trainer: Trainer, seconds: float = 60) -> Event:
    while (event := trainer.event(seconds)) is not None and event["event"] == "epoch":
        pass
    assert event is not None, "nothing was heard"
    return event


@pytest.mark.parametrize("hidden", ["16", "1000,500"], ids=["gang", "plain"])
def test_ranks_are_heard_as_one(trainer: Trainer, tmp_path: Path, hidden: str) -> None:
    assert (trainer.device, trainer.world_size, trainer.facts["world_size"]) == ("cpu", 2, 2)
    for _ in range(2):  # they stay warm
        token = hand_over(trainer, tmp_path, epochs=3, hidden=hidden)
        heard = [trainer.event(60) for _ in range(4)]
        assert [(event["event"], event["token"]) for event in heard if event] == [
            *[("epoch", token)] * 3,
            ("succeeded", token),
        ]
        assert heard[3] is not None
        assert heard[3]["result"]["world_size"] == 2
        assert Path(heard[3]["result"]["weights_file"]).exists()


@pytest.mark.parametrize("hidden", ["16", "1000,500"], ids=["gang", "plain"])
def test_all_ranks_stop_a_job_before_the_same_batch(trainer: Trainer, tmp_path: Path, hidden: str) -> None:
    token = hand_over(trainer, tmp_path, epochs=10_000, hidden=hidden)
    assert trainer.event(60) is not None
    trainer.stop_job(token)
    assert next_but_epochs(trainer)["event"] == "stopped"
    hand_over(trainer, tmp_path, epochs=1)
    assert next_but_epochs(trainer)["event"] == "succeeded"


def test_rank_0_that_dies_takes_the_others_along_and_is_named(trainer: Trainer, tmp_path: Path) -> None:
    """Of another rank it is seen with a worker, in test_devices."""
    hand_over(trainer, tmp_path, epochs=10_000)
    assert trainer.event(60) is not None
    ranks = ranks_of(trainer)
    os.kill(ranks[0], signal.SIGKILL)
    died = next_but_epochs(trainer)
    assert (died["event"], died["error"]) == ("died", "rank 0 of the training: signal SIGKILL")
    wait_for_the_end_of(ranks)


def test_a_rank_that_hangs_ends_the_attempt(trainer: Trainer, tmp_path: Path) -> None:
    hand_over(trainer, tmp_path, epochs=10_000)
    assert trainer.event(60) is not None
    ranks = ranks_of(trainer)
    os.kill(ranks[1], signal.SIGSTOP)
    died = next_but_epochs(trainer, 60)
    assert died["event"] == "died"
    assert "a rank of the training hangs: rank 0 waited 30 s" in died["error"]
    wait_for_the_end_of(ranks)


def test_ranks_end_with_their_launcher(trainer: Trainer, tmp_path: Path) -> None:
    hand_over(trainer, tmp_path, epochs=3, hidden="3000,3000", batch_size=1)  # they are busy for long
    ranks = ranks_of(trainer)
    assert trainer._child is not None
    trainer._child.send_signal(signal.SIGKILL)
    wait_for_the_end_of(ranks)
    assert next_but_epochs(trainer)["event"] == "died"


def test_a_rank_that_is_out_of_memory_says_so(trainer: Trainer, tmp_path: Path) -> None:
    rank = ranks_of(trainer)[1]
    pages = int(Path(f"/proc/{rank}/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + 50_000_000
    resource.prlimit(rank, resource.RLIMIT_AS, (size, size))
    hand_over(trainer, tmp_path, hidden="4000,4000", optimizer="adam")
    died = next_but_epochs(trainer)
    assert died["event"] == "died"
    assert died["error"].startswith("rank 1 of the training: RuntimeError: ")
    assert "memory" in died["error"]


def test_what_fails_before_the_training_fails_its_job_and_the_ranks_go_on(trainer: Trainer, tmp_path: Path) -> None:
    token = hand_over(trainer, tmp_path, parent=job(optimizer="sgd"), optimizer="adam")
    failed = next_but_epochs(trainer)
    assert (failed["event"], failed["token"]) == ("failed", token)
    assert "missing.safetensors" in failed["error"]
    ranks = ranks_of(trainer)
    hand_over(trainer, tmp_path, epochs=1)
    assert next_but_epochs(trainer)["event"] == "succeeded"
    assert ranks_of(trainer) == ranks


def test_ranks_whose_launcher_is_killed_as_they_start_end_too(tmp_path: Path) -> None:
    starting = Trainer(read_settings({"MLPQ_HOME": str(tmp_path), "MLPQ_THREADS": "1"}), "cpu", 2)
    starting.spawn()
    wait_until("the ranks start", lambda: len(ranks_of(starting)) == 2, 60)
    ranks = ranks_of(starting)
    starting.kill()
    wait_for_the_end_of(ranks)


def test_a_training_process_that_cannot_have_a_world_size_has_the_usual_one_again(tmp_path: Path) -> None:
    trainer = Trainer(read_settings({"MLPQ_HOME": str(tmp_path), "MLPQ_THREADS": "1"}), "cpu")
    trainer.start()
    heard = []
    with pytest.raises(MlpqError, match="there can be no 1000 processes"):
        trainer.ensure_ready(1000, lambda: heard.append(1))
    assert heard
    trainer.ensure_ready()
    assert trainer.world_size == 1
    trainer.kill()


LOST = "DistBackendError: NCCL: remote process exited"
WAITED = "RuntimeError: gloo: Timed out waiting 30000ms for recv operation to complete"


@pytest.mark.parametrize(
    ("failed", "words"),
    [
        ([Failed(1, "ValueError: bad", 0, 5), Failed(0, LOST, 0, 4)], "rank 1 of the training: ValueError: bad"),
        (
            [Failed(1, "OutOfMemoryError: CUDA", 6, 5), Failed(0, "", 15, 4)],
            "rank 1 of the training: OutOfMemoryError: CUDA",
        ),
        ([Failed(0, "", 15, 4), Failed(1, "", 9, 4)], "rank 1 of the training: signal SIGKILL"),
        ([Failed(0, LOST, 0, 4), Failed(1, "", 11, 5)], "rank 1 of the training: signal SIGSEGV"),
        ([Failed(0, "", 9, 4), Failed(1, WAITED, 0, 5)], "a rank of the training hangs: rank 1 waited 30 s for it"),
        ([Failed(0, "", 15, 4), Failed(1, LOST, 0, 5)], f"rank 1 of the training: {LOST}"),
        ([Failed(2, "", 0, 4)], "rank 2 of the training: it ended unasked"),
    ],
)
def test_the_failing_ranks_own_error_is_told(failed: list[Failed], words: str) -> None:
    assert first_to_fail(failed) == words
