"""Roles of PostgreSQL, each with the least rights: what `mlpq db upgrade` grants to those that exist.

scripts/roles.sql creates them. The owner of the tables migrates, and nothing else needs it.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

from mlpq.store.session import Store

READER, SUBMITTER, WORKER = "mlpq_reader", "mlpq_submitter", "mlpq_worker"

# Each role also reads everything.
_GRANTS = {
    READER: (),
    SUBMITTER: (
        # Locking a row needs the right to update one of its columns; a trigger keeps the row as it is.
        "INSERT (name, created_at, owner), UPDATE (created_at) ON {schema}.experiments",
        "INSERT (id, experiment_id, spec, spec_hash, repeat, seed, device, world_size, priority, gang_key, status,"
        " max_attempts, parent_id, created_at, requested_engine, data_sha256, package), UPDATE (status,"
        " cancel_requested, error, finished_at, device, world_size, priority, gang_key, max_attempts) ON {schema}.jobs",
        "INSERT ON {schema}.verifications, {schema}.questions, {schema}.question_caps",
        "INSERT, DELETE ON {schema}.data_sets, {schema}.data_chunks",
        "USAGE ON SEQUENCE {schema}.experiments_id_seq, {schema}.jobs_seq_seq, {schema}.verifications_id_seq,"
        " {schema}.questions_id_seq, {schema}.data_sets_id_seq",
    ),
    WORKER: (
        "UPDATE (status, attempt, max_attempts, worker, lease_until, not_before, gang_key, error, finished_at)"
        " ON {schema}.jobs",
        "INSERT, UPDATE (ended_at, outcome, error, log_tail, fence_rejections) ON {schema}.attempts",
        "INSERT ON {schema}.epochs, {schema}.job_results, {schema}.result_images, {schema}.environments",
        "INSERT, UPDATE, DELETE ON {schema}.workers",
        "USAGE ON SEQUENCE {schema}.environments_id_seq",
    ),
}
_OWNS = "SELECT pg_has_role(relowner, 'MEMBER') FROM pg_class WHERE oid = to_regclass('jobs')"
# Takes the role of a reader for the rest of the transaction, where that is possible: mlpq's, or for a superuser
# PostgreSQL's own (14 and later).
TO_READER = f"""
SELECT set_config('role', rolname, true) FROM pg_roles
WHERE rolname = '{READER}' AND pg_has_role(oid, 'MEMBER')
    OR rolname = 'pg_read_all_data' AND current_setting('is_superuser') = 'on'
ORDER BY rolname = '{READER}' DESC LIMIT 1
"""


def grant(connection: Connection) -> None:
    """Give each role that exists its rights on the tables, and no others; does nothing unless called by the owner."""
    roles = connection.execute(text("SELECT rolname FROM pg_roles")).scalars().all()
    if not connection.execute(text(_OWNS)).scalar():
        return
    schema = connection.execute(text("SELECT quote_ident(current_schema())")).scalar_one()
    for role in _GRANTS.keys() & set(roles):
        for kind in ("TABLES", "SEQUENCES"):
            connection.execute(text(f"REVOKE ALL ON ALL {kind} IN SCHEMA {schema} FROM {role}"))
        grants = ("USAGE ON SCHEMA {schema}", "SELECT ON ALL TABLES IN SCHEMA {schema}", *_GRANTS[role])
        for each in grants:
            connection.execute(text(f"GRANT {each.format(schema=schema)} TO {role}"))


def excess(store: Store) -> str | None:
    """Why the role of this connection has more rights than submitting and training need; None where it has not."""
    if store.is_sqlite:
        return None
    with store.read() as connection:
        user, is_superuser = connection.execute(
            text("SELECT quote_ident(current_user), current_setting('is_superuser') = 'on'")
        ).one()
        owns = connection.execute(text(_OWNS)).scalar()
    if not (is_superuser or owns):
        return None
    what = "a superuser, who can run commands on the server" if is_superuser else "the owner of the tables"
    return (
        f"{user} is {what}: connect as {SUBMITTER}, {WORKER} or {READER} instead; scripts/roles.sql creates these roles"
    )
