"""docs/reference against the code: what is added without a line of docs fails here.

The code is asked what it has, by its commands, its messages and its database; the other side is the text of the pages.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import text
from starlette.routing import Mount

import mlpq.own_data
import mlpq.spec
from mlpq import plugins
from mlpq.analysis.metrics import METRICS, NAMES, UNITS_TO_TARGET
from mlpq.cli import cli
from mlpq.dashboard.app import make_app, router
from mlpq.dashboard.metrics import _Reader
from mlpq.errors import SettingsError, SpecError
from mlpq.jobs import Engine, Outcome, Status
from mlpq.report.charts import CHART_TITLES, JOB_CHART_TITLES
from mlpq.settings import BROKER_SCHEMES, CERTIFICATE_CHECKS, DATABASE_SCHEMES, read_settings
from mlpq.spec.presets import PRESETS
from mlpq.spec.sweep import Sweep
from mlpq.store.migrate import ready_store
from mlpq.store.schema import metadata
from mlpq.store.session import Store
from mlpq.verification_records import Grade
from tests.support.command_tree import COMMANDS
from tests.support.docs_pages import DOCS, coded, rows, section
from tests.support.exit_statuses import CLI as CLI_SOURCES
from tests.support.exit_statuses import SOURCES, exit_statuses
from tests.support.installations import ROOT
from tests.support.plugin_packages import PLUGIN

PAGES = DOCS / "reference"
CLI, DASHBOARD, DATASETS, EXIT_STATUS, METRICS_PAGE, SCHEMA, SETTINGS, SPEC_FILE, GRADES = (
    PAGES / f"{name}.md"
    for name in (
        "cli", "dashboard", "datasets", "exit-status", "metrics", "results-schema", "settings", "spec-file",
        "verification-grades",
    )
)  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty database."""
    return ready_store(read_settings({"MLPQ_HOME": str(tmp_path)}))


def first_codes(table: str) -> list[str]:
    """What the first cells of the tables in a text have between backticks."""
    return [code for row in rows(table) for code in coded(row[0])]


def row_of(table: str, code: str) -> str:
    """The row of a table in whose first cell a code is."""
    found = [" | ".join(row) for row in rows(table) if code in coded(row[0])]
    assert len(found) == 1, f"{len(found)} rows for {code}"
    return found[0]


def written(number: int) -> str:
    """A number as the pages write it."""
    return f"{number:,}".replace("-", "−")


def has_number(number: int, words: str) -> bool:
    """Whether a text has a number, also in MiB."""
    forms = [written(number)] + ([f"{written(number // 2**20)} MiB"] if number % 2**20 == 0 else [])
    text = " ".join(words.split())
    return any(re.search(rf"(?<![\d,.]){re.escape(form)}(?!,?\d|\.\d)", text) for form in forms)


# --- commands


def option_rows(words: tuple[str, ...]) -> dict[str, str]:
    """The row of each option that the page of a command has, by the option."""
    table = section(SPEC_FILE, "Keys and options") if words == ("submit",) else section(CLI, f"`mlpq {words[0]}`")
    return {
        code.split("[")[0].split(" ")[0]: " | ".join(row)
        for row in rows(table)
        for code in coded(row[0])
        if code.startswith("-")
    }


def options_of(command: click.Command) -> dict[str, click.Option]:
    return {name: option for option in command.params if isinstance(option, click.Option) for name in option.opts}


def facts(option: click.Option, context: click.Context) -> Iterator[str]:
    """What the row of an option must say: its choices, its range and its default."""
    if isinstance(option.type, click.Choice):
        yield from map(str, option.type.choices)
    if isinstance(option.type, click.IntRange):
        least, most = option.type.min, option.type.max
        yield f"{least} or more" if most is None else f"{written(int(least or 0))} to {written(int(most))}"
    default = option.get_default(context)
    if not option.is_flag and isinstance(default, str | int | float):
        yield str(default)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_each_argument_and_option_of_a_command_is_documented(words: tuple[str, ...]) -> None:
    command, page = COMMANDS[words], section(CLI, f"`mlpq {words[0]}`")
    context = click.Context(command)
    assert f"`mlpq {' '.join(words)}" in page
    for argument in command.params:
        if isinstance(argument, click.Argument):
            for name in re.findall("[A-Z]{2,}", argument.make_metavar(context)):
                assert re.search(rf"`[^`]*\b{name}\b[^`]*`", page), name
    documented, siblings = option_rows(words), [each for names, each in COMMANDS.items() if names[0] == words[0]]
    assert documented.keys() == {name for each in siblings for name in options_of(each)}
    for name, option in options_of(command).items():
        if "as for `mlpq compare`" not in documented[name]:
            for fact in filter(None, facts(option, context)):
                assert re.search(rf"\b{re.escape(fact)}\b", documented[name]), f"{name}: {fact}"


def test_each_command_has_a_section_and_a_line_in_the_list_of_commands() -> None:
    listed = [code.split(" ")[1] for code in first_codes(CLI.read_text()) if code.startswith("mlpq ")]
    assert sorted(listed) == sorted({names[0] for names in COMMANDS})
    for option in cli.params:
        assert all(f"mlpq {name}`" in CLI.read_text() for name in option.opts), option.name


def test_exit_statuses_are_documented() -> None:
    found = {file: exit_statuses(file) for file in SOURCES}
    documented = {int(row[0]) for row in rows(EXIT_STATUS.read_text()) if row[0].isdigit()}
    assert documented == set().union(*(each.values for each in found.values()))
    # Statuses that pass through: of a command, of the process that `mlpq data fetch` starts, and of callers.
    assert set().union(*(each.unknown for each in found.values())) == {
        "done.code", "subprocess.run(download).returncode", "status",
    }  # fmt: skip
    ones = {f"mlpq {file.stem}" for file, each in found.items() if file.parent == CLI_SOURCES and 1 in each.values}
    lines = [" ".join(code.split(" ")[:2]) for code in first_codes(EXIT_STATUS.read_text())]
    assert {*ones, "mlpq worker"} == set(lines)


# --- spec files


def rejections(key: str) -> list[str]:
    """The messages about values of a key that are no words and no numbers."""
    messages = []
    for value in ("?", ""):
        try:
            Sweep.parse({key: value})
        except SpecError as error:
            messages.append(str(error))
    return messages


@pytest.mark.parametrize("key", Sweep.model_fields)
def test_each_key_of_a_spec_file_is_documented_with_its_choices_and_limits(key: str) -> None:
    keys = [" | ".join(row) for row in rows(section(SPEC_FILE, "Keys and options")) if len(row) == 4]
    (own,) = (row for row in keys if key in re.findall(r"\w+", row.split(" | ")[1]))
    for message in rejections(key):
        if choices := re.search(r"\(choose from: (.+)\)", message):
            among = section(SPEC_FILE, "Optimizers") if key == "optimizer" else own
            of_packages = plugins.owners() if key == "optimizer" else {}
            assert set(choices[1].split(", ")) <= {*coded(among), *of_packages}
        if limits := re.search(r"(-?\d+) to (\d+)", message):
            low, high = map(int, limits.groups())
            assert f"{written(low)} to {written(high)}" in row_of(section(SPEC_FILE, "Limits"), key)
        if rule := re.search(r"must be a number (.+?), not", message):
            assert rule[1] in row_of(section(SPEC_FILE, "Limits"), key)


def test_documented_keys_exist() -> None:
    keys = [row[1] for row in rows(section(SPEC_FILE, "Keys and options")) if len(row) == 4]
    assert {code.partition(":")[0] for key in keys for code in coded(key)} == set(Sweep.model_fields)


def test_presets_are_documented_with_their_open_keys() -> None:
    table = {coded(row[0])[0]: set(coded(row[2])) for row in rows(section(SPEC_FILE, "Presets"))}
    assert table == {name: open_keys for name, (_, open_keys) in PRESETS.items()}


SPEC_MODULES = [f"mlpq.spec.{each.name}" for each in pkgutil.iter_modules(mlpq.spec.__path__)]
OWN_DATA_MODULES = [
    *(f"mlpq.own_data.{each.name}" for each in pkgutil.iter_modules(mlpq.own_data.__path__)),
    "mlpq.compressed",
    "mlpq.data_registry",
    "mlpq.store.data_sets",
]
# The part of a page that has the limits of a module.
LIMITS = {
    **dict.fromkeys(SPEC_MODULES, section(SPEC_FILE, "Limits")),
    "mlpq.spec.datasets": DATASETS.read_text(),
    "mlpq.spec.data_content": DATASETS.read_text(),
    **dict.fromkeys(OWN_DATA_MODULES, section(DATASETS, "Your own data sets")),
    "mlpq.spec.spec_file": section(SPEC_FILE, "Limits"),
    "mlpq.store.sql": section(CLI, "`mlpq sql`"),
    "mlpq.analysis.questions": section(CLI, "`mlpq decide`"),
    "mlpq.dashboard.bounded_cache": section(DASHBOARD, "Limits"),
    "mlpq.dashboard.comparisons": section(DASHBOARD, "Limits"),
    "mlpq.dashboard.connections": section(DASHBOARD, "Limits"),
}


@pytest.mark.parametrize("module", LIMITS)
def test_limits_are_documented_with_their_values(module: str) -> None:
    constants = vars(importlib.import_module(module))
    for name, value in constants.items():
        if re.match("(MAX|MOST)_", name) and isinstance(value, int):
            assert has_number(value, LIMITS[module]), f"{name} = {value}"


# --- settings

SETTINGS_TABLE = SETTINGS.read_text().partition("## Deployment")[0]


def test_each_setting_is_documented() -> None:
    documented = {name for name in first_codes(SETTINGS_TABLE) if name.startswith("MLPQ_")}
    assert documented == set(read_settings({}).sources)


@pytest.mark.parametrize("name", read_settings({}).sources)
def test_values_that_a_setting_takes_are_documented(name: str) -> None:
    try:
        read_settings({name: "?"})
    except SettingsError as error:
        row = row_of(SETTINGS_TABLE, name)
        if limits := re.search(r"from (\d+) to (\d+)", str(error)):
            assert f"{written(int(limits[1]))} to {written(int(limits[2]))}" in row
        if choices := re.search(r"it must be (\w+(?: or \w+)+)$", str(error)):
            assert set(choices[1].split(" or ")) <= set(coded(row))


def test_schemes_and_parameters_of_urls_are_documented() -> None:
    for name, schemes in (("MLPQ_DATABASE_URL", DATABASE_SCHEMES), ("MLPQ_BROKER_URL", BROKER_SCHEMES)):
        assert all(f"`{scheme}://" in row_of(SETTINGS_TABLE, name) for scheme in schemes), name
    for check in CERTIFICATE_CHECKS:
        assert re.search(rf"`{check}`|ssl_cert_reqs={check}\b", SETTINGS_TABLE), check


def test_variables_of_the_deployment_are_documented() -> None:
    used = re.findall(r"(?<!\$)\$\{(\w+)", (ROOT / "docker-compose.yml").read_text())
    documented = first_codes(section(SETTINGS, "Deployment"))
    assert {name.removesuffix("_IN_URL") for name in used} == set(documented) - {"_IN_URL"}


# --- metrics


def test_comparison_metrics_are_documented() -> None:
    table = {coded(row[0])[0]: row[-1] for row in rows(section(METRICS_PAGE, "Comparison metrics"))}
    assert {name.split(" ")[0] for name in table} == set(NAMES)
    for metric in METRICS.values():
        assert table[metric.name] == ("higher" if metric.higher_is_better else "lower")
    assert {row[0] for row in map(str.split, table) if "--target" in row} == set(UNITS_TO_TARGET)
    assert set(NAMES) <= set(coded(option_rows(("compare",))["--metric"]))


def test_prometheus_metrics_are_documented_with_their_types_and_labels(store: Store) -> None:
    documented = {
        coded(row[0])[0]: (row[1], tuple(coded(row[2]))) for row in rows(section(METRICS_PAGE, "Prometheus metrics"))
    }
    collected = {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, tuple(vars(family)["_labelnames"]))
        for family in _Reader(store).collect()
    }
    assert documented == collected
    alerts = section(DOCS / "how-to" / "operate.md", "Monitor with Prometheus")
    assert set(re.findall(r"\b(mlpq_\w+)[\[{)]", alerts)) <= set(collected)


# --- results


def test_columns_of_the_view_are_documented(store: Store) -> None:
    with store.read() as connection:
        columns = [row.name for row in connection.execute(text("PRAGMA table_info(results)"))]
    assert sorted(first_codes(section(SCHEMA, "The view `results`"))) == sorted(columns)


def test_each_table_and_its_columns_are_documented() -> None:
    listed = SCHEMA.read_text().split("## Tables\n")[1].split("### ")[0]
    assert sorted(first_codes(listed)) == sorted(metadata.tables)
    for name, table in metadata.tables.items():
        own = row_of(listed, name)
        described = first_codes(section(SCHEMA, f"`{name}`")) if "see below" in own else coded(own)
        assert {column.name for column in table.columns} - {"id"} <= set(described), name


def test_statuses_outcomes_engines_and_grades_are_documented() -> None:
    view = section(SCHEMA, "The view `results`")
    assert set(Status) <= set(coded(row_of(view, "status")))
    assert set(Outcome) <= set(coded(row_of(view, "outcome")))
    assert set(Engine) <= set(coded(row_of(view, "engine")))
    assert set(Status) <= set(coded(option_rows(("jobs",))["--status"]))
    assert {coded(row[1])[0] for row in rows(GRADES.read_text()) if coded(row[1])} >= set(Grade)
    assert set(Grade) <= set(coded(row_of(section(SCHEMA, "`verifications`"), "grade")))


def test_facts_of_the_environment_are_documented() -> None:
    from mlpq_workers.kernel.library import build
    from mlpq_workers.trainer.kernel_engine import KernelEngine
    from mlpq_workers.trainer.plugin_code import PluginCode
    from mlpq_workers.trainer.torch_engines import TorchEngines, determinism

    facts = {**KernelEngine(build("auto"), 1).facts, **TorchEngines("cpu", 1).facts, **(determinism("cuda") or {})}
    facts |= PluginCode.of(PLUGIN).facts
    assert {*facts, "data_checksum"} <= set(coded(section(SCHEMA, "`environments`")))


# --- the dashboard


def test_addresses_of_the_dashboard_and_their_parameters_are_documented(store: Store) -> None:
    page = DASHBOARD.read_text()
    addresses = {code.partition("?")[0] for code in first_codes(page)}
    for route in router.routes:
        assert isinstance(route, APIRoute)
        assert re.sub(r"\{name(:path)?\}", "NAME", route.path.replace("{prefix}", "ID")) in addresses, route.path
        queries = [route.dependant, *route.dependant.dependencies]
        for parameter in [each.alias for query in queries for each in query.query_params]:
            assert f"`{parameter}`" in page or f"?{parameter}=" in page, parameter
    mounted = [route.path for route in make_app(store, ["localhost"]).routes if isinstance(route, Mount)]
    assert {f"{path}/…" for path in mounted} <= addresses
    charts = " ".join(line for line in page.splitlines() if ".svg" in line)
    assert {*CHART_TITLES, *JOB_CHART_TITLES} <= set(coded(charts))
