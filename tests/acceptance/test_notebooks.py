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
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from playwright.sync_api import Browser, expect

from tests.support.installations import EMBEDDED, Site
from tests.support.linked_environment import without_mlpq
from tests.support.notebooks import (
    TUTORIAL,
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


@pytest.fixture(scope="module")
def shown(served: Site) -> Any:
    """A notebook that shows each object of the interface, executed in one kernel; its file is shown.ipynb."""
    cells = {
        "lab": "import asyncio, mlpq\nlab = mlpq.Lab()",
        "loop": "asyncio.get_running_loop().is_running()",
        "wait": f"run = lab.submit({SWEEP}).wait()",
        "run": "run",
        "comparison": 'lab.compare("in a kernel", by="optimizer")',
        "picture": 'lab.compare("in a kernel").plot("differences")',
        "silent": 'lab.submit(experiment="silent kernel", dataset="digits", epochs=1).wait(progress=False);',
        "plan": 'lab.plan("in a kernel", 0.5)',
        "verifications": 'lab.verify("in a kernel", sample=1, progress=False)',
        "errors": 'lab.errors("in a kernel")',
        "job": "lab.show(run.ids[0])",
        "missing": "lab.compare('none')",
    }
    notebook = executed_notebook(served, list(cells.values()), allow_errors=True)
    write(notebook, served.folder / "shown.ipynb")
    return {name: cell.outputs for name, cell in zip(cells, notebook.cells, strict=True)}


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_objects_show_themselves_in_a_kernel_with_its_running_event_loop(shown: dict[str, list[Any]]) -> None:
    assert only(shown["loop"], "execute_result")["text/plain"] == "True"
    line = only(shown["wait"], "display_data")
    assert re.fullmatch(r"8 jobs in [\d.]+ m?s: 8 succeeded", line["text/plain"])
    assert line["text/html"] == f"<div>{line['text/plain']}</div>"
    assert "<td" in only(shown["run"], "execute_result")["text/html"]
    compared = only(shown["comparison"], "execute_result")
    assert "undecided between" in compared["text/html"]
    assert "at least 6 are needed" in compared["text/html"]  # pairs, of which there are 4
    assert compared["text/html"].count("data:image/svg+xml;base64,") >= 2
    assert "\x1b" not in compared["text/plain"]
    kinds = {*only(shown["picture"], "execute_result")}
    assert {"image/png", "text/plain", "application/vnd.vegalite.v6+json"} <= kinds
    assert not shown["silent"]
    for name in ("run", "comparison", "plan", "verifications", "errors", "job"):
        assert not OUTSIDE.search(only(shown[name], "execute_result")["text/html"])


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_errors_in_a_notebook_are_those_of_the_command_line(shown: dict[str, list[Any]], served: Site) -> None:
    (raised,) = shown["missing"]
    assert (raised.ename, raised.evalue) == ("NotFoundError", served.mlpq("compare", "none", status=2).err[6:-1])


def test_tutorial_runs_with_a_small_data_set(alone: Site) -> None:
    with alone.worker():  # which spares each of its waits the start of one
        notebook = notebook_script().executed(TUTORIAL, Path(alone.env["MLPQ_HOME"]), {"DATASET": "digits"})
    stored = nbformat.read(TUTORIAL, as_version=4)
    assert (Path(alone.env["MLPQ_HOME"]) / "hand-in.html").read_text().count("Registered question")
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


@pytest.mark.parametrize("served", [EMBEDDED], indirect=True)
def test_exported_notebook_runs_where_only_torch_and_numpy_are(served: Site, bare_torch: Path, tmp_path: Path) -> None:
    command = ("--dataset", "digits", "--optimizer", "sgd:lr=0.1", "--epochs", 1, "--experiment", "to a notebook")
    (job,) = served.submit(*command)
    served.wait_for(job["id"], "succeeded")
    served.mlpq("export", job["id"], "--notebook", "-o", tmp_path / "job.ipynb")
    kernel = tmp_path / "bare" / "kernel.json"
    kernel.parent.mkdir()
    argv = [str(bare_torch), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "bare", "language": "python"}))
    kernels = KernelSpecManager(kernel_dirs=[str(tmp_path)])
    notebook = nbformat.read(tmp_path / "job.ipynb", as_version=4)
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_name="bare", kernel_spec_manager=kernels),
        timeout=250,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute(env=jupyter_environ(without_mlpq(served.environ()), tmp_path))
    found = re.match(r"(\d+) of", notebook.cells[-1].outputs[0].text)
    assert found
    assert abs(int(found[1]) - served.result(job["id"]).test_correct) <= 5


def test_script_and_notebook_exclude_each_other(alone: Site) -> None:
    assert "only one of" in alone.mlpq("export", "abc", "--script", "--notebook", status=2).err


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
@pytest.mark.usefixtures("shown")
def test_jupyter_lab_shows_the_objects_of_a_notebook_that_it_does_not_trust(served: Site, chromium: Browser) -> None:
    with jupyter_lab(served) as address:
        page = chromium.new_page(viewport={"width": 1280, "height": 9000})
        page.goto(f"{address}/tree/shown.ipynb")
        notebook = page.locator(".jp-Notebook")
        expect(notebook.locator("img")).to_have_count(6)
        expect(notebook.locator("table").first).to_be_visible()
        expect(notebook.get_by_text("8 jobs in").first).to_be_visible()
        widths = notebook.locator("img").evaluate_all("images => images.map(image => image.naturalWidth)")
        assert all(width > 300 for width in widths)
        assert not notebook.get_by_text("Note:").first.is_hidden()
        page.close()
