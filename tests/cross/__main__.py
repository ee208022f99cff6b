"""Train one job of each kind by several builds of the kernel, also for ARM under qemu-user, and compare the bits.

Prints a table of `weights_sha256`; exits with status 1 where a build differs.

    python -m tests.cross
"""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlpq.weights_format import TensorContent, weights_sha256
from mlpq_workers.kernel import Generator, Images, build, initial_weights
from mlpq_workers.kernel.config import Configuration
from mlpq_workers.kernel.library import OperationOfProgram
from mlpq_workers.kernel.seeding import Weights
from tests.support.kernel_builds import FLAGS, SOURCES, has_compiler
from tests.support.kernel_jobs import AnyShape, any_shape, formula, random_floats, random_images
from tests.support.optimizer_options import OPTIONS

EPOCHS, IMAGES = 2, 500
ON_FLOATS = "inputs of float32"
ARM = "aarch64-linux-gnu-gcc"


@dataclass(frozen=True)
class Target:
    """A program that trains a job: how it is compiled, and how it is started."""

    name: str
    compiler: str
    flags: tuple[str, ...]
    start: tuple[str, ...]
    build: str


TARGETS = (
    Target("gcc -O3, AVX-512", "gcc", ("-O3",), (), "avx512"),
    Target("gcc -O1, AVX2", "gcc", ("-O1",), (), "avx2"),
    Target("gcc -O2, plain", "gcc", ("-O2",), (), "plain"),
    Target("clang -O3, AVX-512", "clang", ("-O3",), (), "avx512"),
    Target("clang -O2, plain, hardware fma", "clang", ("-O2", "-mfma"), (), "plain"),
    Target(
        "gcc -O2, plain, x86-64 without FMA, qemu",
        "gcc",
        ("-O2", "-static"),
        ("qemu-x86_64", "-cpu", "Nehalem"),
        "plain",
    ),
    Target("ARM (NEON), gcc -O3, qemu", ARM, ("-O3", "-static"), ("qemu-aarch64",), "plain"),
)


def kinds() -> dict[str, AnyShape]:
    """One job of each optimizer, and one of each other option."""
    jobs = {name: any_shape(optimizer=name, hidden="24,11") for name in OPTIONS}
    return jobs | {
        "tanh, L1, weight decay": any_shape(activation="tanh", l1=0.001, optimizer="sgd:weight_decay=0.01"),
        "ReLU, dropout, batch of 200": any_shape(activation="relu", dropout=0.3, batch_size=200, hidden="40,20"),
        "no hidden layer, no bias": any_shape(hidden="none", bias=False, batch_size=1),
        "truncated normal": any_shape(initialisation="truncated-normal", hidden="100"),
        "clipping, label smoothing": any_shape(clip_norm=0.1, label_smoothing=0.1, l1=0.001, hidden="24,11"),
        "Adam as a formula": any_shape(**formula("my-adam"), hidden="24,11"),
        "a formula of every operation": any_shape(**formula("every"), clip_norm=1, batch_size=200, hidden="40,20"),
        ON_FLOATS: any_shape(hidden="24,11", optimizer="adam"),
    }


def configuration_bytes(spec: AnyShape, scale: int) -> Iterator[bytes]:
    configuration = Configuration(spec, scale)
    yield bytes(configuration.argument)
    if (program := configuration.program) is not None:
        operations = program.scalar_operations + program.vector_operations
        yield bytes(program)
        yield ctypes.string_at(program.values, program.scalars * ctypes.sizeof(ctypes.c_double))
        yield ctypes.string_at(program.operations, operations * ctypes.sizeof(OperationOfProgram))


def job_bytes(spec: AnyShape, images: Images) -> bytes:
    weights, dropout = initial_weights(spec, build())
    shuffle, n = Generator(build(), spec.seed), len(images.labels)
    parts: list[bytes] = [np.array([n, EPOCHS, images.pixels.itemsize]).tobytes()]
    parts += configuration_bytes(spec, images.scale)
    parts += [dropout.get_state().tobytes(), *(values.tobytes() for values in weights.values())]
    parts += [images.pixels.tobytes(), images.labels.tobytes()]
    parts += [shuffle.epoch_order(n).tobytes() for _ in range(EPOCHS)]
    return b"".join(parts)


def compiled(target: Target, folder: Path) -> Path:
    program = folder / hashlib.sha256(target.name.encode()).hexdigest()
    sources = [str(Path(__file__).with_name("kernel_job.c")), *map(str, sorted(SOURCES.glob("*.c")))]
    command = [target.compiler, *FLAGS, *target.flags, f"-I{SOURCES}", "-o", str(program), *sources, "-lm"]
    subprocess.run(command, check=True)
    return program


def sha256_of(output: bytes, spec: AnyShape) -> str:
    """`weights_sha256` of the weights in a program's output."""
    values, position, weights = np.frombuffer(output, np.uint8), EPOCHS * 24, {}
    shapes: Weights = initial_weights(spec, build())[0]
    for name, like in shapes.items():
        weights[name] = TensorContent("float32", like.shape, values[position : position + like.nbytes].data)
        position += like.nbytes
    return weights_sha256(weights)


def main(targets: Sequence[Target]) -> int:
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        programs = [compiled(target, Path(folder)) for target in targets]
        print(f"| job | weights_sha256 by {len(targets)} builds |\n| --- | --- |")
        for kind, spec in kinds().items():
            job = job_bytes(spec, (random_floats if kind == ON_FLOATS else random_images)(IMAGES))
            outputs = [
                subprocess.run([*t.start, str(p), t.build], input=job, stdout=subprocess.PIPE, check=True).stdout
                for t, p in zip(targets, programs, strict=True)
            ]
            different = [t.name for t, output in zip(targets, outputs, strict=True) if output != outputs[0]]
            failed |= bool(different)
            print(f"| {kind} | {', '.join(different) + ' DIFFER' if different else sha256_of(outputs[0], spec)} |")
    print("\nBuilds: " + "; ".join(target.name for target in targets) + ".")
    return int(failed)


if __name__ == "__main__":
    missing = [target.compiler for target in TARGETS if not has_compiler(target.compiler)]
    missing += [] if has_compiler("qemu-aarch64") else ["qemu-aarch64"]
    if missing:
        sys.exit(f"not installed: {', '.join(sorted(set(missing)))}")
    sys.exit(main(TARGETS))
