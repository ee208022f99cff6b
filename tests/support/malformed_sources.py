"""Sources that `mlpq data add` must refuse: damaged, lying, too large, or not what a data set can be made of."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

TABLE = ("--target", "y", "--test", "0.5")
FRACTION = ("--test", "0.5")
GOOD = "a,b,y\n1,x,no\n2,y,yes\n3,x,no\n4,y,yes\n"


@dataclass(frozen=True)
class Malformed:
    """`make` writes the source into a folder and returns its path; the message must have `words`."""

    make: Callable[[Path], Path]
    words: str
    options: tuple[str, ...] = TABLE


def text(content: str, name: str = "t.csv") -> Callable[[Path], Path]:
    """A file of text."""
    return raw(content.encode(), name)


def raw(content: bytes, name: str = "t.csv") -> Callable[[Path], Path]:
    """A file of bytes."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def npz(**arrays: Any) -> Callable[[Path], Path]:
    """An NPZ file, with pickles where arrays have objects."""

    def make(folder: Path) -> Path:
        np.savez(folder / "t.npz", **arrays)
        return folder / "t.npz"

    return make


def member(content: bytes, name: str = "x.npy") -> Callable[[Path], Path]:
    """An NPZ file in which X is these bytes."""

    def make(folder: Path) -> Path:
        labels = io.BytesIO()
        np.save(labels, np.arange(4))
        with zipfile.ZipFile(folder / "t.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
            archive.writestr("y.npy", labels.getvalue())
        return folder / "t.npz"

    return make


def header(shape: str, dtype: str = "<f4") -> bytes:
    """That of an npy file."""
    words = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words)) + words.encode()


def lying_member(folder: Path) -> Path:
    """An NPZ file whose list of members says that X is shorter than what is compressed there."""
    path = member(header("(4, 2)") + bytes(32) + bytes(10_000))(folder)
    content = bytearray(path.read_bytes())
    size = len(header("(4, 2)")) + 32
    for magic, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        start = content.index(magic)
        content[start + place : start + place + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    return path


def many_members(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "t.npz", "w") as archive:
        for i in range(12_000):
            archive.writestr(f"{'x' * 60}{i}.npy", b"")
    return folder / "t.npz"


def truncated(make: Callable[[Path], Path], kept: float) -> Callable[[Path], Path]:
    """The beginning of another source."""

    def cut(folder: Path) -> Path:
        path = make(folder)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept)])
        return path

    return cut


def parquet(table: Any, **options: Any) -> Callable[[Path], Path]:
    """A Parquet file."""

    def make(folder: Path) -> Path:
        pq.write_table(pa.table(table), folder / "t.parquet", **options)
        return folder / "t.parquet"

    return make


def changed_footer(folder: Path) -> Path:
    path = parquet({"a": [1.0, 2.0, 3.0, 4.0], "y": ["n", "y", "n", "y"]})(folder)
    content = bytearray(path.read_bytes())
    content[-40:-8] = bytes(range(100, 132))
    path.write_bytes(content)
    return path


def long_footer(folder: Path) -> Path:
    path = folder / "t.parquet"
    path.write_bytes(b"PAR1" + bytes(20) + struct.pack("<I", 2**31 - 1) + b"PAR1")
    return path


def idx(content: bytes | None = None, **changes: bytes | None) -> Callable[[Path], Path]:
    """A folder with the four files, of which some are others, or missing where they are None."""

    def make(folder: Path) -> Path:
        files: dict[str, bytes | None] = {
            "train-images-idx3-ubyte": idx_bytes((4, 2, 2), bytes(16)),
            "train-labels-idx1-ubyte": idx_bytes((4,), bytes([0, 1, 0, 1])),
            "t10k-images-idx3-ubyte": idx_bytes((2, 2, 2), bytes(8)),
            "t10k-labels-idx1-ubyte": idx_bytes((2,), bytes([0, 1])),
        }
        files.update({name.replace("__", "-"): value for name, value in changes.items()})
        if content is not None:
            files["train-images-idx3-ubyte"] = content
        (folder / "set").mkdir()
        for name, value in files.items():
            if value is not None:
                (folder / "set" / name).write_bytes(value)
        return folder / "set"

    return make


def idx_bytes(shape: tuple[int, ...], content: bytes, kind: int = 8) -> bytes:
    return bytes((0, 0, kind, len(shape))) + b"".join(size.to_bytes(4, "big") for size in shape) + content


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, pixels: bytes) -> bytes:
    """A gray PNG that says that it has that size."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", zlib.compress(pixels)) + png_chunk(b"IEND", b"")


def image_bytes(size: tuple[int, int] = (4, 4), mode: str = "L", format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, format)
    return file.getvalue()


def images(odd: bytes | None = None, name: str = "odd.png", **more: bytes) -> Callable[[Path], Path]:
    """A folder with two classes of four images, and an odd one in the first."""

    def make(folder: Path) -> Path:
        for kind in ("cat", "dog"):
            (folder / "set" / kind).mkdir(parents=True)
            for i in range(4):
                (folder / "set" / kind / f"{i}.png").write_bytes(image_bytes())
        if odd is not None:
            (folder / "set" / "cat" / name).write_bytes(odd)
        for path, content in more.items():
            (folder / "set" / path).mkdir()
            if content:
                (folder / "set" / path / "0.png").write_bytes(content)
        return folder / "set"

    return make


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "t.csv")
    return folder / "t.csv"


def image_fifo(folder: Path) -> Path:
    path = images()(folder)
    os.mkfifo(path / "cat" / "pipe.png")
    return path


def csv_bomb(folder: Path) -> Path:
    """A gigabyte of zeros, of which a gzip file has a megabyte."""
    (folder / "t.csv.gz").write_bytes(gzip.compress(b"a,b,y\n") + gzip.compress(bytes(2**20)) * 1_000)
    return folder / "t.csv.gz"


def row_bomb(folder: Path) -> Path:
    """Ten million short rows."""
    (folder / "t.csv.gz").write_bytes(gzip.compress(b"a,y\n") + gzip.compress(b"1,2\n3,1\n" * 500_000) * 10)
    return folder / "t.csv.gz"


def xz_of_much_memory(folder: Path) -> Path:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**29}]
    with lzma.open(folder / "t.csv.xz", "wb", filters=filters) as file:
        file.write(GOOD.encode())
    return folder / "t.csv.xz"


def two_files(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "t.zip", "w") as archive:
        archive.writestr("one.csv", GOOD)
        archive.writestr("two.csv", GOOD)
    return folder / "t.zip"


def workbook(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "t.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return folder / "t.xlsx"


def two_sets(folder: Path) -> Path:
    path = idx()(folder)
    shutil.copy(path / "train-images-idx3-ubyte", path / "emnist-letters-train-images-idx3-ubyte")
    return path


class _Runs:
    """A pickle that creates a file if it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("/tmp/mlpq-loaded-a-pickle", "w"))


X, Y = np.arange(8.0).reshape(4, 2), np.array([0, 1, 0, 1])
ROWS = {"a": [1.0, 2.0, 3.0, 4.0], "y": ["n", "y", "n", "y"]}
OBJECTS = np.array([_Runs(), 1, 2, 3], object)
WIDE = ",".join(f"f{i}" for i in range(100_001)) + ",y\n" + "1," * 100_001 + "no\n"

MALFORMED: dict[str, Malformed] = {
    # CSV
    "empty": Malformed(text(""), "is empty"),
    "header only": Malformed(text("a,b,y\n"), "has no rows"),
    "ragged row": Malformed(text(GOOD + "5,x\n"), "row 5 of t.csv has 2 cells; the first line has 3"),
    "open quote": Malformed(text(GOOD + '5,"x,no\n6,y,no\n'), "is not valid CSV"),
    "text after a quote": Malformed(text(GOOD + '5,"x"z,no\n'), "line 6 is not valid CSV"),
    "huge cell": Malformed(text(GOOD + "5," + "x" * 200_000 + ",no\n"), "field larger than field limit"),
    "long category": Malformed(text(GOOD + "5," + "x" * 300 + ",no\n"), "a value of 300 characters"),
    "line without end": Malformed(text("a,b,y\n" + "1" * 9_000_000), "line 2 has more than 8,388,608 characters"),
    "null characters": Malformed(text("a,b,y\n1,\0,no\n"), "null characters"),
    "utf-16": Malformed(raw(GOOD.encode("utf-16")), "UTF-16"),
    "latin-1": Malformed(raw("a,b,y\n1,é,no\n2,x,yes\n".encode("latin-1")), "not text in UTF-8"),
    "same column twice": Malformed(text("a,a,y\n1,2,no\n"), "two columns 'a'"),
    "column without a name": Malformed(text(",a,y\n0,1,no\n1,2,yes\n"), "--ignore 'column 1'"),
    "no header": Malformed(text("1,2,3\n4,5,6\n"), "--no-header"),
    "missing value": Malformed(text(GOOD + "5,,no\n6,NA,no\n"), "row 5 has no value in 'b', and 1 more"),
    "missing class": Malformed(text(GOOD + "5,x,\n"), "row 5 has no class"),
    "each row lacks a value": Malformed(text("a,b,y\n,x,no\n1,,yes\n"), "leaves none", (*TABLE, "--missing", "drop")),
    "column without a value": Malformed(
        text("a,b,y\n1,,no\n2,,yes\n3,,no\n4,,yes\n"), "no training row has a value in 'b'",
        (*TABLE, "--missing", "mean"),
    ),
    "infinite": Malformed(text(GOOD + "inf,x,no\n"), "column 'a' of t.csv has 'inf' in row 5"),
    "overflow": Malformed(text(GOOD + "1e999,x,no\n"), "'1e999' in row 5"),
    "too large for 32 bits": Malformed(
        text(GOOD + "1e300,x,no\n-1e300,x,no\n"), "too large for 32 bits", (*TABLE, "--scale", "none")
    ),
    "numbers and text": Malformed(text(GOOD + "five,x,no\n"), "'five' in row 5, and a number in row 1"),
    "text and numbers": Malformed(text(GOOD + "5,7,no\n"), "--text 'b'"),
    "many categories": Malformed(
        text("a,y\n" + "".join(f"id{i},{i % 2}\n" for i in range(1_100))), "more than 1,000 values"
    ),
    "many classes": Malformed(text("a,y\n" + "".join(f"{i},{i}\n" for i in range(1_100))), "more than 1,000 classes"),
    "fractions as classes": Malformed(text("a,y\n1,0.5\n2,1.5\n"), "must be a whole number"),
    "one class": Malformed(text("a,y\n1,no\n2,no\n3,no\n"), "only the class 'no'"),
    "too many columns": Malformed(text(WIDE), "100,002 columns"),
    "control characters": Malformed(raw(bytes(range(1, 127)) * 20), "t.csv"),
    # what files are compressed by
    "gzip bomb": Malformed(csv_bomb, "characters; it is no CSV file"),
    "bomb of rows": Malformed(row_bomb, "more than 1,000,000 rows"),
    "truncated gzip": Malformed(truncated(raw(gzip.compress(GOOD.encode()), "t.csv.gz"), 0.7), "damaged or truncated"),
    "damaged gzip": Malformed(raw(gzip.compress(GOOD.encode())[:-6] + b"123456", "t.csv.gz"), "damaged or truncated"),
    "truncated bzip2": Malformed(truncated(raw(bz2.compress(GOOD.encode()), "t.csv.bz2"), 0.7), "damaged or truncated"),
    "truncated xz": Malformed(truncated(raw(lzma.compress(GOOD.encode()), "t.csv.xz"), 0.7), "damaged or truncated"),
    "xz that needs much memory": Malformed(xz_of_much_memory, "damaged or truncated"),
    "two tables in a zip file": Malformed(two_files, "holds 2 files"),
    # others
    "workbook": Malformed(workbook, "Excel"),
    "pickle": Malformed(raw(pickle.dumps(X), "t.pkl"), "a pickle, which mlpq never loads"),
    "one array": Malformed(raw(header("(4, 2)") + bytes(32), "t.npy"), "numpy.savez"),
    "hdf5": Malformed(raw(b"\x89HDF\r\n\x1a\n" + bytes(100), "t.h5"), "HDF5"),
    "zstd": Malformed(raw(b"\x28\xb5\x2f\xfd" + bytes(100), "t.csv.zst"), "zstd"),
    "fifo": Malformed(fifo, "not a regular file"),
    "device": Malformed(lambda folder: Path("/dev/zero"), "not a regular file"),
    "nothing": Malformed(lambda folder: folder / "none.csv", "does not exist"),
    "empty folder": Malformed(lambda folder: folder, "neither idx files nor"),
    # NPZ
    "no arrays": Malformed(npz(), "has the arrays none", FRACTION),
    "other arrays": Malformed(npz(data=X, labels=Y), "has the arrays data, labels", FRACTION),
    "unequal rows": Malformed(npz(X=X, y=Y[:3]), "x has 4 rows, and y 3", FRACTION),
    "other test shape": Malformed(npz(x_train=X, y_train=Y, x_test=X[:, :1], y_test=Y), "(1,)", ()),
    "test labels missing": Malformed(npz(x_train=X, y_train=Y, x_test=X), "only one of x_test", ()),
    "pickled features": Malformed(npz(X=OBJECTS, y=Y), "pickled Python objects", FRACTION),
    "pickled labels": Malformed(npz(X=X, y=OBJECTS), "pickled Python objects", FRACTION),
    "complex": Malformed(npz(X=X * 1j, y=Y), "real numbers", FRACTION),
    "dates": Malformed(npz(X=X.astype("M8[s]"), y=Y), "real numbers", FRACTION),
    "one-hot labels": Malformed(npz(X=X, y=np.eye(4)), "argmax", FRACTION),
    "nan": Malformed(npz(X=np.where(X == 5, np.nan, X), y=Y), "row 3 has no value in feature 2", FRACTION),
    "infinity": Malformed(npz(X=np.where(X == 5, np.inf, X), y=Y), "row 3 is infinite in feature 2", FRACTION),
    "scalar": Malformed(npz(X=np.float64(3), y=Y), "rows and features", FRACTION),
    "huge shape": Malformed(member(header("(1000000, 100000)")), "too large", FRACTION),
    "more rows than possible": Malformed(member(header("(10000000000, 1)")), "at most 1,000,000 rows", FRACTION),
    "negative shape": Malformed(member(header("(-4, -2)")), "negative", FRACTION),
    "shape that overflows": Malformed(member(header("(4, 4611686018427387904)")), "100,000 features", FRACTION),
    "longer than its header": Malformed(member(header("(4, 2)") + bytes(99)), "its header says 32 bytes", FRACTION),
    "shorter than its header": Malformed(member(header("(4, 2)") + bytes(9)), "its header says 32 bytes", FRACTION),
    "zip that lies about sizes": Malformed(lying_member, "damaged or truncated", FRACTION),
    "header of code": Malformed(member(header("__import__('os').getpid()")), "damaged or truncated", FRACTION),
    "huge header": Malformed(member(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"), "damaged or truncated", FRACTION),
    "no npy": Malformed(member(b"hello"), "damaged or truncated", FRACTION),
    "truncated npz": Malformed(truncated(npz(X=X, y=Y), 0.8), "damaged or truncated", FRACTION),
    "list of members too long": Malformed(many_members, "the list of its members", FRACTION),
    # Parquet
    "truncated parquet": Malformed(truncated(parquet(ROWS), 0.6), "damaged or truncated"),
    "changed footer": Malformed(changed_footer, "damaged or truncated"),
    "footer longer than the file": Malformed(long_footer, "damaged or truncated"),
    "lists in a column": Malformed(parquet({**ROWS, "b": [[1], [2], [3], [4]]}), "type list"),
    "dates in a column": Malformed(parquet({**ROWS, "b": pa.array([1, 2, 3, 4], pa.date32())}), "date32"),
    "null": Malformed(parquet({**ROWS, "b": [1.0, None, 3.0, 4.0]}), "row 2 has no value in 'b'"),
    "infinite in parquet": Malformed(parquet({**ROWS, "b": [1.0, np.inf, 3.0, 4.0]}), "infinite in row 2"),
    "index of pandas": Malformed(parquet({**ROWS, "__index_level_0__": [1, 2, 3, 4]}), "index of pandas"),
    "repeated long text": Malformed(parquet({**ROWS, "b": ["x" * 10**6] * 4}), "a value of 1,000,000 bytes"),
    "parquet of ten million rows": Malformed(
        parquet({"a": pa.array(np.zeros(10**7)), "y": pa.array(np.zeros(10**7, np.int8))}), "10,000,000 rows"
    ),
    # idx
    "labels missing": Malformed(idx(**{"train-labels-idx1-ubyte": None}), "train images without labels", ()),
    "unequal idx rows": Malformed(idx(idx_bytes((3, 2, 2), bytes(12))), "has 3 rows", ()),
    "no idx": Malformed(idx(b"hello, world"), "is no idx file", ()),
    "empty idx": Malformed(idx(b""), "is no idx file", ()),
    "truncated idx": Malformed(idx(idx_bytes((4, 2, 2), bytes(15))), "is truncated", ()),
    "truncated idx header": Malformed(idx(b"\0\0\x08\x03\0\0"), "is truncated", ()),
    "longer idx": Malformed(idx(idx_bytes((4, 2, 2), bytes(17))), "more than the 16 bytes", ()),
    "idx of a huge shape": Malformed(idx(idx_bytes((2**31, 2**31, 2**31), b"")), "at most 1,000,000 rows", ()),
    "idx of four gigabytes": Malformed(idx(idx_bytes((10**6, 100, 100), b"")), "10,000,000,000 bytes", ()),
    "two sets of files": Malformed(two_sets, "several files with train images", ()),
    "other test images": Malformed(idx(**{"t10k-images-idx3-ubyte": idx_bytes((2, 1, 2), bytes(4))}), "(1, 2)", ()),
    "unknown test class": Malformed(idx(**{"t10k-labels-idx1-ubyte": idx_bytes((2,), b"\0\7")}), "the class '7'", ()),
    # images
    "other size": Malformed(images(image_bytes((5, 4))), "--size WIDTHxHEIGHT", FRACTION),
    "no image": Malformed(images(b"hello"), "not a PNG or JPEG file", FRACTION),
    "gif": Malformed(images(image_bytes(format="GIF"), "odd.jpg"), "not a PNG or JPEG file", FRACTION),
    "truncated png": Malformed(images(image_bytes((64, 64), "RGB")[:-60]), "odd.png", (*FRACTION, "--size", "4x4")),
    "truncated jpeg": Malformed(
        images(image_bytes((64, 64), "RGB", "JPEG")[:-200], "odd.jpg"), "truncated", (*FRACTION, "--size", "4x4")
    ),
    "png of huge size": Malformed(images(png(60_000, 60_000, b"")), "too many pixels", (*FRACTION, "--size", "4x4")),
    "png of large size": Malformed(
        images(png(10_000, 9_000, b"")), "10,000 x 9,000 pixels", (*FRACTION, "--size", "4x4")
    ),
    "16 bits a channel": Malformed(images(image_bytes(mode="I;16")), "8 bits a channel", FRACTION),
    "class without images": Malformed(images(bird=b""), "has no PNG or JPEG files", FRACTION),
    "image that is a fifo": Malformed(image_fifo, "not a regular file", FRACTION),
    "large images": Malformed(images(), "1,000,000 features", (*FRACTION, "--size", "1000x1000")),
}  # fmt: skip
