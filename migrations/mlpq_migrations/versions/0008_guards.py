"""On PostgreSQL, triggers restrict what roles other than the owner may change, beyond what grants can say."""

from alembic import op

revision = "0008"
down_revision = "0007"

# Who may update `attempt` is a worker, the others are submitters. The search path of a client means nothing here.
JOBS = """
CREATE OR REPLACE FUNCTION guard_jobs() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, {schema}, pg_temp AS $$
BEGIN
    IF pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER') THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'INSERT' THEN
        IF NEW.status NOT IN ('queued', 'blocked') THEN
            RAISE insufficient_privilege USING MESSAGE = 'a new job must be queued or blocked';
        END IF;
        RETURN NEW;
    END IF;
    IF NEW IS NOT DISTINCT FROM OLD THEN
        RETURN NEW;
    END IF;
    IF OLD.status IN ('succeeded', 'failed', 'cancelled') THEN
        RAISE insufficient_privilege USING MESSAGE = 'a finished job never changes';
    END IF;
    IF has_column_privilege(TG_RELID, 'attempt', 'UPDATE') THEN
        IF NEW.attempt < OLD.attempt THEN
            RAISE insufficient_privilege USING MESSAGE = 'the number of a job''s attempt never decreases';
        END IF;
        RETURN NEW;
    END IF;
    IF OLD.status IN ('blocked', 'queued') AND NEW.status = 'cancelled' THEN
        RETURN NEW;
    END IF;
    IF NEW.error IS NOT DISTINCT FROM OLD.error AND NEW.finished_at IS NOT DISTINCT FROM OLD.finished_at THEN
        IF OLD.status = 'running' AND NEW.status = 'running' AND NEW.cancel_requested
            AND (NEW.device, NEW.world_size, NEW.priority, NEW.gang_key, NEW.max_attempts)
                IS NOT DISTINCT FROM (OLD.device, OLD.world_size, OLD.priority, OLD.gang_key, OLD.max_attempts)
        THEN
            RETURN NEW;
        END IF;
        IF OLD.status IN ('queued', 'blocked') AND NEW.status = OLD.status
            AND NEW.cancel_requested = OLD.cancel_requested
        THEN
            RETURN NEW; -- what it requests, which the columns granted to submitters limit
        END IF;
        IF OLD.status = 'blocked' AND NEW.status = 'queued' AND NEW.cancel_requested = OLD.cancel_requested
            AND EXISTS (SELECT FROM jobs AS parent WHERE parent.id = NEW.parent_id AND parent.status = 'succeeded')
        THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE insufficient_privilege USING
        MESSAGE = 'a submitter may cancel a job, change its requests while it waits, or queue it after its parent';
END $$
"""
EXPERIMENTS = """
CREATE OR REPLACE FUNCTION guard_experiments() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NEW IS DISTINCT FROM OLD
        AND NOT pg_has_role((SELECT relowner FROM pg_class WHERE oid = TG_RELID), 'MEMBER')
    THEN
        RAISE insufficient_privilege USING MESSAGE = 'an experiment never changes';
    END IF;
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    schema = connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    connection.exec_driver_sql(JOBS.format(schema=schema))
    connection.exec_driver_sql(EXPERIMENTS)
    for table, events in (("jobs", "INSERT OR UPDATE"), ("experiments", "UPDATE")):
        connection.exec_driver_sql(
            f"CREATE TRIGGER guard_{table} BEFORE {events} ON {table} FOR EACH ROW EXECUTE FUNCTION guard_{table}()"
        )
