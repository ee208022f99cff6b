"""Jobs that need a package: which worker claims them, in which process, and who waits. On both databases."""

from __future__ import annotations

import pytest

from mlpq import formatting
from mlpq.jobs import VERIFY, Engine
from mlpq.records import Rerun
from mlpq.spec.job import JobSpec, spec_from
from mlpq.store import claiming, dashboard_queries, execution, submission, worker_queries
from mlpq.store.session import Store
from mlpq.worker_records import TrainingSetup, WorkerCapabilities
from tests.support.job_steps import FACTS, fail, let_delay_pass, spec, specs, submit, whole_row
from tests.support.plugin_packages import PLUGIN

OLDER = "mlpq-test-plugin==0.9"
KERNEL = WorkerCapabilities("cpu", kernel=True, torch=False)
TORCH = WorkerCapabilities("cpu", kernel=True)
HAVING = WorkerCapabilities("cpu", kernel=True, plugins=frozenset({PLUGIN, "other==1"}))
OUTDATED = WorkerCapabilities("cpu", kernel=True, plugins=frozenset({OLDER}))


def plugin(**keys: object) -> JobSpec:
    return spec(optimizer="slowstart", **keys)


def claimed(store: Store, able: WorkerCapabilities, name: str = "ann:1:a") -> list[str]:
    """Claim as a worker does: in a process for the job that comes first."""
    setup = claiming.next_setup(store, name, able)
    return [] if setup is None else [job.id for job in claiming.claim(store, name, able, FACTS, 8, setup)]


def heartbeat(store: Store, **workers: WorkerCapabilities) -> None:
    for name, able in workers.items():
        execution.worker_heartbeat(store, f"{name}:1:a", able)


def missing(store: Store) -> list[str]:
    return [formatting.jobs_without_worker(each) for each in worker_queries.jobs_without_worker(store)]


def test_worker_leaves_jobs_whose_package_it_lacks_to_others(store: Store) -> None:
    ours, muon, any_worker = submit(store, plugin(), spec(optimizer="muon"), spec(optimizer="adam"))
    assert claimed(store, KERNEL) == [any_worker]
    assert claimed(store, KERNEL) == []
    assert claimed(store, OUTDATED) == [muon]
    assert claimed(store, TORCH) == claimed(store, OUTDATED) == []
    assert claimed(store, HAVING) == [ours]


def test_jobs_that_need_a_package_have_a_setup_without_the_kernel_and_run_alone(store: Store) -> None:
    submit(store, *specs(optimizer="slowstart", seeds="0,1"), *specs(optimizer="muon", seeds="0,1"))
    submit(store, spec(optimizer="adam"))
    own = TrainingSetup(1, kernel=False, plugin=PLUGIN)
    for setup in (own, own, TrainingSetup(1, kernel=False), TrainingSetup(1, kernel=False), TrainingSetup(1, True)):
        assert claiming.next_setup(store, "ann:1:a", HAVING) == setup
        assert len(claimed(store, HAVING)) == 1


def test_process_of_a_plugin_claims_only_its_jobs(store: Store) -> None:
    muon, other, ours = submit(store, spec(optimizer="muon"), spec(optimizer="adam"), plugin())
    own, torch = TrainingSetup(1, kernel=False, plugin=PLUGIN), TrainingSetup(1, kernel=False)
    for setup, jobs in ((own, [ours]), (own, []), (torch, [muon]), (torch, [])):
        assert [job.id for job in claiming.claim(store, "ann:1:a", HAVING, FACTS, 8, setup)] == jobs
    assert claimed(store, HAVING) == [other]


def test_process_with_torch_claims_no_jobs_of_a_plugin(store: Store) -> None:
    (ours,) = submit(store, plugin())
    assert claiming.claim(store, "ann:1:a", HAVING, FACTS, 8, TrainingSetup(1, kernel=False)) == []
    assert claimed(store, HAVING) == [ours]


@pytest.mark.parametrize(
    ("other", "is_left"),
    [
        (HAVING, True),
        (KERNEL, False),
        (OUTDATED, False),
        (WorkerCapabilities("cpu", plugins=frozenset({f"{PLUGIN}.1", f"another-{PLUGIN}"})), False),
    ],
    ids=["has it", "has none", "has an older version", "has others that look alike"],
)
def test_last_attempt_is_left_to_another_worker_with_the_package(
    store: Store, other: WorkerCapabilities, is_left: bool
) -> None:
    (job,) = submit(store, plugin(), attempts=2)
    heartbeat(store, ann=HAVING, bob=other)
    setup = claiming.next_setup(store, "ann:1:a", HAVING)
    (began,) = claiming.claim(store, "ann:1:a", HAVING, FACTS, 8, setup)
    fail(store, began)
    let_delay_pass(store, job)
    assert claimed(store, HAVING) == ([] if is_left else [job])


@pytest.mark.parametrize("engine", [None, Engine.PLAIN, Engine.KERNEL])
def test_rerun_needs_the_package_too(store: Store, engine: Engine | None) -> None:
    (rerun,) = submission.submit_reruns(store, VERIFY, [Rerun(plugin(), None, "cpu", 1, engine)])
    assert claimed(store, TORCH) == []
    assert claimed(store, HAVING) == [rerun.id]


def test_world_size_does_not_lift_the_need_of_a_package(store: Store) -> None:
    (job,) = submit(store, plugin(), world_size=2)
    able = WorkerCapabilities("cpu", most_ranks=2, kernel=True)
    assert claimed(store, able) == []
    having = WorkerCapabilities("cpu", most_ranks=2, kernel=True, plugins=frozenset({PLUGIN}))
    assert claiming.next_setup(store, "ann:1:a", having) == TrainingSetup(2, kernel=False, plugin=PLUGIN)
    assert claimed(store, having) == [job]
    assert whole_row(store, job)["gang_key"] is None


def test_what_jobs_wait_for_is_said(store: Store) -> None:
    submit(store, plugin(), spec(optimizer="muon"), spec(optimizer="adafactor"), spec(optimizer="adam"))
    assert missing(store) == ["4 jobs waiting for a worker; none is alive: mlpq worker"]
    heartbeat(store, ann=KERNEL)
    assert missing(store) == [
        f"1 job waiting for a worker that has the package {PLUGIN}; none alive has: pip install '{PLUGIN}' where one "
        "runs",
        "2 jobs waiting for a worker that has the package torch; none alive has: pip install 'mlpq[worker]' where one "
        "runs, and restart it",
    ]
    heartbeat(store, bob=OUTDATED)
    assert [text.split(";")[0] for text in missing(store)] == [
        f"1 job waiting for a worker that has the package {PLUGIN}"
    ]
    (waiting,) = dashboard_queries.waiting(store, [1]).values()
    assert {each.package for each in waiting} == {PLUGIN, "torch", None}
    heartbeat(store, cid=HAVING)
    assert missing(store) == []


def test_heartbeats_say_which_packages_a_worker_has_now(store: Store) -> None:
    def packages() -> list[frozenset[str]]:
        return [worker.packages for worker in worker_queries.live_workers(store)]

    heartbeat(store, ann=KERNEL)
    assert packages() == [frozenset()]
    heartbeat(store, ann=HAVING)
    assert packages() == [frozenset({"torch", PLUGIN, "other==1"})]


def test_version_that_begins_like_the_needed_one_is_another(store: Store) -> None:
    ours = plugin()
    (job,) = submit(store, spec_from(**{**ours.model_dump(), "plugin": f"{PLUGIN}.1"}))
    heartbeat(store, ann=HAVING)
    assert claimed(store, HAVING) == []
    assert f"the package {PLUGIN}.1;" in missing(store)[0]
    assert whole_row(store, job)["package"] == f"{PLUGIN}.1"
