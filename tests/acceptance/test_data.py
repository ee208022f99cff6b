"""`mlpq data`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.support.installations import Site
from tests.support.malformed_sources import MALFORMED


def test_data_list_shows_where_each_data_set_is(alone: Site) -> None:
    table = alone.mlpq("data", "list").out
    for name in ("fashion-mnist", "mnist", "kmnist", "digits"):
        assert name in table
    assert "bundled with mlpq" in table
    assert "mlpq data fetch kmnist" in table


def test_data_fetch_finds_data_on_this_machine(alone: Site) -> None:
    assert "checksums verified" in alone.mlpq("data", "fetch", "fashion-mnist").out
    assert "nothing to fetch" in alone.mlpq("data", "fetch", "digits").out


def test_imported_data_take_precedence(alone: Site, tmp_path: Path, fashion_mnist: Path) -> None:
    env = {"MLPQ_DATA_DIR": str(tmp_path / "data")}
    assert "imported into" in alone.mlpq("data", "import", "fashion-mnist", fashion_mnist, env=env).out
    assert f"found in {tmp_path / 'data'}" in alone.mlpq("data", "fetch", "fashion-mnist", env=env).out


def test_failed_download_is_one_line(alone: Site) -> None:
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = alone.mlpq("data", "fetch", "kmnist", env=nowhere, status=2)
    assert len(done.err.splitlines()) == 1
    assert "kmnist" in done.err


def test_data_add_stores_a_table_under_its_hash(alone: Site, tmp_path: Path) -> None:
    rows = "".join(f"{i},{i * i % 7},{'no' if i % 3 else 'yes'}\n" for i in range(30))
    (tmp_path / "t.csv").write_text(f"a,b,kind\n{rows}")
    arguments = ("data", "add", "mine", tmp_path / "t.csv", "--target", "kind", "--test", 0.2)
    out = alone.mlpq(*arguments).out
    assert "mine: 24 training and 6 test rows, 2 features, 2 classes\n" in out
    assert "scale: standardize, by default\n" in out
    path = Path(next(line for line in out.splitlines() if line.startswith("stored in")).removeprefix("stored in "))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == path.stem
    assert f"SHA-256 {path.stem}\n" in out
    assert alone.mlpq(*arguments).out.splitlines()[:5] == out.splitlines()[:5]
    other = alone.mlpq(*arguments, "--split-seed", 1).out
    assert path.stem not in other
    assert len(list(path.parent.iterdir())) == 2


# One of each format; tests/unit/test_malformed_sources.py has all.
@pytest.mark.parametrize(
    "name",
    [
        "ragged row", "missing value", "gzip bomb", "fifo", "pickled features", "huge shape",
        "zip that lies about sizes", "truncated parquet", "idx of four gigabytes", "png of huge size", "truncated jpeg",
    ],
)  # fmt: skip
def test_malformed_source_is_one_line_and_stores_nothing(alone: Site, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    path = MALFORMED[name].make(folder)
    done = alone.mlpq("data", "add", "mine", path, *MALFORMED[name].options, status=2)
    (line,) = done.err.splitlines()
    assert line.startswith("mlpq: ")
    assert MALFORMED[name].words in line
    assert not list(alone.folder.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("digits", "t.csv"), "'digits' is a built-in data set"),
        (("My Data", "t.csv"), "the name of a data set has 1 to 64 letters"),
        (("../mine", "t.csv"), "the name of a data set has 1 to 64 letters"),
        (("mine", "t.csv", "--size", "28"), "WIDTHxHEIGHT"),
        (("mine", "t.csv", "--size", "0x5"), "WIDTHxHEIGHT"),
        (("mine", "t.csv", "--split-seed", "-1"), "--split-seed"),
        (("mine", "t.csv", "--target", "y", "--target", "a"), "given twice"),
        (("mine", "t.csv", "--target", "y"), "add --test FILE"),
        (("mine", "t.csv", "--target", "y", "--test", "none.csv"), "none.csv does not exist"),
    ],
)
def test_bad_options_of_data_add_are_one_line(alone: Site, arguments: tuple[str, ...], words: str) -> None:
    (alone.folder / "t.csv").write_text("a,y\n1,0\n2,1\n3,0\n4,1\n")
    done = alone.mlpq("data", "add", *arguments, status=2)
    assert len(done.err.splitlines()) == 1
    assert words in done.err
    assert not list(alone.folder.rglob("*.safetensors"))
