"""A training process whose GPU fails every call ends, and the jobs are retried in another one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from mlpq.jobs import Status
from mlpq.settings import read_settings
from mlpq.spec.sweep import Sweep
from mlpq.store import queries, submission
from mlpq.store.session import Store
from mlpq.worker_records import TrainingSetup
from mlpq_workers.trainer.torch_engines import CUDA_OUT_OF_MEMORY, TorchEngines
from mlpq_workers.worker.executor import Executor
from mlpq_workers.worker.trainer_client import Trainer
from tests.support.installations import ROOT, SOURCE_ROOTS
from tests.support.services import wait_until


class OnFailingGpu(Trainer):
    def _command(self, scratch: str, setup: TrainingSetup | None) -> list[str]:
        settings = super()._command(scratch, setup)[-1]
        return [sys.executable, "-P", "-m", "tests.support.failing_gpu", settings]


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_process_that_lost_its_gpu_is_replaced_and_what_it_trained_before_is_kept(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(ROOT / name) for name in SOURCE_ROOTS))
    specs = Sweep.parse({"dataset": "digits", "epochs": 1, "seeds": "1..3"}).jobs()
    ids = [job.id for job in submission.submit_jobs(store, "failing", specs)]
    config = read_settings({"MLPQ_HOME": str(tmp_path), "MLPQ_THREADS": "1", "MLPQ_KERNEL": "off"})
    trainer = OnFailingGpu(config, "cpu")
    trainer.start()
    executor = Executor(config, store, trainer, gang=3)
    executor.start()
    try:
        wait_until("all end", lambda: all(job.status.is_finished for job in queries.jobs_by_id(store, ids)), 120)
    finally:
        executor.stop()
    assert {job.status for job in queries.jobs_by_id(store, ids)} == {Status.SUCCEEDED}
    attempts = [queries.attempts_of(store, each) for each in ids]
    assert sorted(len(each) for each in attempts) == [1, 2, 2]
    errors = {str(each[0].error) for each in attempts if len(each) == 2}
    assert errors == {"AcceleratorError: CUDA error: an illegal memory access was encountered"}


def test_process_stays_after_errors_that_leave_its_device_usable() -> None:
    engines = TorchEngines("cpu", 1)
    out_of_memory = torch.AcceleratorError("CUDA error: out of memory")
    out_of_memory.error_code = CUDA_OUT_OF_MEMORY  # type: ignore[attr-defined]
    for error in (torch.OutOfMemoryError("CUDA out of memory"), out_of_memory, RuntimeError("shapes"), OSError()):
        assert not engines.is_lost(error)
    assert engines.is_lost(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
