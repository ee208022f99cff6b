"""What the URLs of the services may say: options, several hosts, certificates."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import text

from mlpq import queue
from mlpq.errors import QueueError, StoreError
from mlpq.settings import Settings, read_settings
from mlpq.store import migrate, queries
from mlpq.store.session import Store
from tests.support.services import Postgres, Redis, free_port

SECRET = "hunter2-very-secret"


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    name = postgres.create()
    yield name
    postgres.drop(name)


def shown(store: Store, setting: str) -> str:
    with store.read() as connection:
        return str(connection.execute(text(f"SHOW {setting}")).scalar_one())


def test_options_of_the_url_are_honored_together_with_ours(postgres: Postgres, database: str) -> None:
    plain = Store(postgres.url(database))
    with plain.write() as connection:
        connection.execute(text("CREATE SCHEMA lab"))
    store = Store(postgres.url(database) + "?options=-csearch_path%3Dlab%20-cwork_mem%3D1MB&application_name=ann")
    assert [shown(store, name) for name in ("search_path", "work_mem", "application_name")] == ["lab", "1MB", "ann"]
    assert shown(store, "timezone").lower() == "utc"
    migrate.upgrade(store)
    assert migrate.current(store) == migrate.SCHEMA
    assert queries.count_by_status(store) == {}
    assert migrate.current(plain) is None
    store.close()
    plain.close()


def test_options_of_the_environment_are_honored(
    postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-cwork_mem=2MB")
    store = Store(postgres.url(database))
    assert (shown(store, "work_mem"), shown(store, "timezone").lower()) == ("2MB", "utc")
    store.close()


@pytest.mark.parametrize("hosts", ["127.0.0.1:{gone},127.0.0.1:{port}", "127.0.0.1:{port},127.0.0.1:{gone}"])
def test_url_with_several_hosts_finds_the_one_that_answers(postgres: Postgres, database: str, hosts: str) -> None:
    where = hosts.format(gone=free_port(), port=postgres.port)
    store = Store(f"postgresql+psycopg://postgres@{where}/{database}?target_session_attrs=read-write")
    migrate.upgrade(store)
    assert migrate.current(store) == migrate.SCHEMA
    store.close()


def test_unknown_parameter_is_a_one_line_error_without_its_value(postgres: Postgres, database: str) -> None:
    store = Store(f"{postgres.url(database)}?passwd={SECRET}")
    with pytest.raises(StoreError) as error:
        queries.count_by_status(store)
    assert SECRET not in str(error.value)
    assert "passwd" in str(error.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "server.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


@pytest.fixture(scope="module")
def tls_port(certificate: tuple[Path, Path]) -> Iterator[int]:
    port, (made, key) = free_port(), certificate
    server = Redis("--tls-port", str(port), "--tls-cert-file", str(made), "--tls-key-file", str(key),
                   "--tls-ca-cert-file", str(made), "--tls-auth-clients", "no")  # fmt: skip
    try:
        server.start()
        yield port
    finally:
        server.stop()


def broker(url: str) -> Settings:
    return read_settings({"MLPQ_BROKER_URL": url})


def test_certificate_of_the_broker_is_verified(tls_port: int, certificate: tuple[Path, Path]) -> None:
    with pytest.raises(QueueError, match="certificate verify failed"):
        queue.check_broker(broker(f"rediss://localhost:{tls_port}/0"))
    trusted = f"ssl_ca_certs={certificate[0]}"
    queue.check_broker(broker(f"rediss://localhost:{tls_port}/0?{trusted}"))
    with pytest.raises(QueueError, match="certificate"):  # another name than the certificate's
        queue.check_broker(broker(f"rediss://127.0.0.1:{tls_port}/0?{trusted}"))


def test_verification_can_be_switched_off_explicitly(tls_port: int) -> None:
    queue.wake(broker(f"rediss://localhost:{tls_port}/0?ssl_cert_reqs=none&ssl_check_hostname=false"), "cpu", 1)
    with redis.Redis(port=tls_port, ssl=True, ssl_cert_reqs="none", ssl_check_hostname=False) as client:
        assert client.llen("mlpq:mlpq.cpu") == 1
