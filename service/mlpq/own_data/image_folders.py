"""Reads folders of images with a folder for each class, by Pillow, which is optional."""

from __future__ import annotations

import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpq.errors import DataError, reason_of
from mlpq.own_data.content import MAX_BYTES, MAX_CLASSES, MAX_FEATURES, MAX_ROWS
from mlpq.own_data.optional import optional_module
from mlpq.own_data.parts import Arrays, Labels, Source, check_name, named_labels

SUFFIXES = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")
GRAY_MODES = ("1", "L")
COLOR_MODES = ("RGB", "RGBA", "P", "LA", "PA", "CMYK", "YCbCr")
MAX_FILE = 64 * 2**20  # bytes
MAX_PIXELS = 2**26  # of an image before it is resized: 8192 x 8192


@dataclass(frozen=True)
class ImageOptions:
    """`size` is width and height to resize to, None where all images have one size."""

    size: tuple[int, int] | None = None
    gray: bool = False


def is_folder_of_images(folder: Path) -> bool:
    """Whether a folder has folders with images, or `train` and `test` with such folders."""
    return any(_images(each) for place in (folder, folder / "train") for each in _folders(place))


def read(folder: Path, options: ImageOptions) -> Source:
    """The images below the folder, of which `train` and `test` may be the two parts; raises DataError."""
    pillow = optional_module("PIL.Image", f"{folder.name}/")
    if any(_images(each) for each in _folders(folder / "train")):
        places = [folder / "train"] + [folder / "test"] * (folder / "test").is_dir()
        unused = sorted({each.name for each in _folders(folder)} - {"train", "test"})
    else:
        places, unused = [folder], []
    files = [_listed(place) for place in places]
    size, mode = _common(pillow, [path for part in files for path, _ in part], options)
    parts = [_part(pillow, place, part, size, mode) for place, part in zip(places, files, strict=True)]
    return Source(parts[0], parts[1] if len(parts) > 1 else None, _notes(folder, places, unused))


def _listed(folder: Path) -> list[tuple[Path, str]]:
    """The images with their classes, by the names of class and file; raises DataError where a class has none."""
    found = []
    folders = _folders(folder)
    if len(folders) > MAX_CLASSES:
        raise DataError(f"{folder} has {len(folders):,} folders; at most {MAX_CLASSES:,} classes are possible")
    for each in folders:
        images = _images(each)
        if not images:
            raise DataError(f"{each} has no PNG or JPEG files, and each folder of {folder.name}/ is a class")
        name = check_name(unicodedata.normalize("NFC", each.name), str(folder))
        found += [(path, name) for path in images]
        if len(found) > MAX_ROWS:
            raise DataError(f"{folder} has more than {MAX_ROWS:,} images")
    if not found:
        raise DataError(f"{folder} has no folders with images")
    return found


def _common(pillow: ModuleType, paths: list[Path], options: ImageOptions) -> tuple[tuple[int, int], str]:
    """Width, height and mode of all images, from their headers; raises DataError where they differ or are too large."""
    size, mode = options.size, "L"
    for path in paths:
        with _Opened(pillow, path) as image:
            if size is None:
                size = image.size
            if options.size is None and image.size != size:
                raise DataError(
                    f"{path} has {_sized(image.size)} pixels, and {paths[0].name} {_sized(size)}: resize all, "
                    "--size WIDTHxHEIGHT"
                )
            if image.mode not in GRAY_MODES and not options.gray:
                mode = "RGB"
    assert size is not None
    features = size[0] * size[1] * len(mode)
    if features > MAX_FEATURES:
        raise DataError(
            f"{_sized(size)} pixels are {features:,} features; at most {MAX_FEATURES:,} are possible: use --size "
            "WIDTHxHEIGHT or --gray"
        )
    if features * len(paths) > MAX_BYTES:
        raise DataError(
            f"{len(paths):,} images of {features:,} bytes are too large: at most {MAX_BYTES:,} bytes "
            f"({MAX_BYTES // 2**20} MiB) are stored"
        )
    return size, mode


def _part(pillow: ModuleType, folder: Path, files: list[tuple[Path, str]], size: tuple[int, int], mode: str) -> Arrays:
    width, height = size
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    x = np.empty((len(files), height * width * len(mode)), np.uint8)
    for i, (path, _) in enumerate(files):
        x[i] = _pixels(pillow, path, size, mode)
    names = list(dict.fromkeys(name for _, name in files))
    index = {name: i for i, name in enumerate(names)}
    codes = np.array([index[name] for _, name in files], np.int64)
    labels = Labels(codes, tuple(names)) if len(names) < 2 else named_labels(codes, names, str(folder))
    return Arrays(x, labels, f"{folder.name}/", shape)


def _pixels(pillow: ModuleType, path: Path, size: tuple[int, int], mode: str) -> NDArray[np.uint8]:
    """The pixels, row by row, of a color image with three values each, red, green and blue."""
    with _Opened(pillow, path) as image:
        converted = image.convert(mode)
        if converted.size != size:
            converted = converted.resize(size, pillow.Resampling.BILINEAR)
        return np.asarray(converted, np.uint8).reshape(-1)


class _Opened:
    """An image of which only the header is read; what goes wrong in the block is a DataError about the file."""

    def __init__(self, pillow: ModuleType, path: Path) -> None:
        self._pillow, self._path = pillow, path

    def __enter__(self) -> Any:
        try:
            if not self._path.is_file():
                raise DataError(f"{self._path} is not a regular file")
            if self._path.stat().st_size > MAX_FILE:
                raise DataError(f"{self._path} has more than {MAX_FILE // 2**20} MiB")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of large images: they are refused below
                self._image = self._pillow.open(self._path, formats=FORMATS)
        except Exception as error:
            raise self._damaged(error) from error
        width, height = self._image.size
        if width * height > MAX_PIXELS:
            self._image.close()
            raise DataError(f"{self._path} has {width:,} x {height:,} pixels; at most {MAX_PIXELS:,} are read")
        if self._image.mode not in (*GRAY_MODES, *COLOR_MODES):
            mode = self._image.mode
            self._image.close()
            raise DataError(f"{self._path} has pixels of the kind '{mode}'; convert it to 8 bits a channel")
        return self._image

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._image.close()
        if isinstance(error, Exception):
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> DataError:
        if isinstance(error, DataError):
            return error
        if isinstance(error, self._pillow.UnidentifiedImageError):
            return DataError(f"{self._path} is not a PNG or JPEG file, or damaged")
        if isinstance(error, self._pillow.DecompressionBombError):
            return DataError(f"{self._path} has too many pixels; at most {MAX_PIXELS:,} are read")
        if isinstance(error, OSError) and error.errno is not None:
            return DataError(f"{self._path} can't be read: {reason_of(error)}")
        return DataError(f"{self._path} can't be read, it is damaged or truncated: {' '.join(str(error).split())}")


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith((".", "__MACOSX")))


def _images(folder: Path) -> list[Path]:
    return sorted(
        each for each in folder.iterdir() if each.suffix.lower() in SUFFIXES and not each.name.startswith(".")
    )


def _notes(folder: Path, places: list[Path], unused: list[str]) -> tuple[str, ...]:
    """What there is besides the images that were read."""
    classes = [each for place in places for each in _folders(place)]
    files = sum(_is_other(each) for each in classes for each in each.iterdir() if not each.is_dir())
    files += sum(not each.name.startswith(".") for place in places for each in place.iterdir() if not each.is_dir())
    below = [each for name in classes for each in _folders(name)]
    found = {
        f"read of {folder.name}/: {' and '.join(place.name for place in places)}, not {', '.join(unused[:10])}": unused,
        f"files of {folder.name}/ that are not PNG or JPEG in the folder of a class: {files:,}, left out": files,
        f"folders below those of the classes: {len(below):,}, left out": below,
    }
    return tuple(note for note, is_there in found.items() if is_there)


def _is_other(file: Path) -> bool:
    return file.suffix.lower() not in SUFFIXES and not file.name.startswith(".")


def _sized(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,}"
