"""Results run again through the queue: unaltered ones have the same bits, and tampering is detected."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, update

from mlpq.jobs import VERIFY, fingerprint
from mlpq.spec.job import JobSpec
from mlpq.store import queries
from mlpq.store.schema import attempts, environments, epochs, job_results, jobs, result_images
from tests.support.installations import EMBEDDED, SERVICES, Site
from tests.support.services import wait_until

QUICK = ("--dataset", "digits", "--epochs", 2, "--optimizer", "adam", "--wait")
# Too large to stack, so the plain engine trains it, whose bits depend on the number of threads.
PLAIN = ("--dataset", "digits", "--epochs", 2, "--hidden", 1000, "--batch-size", 1297, "--wait")


def verify(site: Site, *arguments: object, status: int = 0, **more: Any) -> dict[str, dict[str, Any]]:
    """The verifications, by job."""
    done = site.mlpq("verify", *arguments, "--format", "json", status=status, **more).json
    return {found["job_id"]: found for found in done["verifications"]}


def changed(found: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The figures that differ: recorded and now."""
    return {
        figure["name"]: (figure["recorded"], figure["now"])
        for figure in found["figures"]
        if figure["recorded"] != figure["now"]
    }


def differing(found: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {each["field"]: (each["recorded"], each["now"]) for each in found["differences"]}


def test_unaltered_results_have_the_same_bits(served: Site) -> None:
    parent, other = served.submit(*QUICK, "--experiment", "unaltered", "--seeds", "1,2")
    on = ("--continue-from", parent["id"], "--optimizer", "sgd:lr=0.1", "--epochs", 1)
    (child,) = served.submit(*on, "--experiment", "unaltered", "--wait")
    before = queries.job_records(served.store, "unaltered")
    weights = Path(other["weights_file"])
    aside = weights.rename(weights.with_suffix(".aside"))

    found = verify(served, "unaltered")
    aside.rename(weights)
    assert list(found) == [parent["id"], other["id"], child["id"]]
    for job, each in found.items():
        assert (each["grade"], each["misfits"], each["differences"], changed(each)) == ("same_bits", [], [], {})
        rerun = served.row(each["rerun_id"])
        assert rerun.experiment == VERIFY
        assert served.result(rerun.id).weights_sha256 == served.result(job).weights_sha256
        assert (rerun.requested_device, rerun.requested_world_size) == ("cpu", 1)
        assert rerun.parent_id == served.row(job).parent_id
    assert found[other["id"]]["unchecked"] == [f"the weights: {weights}: No such file or directory"]
    assert found[child["id"]]["unchecked"] == []
    assert queries.job_records(served.store, "unaltered") == before
    shown = served.mlpq("show", other["id"]).out
    assert f"{found[other['id']]['rerun_id'][:8]}  same bits" in shown
    assert f"not checked: the weights: {weights}" in shown


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_sample_prints_its_jobs_and_is_reproduced_by_its_seed(served: Site) -> None:
    served.submit(*QUICK, "--experiment", "many", "--seeds", "1..6")
    done = served.mlpq("verify", "many", "--sample", 2)
    assert "2 of 2 results: same bits" in done.out.splitlines()[-1]
    first, _, _, *lines = done.out.splitlines()
    assert first.startswith("2 of 6 results, drawn with --seed ")
    seed, _, named = first.partition("--seed ")[2].partition(": ")
    again = verify(served, "many", "--sample", 2, "--seed", seed)
    assert [job[:8] for job in again] == named.split()
    assert [line.split()[0] for line in lines[:2]] == named.split()


def change(table: Any, job: str, **values: Any) -> Callable[[Site], None]:
    """An UPDATE of the rows of a job."""
    owner = table.c.id if table is jobs else table.c.job_id

    def tamper(site: Site) -> None:
        with site.store.write() as connection:
            assert connection.execute(update(table).where(owner == job).values(**values)).rowcount

    return tamper


def test_each_kind_of_tampering_is_detected_and_named(served: Site) -> None:
    rows = served.submit(*QUICK, "--experiment", "altered", "--seeds", "1..7")
    unaltered, count, everywhere, byte, rate, whole, curve = (row["id"] for row in rows)
    better = rows[0]["test_correct"] + 40

    change(job_results, count, test_correct=better)(served)
    change(job_results, everywhere, test_correct=better)(served)
    change(epochs, everywhere, test_correct=better)(served)
    weights = Path(served.result(byte).weights_file)
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    change(jobs, rate, spec={**spec_of(served, rate), "lr": 0.5})(served)
    other = JobSpec.model_validate({**spec_of(served, whole), "lr": 0.5})
    change(jobs, whole, spec=other.model_dump(mode="json"), spec_hash=other.hash)(served)
    first = queries.curve(served.store, curve)[0]
    with served.store.write() as connection:
        of_the_first = update(epochs).where(epochs.c.job_id == curve, epochs.c.epoch == 1)
        connection.execute(of_the_first.values(train_loss=0.1))

    found = verify(served, "altered", status=1)
    grades = {job: each["grade"] for job, each in found.items()}
    assert grades == {unaltered: "same_bits", **dict.fromkeys((count, everywhere, byte, rate, whole, curve), "refuted")}
    true = {row["id"]: row["test_correct"] for row in rows}
    in_result = f"{true[count]} of 500 correct, {better} of 500 in the result"
    assert found[count]["misfits"] == [
        f"test_correct: {better} in the result, {true[count]} in epoch 2 of the curve",
        *(f"{name}: {in_result}" for name in ("bitmap", "confusion", "calibration")),
    ]
    assert changed(found[count]) == {"test_correct": (better, true[count])}
    assert [misfit.split(":")[0] for misfit in found[everywhere]["misfits"]] == ["bitmap", "confusion", "calibration"]
    assert "same bits, but do not give the recorded figures" in found[everywhere]["reason"]
    assert changed(found[everywhere])["test_correct"] == (better, true[everywhere])
    assert found[byte]["misfits"] == [f"weights: {weights} does not hold the recorded weights"]
    assert changed(found[byte]) == {}
    assert found[rate]["misfits"][0].startswith("spec: its hash is")
    assert "the job's id is not that of this spec" in found[whole]["misfits"][0]
    assert [found[job]["rerun_id"] for job in (rate, whole)] == [None, None]
    assert "in the same environment" in found[curve]["reason"]
    assert changed(found[curve]) == {"train_loss of epoch 1": (0.1, first.train_loss)}


def spec_of(site: Site, job: str) -> dict[str, Any]:
    return site.row(job).spec.model_dump(mode="json")


@pytest.mark.parametrize("served", [SERVICES], indirect=True)
def test_environment_difference_is_named(served: Site) -> None:
    """The result is altered as if it were from another machine, where a few more images are within the tolerance."""
    (row,) = served.submit(*QUICK, "--experiment", "moved")
    with served.store.write() as connection:
        mine = select(environments.c.facts).join(attempts).where(attempts.c.job_id == row["id"])
        facts = {**connection.execute(mine).scalar_one(), "torch": "1.0", "cpu": "Z80"}
        new = insert(environments).values(facts=facts, fingerprint=fingerprint(facts)).returning(environments.c.id)
        there = connection.execute(new).scalar_one()
    change(attempts, row["id"], environment_id=there)(served)
    with served.store.write() as connection:  # with it, the count could not be altered unnoticed
        connection.execute(delete(result_images).where(result_images.c.job_id == row["id"]))
    for table in (job_results, epochs):
        change(table, row["id"], test_correct=row["test_correct"] + 1)(served)
    assert_moved(served, row["id"], "same_figures")
    for table in (job_results, epochs):
        change(table, row["id"], test_correct=500)(served)
    assert_moved(served, row["id"], "refuted", status=1)


def assert_moved(site: Site, job: str, grade: str, status: int = 0) -> None:
    found = verify(site, job, status=status)[job]
    assert found["grade"] == grade
    assert {name: old for name, (old, _) in differing(found).items()} == {"torch": "1.0", "cpu": "Z80"}


def test_embedded_mode_starts_a_worker_and_names_a_difference_of_threads(alone: Site) -> None:
    (row,) = alone.submit(*PLAIN)
    assert row["engine"] == "plain"
    done = alone.mlpq("verify", row["id"][:8], env={"MLPQ_THREADS": "2"})
    assert f"{row['id'][:8]}: environment: threads was 1, now 2" in done.out
    assert done.out.splitlines()[-1] in ("1 of 1 result: same bits", "1 of 1 result: same figures")


@pytest.mark.parametrize("served", [SERVICES], indirect=True)
def test_cancelled_rerun_is_not_verified_and_interruption_cancels_reruns(served: Site) -> None:
    """No worker has CUDA, so the rerun waits until it is cancelled."""
    (row,) = served.submit(*QUICK, "--experiment", "elsewhere")
    for status in (3, 130):
        process = subprocess.Popen(
            [sys.executable, "-m", "mlpq.cli", "verify", row["id"], "--device", "cuda"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=served.environ(),
        )  # fmt: skip
        assert process.stderr is not None
        assert "waiting for a cuda worker; none is alive" in process.stderr.readline()
        (rerun,) = [
            each for each in queries.job_records(served.store, VERIFY, ["queued"]) if each.requested_device == "cuda"
        ]
        if status == 3:
            served.mlpq("cancel", rerun.id)
        else:
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=45)
        assert process.returncode == status
        wait_until("the rerun is cancelled", lambda: served.row(rerun.id).status == "cancelled")  # noqa: B023
        assert ("not verified: the rerun was cancelled" in out) == (status == 3)
        assert ("stopped: the reruns are cancelled" in err) == (status == 130)
    assert len(queries.verifications_of(served.store, row["id"])) == 1
