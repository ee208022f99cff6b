"""PostgreSQL's roles: each does its work with the least rights, and every attack as one of them is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from mlpq.errors import QueryError, StoreError
from mlpq.jobs import Status
from mlpq.question_records import QuestionSide, QuestionTerms
from mlpq.records import Placement, SubmittedJob
from mlpq.spec.data_content import DataContent
from mlpq.spec.sweep import Sweep
from mlpq.store import (
    data_sets,
    execution,
    migrate,
    queries,
    questions,
    roles,
    sql,
    submission,
    verifications,
    worker_queries,
)
from mlpq.store.session import Store
from mlpq.verification_records import Grade, Verification
from mlpq.worker_records import WorkerCapabilities
from tests.support.job_steps import child_of, claim_one, fail, finish, heartbeat, let_lease_expire, row, spec, submit
from tests.support.role_attacks import READER_ATTACKS, SUBMITTER_ATTACKS, WORKER_ATTACKS
from tests.support.roles import (
    OWNER,
    PASSWORDS,
    READER,
    ROLES,
    SCRIPT,
    SUBMITTER,
    WORKER,
    create_roles,
    upgrade_as_owner,
)
from tests.support.services import Postgres

CONTENT = DataContent(sha256="ab" * 32, features=2, classes=2, train=4, test=2)
TERMS = QuestionTerms(
    by="optimizer", metric="accuracy", target="", against="", difference=0.5, margin=None, alpha=0.05, max_seeds=None,
    choose_seeds=(), seeds=(0,), pilot=7, sides=(QuestionSide("sgd", ("a",)), QuestionSide("adam", ("b",))),
)  # fmt: skip


@dataclass(frozen=True)
class Stores:
    """The same database as each role connects to it; `admin` is the superuser's."""

    admin: Store
    worker: Store
    submitter: Store
    reader: Store

    def named(self, role: str) -> Store:
        return {WORKER: self.worker, SUBMITTER: self.submitter, READER: self.reader}[role]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def database(server: Postgres) -> str:
    name = server.create()
    create_roles(server, name)
    upgrade_as_owner(server, name)
    return name


@pytest.fixture
def stores(server: Postgres, database: str) -> Iterator[Stores]:
    """With a succeeded job, a running one, two queued ones, a blocked and a cancelled one."""
    opened = Stores(Store(server.url(database)), *(Store(server.role_url(role, database)) for role in ROLES[1:]))
    yield opened
    tables = (
        "experiments, jobs, attempts, epochs, job_results, result_images, verifications, workers, environments, "
        "questions, question_caps, data_sets, data_chunks"
    )
    with opened.admin.write() as connection:
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY"))
    for store in (opened.admin, opened.worker, opened.submitter, opened.reader):
        store.close()


@pytest.fixture
def filled(stores: Stores) -> Stores:
    first = submit(stores.submitter, spec(), child_of(spec()))[0]
    finish(stores.worker, claim_one(stores.worker))
    submit(stores.submitter, *(spec(seeds=seed) for seed in (1, 2, 3, 4)), child_of(spec(seeds=4), seeds=4))
    claim_one(stores.worker)
    (cancelled,) = submit(stores.submitter, spec(seeds=9))
    submission.cancel(stores.submitter, [cancelled])
    execution.worker_heartbeat(stores.worker, "ann:1:a", WorkerCapabilities("cpu"))
    verifications.record(stores.submitter, [Verification(first, None, Grade.SAME_BITS, "", [], [], [], [])])
    registered = questions.register(stores.submitter, "lab", TERMS)
    questions.register_caps(stores.submitter, registered, [20])
    data_sets.register(stores.submitter, "wine", CONTENT, 100, {})
    data_sets.push(stores.submitter, CONTENT.sha256, [b"x"])
    return stores


def test_submitter_registers_questions_that_readers_see(stores: Stores) -> None:
    submit(stores.submitter, spec())
    registered = questions.register(stores.submitter, "lab", TERMS)
    capped = questions.register_caps(stores.submitter, registered, [20])
    assert queries.questions_of(stores.reader, "lab") == [capped]
    with pytest.raises(StoreError, match="permission denied"):
        questions.register(stores.worker, "lab", replace(TERMS, metric="loss"))


def test_submitter_registers_pushes_and_removes_data_that_workers_pull(stores: Stores) -> None:
    found, _ = data_sets.register(stores.submitter, "wine", CONTENT, 100, {"classes": ["a", "b"]})
    assert data_sets.find(stores.reader, "wine") == found
    assert data_sets.push(stores.submitter, CONTENT.sha256, [b"x" * 9, b"y"])
    assert b"".join(data_sets.pull(stores.worker, CONTENT.sha256)) == b"x" * 9 + b"y"
    capabilities = WorkerCapabilities("cpu", data=frozenset({CONTENT.sha256}))
    execution.worker_heartbeat(stores.worker, "ann:1:a", capabilities)
    assert worker_queries.live_workers(stores.reader)[0].data == {CONTENT.sha256}
    with pytest.raises(StoreError, match="permission denied"):
        data_sets.register(stores.worker, "beer", CONTENT, 100, {})
    with pytest.raises(StoreError, match="permission denied"):
        data_sets.remove(stores.worker, found)
    assert data_sets.remove(stores.submitter, found)
    assert data_sets.registered(stores.reader) == []


def test_submitter_deletes_no_data_that_unfinished_jobs_need(stores: Stores) -> None:
    data_sets.register(stores.submitter, "wine", CONTENT, 100, {})
    data_sets.register(stores.submitter, "copy", CONTENT, 100, {})
    data_sets.push(stores.submitter, CONTENT.sha256, [b"x", b"y"])
    (on_wine,) = Sweep.parse({"dataset": "wine"}).jobs(contents={"wine": CONTENT})
    (job,) = submit(stores.submitter, on_wine)
    sets, chunks = "DELETE FROM data_sets", "DELETE FROM data_chunks"
    for attack in (sets, f"{sets} WHERE features = 2", chunks, f"{chunks} WHERE number = 1"):
        with (
            pytest.raises(StoreError, match="data that unfinished jobs need are never deleted"),
            stores.submitter.write() as connection,
        ):
            connection.exec_driver_sql(attack)
    assert data_sets.pushed(stores.reader, [CONTENT.sha256])
    assert not data_sets.remove(stores.submitter, data_sets.find(stores.reader, "copy"))
    submission.cancel(stores.submitter, [job])
    assert data_sets.remove(stores.submitter, data_sets.find(stores.reader, "wine"))
    assert not data_sets.pushed(stores.reader, [CONTENT.sha256])


def contents(store: Store) -> str:
    """Everything in the tables and the names in the catalogue."""
    parts = [
        f"(SELECT json_agg(t ORDER BY t::text) FROM {table} AS t)"
        for table in ("experiments", "jobs", "attempts", "epochs", "job_results", "result_images", "verifications",
                      "workers", "environments", "questions", "question_caps", "data_sets", "data_chunks",
                      "alembic_version")
    ]  # fmt: skip
    parts += [
        "(SELECT json_agg(oid ORDER BY oid) FROM pg_class WHERE relnamespace <> 'pg_toast'::regnamespace)",
        "(SELECT json_agg(oid ORDER BY oid) FROM pg_proc)",
        "(SELECT json_agg(r ORDER BY rolname) FROM pg_roles AS r)",
        "(SELECT json_agg(oid ORDER BY oid) FROM pg_largeobject_metadata)",
    ]
    with store.read() as connection:
        return str(connection.execute(text(f"SELECT {', '.join(parts)}")).one())


def test_submitter_submits_continues_cancels_retries_and_verifies(stores: Stores) -> None:
    parent, child = submit(stores.submitter, spec(), child_of(spec()))
    assert submit(stores.submitter, spec()) == [parent]
    finish(stores.worker, claim_one(stores.worker))
    assert row(stores.submitter, child).status == "queued"
    (late,) = submit(stores.submitter, child_of(spec(), lr=0.5), parent_id=parent)
    assert row(stores.reader, late).status == "queued"
    running = claim_one(stores.worker)
    assert submission.cancel(stores.submitter, [running.id, late]) == {"cancelled": 1, "asked to stop": 1}
    assert heartbeat(stores.worker, running) is True
    (again,) = submission.retry_jobs(stores.submitter, [late])
    assert row(stores.reader, again.id).status == "queued"
    found = Verification(parent, None, Grade.SAME_BITS, "", [], [], [], [])
    verifications.record(stores.submitter, [found])
    assert sql.read_only(stores.submitter, "SELECT current_user AS role")[1] == [{"role": READER}]
    assert sql.read_only(stores.worker, "SELECT count(*) AS n FROM results")[1] == [{"n": 4}]


def test_submitter_changes_what_waiting_jobs_request(stores: Stores) -> None:
    waiting, running = spec(), spec(seeds=7)
    (job,) = submit(stores.submitter, running)
    claim_one(stores.worker)
    submit(stores.submitter, waiting)
    known = [SubmittedJob(row(stores.reader, one).id, one_spec, False) for one, one_spec in
             zip(queries.ids_of(stores.reader, "lab"), (running, waiting), strict=True)]  # fmt: skip
    changed = submission.change_placement(stores.submitter, known, Placement(priority=9), ["priority"])
    assert changed == (1, 1)
    assert row(stores.reader, job).priority == 0


def test_worker_claims_beats_ends_requeues_and_leaves(stores: Stores) -> None:
    submit(stores.submitter, *(spec(seeds=seed) for seed in range(3)), attempts=2)
    execution.worker_heartbeat(stores.worker, "ann:1:a", WorkerCapabilities("cpu"))
    assert [worker.name for worker in worker_queries.live_workers(stores.reader)] == ["ann:1:a"]
    first, second, third = (claim_one(stores.worker) for _ in range(3))
    assert heartbeat(stores.worker, first, log_tail="x") is False
    assert finish(stores.worker, first) is not None
    assert fail(stores.worker, second) is Status.QUEUED
    let_lease_expire(stores.admin, third.id)
    assert execution.requeue_expired(stores.worker) == [third.id]
    execution.remove_worker(stores.worker, "ann:1:a")
    statuses = queries.count_by_status(stores.reader)
    assert statuses == {Status.SUCCEEDED: 1, Status.QUEUED: 2}


REFUSED = re.compile(
    "permission denied|must be (?:owner|superuser)|must have admin option|never (?:changes|decreases)"
    "|a new job must be|a submitter may"
)


@pytest.mark.parametrize(
    ("role", "attacks"), [(SUBMITTER, SUBMITTER_ATTACKS), (WORKER, WORKER_ATTACKS), (READER, READER_ATTACKS)],
    ids=["submitter", "worker", "reader"],
)  # fmt: skip
def test_attack_is_refused_and_changes_nothing(filled: Stores, role: str, attacks: tuple[str, ...]) -> None:
    before, ran, reasons = contents(filled.admin), [], []
    for attack in attacks:
        try:
            with filled.named(role).write() as connection:
                connection.exec_driver_sql("SET TRANSACTION READ WRITE")  # a reader may: only rights protect
                connection.exec_driver_sql(attack)
            ran.append(attack)
        except (StoreError, DBAPIError) as error:
            reasons.append(str(error))
        assert contents(filled.admin) == before, attack
    assert ran == []
    assert [reason for reason in reasons if not REFUSED.search(reason)] == []


def test_mlpq_sql_cannot_leave_the_role_of_a_reader(filled: Stores) -> None:
    before = contents(filled.admin)
    for attack in READER_ATTACKS:
        with pytest.raises(QueryError):
            sql.read_only(filled.submitter, attack)
    assert contents(filled.admin) == before


@pytest.mark.parametrize("role", [WORKER, SUBMITTER, READER])
def test_only_the_owner_migrates(stores: Stores, role: str) -> None:
    with stores.admin.read() as connection:
        owners = connection.execute(text("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"))
        assert owners.scalars().all() == [OWNER]
    with pytest.raises((StoreError, DBAPIError), match="permission denied"):
        migrate.upgrade(stores.named(role))


def test_excess_rights_are_named(server: Postgres, database: str, stores: Stores) -> None:
    assert [roles.excess(store) for store in (stores.worker, stores.submitter, stores.reader)] == [None] * 3
    assert "postgres is a superuser" in str(roles.excess(stores.admin))
    owner = Store(server.role_url(OWNER, database))
    assert "mlpq_owner is the owner of the tables" in str(roles.excess(owner))
    owner.close()


def test_database_of_a_superuser_is_handed_to_the_owner(server: Postgres) -> None:
    """As an existing deployment is upgraded; running it all again changes nothing."""
    name = server.create()
    admin = Store(server.url(name))
    migrate.upgrade(admin)
    (job,) = submit(admin, spec())
    for _ in range(2):
        create_roles(server, name)
        upgrade_as_owner(server, name)
    worker = Store(server.role_url(WORKER, name))
    finish(worker, claim_one(worker))
    assert row(admin, job).status == "succeeded"
    worker.close()
    admin.close()
    server.drop(name)


def test_roles_need_their_passwords(server: Postgres, database: str) -> None:
    for name in PASSWORDS:
        done = server.psql(database, "--file", str(SCRIPT), env={**PASSWORDS, name: ""})
        assert done.returncode != 0
        assert "a password is missing" in done.stderr
