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
from tests.support.job_steps import claim_one, fail, finish, spec, submit
from tests.support.services import free_port

NOBODY_THERE = f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def embedded(sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that all cases share, because none of them writes."""
    with sites.open(EMBEDDED, tmp_path_factory.mktemp(EMBEDDED)) as opened:
        yield opened


@pytest.fixture(scope="module", params=[EMBEDDED, SERVICES])
def filled(request: pytest.FixtureRequest, sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with a succeeded, a diverged, a cancelled and a queued job, in the experiments that `submit` names."""
    with sites.open(request.param, tmp_path_factory.mktemp("filled")) as opened:
        store = opened.store
        submit(store, spec(hidden="16"), experiment="good")
        finish(store, claim_one(store))
        submit(store, spec(), experiment="diverged")
        fail(store, claim_one(store), Outcome.DIVERGED, "the loss became nan in epoch 1")
        submit(store, spec(), experiment="cancelled")
        fail(store, claim_one(store), Outcome.CANCELLED, "cancelled")
        submit(store, spec(), experiment="waiting")
        yield opened


def job_of(site: Site, experiment: str) -> str:
    (id_,) = queries.ids_of(site.store, experiment)
    return id_


def rejected(site: Site, *arguments: object, **more: object) -> Done:
    """Run a command that must be rejected without writing any row or file."""
    before, files = site.row_counts(), sorted(site.folder.rglob("*.safetensors"))
    done = site.mlpq(*arguments, status=2, **more)  # type: ignore[arg-type]
    assert site.row_counts() == before
    assert sorted(site.folder.rglob("*.safetensors")) == files
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("mlpq")
    assert "Traceback" not in done.out + done.err
    return done


# tests/unit/test_spec.py has more invalid values, which take the same path.
OPTIONS = (
    ("--optimizer adm", "did you mean 'adam'?"),
    ("--optimizer sgd:momentun=0.9", "did you mean 'momentum'?"),
    ("--dataset fashon-mnist", "did you mean 'fashion-mnist'?"),
    ("--preset texbook", "did you mean 'textbook'?"),
    ("--preset textbook --hidden 64", "the preset textbook determines hidden"),
    ("--lr 0", "lr must be a number above 0, not '0'"),
    ("--lr -0.1", "lr must be a number above 0, not '-0.1'"),
    ("--lr fast", "lr must be a number above 0, not 'fast'"),
    ("--epochs 0", "epochs must be a whole number from 1"),
    ("--seeds 9..0", "the seed range '9..0' is empty"),
    ("--hidden 1000000000", "hidden must be a whole number from 1 to"),
    ("--hidden 16384,16384", "parameters; the limit is"),
    ("--patience 3", "patience needs a validation split"),
    ("--learning-rate 0.1", "No such option '--learning-rate'. Did you mean '--lr'?"),
    ("--layers 32,16", "Did you mean '--hidden'?"),
    ("--seeds 0-9", "write 0..9"),
    ("--lr 0,1", "decimals need a point: 0.1"),
    ("--hidden 32x32", "write 32,32"),
    ("--hidden 32,,10", "comma with nothing before or after it"),
    ("--device cpu --device auto", "Option '--device' is given twice and takes one value. See mlpq submit --help."),
    ("--preset textbook --preset fmnist_mlp", "Option '--preset' is given twice and takes one value."),
    ("--lr 0.1,0.2 --epochs 1,2,3 --zip lr,epochs", "need equally many values: lr has 2, epochs has 3"),
    ("/dev/zero", "/dev/zero is no spec file: it is larger than 4 MB"),
    ("missing.yaml", "can't read missing.yaml: No such file"),
)


@pytest.mark.parametrize(("options", "message"), OPTIONS, ids=[options for options, _ in OPTIONS])
def test_invalid_option_is_rejected(embedded: Site, options: str, message: str) -> None:
    assert message in rejected(embedded, "submit", "--dataset", "digits", *options.split()).err


def test_empty_value_is_rejected(embedded: Site) -> None:
    assert "seeds is empty" in rejected(embedded, "submit", "--dataset", "digits", "--seeds", "").err


# tests/unit/test_spec_file.py has more invalid files.
DOCUMENTS = (
    ("epoch: 3", "unknown key 'epoch' (did you mean 'epochs'?)"),
    ("optimizer: [sgd", "is not valid YAML"),
    ('{"epochs": 3,, "lr": 1}', "is not valid YAML"),
    ("- sgd\n- adam", "must contain keys and values"),
    ("epochs: 3\nepochs: 4", "'epochs' is given twice"),
    ("sweeps:\n  - {lr: 0.1, lr: 0.2}", "'lr' is given twice"),
    ("sweeps:\n  - lr: 0", "sweep 1: lr must be a number above 0"),
)


@pytest.mark.parametrize(("text", "message"), DOCUMENTS, ids=[text for text, _ in DOCUMENTS])
def test_invalid_spec_file_is_rejected(embedded: Site, text: str, message: str) -> None:
    file = embedded.folder / "spec.yaml"
    file.write_text(text)
    assert message in rejected(embedded, "submit", file).err


COMMANDS = (
    ("export 0 --script --notebook", "only one of --script, --notebook and --spec"),
    ("sumbit", "No such command"),
    ("jobs --status faild", "did you mean 'failed'?"),
    ("jobs --limit 0", "--limit"),
    ("results --format yaml", "'yaml' is not one of"),
    ("retry", "Missing argument"),
    ("show", "Missing argument 'JOB'"),
    ("show zzz", "'zzz' is not a job id"),
    ("submit --continue-from zzz", "'zzz' is not a job id"),
    ("data fetch nothing", "unknown data set 'nothing'"),
    ("data import digits .", "comes with mlpq"),
    ("data import mnist nowhere", "nowhere is not a folder"),
    ("data import mnist .", ". has no file of mnist: name the folder with train-images"),
    ("worker --device tpu", "'tpu' is not one of"),
    ("verify", "Missing argument 'JOB…|EXPERIMENT'"),
    ("verify --sample 0 lab", "--sample"),
    ("verify --seed 1 lab", "--seed needs --sample"),
    ("verify --device gpu lab", "unknown device 'gpu'"),
    ("submit --experiment verify", "'verify' is reserved for mlpq verify"),
)


@pytest.mark.parametrize(("command", "message"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_invalid_command_is_rejected(embedded: Site, command: str, message: str) -> None:
    assert message in rejected(embedded, *command.split()).err


NAMES = (
    ("jobs nothing", "no experiment is called 'nothing'; the latest are: waiting"),
    ("results nothing", "no experiment is called 'nothing'"),
    ("watch nothing", "no experiment is called 'nothing'"),
    ("retry --failed nothing", "no experiment is called 'nothing'"),
    ("cancel nothing", "no experiment is called 'nothing', and 'nothing' is not a job id"),
    ("logs 00000000000", "no job begins with"),
    ("verify nothing", "no experiment is called 'nothing', and 'nothing' is not a job id"),
    ("verify waiting", "the experiment waiting has no result yet"),
    ("export 00000000000 --script", "no job begins with"),
    ("submit --continue-from 00000000000", "no job begins with"),
)


@pytest.mark.parametrize(("command", "message"), NAMES, ids=[command for command, _ in NAMES])
def test_unknown_name_is_rejected(filled: Site, command: str, message: str) -> None:
    assert message in rejected(filled, *command.split()).err


def test_jobs_cannot_continue_from_a_job_without_a_result(filled: Site) -> None:
    for experiment in ("diverged", "cancelled"):
        done = rejected(filled, "submit", "--continue-from", job_of(filled, experiment), "--experiment", "new")
        assert "no job can continue from it" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--hidden 32", "hidden is 32 here and 16 in the parent; leave --hidden out"),
        ("--dataset mnist", "dataset is mnist here and digits in the parent"),
        ("--seeds 0..3", "keeps its seed, 42"),
    ],
)
def test_jobs_cannot_continue_from_a_job_of_another_shape(filled: Site, options: str, message: str) -> None:
    assert message in rejected(filled, "submit", "--continue-from", job_of(filled, "good"), *options.split()).err


def test_only_failed_and_cancelled_jobs_can_be_retried(filled: Site) -> None:
    assert "only failed and cancelled jobs" in rejected(filled, "retry", job_of(filled, "good")).err
    assert "only failed and cancelled jobs" in rejected(filled, "retry", job_of(filled, "waiting")).err


UNREACHABLE_DATABASES = {
    "closed port": f"postgresql+psycopg://me:secret@{NOBODY_THERE}/db",
    "no such host": "postgresql+psycopg://me:secret@host.invalid/db",
    "no such folder": "sqlite:////proc/nothing/mlpq.db",
    "a folder": "sqlite:////tmp",
    "another scheme": "mysql://me:secret@host/db",
    "no port": "postgresql+psycopg://me:secret@127.0.0.1:port/db",
}


@pytest.mark.parametrize("url", UNREACHABLE_DATABASES.values(), ids=UNREACHABLE_DATABASES.keys())
def test_unreachable_database_is_one_line(embedded: Site, url: str) -> None:
    done = rejected(embedded, "submit", "--dataset", "digits", env={"MLPQ_DATABASE_URL": url})
    assert "secret" not in done.err


def test_file_that_is_not_a_database_is_one_line(embedded: Site) -> None:
    file = embedded.folder / "letter.txt"
    file.write_text("Not a database. " * 100)
    rejected(embedded, "jobs", env={"MLPQ_DATABASE_URL": f"sqlite:///{file}"})


NO_BROKERS = {
    "another scheme": "amqp://me:secret@host",
    "no port": "redis://:secret@127.0.0.1:port/0",
    "no database": "redis://:secret@127.0.0.1/name",
}


@pytest.mark.parametrize("url", NO_BROKERS.values(), ids=NO_BROKERS.keys())
def test_invalid_broker_url_is_rejected_before_anything_is_written(embedded: Site, url: str) -> None:
    done = rejected(embedded, "submit", "--dataset", "digits", env={"MLPQ_BROKER_URL": url})
    assert "secret" not in done.err


def test_worker_that_cannot_start_says_why(embedded: Site) -> None:
    rejected(embedded, "worker", env={"MLPQ_BROKER_URL": "filesystem:///proc/nothing"})
    rejected(embedded, "worker", env={"MLPQ_DATABASE_URL": UNREACHABLE_DATABASES["closed port"]})
    missing = "mps" if sys.platform == "linux" else "cuda"
    assert f"no {missing} device on this machine" in rejected(embedded, "worker", "--device", missing).err


@pytest.mark.parametrize("home", ["/proc/nothing", "/dev/null/below", "~nobody-by-that-name/mlpq"])
def test_home_that_cannot_be_created_is_one_line(embedded: Site, home: str) -> None:
    rejected(embedded, "submit", "--dataset", "digits", env={"MLPQ_HOME": home})


def test_invalid_number_of_threads_is_one_line(embedded: Site) -> None:
    assert "MLPQ_THREADS is 'many'" in rejected(embedded, "jobs", env={"MLPQ_THREADS": "many"}).err


@pytest.fixture(scope="module")
def copied(fashion_mnist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a copy of the real files."""
    data_dir = tmp_path_factory.mktemp("data")
    shutil.copytree(fashion_mnist, data_dir / "FashionMNIST" / "raw")
    return data_dir


@pytest.fixture(params=["flip", "cut", "remove"])
def damaged(request: pytest.FixtureRequest, copied: Path) -> Iterator[Path]:
    """The same folder with one file damaged, for one test."""
    folder = copied / "FashionMNIST" / "raw"
    victim = folder / f"{FILES[2]}.gz"
    whole = victim.read_bytes()
    content = bytearray(whole)
    content[len(content) // 2] ^= 1
    victim.write_bytes({"flip": bytes(content), "cut": whole[:-1000], "remove": b""}[request.param])
    if request.param == "remove":
        victim.unlink()
    yield copied
    victim.write_bytes(whole)


def test_damaged_data_is_rejected_by_name(embedded: Site, damaged: Path) -> None:
    env = {"MLPQ_DATA_DIR": str(damaged)}
    for command in ("submit --preset textbook", "data fetch fashion-mnist"):
        assert FILES[2] in rejected(embedded, *command.split(), env=env).err


def test_damaged_data_is_not_imported(embedded: Site, damaged: Path) -> None:
    source = damaged / "FashionMNIST" / "raw"
    env = {"MLPQ_DATA_DIR": str(embedded.folder / "imported")}
    assert FILES[2] in rejected(embedded, "data", "import", "fashion-mnist", source, env=env).err
    assert not (embedded.folder / "imported").exists()
