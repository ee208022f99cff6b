-- Create the roles of mlpq in the current database, or bring them up to date; run it as a superuser by psql 15 or newer:
--
--   psql --file scripts/roles.sql postgresql://…
--
-- Their passwords come from the environment: POSTGRES_OWNER_PASSWORD, POSTGRES_WORKER_PASSWORD,
-- POSTGRES_SUBMITTER_PASSWORD and POSTGRES_READER_PASSWORD. `mlpq db upgrade`, run as mlpq_owner, grants them their
-- rights on the tables (service/mlpq/store/roles.py).
\set ON_ERROR_STOP on
\set QUIET on
\set owner_password ''
\set worker_password ''
\set submitter_password ''
\set reader_password ''
\getenv owner_password POSTGRES_OWNER_PASSWORD
\getenv worker_password POSTGRES_WORKER_PASSWORD
\getenv submitter_password POSTGRES_SUBMITTER_PASSWORD
\getenv reader_password POSTGRES_READER_PASSWORD
SELECT '' IN (:'owner_password', :'worker_password', :'submitter_password', :'reader_password') AS missing \gset
\if :missing
  DO $$ BEGIN RAISE 'a password is missing: set POSTGRES_OWNER_PASSWORD and the others'; END $$;
\endif

BEGIN;
SET LOCAL client_min_messages = warning; -- not that a role is a member already
-- One at a time, as migrations do.
SELECT pg_advisory_xact_lock(x'6d6c7071'::bigint) \g /dev/null
SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['mlpq_owner', 'mlpq_worker', 'mlpq_submitter', 'mlpq_reader']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE mlpq_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'owner_password';
ALTER ROLE mlpq_worker LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD :'worker_password';
ALTER ROLE mlpq_submitter LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 40
  PASSWORD :'submitter_password';
ALTER ROLE mlpq_reader LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 30
  PASSWORD :'reader_password';
GRANT mlpq_reader TO mlpq_worker, mlpq_submitter; -- mlpq sql switches to it
ALTER ROLE mlpq_reader SET default_transaction_read_only = on;
ALTER ROLE mlpq_reader SET statement_timeout = '2min';
ALTER ROLE mlpq_reader SET temp_file_limit = '1GB';
ALTER ROLE mlpq_submitter SET statement_timeout = '5min';
ALTER ROLE mlpq_submitter SET idle_in_transaction_session_timeout = '1min';
ALTER ROLE mlpq_submitter SET temp_file_limit = '1GB';
ALTER ROLE mlpq_worker SET temp_file_limit = '1GB';

-- Nobody else connects, and only the owner creates anything.
REVOKE ALL ON DATABASE :"DBNAME" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"DBNAME" TO mlpq_owner, mlpq_worker, mlpq_submitter, mlpq_reader;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER SCHEMA public OWNER TO mlpq_owner;
SELECT format('ALTER %s %s OWNER TO mlpq_owner', CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, oid::regclass)
FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND relowner <> 'mlpq_owner'::regrole
  AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_class.oid AND deptype = 'e') \gexec
SELECT format('ALTER FUNCTION %s OWNER TO mlpq_owner', oid::regprocedure)
FROM pg_proc
WHERE pronamespace = 'public'::regnamespace AND proowner <> 'mlpq_owner'::regrole
  AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e') \gexec

-- Functions with which a session without any right on tables disturbs others or fills the disk.
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', oid::regprocedure)
FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace
  AND proname ~ '^(pg_(try_)?advisory_|pg_(logical_emit_message|terminate_backend|cancel_backend|notify)$|lo_|lo(read|write)$)'
\gexec
GRANT EXECUTE ON FUNCTION pg_advisory_xact_lock(bigint) TO mlpq_owner; -- one migration at a time
COMMIT;
