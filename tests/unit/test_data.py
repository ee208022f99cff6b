"""Data sets equal those of torchvision or are rejected; batches have the order of a real DataLoader."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset, random_split

from mlpq.errors import DataError
from mlpq.spec.datasets import DATASETS, FILES, dataset_named, own_folder
from mlpq_workers.engine.data import Data, epoch_order, split
from mlpq_workers.trainer.data import load, parse_idx, torchvision_datasets
from tests.support.float_pixels import in_floats

pytestmark = pytest.mark.slow

FASHION = DATASETS["fashion-mnist"]
DEBIAN = FASHION.system_dirs[0]
FILE = Path("some-file")


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return Data.of(load(DATASETS["fashion-mnist"], tmp_path_factory.mktemp("empty")))


@pytest.fixture
def own_copy(tmp_path: Path) -> Path:
    """A copy of the four files below our own data folder; returns their folder."""
    folder = own_folder(FASHION, tmp_path)
    folder.mkdir(parents=True)
    for name in FILES:
        shutil.copy(DEBIAN / f"{name}.gz", folder)
    return folder


class Mirror(http.server.BaseHTTPRequestHandler):
    """Answers every request, for any host, with bytes that are not a data set."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(gzip.compress(b"not a data set"))

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def wrong_mirror() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetch(name: str, data_dir: Path, proxy: str = "http://127.0.0.1:9") -> subprocess.CompletedProcess[str]:
    """Run what `mlpq data fetch` runs, with network access only through `proxy` (port 9: none)."""
    command = [sys.executable, "-m", "mlpq_workers.trainer.data", "fetch", name, "--data-dir", str(data_dir)]
    proxies = {"http_proxy": proxy, "https_proxy": proxy, "no_proxy": ""}
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **proxies, **paths})


def one_line(error: pytest.ExceptionInfo[DataError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_fashion_mnist_has_its_shapes_and_source(fashion: Data) -> None:
    assert (fashion.train_x.shape, fashion.test_x.shape) == ((60_000, 784), (10_000, 784))
    assert (fashion.train_x.dtype, fashion.train_y.dtype, fashion.scale) == (torch.uint8, torch.int64, 255)
    assert fashion.test_y.bincount().tolist() == [1000] * 10
    assert fashion.source == str(DEBIAN)


def test_pixels_and_labels_equal_those_of_torchvision(fashion: Data, tmp_path: Path) -> None:
    folder = own_folder(FASHION, tmp_path)
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(gzip.decompress((DEBIAN / f"{name}.gz").read_bytes()))
    datasets = torchvision_datasets()
    from torchvision.transforms import ToTensor

    theirs = datasets.FashionMNIST(root=tmp_path, train=False, transform=ToTensor())
    pixels = torch.stack([theirs[i][0] for i in range(200)]).flatten(1)
    assert torch.equal(pixels, fashion.test_x[:200] / fashion.scale)
    assert torch.equal(theirs.targets, fashion.test_y)
    assert torch.equal(datasets.FashionMNIST(root=tmp_path).targets, fashion.train_y)


def test_byte_divided_by_scale_has_the_bits_of_to_tensor(fashion: Data) -> None:
    torchvision_datasets()
    from torchvision.transforms import ToTensor

    every = torch.arange(256, dtype=torch.uint8).reshape(16, 16)
    theirs = ToTensor()(every.numpy())[0]
    mine = every / fashion.scale
    assert theirs.dtype == mine.dtype == torch.float32
    assert torch.equal(mine.view(torch.int32), theirs.view(torch.int32))


def test_own_folder_takes_precedence_over_the_systems(own_copy: Path, tmp_path: Path) -> None:
    assert load(DATASETS["fashion-mnist"], tmp_path).source == str(own_copy)


def test_truncated_file_is_named(own_copy: Path, tmp_path: Path) -> None:
    file = own_copy / "t10k-labels-idx1-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError) as error:
        load(DATASETS["fashion-mnist"], tmp_path)
    assert str(file) in one_line(error)


def test_corrupt_file_is_named(own_copy: Path, tmp_path: Path) -> None:
    file = own_copy / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(file.read_bytes()))
    content[1234] ^= 1
    file.write_bytes(gzip.compress(content))
    with pytest.raises(DataError) as error:
        load(DATASETS["fashion-mnist"], tmp_path)
    assert str(file) in one_line(error)
    assert "mlpq data fetch fashion-mnist" in one_line(error)


def test_missing_file_is_named(own_copy: Path, tmp_path: Path) -> None:
    file = own_copy / "train-labels-idx1-ubyte.gz"
    file.unlink()
    with pytest.raises(DataError) as error:
        load(DATASETS["fashion-mnist"], tmp_path)
    assert str(file) in one_line(error)


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'fashion-mnist'"):
        dataset_named("fashion-mist")


def test_idx_file_is_read_by_its_header() -> None:
    content = bytes((0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3)) + bytes(range(6))
    assert parse_idx(content, (2, 3), FILE).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(bytes((0, 0, 9, 1, 0, 0, 0, 2)) + b"ab", id="element type"),
        pytest.param(bytes((0, 0, 8, 2, 0, 0, 0, 2)) + b"ab", id="number of dimensions"),
        pytest.param(bytes((0, 0, 8, 1, 0, 0, 0, 3)) + b"ab", id="size"),
        pytest.param(bytes((0, 0, 8, 1, 0, 0, 0, 2)) + b"a", id="too short"),
        pytest.param(bytes((0, 0, 8, 1, 0, 0, 0, 2)) + b"abc", id="too long"),
        pytest.param(b"", id="empty"),
    ],
)
def test_idx_file_with_another_header_is_rejected(content: bytes) -> None:
    with pytest.raises(DataError) as error:
        parse_idx(content, (2,), FILE)
    assert str(FILE) in one_line(error)


def test_digits_are_bundled_and_split_1297_to_500(tmp_path: Path) -> None:
    data = Data.of(load(DATASETS["digits"], tmp_path))
    assert (data.train_x.shape, data.test_x.shape) == ((1297, 64), (500, 64))
    assert (data.train_y.dtype, len(data.train_y), len(data.test_y)) == (torch.int64, 1297, 500)
    assert (data.train_x.dtype, data.train_x.min().item(), data.train_x.max().item()) == (torch.uint8, 0, data.scale)
    assert data.source == "bundled with mlpq"


def test_digits_equal_those_of_scikit_learn(tmp_path: Path) -> None:
    data, bunch = Data.of(load(DATASETS["digits"], tmp_path)), load_digits()
    assert torch.cat([data.train_x, data.test_x]).tolist() == bunch.data.tolist()
    assert torch.cat([data.train_y, data.test_y]).tolist() == bunch.target.tolist()


def test_bytes_compute_in_float32_and_floats_in_their_own_dtype(tmp_path: Path) -> None:
    data = Data.of(load(DATASETS["digits"], tmp_path))
    assert data.dtype == torch.float32
    assert [in_floats(data, dtype).dtype for dtype in (torch.float32, torch.float64)] == [torch.float32, torch.float64]


def test_moving_data_to_its_own_device_copies_nothing(tmp_path: Path) -> None:
    data = Data.of(load(DATASETS["digits"], tmp_path))
    assert data.to("cpu").train_x is data.train_x


@pytest.mark.parametrize("name", ["fashion-mnist", "mnist", "kmnist"])
def test_registered_checksums_are_those_of_torchvision(name: str) -> None:
    dataset = DATASETS[name]
    resources = getattr(torchvision_datasets(), str(dataset.torchvision)).resources
    assert dataset.gz_md5 == {file.removesuffix(".gz"): md5 for file, md5 in resources}


def test_system_package_has_the_registered_content() -> None:
    for name, md5 in (FASHION.md5 or {}).items():
        assert hashlib.md5(gzip.decompress((DEBIAN / f"{name}.gz").read_bytes())).hexdigest() == md5


def test_fetch_prints_the_folder_of_the_files(tmp_path: Path) -> None:
    done = fetch("fashion-mnist", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fashion-mnist: {DEBIAN}\n", "")


def test_fetch_reports_that_digits_are_bundled(tmp_path: Path) -> None:
    done = fetch("digits", tmp_path)
    assert (done.returncode, done.stdout) == (0, "digits: bundled with mlpq\n")


@pytest.mark.parametrize("name", ["kmnist", "mnist"])
def test_fetch_without_network_says_in_one_line_what_to_do(name: str, tmp_path: Path) -> None:
    done = fetch(name, tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"mlpq data import {name} DIR" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_mirror_with_wrong_content_leaves_no_files(wrong_mirror: str, tmp_path: Path) -> None:
    done = fetch("kmnist", tmp_path, proxy=wrong_mirror)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert list(tmp_path.iterdir()) == []


def test_fetch_of_unknown_name_is_an_error_of_one_line(tmp_path: Path) -> None:
    done = fetch("fashion", tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (12, 4), (1, 1), (1297, 32)])
def test_batch_order_equals_that_of_a_data_loader_over_several_epochs(n: int, batch_size: int) -> None:
    theirs, mine = torch.Generator().manual_seed(42), torch.Generator().manual_seed(42)
    loader = DataLoader(TensorDataset(torch.arange(n)), batch_size=batch_size, shuffle=True, generator=theirs)
    for _ in range(4):
        expected = [batch.tolist() for (batch,) in loader]
        assert [batch.tolist() for batch in epoch_order(n, mine).split(batch_size)] == expected
        assert torch.equal(mine.get_state(), theirs.get_state())


def test_second_data_loader_continues_with_the_same_generator() -> None:
    theirs, mine = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    for batch_size in (3, 5):
        loader = DataLoader(TensorDataset(torch.arange(50)), batch_size=batch_size, shuffle=True, generator=theirs)
        for _ in range(2):
            expected = [batch.tolist() for (batch,) in loader]
            assert [batch.tolist() for batch in epoch_order(50, mine).split(batch_size)] == expected


@pytest.mark.parametrize(("n", "held_out"), [(10, 3), (1297, 130), (5, 1), (5, 4)])
@pytest.mark.parametrize("seed", [0, 42])
def test_split_equals_random_split(n: int, held_out: int, seed: int) -> None:
    theirs = random_split(range(n), [n - held_out, held_out], generator=torch.Generator().manual_seed(seed))  # type: ignore[arg-type, var-annotated]
    assert [part.tolist() for part in split(n, held_out, seed)] == [list(part.indices) for part in theirs]
