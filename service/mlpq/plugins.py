"""Optimizers of installed packages: what the entry points of the group `mlpq.optimizers` declare.

An entry point names a mapping: {"class": "package.module:Class", "lr": 0.001, "beta": 0.9}, with the default of the
learning rate and those of all other options. Reading it imports the module of the mapping and not that of the class: a
submitter needs no torch where the author kept the two apart.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path

from mlpq.errors import SpecError
from mlpq.text import reason_line

GROUP = "mlpq.optimizers"
EXAMPLE = '{"class": "package.module:Class", "lr": 0.001}'
CODE = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)


@dataclass(frozen=True)
class Declared:
    """What an installed package declares of an optimizer, unchecked but for types; `package` is "name==version"."""

    name: str
    package: str
    class_path: str
    lr: object
    options: Mapping[str, object]


def owners() -> dict[str, list[str]]:
    """The installed packages that declare each optimizer, as "name==version", by the optimizer's name."""
    found: dict[str, set[str]] = {}
    for point in _entry_points():
        found.setdefault(point.name.lower(), set()).add(_package(point))
    return {name: sorted(packages) for name, packages in found.items()}


def packages() -> frozenset[str]:
    """The installed packages that declare optimizers, as "name==version"."""
    return frozenset(package for found in owners().values() for package in found)


def declared(name: str) -> Declared | None:
    """What a package declares of the optimizer; None where none has it. Raises SpecError with one line."""
    points = {_package(point): point for point in _entry_points() if point.name.lower() == name}
    if len(points) > 1:
        raise SpecError(f"{' and '.join(sorted(points))} both declare the optimizer {name}: uninstall one of them")
    return next((_read(name, package, point) for package, point in points.items()), None)


def modules_of(package: str) -> list[str]:
    """The outermost modules with the declarations of an installed package and with the classes that they name.

    Without torch, whose version is a fact of its own.
    """
    found = set()
    for point in _entry_points():
        if _package(point) == package:
            found.add(point.module.partition(".")[0])
            try:
                found.add(re.split("[.:]", _read(point.name, package, point).class_path)[0])
            except SpecError:
                continue  # jobs of this optimizer fail with the reason
    return sorted(found - {"torch"})


def code_sha256(modules: Iterable[str]) -> str:
    """SHA-256 over the names and contents of the files of these modules and of all modules in them; imports nothing."""
    digest = hashlib.sha256()
    for module in modules:
        for name, path in sorted(_files(module)):
            digest.update(f"{name}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _read(name: str, package: str, point: metadata.EntryPoint) -> Declared:
    try:
        found = point.load()
    except (Exception, SystemExit) as error:  # it is others' code
        raise SpecError(f"what {package} declares of {name} can't be read: {reason_line(error)}") from None
    if not isinstance(found, Mapping) or not isinstance(found.get("class"), str) or "lr" not in found:
        raise SpecError(f"{package} declares {name} by {point.value}, which must be a mapping as {EXAMPLE}")
    options = {str(option): value for option, value in found.items() if option not in ("class", "lr")}
    return Declared(name.lower(), package, found["class"], found["lr"], options)


def _entry_points() -> list[metadata.EntryPoint]:
    found = metadata.entry_points(group=GROUP)
    return [point for point in found if point.dist is not None and point.dist.name and point.dist.version]


def _package(point: metadata.EntryPoint) -> str:
    assert point.dist is not None, "those of no package are left out"
    return f"{re.sub('[-_.]+', '-', point.dist.name).lower()}=={point.dist.version}"


def _files(module: str) -> Iterator[tuple[str, Path]]:
    spec = importlib.util.find_spec(module)
    if spec is None:
        return
    for folder in map(Path, spec.submodule_search_locations or ()):
        for path in folder.rglob("*"):
            if path.name.endswith(CODE) and path.is_file():
                yield f"{module}/{path.relative_to(folder).as_posix()}", path
    if not spec.submodule_search_locations and spec.origin is not None:
        yield module, Path(spec.origin)
