"""Training by torch: stacks of networks, or one network after another by the plain engine."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping

import torch

from mlpq.errors import MlpqError
from mlpq.jobs import STACKING_DEVICES, Engine
from mlpq.settings import CUBLAS_WORKSPACE
from mlpq.spec.job import JobSpec
from mlpq_workers.engine import plain
from mlpq_workers.engine.data import Data
from mlpq_workers.engine.gang import train_gang
from mlpq_workers.engine.image_set import ImageSet
from mlpq_workers.engine.training_state import EngineJob, Observer, Stopped, Trained
from mlpq_workers.engine.world import ALONE, World
from mlpq_workers.trainer.environment import environment

CUDA_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
STACK_THREADS = 4  # more slow each other down: they share one interpreter


class TorchEngines:
    """The stacked and the plain engine on one device, as one of the ranks of a world.

    See mlpq_workers.trainer.engines. Of the machine, only `facts` needs to know the `world_size` without a `world`.
    """

    arithmetic = None

    def __init__(self, kind: str, threads: int, world_size: int = 1, world: World = ALONE) -> None:
        """Prepares this process for training on its device."""
        self.kind, self._threads, self._world = kind, threads, world
        self.device = f"cuda:{world.rank}" if kind == "cuda" and world_size > 1 else kind
        prepare(kind, world.rank)
        self.facts = {**environment(kind, threads, world_size), **torch_facts(kind)}

    def resumes_with(self, facts: Mapping[str, object]) -> Mapping[str, object]:
        return facts

    def engine_of(self, spec: JobSpec) -> Engine:
        can_stack = spec.gang_key is not None and self.kind in STACKING_DEVICES
        return Engine.GANG if can_stack else Engine.PLAIN

    def prepare(self, images: ImageSet) -> Data:
        return Data.of(images).to(self.device)

    def is_lost(self, error: Exception) -> bool:
        """After some errors, such as an illegal address or one of the GPU's memory, CUDA fails every call."""
        if isinstance(error, torch.AcceleratorError):
            return getattr(error, "error_code", None) != CUDA_OUT_OF_MEMORY
        if self.kind != "cuda" or not isinstance(error, RuntimeError):
            return False
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return True
        return False

    def train(self, engine: Engine, jobs: Mapping[str, EngineJob], data: Data, observer: Observer) -> None:
        if engine is Engine.GANG:
            threads = 1 if self._world.size > 1 else self._threads  # ranks communicate in one thread
            if self.kind == "cpu":
                threads = min(threads, STACK_THREADS)
            train_gang(jobs, data, self.device, observer, threads, self._world)
            return
        torch.set_num_threads(self._threads)
        for name, job in jobs.items():
            observer.ended(name, self._train_plain(name, job, data, observer))

    def _train_plain(self, name: str, job: EngineJob, data: Data, observer: Observer) -> Trained | Exception:
        if observer.is_leaving():
            return Stopped()
        try:
            return plain.train(job, data, self.device, observer, name, self._world)
        except Exception as error:
            return error


def prepare(device: str, rank: int = 0) -> None:
    """Prepare this process for training: on CUDA, choose GPU `rank` and make kernels deterministic, as the source does.

    The source also seeds the GPU's generators. Nothing is drawn from them here (see mlpq_workers.engine.seeding).
    """
    # torch accepts this setting only once and before any parallel work; afterwards it keeps what it has.
    with contextlib.suppress(RuntimeError):
        torch.set_num_interop_threads(1)
    if device == "cuda":
        check_kernels(f"cuda:{rank}")
        torch.cuda.set_device(rank)
        torch.use_deterministic_algorithms(True)
        # Nothing reads uninitialized memory, and filling it takes time.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False


def check_kernels(device: str) -> None:
    """Run a kernel on the device; raises MlpqError. torch also sees GPUs for which this build has no kernels."""
    try:
        torch.zeros(1, device=device).add_(1).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n", 1)[0]
        raise MlpqError(f"torch {torch.__version__} can't use {device}: {reason}; use --device cpu") from error


def torch_facts(device: str) -> dict[str, object]:
    """What bits depend on where torch trains, beside the facts of mlpq_workers.trainer.environment."""
    return {
        "torch": torch.__version__,
        "blas": blas(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "determinism": determinism(device),
    }


def determinism(device: str) -> dict[str, object] | None:
    """The settings of CUDA that the bits of a result may depend on; None on other devices."""
    if device != "cuda":
        return None
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cublas_workspace": CUBLAS_WORKSPACE,
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def blas() -> str:
    """The library behind matrix products, as "MKL 2024.2", or torch's short name for it."""
    config = torch.__config__.show()
    if mkl := re.search(r"Math Kernel Library Version ([\d.]+)", config):
        return f"MKL {mkl[1]}"
    named = re.search(r"BLAS_INFO=(\w+)", config)
    return named[1] if named else "unknown"
