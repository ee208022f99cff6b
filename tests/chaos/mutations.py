"""Takes one mechanism after another out of a copy of the source, and sees that a named test then fails.

    python tests/chaos/mutations.py [WORD]

With WORD, only the mechanisms that contain it. Random kills alone prove little: most of what they hit is harmless.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STORE = "service/mlpq/store"
WORKERS = "workers/mlpq_workers"
SOURCE_ROOTS = ("service", "workers", "migrations")
ACCEPTANCE = "tests/acceptance"
CHAOS = "tests/chaos"
PASSES, FAILS = "passes", "fails"

Edit = tuple[str, str, str]  # a file, a piece of its text, and what stands there instead


@dataclass(frozen=True)
class Mutation:
    """What is taken out, and the test that must then fail."""

    mechanism: str
    edits: list[Edit]
    test: str


MUTATIONS = (
    Mutation(
        "fence: a write names its attempt",
        [(f"{STORE}/repository.py", "== (Status.RUNNING, held.attempt)", "!= (None, None)")],
        "tests/integration/test_attempts.py::test_an_attempt_that_lost_its_job_can_write_nothing",
    ),
    Mutation(
        "recording again after a lost answer says what was recorded",
        [(f"{STORE}/repository.py", "elif _is_recorded(connection, held):", "elif False:")],
        "tests/integration/test_attempts.py",
    ),
    Mutation(
        "reaper: every worker takes back expired leases",
        [(f"{WORKERS}/tasks.py", "for job in repository.reap(self._store):", "for job in ():")],
        f"{ACCEPTANCE}/test_workers.py::"
        "test_a_worker_that_is_killed_takes_its_training_with_it_and_another_finishes_the_job",
    ),
    Mutation(
        "beats renew the lease",
        [(f"{STORE}/repository.py", "values(lease_until=now(LEASE_SECONDS)))", "values(priority=jobs.c.priority))")],
        "tests/integration/test_gangs.py::test_a_beat_of_many_renews_every_lease_and_records_each_curve",
    ),
    Mutation(
        "idempotent submission",
        [(f"{STORE}/filing.py", "is_new = again or spec.hash not in latest", "is_new = True")],
        f"{CHAOS}/test_failpoints.py::test_a_submitter_that_dies_at_its_commit_may_simply_submit_again",
    ),
    Mutation(
        "polling: a lost message costs a moment",
        [(f"{WORKERS}/tasks.py", "self._awake.wait(POLL_SECONDS)", "self._awake.wait()")],
        f"{CHAOS}/test_services.py::test_without_redis_jobs_run_by_polling",
    ),
    Mutation(
        "commit first: a publication that fails is a warning",
        [("service/mlpq/submit.py", "except QueueError as error:", "except ZeroDivisionError as error:")],
        f"{CHAOS}/test_services.py::test_without_a_broker_jobs_are_filed_with_a_warning",
    ),
    Mutation(
        "a publication is bounded in time",
        [
            ("service/mlpq/queue.py", "sending.join(WAKE_SECONDS)", "sending.join()"),
            ("service/mlpq/queue.py", '"socket_timeout": 10', '"socket_timeout": None'),
        ],
        f"{CHAOS}/test_services.py::test_a_broker_that_hangs_holds_a_submission_up_for_seconds_only",
    ),
    Mutation(
        "attempts run out",
        [(f"{STORE}/repository.py", "left = row.max_attempts - row.attempt", "left = 2")],
        "tests/integration/test_attempts.py::test_a_failed_attempt_is_tried_again_after_a_delay_and_at_last_fails",
    ),
    Mutation(
        "what ends its process is tried again alone",
        [(f"{STORE}/repository.py", '{"gang_key": None} if alone or left <= 1 else {}', "{}")],
        "tests/integration/test_trainer.py::"
        "test_a_death_of_the_training_process_fails_the_whole_gang_and_each_is_tried_again_alone",
    ),
    Mutation(
        "what failed on one worker is left to another",
        [(f"{STORE}/repository.py", "(jobs.c.worker != worker)", "(jobs.c.worker == worker)")],
        "tests/integration/test_claims.py::test_what_failed_on_a_worker_is_left_to_the_others_for_a_while",
    ),
    Mutation(
        "a training process dies with its worker",
        [
            (f"{WORKERS}/trainer_process.py", "    die_with_parent(told.parent)\n", ""),
            (
                f"{WORKERS}/training.py",
                "        os._exit(self.world.size > 1)  # a rank that ends well is not missed by the launcher\n",
                "        threading.Event().wait()\n",
            ),
        ],
        f"{ACCEPTANCE}/test_workers.py::test_a_training_process_in_the_midst_of_an_epoch_dies_with_its_worker",
    ),
    Mutation(
        "a training process that hangs is ended",
        [(f"{WORKERS}/tasks.py", "return self._silence >= CHILD_SILENCE_SECONDS", "return False")],
        f"{CHAOS}/test_services.py::test_a_training_process_that_hangs_is_ended_and_its_job_tried_again",
    ),
    Mutation(
        "watchdog",
        [(f"{WORKERS}/celery_worker.py", "    Watchdog([executor.pulse, Consumer.pulse]).start()\n", "")],
        f"{CHAOS}/test_services.py::test_a_database_that_hangs_ends_the_worker_and_another_does_the_job",
    ),
    Mutation(
        "watchdog over Celery's loop",
        [(f"{WORKERS}/celery_worker.py", "Watchdog([executor.pulse, Consumer.pulse])", "Watchdog([executor.pulse])")],
        f"{CHAOS}/test_services.py::test_a_worker_whose_celery_loop_hangs_ends",
    ),
    Mutation(
        "busy workers reap too",
        [(f"{WORKERS}/tasks.py", "            self._keep_house()\n", "")],
        f"{ACCEPTANCE}/test_workers.py::test_a_busy_worker_takes_back_the_jobs_of_a_silent_one",
    ),
    Mutation(
        "what was computed waits for a database that is away",
        [(f"{WORKERS}/tasks.py", "                self._endure(error)\n", "                raise\n")],
        f"{CHAOS}/test_services.py::test_what_was_computed_while_postgresql_was_away_is_recorded_when_it_is_back",
    ),
    Mutation(
        "cancel is a column that the holder reads",
        [
            (f"{WORKERS}/tasks.py", "self._ask(cancelled, Outcome.CANCELLED)", "pass"),
            (f"{WORKERS}/tasks.py", "in held.items() if cancel_requested]", "in held.items() if False]"),
        ],
        f"{ACCEPTANCE}/test_resuming.py::test_a_cancelled_job_of_a_gang_stops_within_seconds_and_the_others_go_on",
    ),
    Mutation(
        "SIGTERM gives jobs back",
        [(f"{WORKERS}/celery_worker.py", "        self._executor.stop()\n        end", "        end")],
        f"{ACCEPTANCE}/test_resuming.py::test_a_worker_told_to_stop_finishes_its_epoch_and_another_goes_on_from_there",
    ),
    Mutation(
        "a second SIGTERM ends a worker at once",
        [
            (
                f"{WORKERS}/celery_worker.py",
                '            end(1, "the worker was told twice',
                '            ("the worker was told twice',
            )
        ],
        f"{ACCEPTANCE}/test_resuming.py::test_a_second_sigterm_ends_a_worker_at_once",
    ),
    Mutation(
        "resuming",
        [(f"{WORKERS}/training.py", 'if job["attempt"] > 1:', "if False:")],
        f"{ACCEPTANCE}/test_resuming.py::test_a_job_of_a_worker_that_was_killed_goes_on_from_its_checkpoint",
    ),
    Mutation(
        "a checkpoint carries its hash",
        [(f"{WORKERS}/files.py", "if hashlib.sha256(content).hexdigest() not in path.name:", "if False:")],
        "tests/unit/test_checkpoints.py::test_one_bit_is_enough",
    ),
    Mutation(
        "a checkpoint is gone on from only where it was made",
        [(f"{WORKERS}/files.py", 'if about["whose"] != dict(whose):', "if False:")],
        "tests/unit/test_checkpoints.py::test_one_of_another_job_or_environment_is_passed_over",
    ),
    Mutation(
        "fsync before rename",
        [(f"{WORKERS}/files.py", "            os.fsync(file.fileno())\n", "")],
        "tests/unit/test_checkpoints.py::test_a_file_is_on_the_disk_before_it_has_its_name",
    ),
    Mutation(
        "a file has its name only when it is complete",
        [(f"{WORKERS}/files.py", 'path.with_name(f".{path.name}.{os.getpid()}")', "path")],
        "tests/unit/test_checkpoints.py::test_a_file_is_on_the_disk_before_it_has_its_name",
    ),
    Mutation(
        "SQLite: a write transaction begins with the lock",
        [(f"{STORE}/session.py", 'begin="BEGIN IMMEDIATE"', 'begin="BEGIN"')],
        "tests/integration/test_claims.py::test_writers_that_read_first_wait_for_each_other",
    ),
    Mutation(
        "caps at validation",
        [("service/mlpq/spec/job.py", "if self.parameters > MAX_PARAMETERS:", "if False:")],
        "tests/unit/test_spec.py",
    ),
)


def outcome(edits: Sequence[Edit], tests: Collection[str]) -> tuple[str, str]:
    """Whether the tests pass on a copy with these edits, and what they print."""
    with tempfile.TemporaryDirectory(prefix="mlpq-mutation-") as folder:
        copy = Path(folder) / "mlpq"
        tracked = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout.splitlines()  # fmt: skip
        for name in tracked:
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, copy / name)
        for name, before, after in edits:
            text = (copy / name).read_text()
            if before not in text:
                return f"NOT APPLICABLE: {name} has changed", ""
            (copy / name).write_text(text.replace(before, after))
        options = ["-q", "-x", "--no-header", "-p", "no:cacheprovider", "--hypothesis-profile", "no-shrinking"]
        command = [sys.executable, "-m", "pytest", *options, *tests]
        paths = os.pathsep.join(str(copy / name) for name in SOURCE_ROOTS)  # training processes look there
        environ = {**os.environ, "PYTHONPATH": paths}
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, env=environ)
    found = {0: PASSES, 1: FAILS}.get(done.returncode, f"ERROR\n{done.stderr[-2000:]}")
    return found, done.stdout


def main(word: str) -> None:
    chosen = [mutation for mutation in MUTATIONS if word in mutation.mechanism]
    found, printed = outcome([], {mutation.test: None for mutation in chosen})
    if found != PASSES:
        last = "\n".join(printed.splitlines()[-20:])
        sys.exit(f"{last}\nwith nothing taken out the tests must pass, or their failing proves nothing: {found}")
    print("| what was taken out | the test that then fails | |\n|---|---|---|")
    survived = 0
    for mutation in chosen:
        found, _ = outcome(mutation.edits, [mutation.test])
        survived += found != FAILS
        print(f"| {mutation.mechanism} | `{mutation.test.rpartition('/')[2]}` | {found} |", flush=True)
    sys.exit(survived > 0)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
