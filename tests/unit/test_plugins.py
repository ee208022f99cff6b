"""Optimizers of installed packages: what they declare, how a sweep uses them, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from mlpq import plugins
from mlpq.analysis.grouping import by_label
from mlpq.analysis.labels import spec_labels
from mlpq.errors import SpecError
from mlpq.formatting import optimizer
from mlpq.spec import plugin as spec_plugin
from mlpq.spec.job import JobSpec, spec_from
from mlpq.spec.sweep import Sweep
from tests.support.installations import ROOT
from tests.support.plugin_packages import PLUGIN, write_package

NUMBERS = count()  # of modules, which a process imports once


@pytest.fixture(autouse=True)
def asked_first() -> Iterator[None]:
    """What a process found is not known to the next test."""
    yield
    for found in (spec_plugin.installed, spec_plugin.find):
        found.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Installs a package that declares one optimizer by a Python expression; its module."""

    def install(declaration: str, name: str = "lookback", package: str = "look-back", version: str = "2.1") -> str:
        module = f"declared_{next(NUMBERS)}"
        folder = tmp_path / module
        write_package(folder, package, version, {name: f"{module}:DECLARED"}, **{module: f"DECLARED = {declaration}\n"})
        monkeypatch.syspath_prepend(str(folder))
        for found in (spec_plugin.installed, spec_plugin.find):
            found.cache_clear()
        return module

    return install


def jobs(**keys: object) -> list[JobSpec]:
    return Sweep.parse({"dataset": "digits", **keys}).jobs()


def test_declared_options_and_defaults_make_a_spec() -> None:
    (spec,) = jobs(optimizer="slowstart:beta=0.5,steps=7")
    assert (spec.optimizer, spec.plugin, spec.lr) == ("slowstart", PLUGIN, 0.1)
    assert spec.optimizer_settings == {
        "beta": 0.5, "steps": 7, "betas": (0.5, 0.9), "nesterov": False, "weight_decay": 0.0,
    }  # fmt: skip
    assert spec.declaration is not None
    assert (spec.declaration.module, spec.declaration.class_name) == ("slowstart.optimizer", "Slowstart")
    assert (spec.package, spec.gang_key, spec.gang_key_on(2)) == (PLUGIN, None, None)
    assert JobSpec.model_validate_json(spec.canonical()) == spec
    assert JobSpec.model_validate_json(spec.canonical()).hash == spec.hash


def test_specs_without_plugins_do_not_name_them() -> None:
    (spec,) = jobs()
    assert {"plugin", "declaration"}.isdisjoint(json.loads(spec.canonical()))


def test_options_of_plugins_are_swept_like_others() -> None:
    entries = [{"name": "slowstart", "lr": [0.1, 0.2], "beta": [0.5, 0.9]}, "slowstart:betas=0.1/0.2", "adam"]
    specs = jobs(optimizer=entries, lr="0.3,0.4", weight_decay="0.01")
    assert [(spec.optimizer, spec.lr) for spec in specs] == [
        *[("slowstart", 0.1)] * 2, *[("slowstart", 0.2)] * 2, ("slowstart", 0.3), ("slowstart", 0.4), ("adam", 0.3),
        ("adam", 0.4),
    ]  # fmt: skip
    assert {spec.optimizer_settings["weight_decay"] for spec in specs} == {0.01}
    assert optimizer(specs[0]) == "slowstart lr=0.1 beta=0.5 weight_decay=0.01"
    assert spec_labels(specs)[:2] == ["slowstart lr=0.1 beta=0.5", "slowstart lr=0.1"]
    assert by_label(specs[0], ("optimizer", "beta")) == "slowstart beta=0.5"


def test_two_versions_of_a_plugin_are_told_apart(install: Callable[..., str]) -> None:
    (mine,) = jobs(optimizer="slowstart")
    other = spec_from(**{**mine.model_dump(), "plugin": "mlpq-test-plugin==2.0"})
    assert spec_labels([mine, other]) == ["plugin=mlpq-test-plugin==1.0", "plugin=mlpq-test-plugin==2.0"]
    assert mine.hash != other.hash


def test_package_names_are_normalized(install: Callable[..., str]) -> None:
    install("{'class': 'a.b:C', 'lr': 0.5}", package="Look_Back.er")
    (spec,) = jobs(optimizer="lookback")
    assert (spec.plugin, spec.lr, spec.optimizer_settings) == ("look-back-er==2.1", 0.5, {})
    assert plugins.packages() == {"look-back-er==2.1", PLUGIN}


def test_submitter_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from mlpq.spec.sweep import Sweep\n"
        "print(Sweep.parse({'dataset': 'digits', 'optimizer': 'slowstart'}).jobs()[0].plugin)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == f"{PLUGIN}\n"


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("1 / 0", "what look-back==2.1 declares of lookback can't be read: ZeroDivisionError: division by zero"),
        ("__import__('sys').exit(3)", "what look-back==2.1 declares of lookback can't be read: SystemExit: 3"),
        ("None", "look-back==2.1 declares lookback by {module}:DECLARED, which must be a mapping as {{"),
        ("{{'class': 'a.b:C'}}", "look-back==2.1 declares lookback by {module}:DECLARED, which must be a mapping"),
        ("{{'class': 'a.b', 'lr': 1}}", "invalid declaration: class must be 'package.module:Class', not 'a.b"),
        ("{{'class': 'a.b:C.D', 'lr': 1}}", "invalid declaration: class must be 'package.module:Class', not 'a.b"),
        ("{{'class': 'a.b:C', 'lr': 0}}", "invalid declaration: lr must be a number above 0, not '0'"),
        (
            "{{'class': 'a.b:C', 'lr': 1, 'x-y': 1}}",
            "an optimizer can't have the option",
        ),
        ("{{'class': 'a.b:C', 'lr': 1, 'params': 1}}", "an optimizer can't have the option 'params'"),
        ("{{'class': 'a.b:C', 'lr': 1, 'name': 1}}", "an optimizer can't have the option 'name'"),
        (
            "{{'class': 'a.b:C', 'lr': 1, 'x': 'fast'}}",
            "the default of x must be a number, True, False, or a tuple of numbers",
        ),
        (
            "{{'class': 'a.b:C', 'lr': 1, 'x': None}}",
            "the default of x must be a number, True, False, or a tuple of numbers",
        ),
        (
            "{{'class': 'a.b:C', 'lr': 1, 'x': float('inf')}}",
            "the default of x must be a number, True, False, or a tuple of numbers",
        ),
        ("{{'class': 'a.b:C', 'lr': 1, 'x': ()}}", "the options of an optimizer have 1 to 64 numbers"),
        ("{{'class': 'a.b:C', 'lr': 1, 'x': (1,) * 65}}", "the options of an optimizer have 1 to 64 numbers"),
    ],
)
def test_odd_declaration_is_a_one_line_error(install: Callable[..., str], declaration: str, message: str) -> None:
    module = install(declaration.replace("{{", "{").replace("}}", "}"))
    with pytest.raises(SpecError) as error:
        jobs(optimizer="lookback")
    assert message.format(module=module) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"optimizer": "slowstar"}, "unknown optimizer 'slowstar' (did you mean 'slowstart'?)"),
        ({"optimizer": "lookback"}, "declare an own one by --formula, or install its package"),
        ({"optimizer": "slowstart:bta=1"}, "slowstart has no option 'bta' (did you mean 'beta'?)"),
        ({"optimizer": "slowstart:beta=fast"}, "slowstart:beta must be a number, not 'fast'"),
        ({"optimizer": "slowstart:beta=nan"}, "slowstart:beta must be a finite number, not 'nan'"),
        ({"optimizer": "slowstart:steps=2.5"}, "slowstart:steps must be a whole number, not 2.5"),
        ({"optimizer": "slowstart:nesterov=1"}, "slowstart:nesterov must be true or false, not '1'"),
        ({"optimizer": "slowstart:betas=1"}, "slowstart:betas takes 2 numbers, as betas=0.5/0.9"),
        ({"optimizer": "jitter", "weight_decay": "0.1"}, "jitter has no option 'weight_decay'"),
        (
            {"optimizer": "slowstart:lr=1", "formula": "slowstart: p = p - lr*g"},
            f"slowstart is the formula, and {PLUGIN} has one of that name: give the formula another name",
        ),
    ],
)
def test_error_in_the_use_of_a_plugin_is_one_line(keys: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as error:
        jobs(**keys)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_names_of_two_packages_or_of_torch_are_refused(install: Callable[..., str]) -> None:
    install("{'class': 'a.b:C', 'lr': 1}", name="adam")
    with pytest.raises(SpecError, match=r"adam is torch's optimizer, and look-back==2\.1 has one of that name"):
        jobs(optimizer="adam")
    assert len(jobs(optimizer="sgd")) == 1
    install("{'class': 'a.b:C', 'lr': 1}", name="Slowstart")
    with pytest.raises(SpecError, match=f"look-back==2.1 and {PLUGIN} both declare the optimizer slowstart"):
        jobs(optimizer="slowstart")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plugin": None}, "plugin and declaration belong together"),
        ({"declaration": None}, "plugin and declaration belong together"),
        ({"plugin": "mlpq-test-plugin"}, "plugin: String should match pattern"),
        ({"plugin": "A==1 b"}, "plugin: String should match pattern"),
        ({"optimizer": "a\nb"}, "the name of a plug-in has up to 40 letters"),
        ({"optimizer": "adam"}, "adam is a plug-in, and torch's or a formula too: give one of them"),
        ({"formula": "p = p - lr*g"}, "slowstart is a plug-in, and torch's or a formula too: give one of them"),
        ({"optimizer_settings": {}}, "optimizer_settings must name every option of slowstart"),
        ({"optimizer_settings": {"x": 1.0}}, "slowstart has no option 'x'"),
    ],
)
def test_spec_with_an_odd_plugin_is_not_valid(change: dict[str, object], message: str) -> None:
    (spec,) = jobs(optimizer="slowstart")
    with pytest.raises(SpecError) as error:
        spec_from(**{**spec.model_dump(), **change})
    assert message in str(error.value)


def test_hash_of_the_code_changes_with_every_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(
        tmp_path, "hashed", "1", {"hashed": "hashed_declared:DECLARED"},
        hashed_declared="DECLARED = {'class': 'hashed.inner.optimizer:Hashed', 'lr': 1}\n",
        hashed__optimizer="raise RuntimeError('imported')\n",
    )  # fmt: skip
    monkeypatch.syspath_prepend(str(tmp_path))
    assert plugins.modules_of("hashed==1") == ["hashed", "hashed_declared"]
    hashes = [plugins.code_sha256(["hashed", "hashed_declared"])]
    for name, text in (("hashed/optimizer.py", "x = 1\n"), ("hashed/other.py", ""), ("hashed_declared.py", "y = 1\n")):
        (tmp_path / name).write_text(text)
        hashes.append(plugins.code_sha256(["hashed", "hashed_declared"]))
    assert len(set(hashes)) == 4
    (tmp_path / "hashed" / "notes.txt").write_text("no code")
    assert plugins.code_sha256(["hashed", "hashed_declared"]) == hashes[-1]
