"""The use case: stored results are looked through, run again, graded, and the grades are stored."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

from mlpq.analysis.arms import Arm, arms
from mlpq.errors import NotFoundError
from mlpq.jobs import VERIFY, Outcome, Status
from mlpq.settings import Settings
from mlpq.store import queries, submission, verifications
from mlpq.store.session import Store
from mlpq.store.submission import Again
from mlpq.store.transitions import was
from mlpq.submit import run_again
from mlpq.verification.audit import Audit, audit
from mlpq.verification.grading import Difference, Figure, Grade, Judgement, Run, judge

Row = Mapping[str, Any]

NOT_RUN = Judgement(Grade.REFUTED, "not possible, its spec is not the one that was filed")


@dataclass(frozen=True)
class Case:
    """A result to be verified: its record (see `queries.records`) and curve as they were found, and what was seen."""

    record: Row
    curve: Sequence[Row]
    audit: Audit

    @property
    def job(self) -> str:
        return str(self.record["id"])


@dataclass(frozen=True)
class Verification:
    """What was found about a job: a row of the table, but for the time."""

    job_id: str
    rerun_id: str | None
    grade: Grade
    reason: str
    misfits: Sequence[str]
    unchecked: Sequence[str]
    figures: Sequence[Figure]
    differences: Sequence[Difference]


def candidates(store: Store, names: Sequence[str]) -> list[str]:
    """The ids of the results meant by names of experiments, else beginnings of job ids; in the order of submission.

    Raises NotFoundError where a name means nothing, or nothing that has a result.
    """
    found: list[str] = []
    for name in names:
        if queries.has_experiment(store, name):
            ids = [row["id"] for row in queries.job_rows(store, name, [Status.SUCCEEDED])]
            if not ids:
                raise NotFoundError(f"the experiment {name} has no result yet: mlpq jobs shows its jobs")
        else:
            ids = [_result(store, name)]
        found += ids
    return [row["id"] for row in queries.records(store, list(dict.fromkeys(found)))]


def _result(store: Store, name: str) -> str:
    try:
        job = queries.find_job(store, name)
    except NotFoundError as error:
        raise NotFoundError(f"no experiment is called '{name}', and {error}") from None
    (row,) = queries.jobs_by_id(store, [job])
    if row["status"] != Status.SUCCEEDED:
        raise NotFoundError(f"job {job} is {row['status']}: only one that succeeded has a result to verify")
    return job


def any_seed() -> int:
    """A seed for a sample that nobody could have foreseen."""
    return secrets.randbelow(2**32)


def sampled(ids: Sequence[str], count: int, seed: int) -> list[str]:
    """That many of `ids`, or all where there are fewer; the same ones for the same seed, in order."""
    chosen = set(random.Random(seed).sample(ids, min(count, len(ids))))
    return [job for job in ids if job in chosen]


def look_through(store: Store, ids: Sequence[str]) -> list[Case]:
    """Read what is stored about these jobs, and whether it fits together. Nothing is run or written."""
    cases = []
    for record in queries.records(store, ids):
        curve = queries.curve(store, record["id"])
        cases.append(Case(record, curve, audit(record, curve)))
    return cases


def file_reruns(
    config: Settings, store: Store, cases: Sequence[Case], device: str | None = None
) -> tuple[dict[str, str], str]:
    """File each job once more, in an experiment of their own, on what its result is from or else on `device`.

    A job that goes on from another goes on from the same one. One whose spec was tampered with is left out. Answers the
    new jobs by the old ones, and a warning, empty where all went well.
    """
    sound = [(case, case.audit.spec) for case in cases if case.audit.spec is not None]
    if not sound:
        return {}, ""
    repeats = []
    for case, spec in sound:
        result = case.record["result"]
        there = device in (None, result["device"])
        repeats.append(
            Again(
                spec,
                case.record["parent_id"],
                device=device or result["device"],
                world_size=result["world_size"] if there else None,
            )
        )
    filed, warning = run_again(config, store, VERIFY, repeats)
    return {case.job: new.id for (case, _), new in zip(sound, filed, strict=True)}, warning


def abandon(store: Store, reruns: Mapping[str, str]) -> None:
    """Cancel what was filed: nobody waits for it any more."""
    submission.cancel(store, queries.unfinished(store, list(reruns.values())))


def conclude(store: Store, cases: Sequence[Case], reruns: Mapping[str, str]) -> list[Verification]:
    """Grade results by their finished re-runs, and store that."""
    rows = {row["id"]: row for row in queries.jobs_by_id(store, list(reruns.values()))}
    arms_of = cache(partial(_arms, store))
    verified = {case.job for case in cases}
    found = []
    for case in cases:
        rerun, parent = reruns.get(case.job), case.record["parent_id"]
        others = partial(_other_seeds, case, arms_of, rows.values())
        judgement = _judgement(store, case, rows[rerun], others) if rerun else NOT_RUN
        unchecked = list(case.audit.unchecked)
        if parent is not None and parent not in verified:
            unchecked.append(f"job {parent[:8]}, which it goes on from: mlpq verify {parent[:8]}")
        found.append(_verification(case, rerun, judgement, unchecked))
    verifications.record(store, [asdict(each) for each in found])
    return found


def _verification(case: Case, rerun: str | None, judged: Judgement, unchecked: Sequence[str]) -> Verification:
    grade, reason, misfits = judged.grade, judged.reason, case.audit.misfits
    if misfits:
        grade, reason = Grade.REFUTED, f"what is stored does not fit together; run again: {reason}"
    return Verification(case.job, rerun, grade, reason, misfits, unchecked, judged.figures, judged.differences)


def _judgement(store: Store, case: Case, row: Row, others: Callable[[], Sequence[float]]) -> Judgement:
    """How the result came out in the new run of that row."""
    if row["outcome"] == Outcome.DIVERGED:
        return Judgement(Grade.REFUTED, f"the training diverged: {row['error']}")
    if row["status"] != Status.SUCCEEDED:
        return Judgement(Grade.NOT_VERIFIED, f"the new run {was(row['status'])}: {row['error']}")
    (record,) = queries.records(store, [row["id"]])
    recorded = Run(case.record["result"], case.curve, case.record["environment"] or {})
    now = Run(record["result"], queries.curve(store, row["id"]), record["environment"] or {})
    return judge(recorded, now, others)


def _arms(store: Store, experiment: str) -> list[Arm]:
    rows = queries.job_rows(store, experiment, [Status.SUCCEEDED])
    return arms(rows, queries.ancestors(store, rows))


def _other_seeds(case: Case, arms_of: Callable[[str], Sequence[Arm]], reruns: Iterable[Row]) -> list[float]:
    """The accuracies of the other seeds of the job's arm: of their new runs where there are some, else as recorded."""
    own = case.record["spec_hash"]
    found = arms_of(case.record["experiment"])
    rows = next(arm.rows for arm in found if any(row["spec_hash"] == own for row in arm.rows))
    recorded = {row["spec_hash"]: row["test_accuracy"] for row in rows if row["spec_hash"] != own}
    new = {row["spec_hash"]: row["test_accuracy"] for row in reruns if row["status"] == Status.SUCCEEDED}
    return [new.get(spec_hash, accuracy) for spec_hash, accuracy in recorded.items()]
