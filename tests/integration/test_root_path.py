"""The dashboard under a path of a proxy, and methods that it does not take. On both databases."""

from __future__ import annotations

import html
import re

import pytest
from starlette.testclient import TestClient

from mlpq.dashboard.app import make_app
from mlpq.dashboard.serving import check_root_path, hosts
from mlpq.errors import SettingsError
from mlpq.store.session import Store
from tests.support.dashboard_pages import train
from tests.support.job_steps import claim_one, epoch, heartbeat, spec, submit

ROOT = "/lab/mlpq"
LINK = re.compile(r'(?:href|src|action)="([^"#][^"]*)"')


def client_under(store: Store, root: str) -> TestClient:
    return TestClient(make_app(store, hosts("127.0.0.1", ["testserver"]), root), follow_redirects=False)


@pytest.mark.parametrize("seen", ["", ROOT], ids=["the proxy removes the path", "the proxy keeps the path"])
def test_every_link_of_every_page_works_under_a_root_path(store: Store, seen: str) -> None:
    train(store)
    (job,) = submit(store, spec(seeds=77), experiment="a/b & c")
    heartbeat(store, claim_one(store), [epoch(1)], "a line")
    client = client_under(store, ROOT)
    todo, done = [f"{ROOT}/", f"{ROOT}/jobs/{job}", f"{ROOT}/nothing", f"{ROOT}/experiments/sweep?by=optimizer"], set()
    while todo:
        address = todo.pop()
        done.add(address)
        answer = client.get(seen + address.removeprefix(ROOT))
        assert answer.status_code == (404 if "nothing" in address else 200), address
        if answer.headers["content-type"].startswith("text/html"):
            found = {html.unescape(link) for link in LINK.findall(answer.text)}
            assert all(link.startswith(f"{ROOT}/") for link in found)
            todo += sorted(link for link in found - done - set(todo) if len(done) < 60)
    kinds = {address.removeprefix(ROOT).split("/")[1].partition("?")[0] for address in done}
    assert {"", "static", "experiments", "jobs", "charts", "workers"} <= kinds
    assert client.get(ROOT).status_code == 200


@pytest.mark.parametrize("root", ["", ROOT])
def test_the_present_page_is_marked(store: Store, root: str) -> None:
    page = client_under(store, root).get(f"{root}/workers").text
    assert f'href="{root}/workers" aria-current="page"' in page


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/experiments/sweep", "/jobs/ab", "/static/style.css", "/metrics", "/healthz"])
def test_rejected_methods_name_those_that_are_allowed(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(("given", "root"), [("", ""), ("/", ""), ("/mlpq", "/mlpq"), ("/a/b-c.d/", "/a/b-c.d")])
def test_root_paths_lose_their_last_slash(given: str, root: str) -> None:
    assert check_root_path(given) == root


@pytest.mark.parametrize(
    "given", ["mlpq", "http://x/mlpq", "//x", "/a b", '/"x', "/a/../b", "/jobs", "/static/x", "/é"]
)
def test_other_root_paths_are_refused(given: str) -> None:
    with pytest.raises(SettingsError, match="--root-path"):
        check_root_path(given)


def test_unfinished_jobs_leave_the_bar_empty(store: Store, client: TestClient) -> None:
    """A full bar beside "0 of 4" would look as if they were finished."""
    submit(store, spec(seeds=1), experiment="new")
    claim_one(store)
    page = client.get("/").text
    assert "<rect" not in page
    assert "1 running" in page
