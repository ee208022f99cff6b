"""Run the tests that execute a mutated line, in copies of the tree and processes that are killed after too long."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import multiprocessing
import os
import queue
import re
import signal
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.mutants import child
from tests.mutants.sites import Mutant, function_lines, mutants
from tests.support.fresh_clone import clone

TIMED_OUT = "timed out"
WALL_SECONDS = 1800  # of a mutant whose tests wait for ever, without using the CPU


@dataclass(frozen=True)
class Project:
    """A tree with modules to mutate and the folder of their tests."""

    root: Path
    modules: tuple[str, ...]  # files and folders
    tests: str
    source_roots: tuple[str, ...]
    left_out: tuple[str, ...] = ()  # patterns of test files
    built: tuple[str, ...] = ()  # files that git ignores
    preloaded: tuple[str, ...] = ()  # what each process that runs tests is forked with, which saves seconds a mutant
    startup_seconds: int = 20  # of CPU time, before tests count as endless

    @cached_property
    def files(self) -> tuple[str, ...]:
        paths = [self.root / name for name in self.modules]
        found = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]
        return tuple(str(file.relative_to(self.root)) for file in found)

    @cached_property
    def test_files(self) -> tuple[str, ...]:
        found = sorted((self.root / self.tests).rglob("test_*.py"))
        left_out = [file for file in found for pattern in self.left_out if file.match(pattern)]
        return tuple(str(file.relative_to(self.root)) for file in found if file not in left_out)

    def mutants(self) -> list[Mutant]:
        return [mutant for file in self.files for mutant in mutants(file, (self.root / file).read_bytes())]

    def copied(self, folder: Path) -> Path:
        clone(folder, self.root)
        for name in self.built:
            if (self.root / name).is_file():
                (folder / name).write_bytes((self.root / name).read_bytes())
        return folder


@dataclass(frozen=True)
class Outcome:
    mutant: Mutant
    outcome: str
    killer: str = ""


@dataclass
class Runner:
    """Runs mutants in a copy of the tree for each process."""

    project: Project
    folder: Path
    processes: int = 2
    lines: dict[str, Any] = field(default_factory=dict)  # of each test: its seconds, and the lines that it executes

    def __post_init__(self) -> None:
        self._imported: dict[str, set[str]] = {}
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([*self.project.preloaded])
        self._copies: queue.Queue[Path] = queue.Queue()
        for index in range(self.processes):
            self._copies.put(self.project.copied(self.folder / str(index)))
        self._versions = iter(range(1, 1 << 30))

    def measure(self, cache: Path | None = None) -> list[str]:
        """Find out which lines each test executes, and return the tests that fail; ask `cache` for unchanged files."""
        digests = {file: self._digest([*self.project.files, file]) for file in self.project.test_files}
        known = json.loads(cache.read_text()) if cache and cache.is_file() else {}
        known = {file: known[file] for file in digests if known.get(file, {}).get("digest") == digests[file]}
        stale = [file for file in digests if file not in known]
        known |= {file: {"digest": digests[file], "tests": {}} for file in stale}
        failed: list[str] = []
        with ThreadPoolExecutor(self.processes) as pool:
            for tests in pool.map(self._measured, [stale[index :: self.processes] for index in range(self.processes)]):
                for test, measured in tests.items():
                    if measured["failed"]:
                        failed.append(test)
                    else:
                        known[test.partition("::")[0]]["tests"][test] = measured
        if cache:
            cache.parent.mkdir(exist_ok=True)
            cache.write_text(json.dumps(known))
        self.lines = {test: measured for file in known.values() for test, measured in file["tests"].items()}
        return failed

    def _measured(self, files: list[str]) -> dict[str, Any]:
        if not files:
            return {}
        with self._copy() as copy:
            answer, status = self._forked(copy, child.measure, files, self.project.files, copy / "lines.json")
            if answer is None:
                raise RuntimeError(
                    f"no measurement, exit status {status}:\n{(copy / child.OUTPUT).read_text()[-2000:]}"
                )
        return dict(answer)

    def outcomes(self, chosen: Iterable[Mutant]) -> Iterator[Outcome]:
        with ThreadPoolExecutor(self.processes) as pool:
            yield from pool.map(self._outcome, chosen)

    def _outcome(self, mutant: Mutant) -> Outcome:
        outcome, killer = child.NO_TESTS, ""
        with self._copy() as copy, self._mutated(copy, mutant):
            for tests in self._rounds(mutant):
                seconds = math.ceil(
                    self.project.startup_seconds + 10 * sum(self.lines[test]["seconds"] for test in tests)
                )
                answer, status = self._forked(copy, child.run, tests, seconds, copy / "outcome.json")
                is_late = status in (-signal.SIGKILL, -signal.SIGXCPU)
                outcome, killer = answer or (TIMED_OUT if is_late else child.KILLED, f"exit status {status}")
                if outcome in (child.KILLED, TIMED_OUT):
                    break
        return Outcome(mutant, outcome, killer)

    def _rounds(self, mutant: Mutant) -> Iterator[list[str]]:
        """The tests to run, in groups: those most likely to fail first.

        A function with a cache, or one that a fixture calls, executes in the first test alone that needs it; so what
        survives meets every test of the files that import its module.
        """
        own = self._executing(mutant.file, mutant.lines) if mutant.in_function else []
        touching = self._executing(mutant.file, function_lines((self.project.root / mutant.file).read_bytes()))
        if not touching:  # a module of constants
            touching = [test for test in self.lines if self._is_direct(test, mutant.file)]
        direct = [test for test in own if self._is_direct(test, mutant.file)]
        related = [test for test in touching if self._is_direct(test, mutant.file)]
        done: set[str] = set()
        for group in (direct, own, related, touching if not own else []):
            tests = sorted(set(group) - done, key=lambda test: (self.lines[test]["seconds"], test))
            done.update(tests)
            if tests:
                yield tests

    def _executing(self, file: str, lines: Collection[int]) -> list[str]:
        wanted = set(lines)
        return [test for test, found in self.lines.items() if not wanted.isdisjoint(found["lines"].get(file, ()))]

    def _is_direct(self, test: str, file: str) -> bool:
        return file in self._imports(test.partition("::")[0])

    def _imports(self, test_file: str) -> set[str]:
        """The modules that a test file names in an import."""
        if test_file not in self._imported:
            text = (self.project.root / test_file).read_text()
            self._imported[test_file] = {file for file in self.project.files if _is_imported(file, text)}
        return self._imported[test_file]

    @contextlib.contextmanager
    def _copy(self) -> Iterator[Path]:
        copy = self._copies.get()
        try:
            yield copy
        finally:
            self._copies.put(copy)

    @contextlib.contextmanager
    def _mutated(self, copy: Path, mutant: Mutant) -> Iterator[None]:
        file = copy / mutant.file
        source = file.read_bytes()
        try:
            self._write(file, mutant.applied(source))
            yield
        finally:
            self._write(file, source)

    def _write(self, file: Path, source: bytes) -> None:
        """Write a module with a time of its own, by which Python knows that the bytecode is stale."""
        file.write_bytes(source)
        seconds = next(self._versions)
        os.utime(file, (seconds, seconds))

    def _forked(self, copy: Path, target: Callable[..., None], *arguments: Any) -> tuple[Any, int | None]:
        """What the process writes to its last argument, or None, and its exit status."""
        answer: Path = arguments[-1]
        answer.unlink(missing_ok=True)
        paths = os.pathsep.join(str(copy / root) for root in self.project.source_roots)
        process = self._context.Process(target=child.enter, args=(target, copy, paths, *arguments))
        process.start()
        process.join(WALL_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.join()
        return json.loads(answer.read_text()) if answer.is_file() else None, process.exitcode

    def _digest(self, files: Iterable[str]) -> str:
        return hashlib.sha256(b"\0".join((self.project.root / file).read_bytes() for file in files)).hexdigest()


def _is_imported(file: str, text: str) -> bool:
    _, _, module = file.removesuffix(".py").partition("/")
    package, _, name = module.replace("/", ".").rpartition(".")
    of_package = rf"from {re.escape(package)} import (\(\s*)?[^()\n]*\b{name}\b"
    return re.search(rf"\b{re.escape(module.replace('/', '.'))}\b|{of_package}", text) is not None
