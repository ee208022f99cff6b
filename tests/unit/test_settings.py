"""Settings: defaults in one folder, the source of every variable, and one line for an invalid value."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlpq.errors import SettingsError
from mlpq.settings import DEFAULT, masked, read_settings, training_environ
from tests.support.installations import Site


def test_defaults_are_embedded_in_the_users_data_folder() -> None:
    settings = read_settings({})
    assert settings.home.is_absolute()
    assert settings.home.name == "mlpq"
    assert settings.database_url == f"sqlite:///{settings.home}/mlpq.db"
    assert settings.broker_url == f"filesystem://{settings.home}/queue"
    assert settings.queue_dir == settings.home / "queue"
    assert (settings.data_dir, settings.artifacts_dir) == (settings.home / "data", settings.home / "artifacts")
    assert settings.threads == len(os.sched_getaffinity(0))
    assert settings.embedded
    assert set(settings.sources.values()) == {DEFAULT}


def test_other_defaults_follow_the_home_folder() -> None:
    settings = read_settings({"MLPQ_HOME": "/srv/mlpq"})
    assert settings.database_url == "sqlite:////srv/mlpq/mlpq.db"
    assert settings.broker_url == "filesystem:///srv/mlpq/queue"
    assert {settings.data_dir.parent, settings.artifacts_dir.parent} == {Path("/srv/mlpq")}


def test_each_variable_is_read_and_is_its_own_source() -> None:
    environ = {
        "MLPQ_HOME": "/srv/mlpq",
        "MLPQ_DATABASE_URL": "postgresql+psycopg://u:p@host/db",
        "MLPQ_BROKER_URL": "redis://host:6379/1",
        "MLPQ_DATA_DIR": "/data",
        "MLPQ_ARTIFACTS_DIR": "/artifacts",
        "MLPQ_THREADS": "4",
        "MLPQ_CHECKPOINT_SECONDS": "30",
        "MLPQ_LOG_FORMAT": "json",
        "MLPQ_KERNEL": "plain",
    }
    settings = read_settings(environ)
    assert (settings.database_url, settings.broker_url) == (environ["MLPQ_DATABASE_URL"], environ["MLPQ_BROKER_URL"])
    assert (settings.data_dir, settings.artifacts_dir) == (Path("/data"), Path("/artifacts"))
    assert (settings.threads, settings.checkpoint_seconds, settings.log_format) == (4, 30, "json")
    assert settings.kernel == "plain"
    assert not settings.embedded
    assert settings.queue_dir is None
    assert settings.sources == {name: name for name in environ}


def test_empty_variable_equals_an_unset_one() -> None:
    assert read_settings({"MLPQ_HOME": "", "MLPQ_THREADS": ""}) == read_settings({})


@pytest.mark.parametrize("short", ["postgresql://u@host/db", "postgresql+psycopg://u@host/db"])
def test_postgresql_urls_use_psycopg(short: str) -> None:
    assert read_settings({"MLPQ_DATABASE_URL": short}).database_url == "postgresql+psycopg://u@host/db"


def test_folder_may_begin_with_the_users_home() -> None:
    assert read_settings({"MLPQ_DATA_DIR": "~/data"}).data_dir == Path.home() / "data"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLPQ_DATABASE_URL", "mysql://host/db"),
        ("MLPQ_DATABASE_URL", "sqlite://relative.db"),
        ("MLPQ_DATABASE_URL", "/var/lib/mlpq.db"),
        ("MLPQ_DATABASE_URL", "nonsense"),
        ("MLPQ_BROKER_URL", "amqp://host"),
        ("MLPQ_BROKER_URL", "memory://"),
        ("MLPQ_BROKER_URL", "filesystem://relative"),
        ("MLPQ_BROKER_URL", "localhost:6379"),
        ("MLPQ_THREADS", "0"),
        ("MLPQ_THREADS", "many"),
        ("MLPQ_THREADS", "-1"),
        ("MLPQ_THREADS", "1.5"),
        ("MLPQ_THREADS", "100000"),
        ("MLPQ_LOG_FORMAT", "xml"),
        ("MLPQ_KERNEL", "sse"),
        ("MLPQ_BROKER_URL", "rediss://host/0?ssl_cert_reqs=nothing"),
    ],
)
def test_invalid_value_is_an_error_that_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name} (is|has) .*must.*") as error:
        read_settings({name: value})
    assert "\n" not in str(error.value)


def test_misspelt_variable_is_warned_about() -> None:
    read = read_settings({"MLPQ_DATABSE_URL": "x", "mlpq_threads": "1", "MLPQ_THREADS": "1", "OTHER": "x"})
    assert list(read.unknown) == [
        "MLPQ_DATABSE_URL is not a setting of mlpq, and is ignored (did you mean 'MLPQ_DATABASE_URL'?)",
        "mlpq_threads is not a setting of mlpq, and is ignored (did you mean 'MLPQ_THREADS'?)",
    ]
    assert read_settings({"MLPQ_THREADS": "1"}).unknown == ()


def test_training_process_cannot_reach_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = ("MLPQ_DATABASE_URL", "MLPQ_BROKER_URL", "PGPASSWORD", "PGPASSFILE", "REDISCLI_AUTH")
    for name in (*secret, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "x")
    environ = training_environ()
    assert not environ.keys() & set(secret)
    assert environ["OMP_NUM_THREADS"] == "x"


def test_error_does_not_contain_the_password() -> None:
    with pytest.raises(SettingsError) as error:
        read_settings({"MLPQ_DATABASE_URL": "mysql://me:secret@host/db"})
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:secret@host:6379/0", "redis://:***@host:6379/0"),
        ("postgresql+psycopg://me:secret@host/db", "postgresql+psycopg://me:***@host/db"),
        ("postgresql+psycopg://me@host/db", "postgresql+psycopg://me@host/db"),
        ("sqlite:////a/b.db", "sqlite:////a/b.db"),
        ("redis://[broken:secret@host", "***"),
        ("redis://secret@host", "redis://***@host"),
        (
            "postgresql://ann@h1:1,h2:2/db?sslmode=require&passwd=x",
            "postgresql://ann@h1:1,h2:2/db?sslmode=require&passwd=***",
        ),
    ],
)
def test_passwords_are_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError, match="cannot assign to field 'threads'"):
        read_settings({}).threads = 2  # type: ignore[misc]


def test_command_prints_the_warning_on_standard_error(alone: Site) -> None:
    done = alone.mlpq("jobs", "--format", "json", env={"MLPQ_HOMES": "x"})
    assert done.err == "mlpq: MLPQ_HOMES is not a setting of mlpq, and is ignored (did you mean 'MLPQ_HOME'?)\n"
    assert done.json == []
