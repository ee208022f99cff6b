"""The modules of mlpq that mutants are sampled from: pure ones, whose results the unit tests can pin."""

from __future__ import annotations

from pathlib import Path

from tests.mutants.running import Project

ANALYSIS, REPORT, SERVICE = "service/mlpq/analysis", "service/mlpq/report", "service/mlpq"
PURE = (
    "service/mlpq/spec",
    ANALYSIS,
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
    f"{REPORT}/chart_text.py",
    f"{REPORT}/formula_script.py",
    f"{REPORT}/markup.py",
    f"{REPORT}/optimizer_script.py",
    f"{REPORT}/script_schedule.py",
    f"{SERVICE}/verification/grading.py",
    "workers/mlpq_workers/engine/rates.py",
    "workers/mlpq_workers/protocol.py",
)
MLPQ = Project(
    root=Path(__file__).parents[2],
    modules=PURE,
    tests="tests/unit",
    source_roots=("service", "workers", "migrations"),
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
