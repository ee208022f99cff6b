"""The use case: a sweep becomes specs, specs become committed rows, and then workers are woken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlpq import queue
from mlpq.errors import QueueError, SpecError
from mlpq.jobs import MAX_ATTEMPTS, VERIFY
from mlpq.settings import Settings
from mlpq.spec.datasets import DATASETS, find, verify
from mlpq.spec.job import JobSpec, Sweep, inherited, spec_from
from mlpq.spec.parsing import MAX_JOBS
from mlpq.spec.presets import preset_jobs
from mlpq.store import queries
from mlpq.store.session import Store
from mlpq.store.submission import Again, Filed, file_again, file_jobs, file_repeats


@dataclass(frozen=True)
class Submission:
    """What is to be filed; `parent_id` is the job that all of `specs` go on from, where one was named."""

    experiment: str
    specs: Sequence[JobSpec]
    device: str
    world_size: int | None
    priority: int
    attempts: int
    parent_id: str | None = None


def plan(document: Mapping[str, object], preset: str | None = None, store: Store | None = None) -> Submission:
    """Validate and expand what a person typed; nothing is written. Raises SpecError.

    `store` is needed only by a document that says `continue_from`.
    """
    parent_id = None
    if preset is not None:
        sweep, specs = preset_jobs(preset, document)
    elif document.get("continue_from") is not None:
        assert store is not None, "continue_from needs the store"
        parent_id = queries.find_job(store, str(document["continue_from"]))
        parent = queries.spec_of(store, parent_id)
        experiment = queries.jobs_by_id(store, [parent_id])[0]["experiment"]
        sweep = Sweep.parse({"experiment": experiment, **inherited(parent), **document})
        specs = sweep.jobs(parent)
    else:
        sweep = Sweep.parse(document)
        specs = sweep.jobs()
    return Submission(
        sweep.experiment, specs, sweep.device, sweep.world_size, sweep.priority, sweep.attempts, parent_id
    )


def submit_seeds(
    config: Settings, store: Store, missing: Sequence[tuple[Mapping[str, Any], Sequence[int]]]
) -> tuple[list[Filed], str]:
    """For each row file its job with those seeds, and wake workers; as `submit`. Raises SpecError.

    Where a job goes on from another, that one is filed with each seed too, in its own experiment, unless it is there.
    """
    if any(row["experiment"] == VERIFY for row, _ in missing):
        raise SpecError(f"the experiment {VERIFY} is that of mlpq verify: plan for the one that it verified")
    if (count := sum(len(seeds) for _, seeds in missing)) > MAX_JOBS:
        raise SpecError(f"that would be {count} jobs; the cap is {MAX_JOBS}: ask for a larger difference")
    filed: list[Filed] = []
    warnings: dict[str, None] = {}
    for row, seeds in missing:
        for jobs, warning in _submit_like(config, store, row, seeds):
            filed += jobs
            warnings[warning] = None
    return filed, "; ".join(filter(None, warnings))


def _submit_like(
    config: Settings, store: Store, row: Mapping[str, Any], seeds: Sequence[int]
) -> Iterator[tuple[list[Filed], str]]:
    """The jobs of one arm: those that begin afresh at once, those that go on from others one by one after these."""
    line = [*reversed(queries.ancestors(store, [row])), row]
    specs = [queries.spec_of(store, one["id"]) for one in line]
    if len(line) == 1:
        yield submit(config, store, _like(row, [_with_seed(specs[0], seed, None) for seed in seeds], None))
        return
    for seed in seeds:
        parent: Filed | None = None
        for one, spec in zip(line, specs, strict=True):
            own = _with_seed(spec, seed, parent.spec.hash if parent else None)
            (parent,), warning = submit(config, store, _like(one, [own], parent.id if parent else None))
        assert parent is not None, "a line has at least one job"
        yield [parent], warning


def _with_seed(spec: JobSpec, seed: int, parent: str | None) -> JobSpec:
    return spec_from(**{**spec.model_dump(mode="json"), "seed": seed, "parent": parent})


def _like(row: Mapping[str, Any], specs: Sequence[JobSpec], parent_id: str | None) -> Submission:
    """A submission to the experiment of that row, on what its job asked for."""
    return Submission(
        row["experiment"], specs, row["requested_device"], row["requested_world_size"], row["priority"], MAX_ATTEMPTS,
        parent_id,
    )  # fmt: skip


def submit(config: Settings, store: Store, submission: Submission, again: bool = False) -> tuple[list[Filed], str]:
    """File the jobs, commit, then wake workers. Answers the jobs and a warning, empty where all went well.

    A broker that does not answer delays them by moments: workers look into the database by themselves.
    """
    filed = file_jobs(
        store,
        submission.experiment,
        submission.specs,
        device=submission.device,
        world_size=submission.world_size,
        priority=submission.priority,
        attempts=submission.attempts,
        parent_id=submission.parent_id,
        again=again,
    )
    return filed, _wake(config, submission.device, filed)


def retry(config: Settings, store: Store, ids: Sequence[str]) -> tuple[list[Filed], str]:
    """File failed or cancelled jobs anew and wake workers; as `submit`."""
    filed = file_again(store, ids)
    return filed, _wake(config, "auto", filed)


def run_again(config: Settings, store: Store, experiment: str, repeats: Sequence[Again]) -> tuple[list[Filed], str]:
    """File specs once more, whatever came of them before, and wake workers; as `submit`."""
    filed = file_repeats(store, experiment, repeats)
    devices = {again.device for again in repeats}
    return filed, _wake(config, devices.pop() if len(devices) == 1 else "auto", filed)


def check_data(config: Settings, submission: Submission) -> None:
    """Raises DataError where a data set lies here and is damaged; one that lies elsewhere is the workers' to check."""
    for name in {spec.dataset for spec in submission.specs}:
        dataset = DATASETS[name]
        folder = find(dataset, config.data_dir)
        if folder is not None:
            verify(dataset, folder)


def _wake(config: Settings, device: str, filed: Sequence[Filed]) -> str:
    new = sum(job.is_new for job in filed)
    if not new:
        return ""
    try:
        queue.wake(config, device, new)
    except QueueError as error:
        return f"{error}; the jobs are filed, and workers find them by polling"
    return ""
