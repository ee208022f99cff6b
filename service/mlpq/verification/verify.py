"""The use case of verifying: audit stored results, run their jobs again, grade them, and store the grades."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from mlpq.analysis.arms import Arm, arms
from mlpq.errors import MlpqError, NotFoundError
from mlpq.formatting import short_id, status_phrase
from mlpq.image_records import ResultImages
from mlpq.jobs import VERIFY, Outcome, Status
from mlpq.records import EpochMetrics, JobRecord, Rerun, StoredResult
from mlpq.settings import Settings
from mlpq.store import queries, submission, verifications
from mlpq.store.image_queries import images_of
from mlpq.store.session import Store
from mlpq.submit import run_again
from mlpq.verification.audit import Audit, audit
from mlpq.verification.grading import Judgment, Run, judge, refute_arms
from mlpq.verification_records import Grade, Verification

NOT_RUN = Judgment(Grade.REFUTED, "not possible, the stored spec is not the submitted one")


@dataclass(frozen=True, slots=True)
class Case:
    """A result to verify: what the tables hold about it, its curve, and the findings of the audit.

    `images` is None for results of versions before 0.2.
    """

    stored: StoredResult
    curve: Sequence[EpochMetrics]
    audit: Audit
    images: ResultImages | None = None

    @property
    def job(self) -> str:
        """The job's id."""
        return self.stored.id


def candidates(store: Store, names: Sequence[str]) -> list[str]:
    """The ids of the jobs with results that `names` refer to, in the order of submission.

    A name is that of an experiment, else the beginning of a job id. Raises NotFoundError where there is no such
    experiment or job, or it has no result.
    """
    found: list[str] = []
    for name in names:
        if queries.has_experiment(store, name):
            ids = [job.id for job in queries.listed_jobs(store, name, [Status.SUCCEEDED])]
            if not ids:
                raise NotFoundError(f"the experiment {name} has no result yet: mlpq jobs shows its jobs")
        else:
            ids = [_job_with_result(store, name)]
        found += ids
    return [stored.id for stored in queries.stored_results(store, list(dict.fromkeys(found)))]


def _job_with_result(store: Store, name: str) -> str:
    try:
        id_ = queries.find_job(store, name)
    except NotFoundError as error:
        raise NotFoundError(f"no experiment is called '{name}', and {error}") from None
    (job,) = queries.listed_by_id(store, [id_])
    if job.status is not Status.SUCCEEDED:
        raise NotFoundError(f"job {id_} is {job.status}: only a succeeded job has a result to verify")
    return id_


def any_seed() -> int:
    """An unpredictable seed for a sample."""
    return secrets.randbelow(2**32)


def sampled(ids: Sequence[str], count: int, seed: int) -> list[str]:
    """A random sample of `ids`, in order, or all where there are fewer; equal seeds give equal samples."""
    chosen = set(random.Random(seed).sample(ids, min(count, len(ids))))
    return [job for job in ids if job in chosen]


def audit_results(store: Store, ids: Sequence[str], artifacts_dir: Path) -> list[Case]:
    """Read and audit what is stored about these jobs. Runs and writes nothing."""
    cases, images = [], images_of(store, ids)
    for stored in queries.stored_results(store, ids):
        curve = queries.curve(store, stored.id)
        own = images.get(stored.id)
        cases.append(Case(stored, curve, audit(stored, curve, artifacts_dir, own), own))
    return cases


def submit_reruns(
    config: Settings, store: Store, cases: Sequence[Case], device: str | None = None
) -> tuple[dict[str, str], str]:
    """Submit a rerun of each job to the experiment VERIFY, on the device of its result or else on `device`.

    A rerun continues from the same parent as its job. A job whose spec was altered is left out. Returns the new ids by
    the old ones, and a warning, empty where there is none.
    """
    reruns = {case.job: rerun for case in cases if (rerun := _rerun(case, device)) is not None}
    if not reruns:
        return {}, ""
    submitted, warning = run_again(config, store, VERIFY, list(reruns.values()))
    return {job: new.id for job, new in zip(reruns, submitted, strict=True)}, warning


def _rerun(case: Case, device: str | None) -> Rerun | None:
    """None where there is no valid spec to run. Only on its own device a result requests its world size and engine."""
    spec, result = case.audit.spec, case.stored.result
    if spec is None or result is None:
        return None
    parent = case.stored.parent_id
    if device not in (None, result.device):
        return Rerun(spec, parent, device, None)
    return Rerun(spec, parent, result.device, result.world_size, result.engine)


def verified(
    config: Settings,
    store: Store,
    ids: Sequence[str],
    device: str | None,
    wait: Callable[[Sequence[str], str], None],
) -> list[Verification]:
    """Audit the results, run the jobs again, and grade them. An interruption or an error cancels the reruns.

    `wait` gets the ids of the reruns, and a warning that may be empty; it returns when they are finished.
    """
    cases = audit_results(store, ids, config.artifacts_dir)
    reruns, warning = submit_reruns(config, store, cases, device)
    try:
        wait(list(reruns.values()), warning)
    except (KeyboardInterrupt, MlpqError):
        cancel_reruns(store, reruns)
        raise
    return conclude(store, cases, reruns)


def cancel_reruns(store: Store, reruns: Mapping[str, str]) -> None:
    """Cancel the reruns that are not finished."""
    submission.cancel(store, queries.unfinished(store, list(reruns.values())))


def conclude(store: Store, cases: Sequence[Case], reruns: Mapping[str, str]) -> list[Verification]:
    """Grade results by their finished reruns, and store the grades."""
    jobs = {job.id: job for job in queries.jobs_by_id(store, list(reruns.values()))}
    arms_of = cache(partial(_arms, store))
    checks = 2 * len(reruns)  # the recorded and the new accuracy of each
    judgments = {}
    for case in cases:
        rerun = reruns.get(case.job)
        others = partial(_other_seeds, case, arms_of, jobs.values())
        judgments[case.job] = _judgment(store, case, jobs[rerun], others, checks) if rerun else NOT_RUN
    judgments |= _by_arms(cases, judgments, arms_of)
    verified = {case.job for case in cases}
    found = []
    for case in cases:
        parent, unchecked = case.stored.parent_id, list(case.audit.unchecked)
        if parent is not None and parent not in verified:
            unchecked.append(f"job {short_id(parent)}, from which it continues: mlpq verify {short_id(parent)}")
        found.append(_verification(case, reruns.get(case.job), judgments[case.job], unchecked))
    verifications.record(store, found)
    return found


def _by_arms(
    cases: Sequence[Case], judgments: Mapping[str, Judgment], arms_of: Callable[[str], Sequence[Arm]]
) -> dict[str, Judgment]:
    """The judgments on results that chance explains, after the test of each arm, by job."""
    by_arm: dict[tuple[str, int | str], list[str]] = {}
    for case in cases:
        if judgments[case.job].gain is not None:
            experiment = case.stored.experiment
            number = _arm_of(case, arms_of(experiment))
            by_arm.setdefault((experiment, case.job if number is None else number), []).append(case.job)
    graded = refute_arms([[judgments[job] for job in ids] for ids in by_arm.values()])
    return {
        job: judgment
        for ids, own in zip(by_arm.values(), graded, strict=True)
        for job, judgment in zip(ids, own, strict=True)
    }


def _verification(case: Case, rerun: str | None, judged: Judgment, unchecked: Sequence[str]) -> Verification:
    grade, reason, misfits = judged.grade, judged.reason, case.audit.misfits
    if misfits:
        grade, reason = Grade.REFUTED, f"the stored data are inconsistent; rerun: {reason}"
    return Verification(case.job, rerun, grade, reason, misfits, unchecked, judged.figures, judged.differences)


def _judgment(
    store: Store, case: Case, rerun: JobRecord, others: Callable[[], Sequence[float]], checks: int
) -> Judgment:
    """Grade the result by this rerun, as one of so many checks of the call."""
    if rerun.outcome is Outcome.DIVERGED:
        return Judgment(Grade.REFUTED, f"the training diverged: {rerun.error}")
    if rerun.status is not Status.SUCCEEDED:
        return Judgment(Grade.NOT_VERIFIED, f"the rerun {status_phrase(rerun.status)}: {rerun.error}")
    (stored,) = queries.stored_results(store, [rerun.id])
    recorded = _run(case.stored, case.curve, case.images)
    images = images_of(store, [rerun.id]).get(rerun.id)
    return judge(recorded, _run(stored, queries.curve(store, rerun.id), images), others, checks)


def _run(stored: StoredResult, curve: Sequence[EpochMetrics], images: ResultImages | None) -> Run:
    assert stored.result is not None, "only jobs with a result are compared"
    return Run(stored.result, curve, stored.environment or {}, images)


def _arms(store: Store, experiment: str) -> list[Arm]:
    jobs = queries.job_records(store, experiment, [Status.SUCCEEDED])
    return arms(jobs, queries.ancestors(store, jobs))


def _other_seeds(case: Case, arms_of: Callable[[str], Sequence[Arm]], reruns: Iterable[JobRecord]) -> list[float]:
    """The accuracies of the other seeds of the job's arm: those of their reruns where there are, else the recorded."""
    own, found = case.stored.spec_hash, arms_of(case.stored.experiment)
    number = _arm_of(case, found)
    jobs = () if number is None else found[number].records
    recorded = _accuracies(job for job in jobs if job.spec_hash != own)
    new = _accuracies(reruns)
    return [new.get(spec_hash, accuracy) for spec_hash, accuracy in recorded.items()]


def _arm_of(case: Case, found: Sequence[Arm]) -> int | None:
    """Which of the arms of its experiment the job belongs to; None where its row can't be read."""
    own = case.stored.spec_hash
    having = (number for number, arm in enumerate(found) if any(job.spec_hash == own for job in arm.records))
    return next(having, None)


def _accuracies(jobs: Iterable[JobRecord]) -> dict[str, float]:
    """Test accuracies of the jobs with a result, by spec hash."""
    return {job.spec_hash: job.result.test_accuracy for job in jobs if job.result is not None}
