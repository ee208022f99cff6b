"""The modules of mlpq that mutants are sampled from: pure ones, whose results the unit tests can pin.

Specs, what is found in records, records, and how they read. Tables, pages, pictures and exported scripts are looked at,
or run, by other tests than unit tests.
"""

from __future__ import annotations

from pathlib import Path

from tests.mutants.running import Project

SERVICE = "service/mlpq"
PURE = (
    f"{SERVICE}/spec",
    f"{SERVICE}/analysis",
    f"{SERVICE}/data_records.py",
    f"{SERVICE}/formatting.py",
    f"{SERVICE}/image_records.py",
    f"{SERVICE}/jobs.py",
    f"{SERVICE}/question_records.py",
    f"{SERVICE}/records.py",
    f"{SERVICE}/results_view.py",
    f"{SERVICE}/text.py",
    f"{SERVICE}/urls.py",
    f"{SERVICE}/verification_records.py",
    f"{SERVICE}/worker_records.py",
    f"{SERVICE}/own_data/parts.py",
    f"{SERVICE}/own_data/scaling.py",
    f"{SERVICE}/own_data/splitting.py",
    f"{SERVICE}/report/chart_text.py",
    f"{SERVICE}/report/markup.py",
    f"{SERVICE}/verification/grading.py",
    "workers/mlpq_workers/engine/rates.py",
    "workers/mlpq_workers/protocol.py",
)
# They train or start servers: seconds of CPU time a test, for lines of specs that quicker tests pin.
SLOW_TESTS = (
    "test_checkpoints.py", "test_cuda_graphs.py", "test_data.py", "test_devices.py",
    "test_formula_engines.py", "test_gang*.py", "test_gradient.py", "test_kernel_*.py", "test_mutants.py",
    "test_network.py", "test_odd_checkpoints.py", "test_own_data_training.py", "test_plain_engine.py",
    "test_plugin_engine.py", "test_predictions.py", "test_saved_jobs.py", "test_stack.py", "test_training_options.py",
    "test_watchdog.py", "test_weights.py", "test_world.py",
)  # fmt: skip
MLPQ = Project(
    root=Path(__file__).parents[2],
    modules=PURE,
    tests="tests/unit",
    source_roots=("service", "workers", "migrations"),
    left_out=SLOW_TESTS,
    built=("workers/mlpq_workers/kernel/libmlpq_kernel.so",),
    preloaded=(
        "altair",
        "hypothesis",
        "numpy",
        "pydantic",
        "pytest",
        "rich.table",
        "scipy.stats",
        "sqlalchemy",
        "torch",
    ),
)
