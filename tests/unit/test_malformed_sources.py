"""Every malformed source is refused in one line, before much of it is read."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlpq.errors import DataError
from mlpq.own_data.adding import Treatment, build
from mlpq.own_data.image_folders import ImageOptions
from mlpq.own_data.sources import ReadOptions
from mlpq.own_data.tables import TableOptions
from tests.support.malformed_sources import GOOD, MALFORMED, ROWS, Malformed, X, Y, idx, images, npz, parquet, raw, text

pytestmark = pytest.mark.slow
MEMORY = 2**29  # bytes that a refusal may take at most


def options_of(malformed: Malformed) -> tuple[ReadOptions, Treatment]:
    """The options as the command gives them."""
    given = dict(zip(malformed.options[::2], malformed.options[1::2], strict=True))
    size = tuple(map(int, given["--size"].split("x"))) if "--size" in given else None
    images = ImageOptions((size[0], size[1]) if size else None)
    reading = ReadOptions(TableOptions(given.get("--target")), images)
    return reading, Treatment(given.get("--test"), None, given.get("--missing"), given.get("--scale"))


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_source_is_refused_in_one_line_and_little_memory(tmp_path: Path, name: str) -> None:
    malformed = MALFORMED[name]
    path = malformed.make(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError) as error:
        build(str(path), *options_of(malformed), tmp_path / "data")
    assert malformed.words in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 600
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < MEMORY
    assert not (tmp_path / "data").exists()
    assert not Path("/tmp/mlpq-loaded-a-pickle").exists()


def test_there_are_at_least_forty() -> None:
    assert len(MALFORMED) >= 40


WELL_FORMED = {
    "csv": text(GOOD),
    "gzip": raw(gzip.compress(GOOD.encode())),
    "xz": raw(lzma.compress(GOOD.encode())),
    "parquet": parquet(ROWS),
    "npz": npz(X=X, y=Y),
    "idx": idx(),
    "images": images(),
}


@pytest.mark.parametrize("kind", WELL_FORMED)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_source_with_changed_bytes_is_read_or_refused(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    path = remade(WELL_FORMED[kind], tmp_path)
    file = path if path.is_file() else min(each for each in path.rglob("*") if each.is_file())
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content) * 2))])
    options = TableOptions("y" if kind not in ("npz", "idx", "images") else None)
    with contextlib.suppress(DataError):
        build(str(path), ReadOptions(options, ImageOptions()), Treatment(None if kind == "idx" else "0.5"), tmp_path)


def remade(make: Callable[[Path], Path], folder: Path) -> Path:
    """The source in a new folder."""
    for number in range(10_000):
        place = folder / str(number)
        if not place.exists():
            place.mkdir()
            return make(place)
    raise AssertionError
