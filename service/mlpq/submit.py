"""The use case of submitting: a sweep becomes specs, specs become committed rows, and then workers are woken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from mlpq import queue
from mlpq.errors import QueueError, SpecError
from mlpq.formatting import count_of
from mlpq.jobs import VERIFY
from mlpq.records import JobRecord, Placement, Rerun, SubmittedJob
from mlpq.settings import Settings
from mlpq.spec.datasets import DATASETS, find, verify
from mlpq.spec.document import LIST, check_formulas, jobs_of, sweeps_of
from mlpq.spec.job import JobSpec, spec_from
from mlpq.spec.parsing import MAX_JOBS
from mlpq.spec.presets import preset_jobs
from mlpq.spec.sweep import Sweep, inherited, option
from mlpq.store import data_sets, queries
from mlpq.store.migrate import has_database, ready_store
from mlpq.store.session import Store
from mlpq.store.submission import cancel as cancel_jobs
from mlpq.store.submission import change_placement, retry_jobs, submit_jobs, submit_reruns


@dataclass(frozen=True, slots=True)
class Submission:
    """Jobs to submit; `parent_id` is the job that all of `specs` continue from, where the user named one.

    `requested` are the fields of the placement that the user gave.
    """

    experiment: str
    specs: Sequence[JobSpec]
    placement: Placement
    parent_id: str | None = None
    requested: frozenset[str] = frozenset()


def plan(document: Mapping[str, object], preset: str | None = None, store: Store | None = None) -> Submission:
    """Validate and expand the keys of a spec file or of options; writes nothing. Raises SpecError.

    `store` is needed for a document with the key `continue_from`, and to find own data sets.
    """
    parent_id = None
    own = own_data_sets(document)
    contents = data_sets.contents(store, own) if own and store is not None else {}
    if preset is not None:
        sweep, specs = preset_jobs(preset, document, contents)
    elif document.get("continue_from") is not None:
        assert store is not None, "continue_from needs the store"
        parent_id = queries.find_job(store, str(document["continue_from"]))
        parent = queries.job_by_id(store, parent_id)
        sweep, *more = sweeps_of(document, {"experiment": parent.experiment, **inherited(parent.spec)})
        if parent.spec.content is not None:
            contents[parent.spec.data_reference] = parent.spec.content
        specs = jobs_of([sweep, *more], parent.spec, contents)
    else:
        sweep, *more = sweeps_of(document)
        specs = jobs_of([sweep, *more], contents=contents)
    check_formulas(document, specs)
    placement = Placement(sweep.device, sweep.world_size, sweep.priority, sweep.attempts)
    requested = frozenset(field.name for field in fields(Placement) if document.get(field.name) is not None)
    return Submission(sweep.experiment, specs, placement, parent_id, requested)


def planned(config: Settings, document: Mapping[str, object], preset: str | None = None) -> Submission:
    """As `plan`, with the store of these settings where it is needed: invalid keys are reported before it is opened."""
    needs_store = document.get("continue_from") is not None or (own_data_sets(document) and has_database(config))
    return plan(document, preset, ready_store(config) if needs_store else None)


def own_data_sets(document: Mapping[str, object]) -> list[str]:
    """The own data sets that the keys name, as NAME or NAME@HASH; raises SpecError."""
    listed = document.get(LIST)
    given = [document, *(listed if isinstance(listed, list) else ())]
    typed = [each["dataset"] for each in given if isinstance(each, Mapping) and each.get("dataset") is not None]
    references = [reference for each in typed for reference in Sweep.parse({"dataset": each}).dataset]
    return [reference for reference in dict.fromkeys(references) if reference not in DATASETS]


def submit(
    config: Settings, store: Store, submission: Submission, again: bool = False
) -> tuple[list[SubmittedJob], str]:
    """Insert the jobs, commit, then wake workers. Returns the jobs and a warning, empty where there is none.

    A broker that can't be reached delays the jobs by moments: workers also poll the database.
    """
    submitted = submit_jobs(
        store, submission.experiment, submission.specs, submission.placement, submission.parent_id, again
    )
    return submitted, _wake(config, submission.placement.device, submitted)


def change_waiting_jobs(
    config: Settings, store: Store, submission: Submission, submitted: Sequence[SubmittedJob]
) -> str:
    """Apply the requested placement to jobs that the experiment had; what that did, empty where it was in place."""
    known = [job for job in submitted if not job.is_new]
    if not known or not submission.requested:
        return ""
    changed, late = change_placement(store, known, submission.placement, submission.requested)
    options = " and ".join(option(name) for name in sorted(submission.requested))
    said = []
    if changed:
        _wake_for(config, submission.placement.device, changed)
        said.append(f"{options} changed for {count_of(changed, 'waiting job')}")
    if late:
        said.append(f"no effect of {options} on {count_of(late, 'job')} that started before: --again runs them anew")
    return "; ".join(said)


def submit_seeds(
    config: Settings, store: Store, missing: Sequence[tuple[JobRecord, Sequence[int]]]
) -> tuple[list[SubmittedJob], str]:
    """Submit each job of `missing` with those seeds, and wake workers.

    Returns the jobs and a warning, as `submit` does; raises SpecError.

    Where a job continues from another, that one is submitted with each seed too, in its own experiment, unless the
    experiment has it.
    """
    if any(job.experiment == VERIFY for job, _ in missing):
        raise SpecError(
            f"the experiment {VERIFY} is reserved for mlpq verify: plan for the experiment that it verified"
        )
    if (count := sum(len(seeds) for _, seeds in missing)) > MAX_JOBS:
        raise SpecError(f"that would be {count} jobs; the limit is {MAX_JOBS}: choose a larger --difference")
    submitted: list[SubmittedJob] = []
    warnings: dict[str, None] = {}
    for job, seeds in missing:
        for jobs, warning in _submit_like(config, store, job, seeds):
            submitted += jobs
            warnings[warning] = None
    return submitted, "; ".join(filter(None, warnings))


def retry(config: Settings, store: Store, ids: Sequence[str]) -> tuple[list[SubmittedJob], str]:
    """Submit failed or cancelled jobs again and wake workers. Returns the jobs and a warning."""
    submitted = retry_jobs(store, ids)
    return submitted, _wake(config, "auto", submitted)


def cancel(store: Store, ids: Sequence[str]) -> dict[str, int]:
    """Cancel the jobs that are not finished; how many, by what was done to them."""
    return {what: count for what, count in cancel_jobs(store, ids).items() if count}


def cancel_named(store: Store, name: str) -> dict[str, int]:
    """As `cancel`, of one job by the first digits of its id, or of an experiment; raises NotFoundError."""
    job = queries.job_or_experiment(store, name)
    return cancel(store, queries.ids_of(store, name) if job is None else [job])


def run_again(
    config: Settings, store: Store, experiment: str, reruns: Sequence[Rerun]
) -> tuple[list[SubmittedJob], str]:
    """Submit specs once more, whether or not the experiment has them, and wake workers. Returns jobs and a warning."""
    submitted = submit_reruns(store, experiment, reruns)
    devices = {rerun.device for rerun in reruns}
    return submitted, _wake(config, devices.pop() if len(devices) == 1 else "auto", submitted)


def check_data(config: Settings, submission: Submission) -> None:
    """Raise DataError for a damaged data set on this machine; where it has none, the workers check theirs."""
    for name in {spec.dataset for spec in submission.specs if spec.content is None}:
        dataset = DATASETS[name]
        folder = find(dataset, config.data_dir)
        if folder is not None:
            verify(dataset, folder)


def _submit_like(
    config: Settings, store: Store, job: JobRecord, seeds: Sequence[int]
) -> Iterator[tuple[list[SubmittedJob], str]]:
    """Submit the missing jobs of one arm, with their ancestors.

    Jobs without a parent go in one submission. A chain of jobs is submitted seed by seed, parents first.
    """
    chain = [*reversed(queries.ancestors(store, [job])), job]
    if len(chain) == 1:
        yield submit(config, store, _like(job, [_with_seed(job.spec, seed, None) for seed in seeds], None))
        return
    for seed in seeds:
        parent: SubmittedJob | None = None
        for each in chain:
            own = _with_seed(each.spec, seed, parent.spec.hash if parent else None)
            (parent,), warning = submit(config, store, _like(each, [own], parent.id if parent else None))
        assert parent is not None, "a chain has at least one job"
        yield [parent], warning


def _with_seed(spec: JobSpec, seed: int, parent: str | None) -> JobSpec:
    return spec_from(**{**spec.model_dump(mode="json"), "seed": seed, "parent": parent})


def _like(job: JobRecord, specs: Sequence[JobSpec], parent_id: str | None) -> Submission:
    """A submission to the job's experiment, with what the job requested."""
    placement = Placement(job.requested_device, job.requested_world_size, job.priority)
    return Submission(job.experiment, specs, placement, parent_id)


def _wake(config: Settings, device: str, submitted: Sequence[SubmittedJob]) -> str:
    """Wake workers for the new jobs; the warning to show where that fails."""
    return _wake_for(config, device, sum(job.is_new for job in submitted))


def _wake_for(config: Settings, device: str, jobs: int) -> str:
    if not jobs:
        return ""
    try:
        queue.wake(config, device, jobs)
    except QueueError as error:
        return f"{error}; the jobs are submitted, and workers find them by polling"
    return ""
