"""`mlpq data`."""

from __future__ import annotations

from pathlib import Path

from tests.support.installations import Site


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
