"""Remove one mechanism after another from a copy of the source, and check that a named test then fails.

    python tests/chaos/mutations.py [WORD]

With WORD, only mechanisms whose names contain it. Random kills alone prove little: most of them hit nothing critical.
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
WORKER, TRAINER = "workers/mlpq_workers/worker", "workers/mlpq_workers/trainer"
SOURCE_ROOTS = ("service", "workers", "migrations")
KERNEL = "workers/mlpq_workers/kernel/libmlpq_kernel.so"  # compiled, so git does not list it
UNIT, INTEGRATION, ACCEPTANCE, CHAOS = "tests/unit", "tests/integration", "tests/acceptance", "tests/chaos"
PASSES, FAILS = "passes", "fails"

Edit = tuple[str, str, str]  # a file, a piece of its text, and the replacement


@dataclass(frozen=True)
class Mutation:
    """The mechanism to remove, and the test that must then fail."""

    mechanism: str
    edits: list[Edit]
    test: str


MUTATIONS = (
    Mutation(
        "fence: a write names its attempt",
        [(f"{STORE}/execution.py", "== (Status.RUNNING, job.attempt)", "!= (None, None)")],
        f"{INTEGRATION}/test_attempts.py::test_attempt_that_lost_its_lease_to_another_worker_writes_nothing",
    ),
    Mutation(
        "a repeated record, after a lost response, returns what was recorded",
        [(f"{STORE}/execution.py", "elif job.id in rows and _is_recorded(connection, job):", "elif False:")],
        f"{INTEGRATION}/test_attempts.py",
    ),
    Mutation(
        "every worker requeues jobs with expired leases",
        [(f"{WORKER}/executor.py", "for job in execution.requeue_expired(self._store):", "for job in ():")],
        f"{ACCEPTANCE}/test_workers.py::"
        "test_training_process_of_a_killed_worker_ends_and_another_worker_finishes_the_job",
    ),
    Mutation(
        "heartbeats renew the lease",
        [
            (
                f"{STORE}/execution.py",
                "values(lease_until=now(LEASE_SECONDS)))",
                "values(priority=jobs.c.priority))",
            )
        ],
        f"{INTEGRATION}/test_gangs.py::test_heartbeat_of_a_gang_renews_every_lease_and_records_each_curve",
    ),
    Mutation(
        "idempotent submission",
        [(f"{STORE}/submission.py", "is_new = again or spec.hash not in latest", "is_new = True")],
        f"{CHAOS}/test_failpoints.py::test_submission_that_dies_at_its_commit_can_be_repeated",
    ),
    Mutation(
        "polling: a lost message costs seconds and no job",
        [(f"{WORKER}/executor.py", "self._awake.wait(POLL_SECONDS)", "self._awake.wait()")],
        f"{CHAOS}/test_services.py::test_without_redis_jobs_run_by_polling",
    ),
    Mutation(
        "commit first: a failed publication is a warning",
        [("service/mlpq/submit.py", "except QueueError as error:", "except ZeroDivisionError as error:")],
        f"{CHAOS}/test_services.py::test_submission_without_a_broker_is_a_warning",
    ),
    Mutation(
        "publications have a timeout",
        [
            ("service/mlpq/queue.py", "sending.join(WAKE_SECONDS)", "sending.join()"),
            ("service/mlpq/queue.py", '"socket_timeout": 10', '"socket_timeout": None'),
        ],
        f"{CHAOS}/test_services.py::test_hanging_broker_delays_a_submission_by_seconds",
    ),
    Mutation(
        "the number of attempts is limited",
        [(f"{STORE}/execution.py", "left = row.max_attempts - row.attempt", "left = 2")],
        f"{INTEGRATION}/test_attempts.py::test_failed_attempt_is_retried_after_a_delay_until_attempts_are_used_up",
    ),
    Mutation(
        "a job that may have killed its process is retried alone",
        [(f"{STORE}/execution.py", '{"gang_key": None} if alone or left <= 1 else {}', "{}")],
        f"{INTEGRATION}/test_trainer.py::"
        "test_death_of_the_training_process_fails_the_gang_and_each_job_is_retried_alone",
    ),
    Mutation(
        "a job that failed on one worker is left to others",
        [(f"{STORE}/claiming.py", "(jobs.c.worker != worker)", "(jobs.c.worker == worker)")],
        f"{INTEGRATION}/test_claims.py::test_job_that_failed_on_a_worker_is_left_to_others_for_a_while",
    ),
    Mutation(
        "a training process ends with its worker",
        [
            (f"{TRAINER}/__main__.py", "    die_with_parent(settings.parent)\n", ""),
            (f"{TRAINER}/serving.py", "    os._exit(process.world.size > 1)", "    threading.Event().wait()"),
        ],
        f"{ACCEPTANCE}/test_workers.py::test_training_process_in_the_middle_of_an_epoch_ends_with_its_worker",
    ),
    Mutation(
        "a training process that hangs is killed",
        [(f"{WORKER}/gang_run.py", "return self._silence >= SILENCE_SECONDS", "return False")],
        f"{CHAOS}/test_services.py::test_hanging_training_process_is_killed_and_its_job_retried",
    ),
    Mutation(
        "watchdog",
        [(f"{WORKER}/celery_app.py", "    Watchdog([executor.pulse, Consumer.pulse]).start()\n", "")],
        f"{CHAOS}/test_services.py::test_worker_with_a_hanging_executor_exits",
    ),
    Mutation(
        "Celery's consumer is restarted after any error of the broker",
        [(f"{WORKER}/celery_app.py", "        self.connection_errors = (Exception,)\n", "")],
        f"{CHAOS}/test_broker_states.py",
    ),
    Mutation(
        "messages that are not wake-ups are dropped",
        [("service/mlpq/broker/messages.py", '        return "not JSON"\n', "        raise\n")],
        f"{INTEGRATION}/test_messages.py",
    ),
    Mutation(
        "a lease in the future has expired",
        [("service/mlpq/store/liveness.py", "now(LEASE_SECONDS + TOLERANCE_SECONDS)", "now(1e9)")],
        f"{INTEGRATION}/test_clocks.py",
    ),
    Mutation(
        "a database that does not answer is unreachable",
        [(f"{WORKER}/celery_app.py", "    store.answer_seconds = ANSWER_SECONDS\n", "")],
        f"{CHAOS}/test_services.py::test_worker_survives_a_database_that_does_not_answer",
    ),
    Mutation(
        "a client that is silent within a transaction loses its locks",
        [(f"{STORE}/answers.py", "SILENT_CLIENT_SECONDS * 1000", "0")],
        f"{INTEGRATION}/test_silent_clients.py",
    ),
    Mutation(
        "watchdog over Celery's event loop",
        [(f"{WORKER}/celery_app.py", "Watchdog([executor.pulse, Consumer.pulse])", "Watchdog([executor.pulse])")],
        f"{CHAOS}/test_services.py::test_worker_with_a_hanging_celery_loop_exits",
    ),
    Mutation(
        "busy workers requeue jobs too",
        [(f"{WORKER}/gang_run.py", "            self._worker.maintain()\n", "")],
        f"{ACCEPTANCE}/test_workers.py::test_busy_worker_requeues_jobs_with_expired_leases",
    ),
    Mutation(
        "results wait for a database that is unreachable",
        [(f"{WORKER}/gang_run.py", "                self._wait_for_database(error)\n", "                raise\n")],
        f"{CHAOS}/test_services.py::test_result_is_recorded_after_an_outage_of_postgresql",
    ),
    Mutation(
        "a request to cancel is a column that the worker reads",
        [
            (f"{WORKER}/gang_run.py", "self._stop(cancelled, Outcome.CANCELLED)", "pass"),
            (f"{WORKER}/gang_run.py", "in kept.items() if cancel_requested]", "in kept.items() if False]"),
        ],
        f"{ACCEPTANCE}/test_resuming.py::test_cancelled_job_of_a_gang_stops_within_seconds_and_the_others_continue",
    ),
    Mutation(
        "SIGTERM releases jobs",
        [(f"{WORKER}/shutdown.py", "        self._stop()\n        exit_now", "        exit_now")],
        f"{ACCEPTANCE}/test_resuming.py::test_stopped_worker_finishes_its_epoch_and_another_resumes_from_it",
    ),
    Mutation(
        "a second SIGTERM ends a worker immediately",
        [(f"{WORKER}/shutdown.py", '            exit_now(1, "second', '            ("second')],
        f"{ACCEPTANCE}/test_resuming.py::test_second_sigterm_ends_a_worker_immediately",
    ),
    Mutation(
        "resuming",
        [(f"{TRAINER}/training.py", "if job.attempt == 1:", "if True:")],
        f"{ACCEPTANCE}/test_resuming.py::test_job_of_a_killed_worker_resumes_from_its_checkpoint",
    ),
    Mutation(
        "the name of a checkpoint contains its hash",
        [(f"{TRAINER}/checkpoints.py", "if hashlib.sha256(content).hexdigest() not in path.name:", "if False:")],
        f"{UNIT}/test_checkpoints.py::test_checkpoint_with_one_flipped_bit_is_skipped",
    ),
    Mutation(
        "a job resumes only from its own checkpoint of the same environment",
        [(f"{TRAINER}/checkpoints.py", "if about.whose != dict(owner):", "if False:")],
        f"{UNIT}/test_checkpoints.py::test_checkpoint_of_another_job_or_environment_is_skipped",
    ),
    Mutation(
        "fsync before rename",
        [("service/mlpq/regular_files.py", "                os.fsync(file.fileno())\n", "")],
        f"{UNIT}/test_checkpoints.py::test_file_is_synced_before_it_is_renamed",
    ),
    Mutation(
        "a file gets its name only when it is complete",
        [("service/mlpq/regular_files.py", 'f".{path.name}.{secrets.token_hex(8)}"', "path.name")],
        f"{UNIT}/test_checkpoints.py::test_file_is_synced_before_it_is_renamed",
    ),
    Mutation(
        "SQLite: a write transaction begins with the lock",
        [(f"{STORE}/session.py", '"BEGIN IMMEDIATE"', '"BEGIN"')],
        f"{INTEGRATION}/test_claims.py::test_writers_that_read_first_wait_for_each_other",
    ),
    Mutation(
        "limits at validation",
        [("service/mlpq/spec/job.py", "if self.parameters > MAX_PARAMETERS:", "if False:")],
        f"{UNIT}/test_spec.py",
    ),
)


def outcome(edits: Sequence[Edit], tests: Collection[str]) -> tuple[str, str]:
    """Whether the tests pass on a copy with these edits, and their output."""
    with tempfile.TemporaryDirectory(prefix="mlpq-mutation-") as folder:
        copy = Path(folder) / "mlpq"
        tracked = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        ).stdout.splitlines()  # fmt: skip
        for name in (*tracked, KERNEL):
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
        sys.exit(f"{last}\nwith nothing removed the tests must pass, or their failures prove nothing: {found}")
    print("| what was removed | the test that then fails | |\n|---|---|---|")
    survived = 0
    for mutation in chosen:
        found, _ = outcome(mutation.edits, [mutation.test])
        survived += found != FAILS
        print(f"| {mutation.mechanism} | `{mutation.test.rpartition('/')[2]}` | {found} |", flush=True)
    sys.exit(survived > 0)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
