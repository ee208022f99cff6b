"""Jobs grouped into arms: an arm holds the jobs that differ only in the seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlpq.analysis.summary import Summary, summarize
from mlpq.jobs import Outcome, Status
from mlpq.records import JobRecord
from mlpq.spec.job import JobSpec


@dataclass(frozen=True, slots=True)
class Arm:
    """The jobs that differ only in the seed: one record for each seed, in order of appearance.

    `accuracy` summarizes test accuracies from 0 to 1, None before the first; a diverged run counts with the accuracy of
    chance, so that an arm is never better for it. `diverged` has the seeds of such runs, and of those whose parent
    diverged. `seconds` is the mean training time, None before the first success. `parent` is a job of the arm that this
    one continues from, None where it starts from new weights.
    """

    records: Sequence[JobRecord]
    accuracy: Summary | None
    diverged: frozenset[int]
    seconds: float | None
    parent: JobRecord | None

    @property
    def first(self) -> JobRecord:
        """A job that represents the arm."""
        return self.records[0]

    @property
    def spec(self) -> JobSpec:
        """The spec of the first job; the others' differ in the seed, and in the parent of that seed."""
        return self.first.spec


def arms(records: Sequence[JobRecord], ancestors: Sequence[JobRecord] = ()) -> list[Arm]:
    """The arms of `records`, in order of appearance. A spec that ran several times counts once: it is one sample.

    Where that gives an arm two jobs with one seed, which continue from different jobs, those that continue from one job
    are an arm: seeds pair jobs. `ancestors` are the jobs outside `records` that some of them continue from,
    all generations.
    """
    by_id = {job.id: job for job in (*ancestors, *records)}
    groups: dict[str, dict[str, JobRecord]] = {}
    for job in records:
        group = groups.setdefault(_arm_key(_lineage(job, by_id)), {})
        if job.status is Status.SUCCEEDED or job.spec.hash not in group:  # of the spec itself: a column may be wrong
            group[job.spec.hash] = job
    return [_arm(jobs, by_id) for group in groups.values() for jobs in _with_distinct_seeds(list(group.values()))]


def _with_distinct_seeds(jobs: list[JobRecord]) -> list[list[JobRecord]]:
    """These jobs of different specs, separated by the parent if two of them have one seed."""
    if len({job.spec.seed for job in jobs}) == len(jobs):
        return [jobs]
    by_parent: dict[str | None, list[JobRecord]] = {}
    for job in jobs:
        by_parent.setdefault(job.spec.parent, []).append(job)
    return list(by_parent.values())


def group_specs(specs: Sequence[JobSpec]) -> list[list[JobSpec]]:
    """The specs of a submission grouped as `arms` groups jobs; a parent outside of `specs` is left out of account."""
    by_hash = {spec.hash: spec for spec in specs}
    groups: dict[str, list[JobSpec]] = {}
    for spec in specs:
        lineage = [spec]
        while (parent := by_hash.get(lineage[-1].parent or "")) is not None:
            lineage.append(parent)
        groups.setdefault(_arm_key(lineage), []).append(spec)
    return list(groups.values())


def _arm(records: list[JobRecord], by_id: Mapping[str, JobRecord]) -> Arm:
    results = [job.result for job in records if job.result is not None]
    diverged = frozenset(job.spec.seed for job in records if has_diverged(job, by_id))
    figures = [*(result.test_accuracy for result in results), *[1 / records[0].spec.data.classes] * len(diverged)]
    return Arm(
        records=records,
        accuracy=summarize(figures) if figures else None,
        diverged=diverged,
        seconds=sum(result.train_seconds for result in results) / len(results) if results else None,
        parent=by_id.get(records[0].parent_id or ""),
    )


def has_diverged(job: JobRecord, by_id: Mapping[str, JobRecord]) -> bool:
    """Whether it failed because it diverged, or a job that it continues from did."""
    return job.status is Status.FAILED and any(each.outcome is Outcome.DIVERGED for each in _generations(job, by_id))


def _lineage(job: JobRecord, by_id: Mapping[str, JobRecord]) -> list[JobSpec]:
    """The specs of the job and of those that it continues from as far as they can be read, itself first."""
    return [each.spec for each in _generations(job, by_id)]


def _generations(job: JobRecord, by_id: Mapping[str, JobRecord]) -> list[JobRecord]:
    found = {job.id: job}
    while (parent := by_id.get(job.parent_id or "")) is not None and parent.id not in found:
        found[parent.id] = job = parent
    return list(found.values())


def _arm_key(lineage: Sequence[JobSpec]) -> str:
    """What two jobs of one arm agree in: every field but the seed, in each generation, and whether they know all."""
    specs = [spec.model_dump(mode="json", exclude={"seed", "parent"}) for spec in lineage]
    return json.dumps([*specs, lineage[-1].parent is None], sort_keys=True)
