"""The settings: environment variables, read once into one frozen object. No other module reads os.environ."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path

from mlpq.errors import DataError, SettingsError, nearest, reason_of, suggestion
from mlpq.regular_files import make_private_folder
from mlpq.text import escaped
from mlpq.urls import is_well_formed, parameter
from mlpq.urls import masked as masked  # where everything else about settings is

DEFAULT = "default"
DATABASE_SCHEMES = ("sqlite", "postgresql+psycopg")
CUBLAS_WORKSPACE = ":4096:8"
LOG_FORMATS = ("text", "json")
KERNELS = ("auto", "avx512", "avx2", "plain", "off")
BROKER_SCHEMES = ("filesystem", "redis", "rediss")
LOGIN_CHARACTERS = 64  # of a login name that is stored
CERTIFICATE_CHECKS = ("required", "optional", "none")
# What a training process has no use for: it must not be able to reach the services.
CREDENTIALS = ("MLPQ_DATABASE_URL", "MLPQ_BROKER_URL", "REDISCLI_AUTH")


@dataclass(frozen=True)
class Settings:
    """The settings of a process. `sources` maps each variable to its own name where it is set, else to "default"."""

    home: Path
    database_url: str
    broker_url: str
    data_dir: Path
    artifacts_dir: Path
    threads: int
    checkpoint_seconds: int
    log_format: str
    kernel: str
    sources: Mapping[str, str]
    unknown: tuple[str, ...] = ()  # variables that look like settings: a warning about each

    @property
    def embedded(self) -> bool:
        """Whether mlpq runs without services: with SQLite and the embedded queue."""
        return self.database_url.startswith("sqlite") and self.broker_url.startswith("filesystem")

    @property
    def queue_dir(self) -> Path | None:
        """The folder of the embedded queue; None where the broker is Redis."""
        scheme, _, path = self.broker_url.partition("://")
        return Path(path) if scheme == "filesystem" else None


def writable_data_dir(config: Settings) -> Path:
    """The data folder. Its parent is the home by default, which must be private whoever creates it first."""
    if config.data_dir.is_relative_to(config.home):
        try:
            make_private_folder(config.home)
        except OSError as error:
            raise DataError(
                f"can't create the folder {config.home}: {reason_of(error)}; set MLPQ_HOME to one that you own"
            ) from error
    return config.data_dir


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Settings from `environ`; raises SettingsError that names the variable where a value is invalid."""
    sources = {}

    def value(name: str, default: str) -> str:
        sources[name] = name if environ.get(name) else DEFAULT
        return environ.get(name) or default

    home = _folder("MLPQ_HOME", value("MLPQ_HOME", "") or _default_home())
    database_url = value("MLPQ_DATABASE_URL", f"sqlite:///{home / 'mlpq.db'}")
    if database_url.startswith("postgresql://"):
        database_url = database_url.replace("postgresql://", "postgresql+psycopg://", 1)
    _check_url("MLPQ_DATABASE_URL", database_url, DATABASE_SCHEMES)
    broker_url = value("MLPQ_BROKER_URL", f"filesystem://{home / 'queue'}")
    _check_url("MLPQ_BROKER_URL", broker_url, BROKER_SCHEMES)
    return Settings(
        home=home,
        database_url=database_url,
        broker_url=broker_url,
        data_dir=_folder("MLPQ_DATA_DIR", value("MLPQ_DATA_DIR", str(home / "data"))),
        artifacts_dir=_folder("MLPQ_ARTIFACTS_DIR", value("MLPQ_ARTIFACTS_DIR", str(home / "artifacts"))),
        threads=_number("MLPQ_THREADS", value("MLPQ_THREADS", str(_cores())), 1, 1024),
        checkpoint_seconds=_number("MLPQ_CHECKPOINT_SECONDS", value("MLPQ_CHECKPOINT_SECONDS", "60"), 0, 86_400),
        log_format=_choice("MLPQ_LOG_FORMAT", value("MLPQ_LOG_FORMAT", "text"), LOG_FORMATS),
        kernel=_choice("MLPQ_KERNEL", value("MLPQ_KERNEL", "auto"), KERNELS),
        sources=sources,
        unknown=tuple(
            f"{name} is not a setting of mlpq, and is ignored{suggestion(name, sources)}"
            for name in sorted(environ)
            if name.upper().startswith("MLPQ_") and name not in sources
        ),
    )


@cache
def settings() -> Settings:
    """The settings of this process."""
    read = settings_with({})
    for warning in read.unknown:
        print(f"mlpq: {warning}", file=sys.stderr)
    return read


def settings_with(given: Mapping[str, object]) -> Settings:
    """The settings that the environment has now, except those that are given: {"home": "/data"} for MLPQ_HOME.

    None leaves a setting to the environment. Raises SettingsError.
    """
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        os.environ.pop(name, None)  # Celery would prefer them to the broker that mlpq configures
    variables = {f"MLPQ_{name.upper()}": str(value) for name, value in given.items() if value is not None}
    read = read_settings({**os.environ, **variables})
    for name in given:
        if f"MLPQ_{name.upper()}" not in read.sources:
            known = [variable.removeprefix("MLPQ_").lower() for variable in read.sources]
            raise SettingsError(f"unknown setting '{name}'{nearest(name, known)}")
    return read


def python_module(name: str, *arguments: str) -> list[str]:
    """The command line of a Python child that runs this module.

    -P: it must not import from the folder where the command was started, which may be anybody's.
    """
    return [sys.executable, "-P", "-m", name, *arguments]


def worker_environ(config: Settings) -> dict[str, str]:
    """The environment of a worker with these settings: this process's, and the settings that are not at their defaults.

    The settings may be others than those of this process.
    """
    values: dict[str, object] = {
        "MLPQ_HOME": config.home,
        "MLPQ_DATABASE_URL": config.database_url,
        "MLPQ_BROKER_URL": config.broker_url,
        "MLPQ_DATA_DIR": config.data_dir,
        "MLPQ_ARTIFACTS_DIR": config.artifacts_dir,
        "MLPQ_THREADS": config.threads,
        "MLPQ_CHECKPOINT_SECONDS": config.checkpoint_seconds,
        "MLPQ_LOG_FORMAT": config.log_format,
        "MLPQ_KERNEL": config.kernel,
    }
    assert values.keys() == config.sources.keys(), "each setting is passed on"
    given = {name: str(value) for name, value in values.items() if config.sources[name] != DEFAULT}
    return {**os.environ, **given}


def training_environ() -> dict[str, str]:
    """The environment of training processes: this one's, with the variables that torch reads when it is imported, and
    without those that give access to the database and the broker.

    cuBLAS is deterministic only with a fixed workspace; the ranks of a job connect over the loopback interface.
    """
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    interfaces = dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), loopback)
    kept = {name: value for name, value in os.environ.items() if name not in CREDENTIALS and not name.startswith("PG")}
    return {**kept, "CUBLAS_WORKSPACE_CONFIG": CUBLAS_WORKSPACE, **interfaces}


def login_name() -> str | None:
    """The login name of who runs this process, as one line; None of a container's user that has none."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # the latter since Python 3.13
        return None
    return " ".join(escaped(name).split())[:LOGIN_CHARACTERS] or None


def _default_home() -> str:
    import platformdirs  # only here: with MLPQ_HOME nothing needs it

    try:
        return platformdirs.user_data_dir("mlpq", appauthor=False)
    except RuntimeError:  # a container's user that is in no list of users, without HOME
        raise SettingsError("this user has no home folder: set MLPQ_HOME to a folder you own") from None


def _folder(name: str, text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise SettingsError(f"{name} is '{text}', which is not a folder: {error}") from None


def _check_url(name: str, url: str, schemes: tuple[str, ...]) -> None:
    scheme = url.partition("://")[0]
    if scheme not in schemes or not is_well_formed(url):
        examples = {
            "MLPQ_DATABASE_URL": "sqlite:////absolute/path.db or postgresql+psycopg://user:password@host/database",
            "MLPQ_BROKER_URL": "redis://host:6379/0 or filesystem:///absolute/folder",
        }
        advice = "; in a user name or a password write @ as %40, / as %2F and : as %3A" if "@" in url else ""
        raise SettingsError(
            f"{name} is malformed, and not shown because it may contain a password; "
            f"it must look like {examples[name]}{advice}"
        )
    verified = parameter(url, "ssl_cert_reqs")
    if verified is not None and verified not in CERTIFICATE_CHECKS:
        raise SettingsError(f"{name} has an invalid ssl_cert_reqs; it must be {' or '.join(CERTIFICATE_CHECKS)}")


def _cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _choice(name: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise SettingsError(f"{name} is '{text}'; it must be {' or '.join(choices)}")
    return text


def _number(name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
        raise SettingsError(f"{name} is '{text}'; it must be a whole number from {least} to {most}")
    return int(text)


class OutputKind(StrEnum):
    """Where the output of this process is read."""

    TERMINAL = "terminal"
    NOTEBOOK = "notebook"  # the output of a cell, which knows no cursor
    LOG = "log"  # of a continuous integration, though it may be a terminal for the process


def output_kind() -> OutputKind:
    """Where output that looks like that of a terminal is read."""
    if "JPY_PARENT_PID" in os.environ:  # Jupyter's kernels set it
        return OutputKind.NOTEBOOK
    return OutputKind.LOG if os.environ.get("CI", "").lower() in ("1", "true") else OutputKind.TERMINAL


def without_pydantic_plugins() -> None:
    """Keep pydantic from looking for plugins: mlpq has none, and the search reads the metadata of all packages."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
