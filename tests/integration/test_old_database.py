"""A database that version 0.1.0 wrote works after `mlpq db upgrade`, on SQLite and PostgreSQL.

It has finished, failed, cancelled and queued jobs, and one whose worker was killed during training.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import alembic.command
import pytest
from alembic.config import Config
from sqlalchemy import JSON, Boolean, DateTime, MetaData, Table, insert, text
from sqlalchemy.types import TypeEngine

from mlpq.store.schema import metadata
from mlpq.store.session import Store
from tests.support.installations import EMBEDDED, ROOT, SERVICES, Site, Sites

FIXTURE = ROOT / "tests" / "fixtures" / "v0.1.0"
SAME_BITS = {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "avx2"}  # as when the fixture was created
SERIALS = {"experiments": "id", "jobs": "seq", "environments": "id", "verifications": "id"}


def load(store: Store, artifacts: Path) -> None:
    """Create that version's schema and insert the fixture's rows."""
    config = Config()
    config.set_main_option("script_location", str(files("mlpq_migrations")))
    rows = json.loads((FIXTURE / "database.json").read_text().replace("{artifacts}", str(artifacts)))
    (revision,) = rows.pop("alembic_version")
    with store.write() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, revision["version_num"])
        schema = MetaData()
        schema.reflect(connection)
        for name, found in rows.items():
            if found:
                connection.execute(insert(schema.tables[name]), [_typed(metadata.tables[name], row) for row in found])
        for name, serial in SERIALS.items() if not store.is_sqlite else ():
            counter = f"setval(pg_get_serial_sequence('{name}', '{serial}'), max({serial}))"
            connection.execute(text(f"SELECT {counter} FROM {name}"))


def _typed(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    """The row with Python values, instead of the text and numbers that SQLite stores."""
    return {name: _value(table.c[name].type, value) for name, value in row.items()}


def _value(kind: TypeEngine[Any], value: Any) -> Any:
    kind = getattr(kind, "impl", kind)
    if value is None:
        return None
    if isinstance(kind, JSON):
        return json.loads(value)
    if isinstance(kind, Boolean):
        return bool(value)
    return datetime.fromisoformat(value).replace(tzinfo=UTC) if isinstance(kind, DateTime) else value


@pytest.fixture(params=[EMBEDDED, SERVICES])
def old_site(request: pytest.FixtureRequest, sites: Sites, tmp_path: Path) -> Iterator[Site]:
    """A site with that version's database, upgraded by `mlpq db upgrade`."""
    with sites.open(request.param, tmp_path, migrated=False) as site:
        site.env.update(SAME_BITS)
        artifacts = tmp_path / "home" / "artifacts"
        shutil.copytree(FIXTURE / "artifacts", artifacts)
        load(site.store, artifacts)
        site.mlpq("db", "upgrade")
        yield site


def test_old_results_are_listed_and_compared(old_site: Site) -> None:
    rows = old_site.mlpq("results", "lab", "--format", "json").json
    assert [row["status"] for row in rows] == ["succeeded"] * 18
    assert old_site.mlpq("results", "diverged", "--format", "json").json[0]["outcome"] == "diverged"
    comparison = old_site.mlpq("compare", "lab", "--by", "optimizer", "--format", "json").json
    assert [arm["arm"] for arm in comparison["arms"]] == ["adam", "adamw", "sgd"]
    assert "job" in old_site.mlpq("show", rows[0]["id"]).out


@pytest.mark.timeout(600)
def test_old_results_verify_to_the_bit_and_old_jobs_run(old_site: Site) -> None:
    with old_site.worker():
        chain = {row["status"]: row for row in old_site.mlpq("results", "chain", "--format", "json").json}
        verified = old_site.mlpq("verify", "lab", "plain", "chain", "--format", "json").json
        assert {each["grade"] for each in verified["verifications"]} == {"same_bits"}
        assert [each["misfits"] for each in verified["verifications"]] == [[]] * 22
        assert chain.keys() == {"succeeded"}
        for experiment, count in (("queued", 6), ("interrupted", 1)):
            old_site.mlpq("watch", experiment)
            rows = old_site.mlpq("results", experiment, "--format", "json").json
            assert [row["status"] for row in rows] == ["succeeded"] * count
        (interrupted,) = rows
        assert old_site.outcomes(interrupted["id"]) == [(1, "lost"), (2, "succeeded")]
