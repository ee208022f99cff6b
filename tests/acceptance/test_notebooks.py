"""Notebooks: what the Python interface shows in a real kernel, the tutorial, exported jobs, and JupyterLab."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, expect

from tests.support.installations import EMBEDDED, Site
from tests.support.linked_environment import linked_environment
from tests.support.notebooks import (
    TUTORIAL,
    executed,
    executed_notebook,
    jupyter_environ,
    notebook_script,
    write,
)
from tests.support.services import free_port, wait_until

pytestmark = pytest.mark.slow

SWEEP = 'experiment="in a kernel", dataset="digits", optimizer=["sgd:lr=0.5", "adam:lr=0.01"], epochs=2, seeds=range(4)'
OUTSIDE = re.compile(r"<script|<style(?! scoped)|<link|src=\"(?!data:)|https?://")


def only(outputs: list[Any], kind: str) -> dict[str, Any]:
    """The data of the only output of a cell."""
    assert [output.output_type for output in outputs] == [kind], outputs
    data: dict[str, Any] = outputs[0].data
    return data


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_objects_show_themselves_in_a_kernel_with_its_running_event_loop(served: Site) -> None:
    _, loop, waited, run, compared, picture, silent, plan, verified = executed(
        served,
        [
            "import asyncio, mlpq\nlab = mlpq.Lab()",
            "asyncio.get_running_loop().is_running()",
            f"run = lab.submit({SWEEP}).wait()",
            "run",
            'lab.compare("in a kernel", by="optimizer")',
            'lab.compare("in a kernel").plot("curves")',
            'lab.submit(experiment="silent kernel", dataset="digits", epochs=1).wait(progress=False);',
            'lab.plan("in a kernel", 0.5)',
            'lab.verify("in a kernel", sample=1, progress=False)',
        ],
    )
    assert only(loop, "execute_result")["text/plain"] == "True"
    line = only(waited, "display_data")
    assert re.fullmatch(r"8 jobs in [\d.]+ m?s: 8 succeeded", line["text/plain"])
    assert line["text/html"] == f"<div>{line['text/plain']}</div>"
    assert "<td" in only(run, "execute_result")["text/html"]
    shown = only(compared, "execute_result")
    assert "undecided between" in shown["text/html"]
    assert "at least 6 are needed" in shown["text/html"]  # pairs, of which there are 4
    assert shown["text/html"].count("data:image/svg+xml;base64,") >= 2
    assert "\x1b" not in shown["text/plain"]
    assert {"image/png", "text/plain", "application/vnd.vegalite.v6+json"} <= {*only(picture, "execute_result")}
    assert not silent
    for outputs in (run, compared, plan, verified):
        assert not OUTSIDE.search(only(outputs, "execute_result")["text/html"])


def test_errors_in_a_notebook_are_those_of_the_command_line(alone: Site) -> None:
    *_, outputs = executed(alone, ["import mlpq", "mlpq.Lab().compare('none')"], allow_errors=True)
    assert (outputs[0].ename, outputs[0].evalue) == ("NotFoundError", alone.mlpq("compare", "none", status=2).err[6:-1])


def test_tutorial_runs_with_a_small_data_set(tmp_path: Path) -> None:
    notebook = notebook_script().executed(TUTORIAL, tmp_path, {"DATASET": "digits"})
    stored = nbformat.read(TUTORIAL, as_version=4)
    assert (tmp_path / "hand-in.html").read_text().count("Registered question")
    for new, old in zip(notebook.cells, stored.cells, strict=True):
        kinds = [sorted(output.get("data", {})) for output in new.get("outputs", [])]
        assert kinds == [sorted(output.get("data", {})) for output in old.get("outputs", [])], new.source


def test_tutorial_is_stored_with_outputs_that_need_nothing_else() -> None:
    stored = nbformat.read(TUTORIAL, as_version=4)
    nbformat.validate(stored)
    assert TUTORIAL.stat().st_size < 1_500_000
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    for cell in stored.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output
            assert "/root/" not in str(output)
            assert "/tmp/" not in str(output)
            assert not OUTSIDE.search(str(output.get("data", {}).get("text/html", "")))


@pytest.fixture(scope="module")
def bare_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment that has torch and NumPy, what they require, and Jupyter's kernel."""
    return linked_environment(tmp_path_factory.mktemp("torch"), ["torch", "numpy", "ipykernel"])


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
@pytest.mark.parametrize("dataset", ["digits", "fashion-mnist"])
def test_exported_jobs_run_where_only_torch_and_numpy_are(
    served: Site, bare_torch: Path, dataset: str, tmp_path: Path, fashion_mnist: Path
) -> None:
    (job,) = served.submit("--dataset", dataset, "--optimizer", "sgd:lr=0.1", "--epochs", 1, "--experiment", dataset)
    served.wait_for(job["id"], "succeeded")
    result = served.result(job["id"])
    (tmp_path / "job.py").write_text(served.mlpq("export", job["id"]).out)
    served.mlpq("export", job["id"], "--notebook", "-o", tmp_path / "job.ipynb")
    environ = {name: value for name, value in served.environ().items() if not name.startswith(("MLPQ_", "PYTHON"))}
    absent = "import importlib.util as u, sys; sys.exit(any(map(u.find_spec, ('mlpq', 'torchvision', 'sklearn'))))"
    subprocess.run([str(bare_torch), "-c", absent], check=True, env=environ, cwd=tmp_path)
    script = [str(bare_torch), "job.py"]
    printed = subprocess.run(script, capture_output=True, text=True, check=True, env=environ, cwd=tmp_path).stdout
    kernel = tmp_path / "jupyter_data_dir" / "kernels" / "bare" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    argv = [str(bare_torch), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "bare", "language": "python"}))
    execute = "from nbclient.cli import main; main()"
    command = [sys.executable, "-c", execute, "--kernel_name", "bare", "--inplace", "job.ipynb"]
    subprocess.run(command, check=True, env=jupyter_environ(environ, tmp_path), cwd=tmp_path, timeout=250)
    last = nbformat.read(tmp_path / "job.ipynb", as_version=4).cells[-1].outputs[0].text
    assert last == printed.splitlines(keepends=True)[-1]
    found = re.match(r"(\d+) of", last)
    assert found
    assert abs(int(found[1]) - result.test_correct) <= 5


def test_script_and_notebook_exclude_each_other(alone: Site) -> None:
    assert "not both" in alone.mlpq("export", "abc", "--script", "--notebook", status=2).err


@contextmanager
def jupyter_lab(site: Site) -> Iterator[str]:
    """The address of a JupyterLab on the site's folder."""
    port = free_port()
    options = [
        f"--ServerApp.port={port}",
        "--no-browser",
        "--ServerApp.token=",
        "--ServerApp.password=",
        "--allow-root",
    ]
    options += [f"--ServerApp.root_dir={site.folder}", "--LabApp.news_url=", "--LabApp.extension_manager=readonly"]
    log = site.folder / "jupyter.log"
    environ = jupyter_environ(site.environ(), site.folder)
    with log.open("wb") as out:
        command = [sys.executable, "-m", "jupyterlab", *options]
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=site.folder, env=environ)
    try:
        wait_until("JupyterLab serves", lambda: f":{port}/lab" in log.read_text(), 90)
        yield f"http://127.0.0.1:{port}/lab"
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:  # a kernel that takes its time exits with its parent
            process.kill()
            process.wait()


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_jupyter_lab_shows_the_objects_of_a_notebook_that_it_does_not_trust(served: Site, chromium: Browser) -> None:
    cells = [
        "import mlpq\nlab = mlpq.Lab()",
        f"lab.submit({SWEEP.replace('in a kernel', 'displayed')}).wait()",
        'lab.compare("displayed", by="optimizer")',
        'lab.compare("displayed").plot("differences")',
    ]
    write(executed_notebook(served, cells), served.folder / "displayed.ipynb")
    with jupyter_lab(served) as address:
        page = chromium.new_page(viewport={"width": 1280, "height": 4000})
        page.goto(f"{address}/tree/displayed.ipynb")
        notebook = page.locator(".jp-Notebook")
        expect(notebook.locator("img")).to_have_count(3)
        expect(notebook.locator("table").first).to_be_visible()
        expect(notebook.get_by_text("8 jobs in").first).to_be_visible()
        widths = notebook.locator("img").evaluate_all("images => images.map(image => image.naturalWidth)")
        assert all(width > 300 for width in widths)
        assert not notebook.get_by_text("Note:").first.is_hidden()
        page.close()
