"""A PostgreSQL server with mlpq's roles, as scripts/roles.sql creates them."""

from __future__ import annotations

from mlpq.store import migrate
from mlpq.store.session import Store
from tests.support.installations import ROOT
from tests.support.services import Postgres

OWNER, WORKER, SUBMITTER, READER = ROLES = ("mlpq_owner", "mlpq_worker", "mlpq_submitter", "mlpq_reader")
PASSWORDS = {f"POSTGRES_{role.removeprefix('mlpq_').upper()}_PASSWORD": f"p@ss/w$rd#1'{role}" for role in ROLES}
SCRIPT = ROOT / "scripts" / "roles.sql"


def create_roles(server: Postgres, database: str) -> None:
    """Run scripts/roles.sql."""
    done = server.psql(database, "--file", str(SCRIPT), env=PASSWORDS)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def upgrade_as_owner(server: Postgres, database: str) -> None:
    """Run `mlpq db upgrade` as the owner."""
    store = Store(server.role_url(OWNER, database))
    migrate.upgrade(store)
    store.close()
