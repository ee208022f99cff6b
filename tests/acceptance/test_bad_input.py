"""Bad input: one clear line on standard error, exit status 2, and nothing written."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlpq.jobs import Outcome
from mlpq.spec.datasets import FILES
from mlpq.store import queries
from tests.support.installations import EMBEDDED, SERVICES, Done, Site, Sites
from tests.support.job_steps import claim_one, fail, file, finish, spec
from tests.support.services import free_port

pytestmark = pytest.mark.xdist_group("bad-input")  # its fixtures are dear: made once, by one process

NOBODY_THERE = f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def embedded(sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that all cases may share, because none of them writes."""
    with sites.open(EMBEDDED, tmp_path_factory.mktemp(EMBEDDED)) as opened:
        yield opened


@pytest.fixture(scope="module", params=[EMBEDDED, SERVICES])
def filled(request: pytest.FixtureRequest, sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with jobs that succeeded, diverged, failed and wait, in an experiment of that name each."""
    with sites.open(request.param, tmp_path_factory.mktemp("filled")) as opened:
        store = opened.store
        file(store, spec(hidden="16"), experiment="good")
        finish(store, claim_one(store))
        file(store, spec(), experiment="diverged")
        fail(store, claim_one(store), Outcome.DIVERGED, "the loss became nan in epoch 1")
        file(store, spec(), experiment="cancelled")
        fail(store, claim_one(store), Outcome.CANCELLED, "cancelled")
        file(store, spec(), experiment="waiting")
        yield opened


def job_of(site: Site, experiment: str) -> str:
    (id_,) = queries.ids_of(site.store, experiment)
    return id_


def refused(site: Site, *arguments: object, **more: object) -> Done:
    """Run a command that must be refused; nothing may be written, neither rows nor files."""
    before, files = site.row_counts(), sorted(site.folder.rglob("*.safetensors"))
    done = site.mlpq(*arguments, status=2, **more)  # type: ignore[arg-type]
    assert site.row_counts() == before
    assert sorted(site.folder.rglob("*.safetensors")) == files
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("mlpq")
    assert "Traceback" not in done.out + done.err
    return done


# The rest of what can be wrong with a value is in tests/unit/test_spec.py: it goes the same way.
OPTIONS = (
    ("--optimizer adm", "did you mean 'adam'?"),
    ("--optimizer sgd:momentun=0.9", "did you mean 'momentum'?"),
    ("--dataset fashon-mnist", "did you mean 'fashion-mnist'?"),
    ("--preset texbook", "did you mean 'textbook'?"),
    ("--preset textbook --hidden 64", "the preset textbook fixes hidden"),
    ("--lr 0", "lr must be a number above 0, not '0'"),
    ("--lr -0.1", "lr must be a number above 0, not '-0.1'"),
    ("--lr fast", "lr must be a number above 0, not 'fast'"),
    ("--epochs 0", "epochs must be a whole number from 1"),
    ("--seeds 9..0", "the seed range '9..0' is empty"),
    ("--hidden 1000000000", "hidden must be a whole number from 1 to"),
    ("--hidden 16384,16384", "parameters; the cap is"),
    ("--patience 3", "patience needs a validation split"),
    ("--learning-rate 0.1", "No such option"),
    ("missing.yaml", "can't read missing.yaml: No such file"),
)


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=[options for options, _ in OPTIONS])
def test_an_option_that_cannot_be_is_refused(embedded: Site, options: str, message: str) -> None:
    assert message in refused(embedded, "submit", "--dataset", "digits", *options.split()).err


def test_an_empty_value_is_refused(embedded: Site) -> None:
    assert "seeds is empty" in refused(embedded, "submit", "--dataset", "digits", "--seeds", "").err


# And of what can be wrong with a file, in tests/unit/test_spec_file.py.
DOCUMENTS = (
    ("epoch: 3", "unknown key 'epoch' (did you mean 'epochs'?)"),
    ("optimizer: [sgd", "is broken YAML"),
    ('{"epochs": 3,, "lr": 1}', "is broken YAML"),
    ("- sgd\n- adam", "must hold keys and values"),
)


@pytest.mark.parametrize(("text", "message"), DOCUMENTS, ids=[text for text, _ in DOCUMENTS])
def test_a_file_that_cannot_be_is_refused(embedded: Site, text: str, message: str) -> None:
    file = embedded.folder / "spec.yaml"
    file.write_text(text)
    assert message in refused(embedded, "submit", file).err


COMMANDS = (
    ("export 0", "Missing option '--script'"),
    ("sumbit", "No such command"),
    ("jobs --status faild", "did you mean 'failed'?"),
    ("jobs --limit 0", "--limit"),
    ("results --format yaml", "'yaml' is not one of"),
    ("retry", "say which"),
    ("show", "Missing argument 'JOB'"),
    ("show zzz", "'zzz' is no job id"),
    ("submit --continue-from zzz", "'zzz' is no job id"),
    ("data fetch nothing", "unknown data set 'nothing'"),
    ("data import digits .", "comes with scikit-learn"),
    ("data import mnist nowhere", "nowhere is no folder"),
    ("data import mnist .", "is missing"),
    ("worker --device tpu", "'tpu' is not one of"),
    ("verify", "Missing argument 'JOB…|EXPERIMENT'"),
    ("verify --sample 0 lab", "--sample"),
    ("verify --seed 1 lab", "--seed goes with --sample"),
    ("verify --device gpu lab", "unknown device 'gpu'"),
    ("submit --experiment verify", "'verify' is the experiment of mlpq verify"),
)


@pytest.mark.parametrize(("command", "message"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_a_command_that_cannot_be_is_refused(embedded: Site, command: str, message: str) -> None:
    assert message in refused(embedded, *command.split()).err


NAMES = (
    ("jobs nothing", "no experiment is called 'nothing'; the latest are: waiting"),
    ("results nothing", "no experiment is called 'nothing'"),
    ("watch nothing", "no experiment is called 'nothing'"),
    ("retry --failed nothing", "no experiment is called 'nothing'"),
    ("cancel nothing", "no experiment is called 'nothing', and 'nothing' is no job id"),
    ("logs 00000000000", "no job begins with"),
    ("verify nothing", "no experiment is called 'nothing', and 'nothing' is no job id"),
    ("verify waiting", "the experiment waiting has no result yet"),
    ("export 00000000000 --script", "no job begins with"),
    ("submit --continue-from 00000000000", "no job begins with"),
)


@pytest.mark.parametrize(("command", "message"), NAMES, ids=[command for command, _ in NAMES])
def test_a_command_that_names_what_is_not_there_is_refused(filled: Site, command: str, message: str) -> None:
    assert message in refused(filled, *command.split()).err


def test_nothing_goes_on_from_a_job_that_did_not_succeed(filled: Site) -> None:
    for experiment in ("diverged", "cancelled"):
        done = refused(filled, "submit", "--continue-from", job_of(filled, experiment), "--experiment", "new")
        assert "nothing can go on from it" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--hidden 32", "hidden is 32 here and 16 there; leave --hidden out"),
        ("--dataset mnist", "dataset is mnist here and digits there"),
        ("--seeds 0..3", "keeps its seed, 42"),
    ],
)
def test_nothing_goes_on_from_a_job_of_another_shape(filled: Site, options: str, message: str) -> None:
    assert message in refused(filled, "submit", "--continue-from", job_of(filled, "good"), *options.split()).err


def test_only_jobs_that_ended_badly_are_retried(filled: Site) -> None:
    assert "only failed and cancelled ones" in refused(filled, "retry", job_of(filled, "good")).err
    assert "only failed and cancelled ones" in refused(filled, "retry", job_of(filled, "waiting")).err


UNREACHABLE_DATABASES = {
    "nobody listens": f"postgresql+psycopg://me:secret@{NOBODY_THERE}/db",
    "no such host": "postgresql+psycopg://me:secret@host.invalid/db",
    "no such folder": "sqlite:////proc/nothing/mlpq.db",
    "a folder": "sqlite:////tmp",
    "another scheme": "mysql://me:secret@host/db",
    "no port": "postgresql+psycopg://me:secret@127.0.0.1:port/db",
}


@pytest.mark.parametrize("url", UNREACHABLE_DATABASES.values(), ids=UNREACHABLE_DATABASES.keys())
def test_a_database_that_does_not_answer_is_told(embedded: Site, url: str) -> None:
    done = refused(embedded, "submit", "--dataset", "digits", env={"MLPQ_DATABASE_URL": url})
    assert "secret" not in done.err


def test_a_file_that_is_no_database_is_told(embedded: Site) -> None:
    file = embedded.folder / "letter.txt"
    file.write_text("Dear database, " * 100)
    refused(embedded, "jobs", env={"MLPQ_DATABASE_URL": f"sqlite:///{file}"})


NO_BROKERS = {
    "another scheme": "amqp://me:secret@host",
    "no port": "redis://:secret@127.0.0.1:port/0",
    "no database": "redis://:secret@127.0.0.1/name",
}


@pytest.mark.parametrize("url", NO_BROKERS.values(), ids=NO_BROKERS.keys())
def test_a_url_that_no_broker_has_is_told_before_anything_is_filed(embedded: Site, url: str) -> None:
    done = refused(embedded, "submit", "--dataset", "digits", env={"MLPQ_BROKER_URL": url})
    assert "secret" not in done.err


def test_a_worker_that_cannot_begin_says_why(embedded: Site) -> None:
    refused(embedded, "worker", env={"MLPQ_BROKER_URL": "filesystem:///proc/nothing"})
    refused(embedded, "worker", env={"MLPQ_DATABASE_URL": UNREACHABLE_DATABASES["nobody listens"]})
    missing = "mps" if sys.platform == "linux" else "cuda"
    assert f"no {missing} device here" in refused(embedded, "worker", "--device", missing).err


@pytest.mark.parametrize("home", ["/proc/nothing", "/dev/null/below", "~nobody-by-that-name/mlpq"])
def test_a_home_that_cannot_be_made_is_told(embedded: Site, home: str) -> None:
    refused(embedded, "submit", "--dataset", "digits", env={"MLPQ_HOME": home})


def test_threads_that_are_no_number_are_told(embedded: Site) -> None:
    assert "MLPQ_THREADS is 'many'" in refused(embedded, "jobs", env={"MLPQ_THREADS": "many"}).err


@pytest.fixture(scope="module")
def copied(fashion_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a copy of the real files."""
    data_dir = tmp_path_factory.mktemp("data")
    shutil.copytree(fashion_mnist, data_dir / "FashionMNIST" / "raw")
    return data_dir


@pytest.fixture(params=["flip", "cut", "remove"])
def damaged(request: pytest.FixtureRequest, copied: Path) -> Iterator[Path]:
    """The same with one file damaged, for one test."""
    folder = copied / "FashionMNIST" / "raw"
    victim = folder / f"{FILES[2]}.gz"
    whole = victim.read_bytes()
    content = bytearray(whole)
    content[len(content) // 2] ^= 1
    victim.write_bytes({"flip": content, "cut": whole[:-1000], "remove": b""}[request.param])
    if request.param == "remove":
        victim.unlink()
    yield copied
    victim.write_bytes(whole)


def test_damaged_data_is_refused_by_name(embedded: Site, damaged: Path) -> None:
    env = {"MLPQ_DATA_DIR": str(damaged)}
    for command in ("submit --preset textbook", "data fetch fashion-mnist"):
        assert FILES[2] in refused(embedded, *command.split(), env=env).err


def test_damaged_data_is_not_imported(embedded: Site, damaged: Path) -> None:
    source = damaged / "FashionMNIST" / "raw"
    env = {"MLPQ_DATA_DIR": str(embedded.folder / "imported")}
    assert FILES[2] in refused(embedded, "data", "import", "fashion-mnist", source, env=env).err
    assert not (embedded.folder / "imported").exists()
