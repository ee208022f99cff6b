"""What the processes do that run tests in a copy of the tree: pytest within them, and which lines each test executes.

They import nothing of ours before pytest does, so that the copy's modules are loaded and not the checkout's.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest

SURVIVED, KILLED, NO_TESTS = "survived", "killed", "no tests"
OPTIONS = ("-q", "-p", "no:cacheprovider", "--hypothesis-profile", "mutants")
OUTPUT = "output.txt"
MEMORY = 8 << 30  # a mutant may try to allocate without end


class ChosenTests:
    """Run only these tests, in this order, and note the first that fails."""

    def __init__(self, tests: Sequence[str]) -> None:
        self._order = {test: index for index, test in enumerate(tests)}
        self.failed = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        chosen = [item for item in items if item.nodeid in self._order]
        items[:] = sorted(chosen, key=lambda item: self._order[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed = self.failed or f"{report.nodeid} (at its import)"


def enter(target: Callable[..., None], folder: Path, paths: str, *arguments: Any) -> None:
    """Call a function below in a copy of the tree, and end the process at once: no thread of a test delays it."""
    os.setpgid(0, 0)  # so that what the tests start can be killed with this process
    os.chdir(folder)
    os.environ["PYTHONPATH"] = paths  # of processes that tests start
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    sys.path[:] = [path for path in sys.path if path and Path(path) not in Path(__file__).parents]
    # The same examples each time, and no search for a smaller one that fails.
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile("mutants", deadline=None, derandomize=True, database=None, phases=phases)
    output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        target(folder, *arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def run(folder: Path, tests: Sequence[str], cpu_seconds: int, answer: Path) -> None:
    """Write the outcome of the tests to `answer`; whoever uses too much CPU is killed without one."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    chosen = ChosenTests(tests)
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    status = pytest.main([*OPTIONS, "-x", *files], plugins=[chosen])
    outcome = {0: SURVIVED, int(pytest.ExitCode.NO_TESTS_COLLECTED): NO_TESTS}.get(int(status), KILLED)
    answer.write_text(json.dumps([outcome, chosen.failed]))


class MeasuredTests:
    """Measure which lines each test executes, and how long it takes."""

    def __init__(self, coverage: Any) -> None:
        self._coverage = coverage
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, None, None]:
        self._coverage.switch_context(item.nodeid)
        begin = time.process_time()
        yield
        self.seconds[item.nodeid] = round(time.process_time() - begin, 3)
        self._coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)


def measure(folder: Path, files: Sequence[str], modules: Sequence[str], answer: Path) -> None:
    """Write for each test how long it takes, whether it fails, and which lines of the modules it executes."""
    from coverage import Coverage  # only here: the others trace nothing

    coverage = Coverage(data_file=None, include=[str(folder / module) for module in modules], config_file=False)
    measured = MeasuredTests(coverage)
    coverage.start()
    pytest.main([*OPTIONS, "-m", "not slow", *files], plugins=[measured])
    coverage.stop()
    tests: dict[str, Any] = {
        test: {"seconds": seconds, "failed": test in measured.failed, "lines": {}}
        for test, seconds in measured.seconds.items()
    }
    data = coverage.get_data()
    for module in modules:
        for line, contexts in data.contexts_by_lineno(str(folder / module)).items():
            for test in contexts:
                if test in tests:
                    tests[test]["lines"].setdefault(module, []).append(line)
    answer.write_text(json.dumps(tests))
