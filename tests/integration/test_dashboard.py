"""The dashboard's application: the content of its pages, and rejected requests. On both databases."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import event
from starlette.testclient import TestClient

from mlpq.analysis.params import ComparisonParams
from mlpq.dashboard import comparisons
from mlpq.dashboard.app import make_app
from mlpq.dashboard.serving import hosts
from mlpq.experiment import compare_experiment
from mlpq.jobs import Outcome
from mlpq.report.comparison_tables import verdict_lines
from mlpq.report.drawing import PHONE
from mlpq.store import execution, queries, verifications
from mlpq.store.session import Store
from mlpq.verification_records import Grade, Verification
from mlpq.worker_records import WorkerCapabilities
from tests.support.dashboard_pages import train, words
from tests.support.job_steps import (
    claim,
    claim_one,
    epoch,
    fail,
    failure,
    finish,
    heartbeat,
    spec,
    specs,
    submit,
    success,
)

ATTACK = '<script>alert("x")</script>'


def test_empty_database_says_what_to_type(client: TestClient) -> None:
    assert "mlpq submit --preset textbook --wait" in words(client.get("/").text)
    assert "mlpq worker starts one" in words(client.get("/workers").text)


def test_list_of_experiments_counts_jobs_and_shows_waiting_ones(store: Store, client: TestClient) -> None:
    train(store)
    submit(store, *specs(seeds="0..3"), experiment="for a GPU", device="cuda")
    page = words(client.get("/").text)
    assert "12 succeeded" in page
    assert "12 of 12" in page
    assert "4 jobs waiting for a cuda worker; none is alive: mlpq worker --device cuda" in page
    execution.worker_heartbeat(store, "bob:1:b", WorkerCapabilities("cuda", "H100", 2))
    page = words(client.get("/").text)
    assert "4 jobs for cuda" in page
    assert "1 worker alive (1 cuda), 0 jobs running" in page
    assert "cuda × 2: H100" in words(client.get("/workers").text)


def test_experiments_are_paged(store: Store, client: TestClient) -> None:
    for number in range(52):
        submit(store, spec(seeds=number), experiment=f"number {number}")
    first = client.get("/").text
    (earlier,) = re.findall(r'href="(/\?before=\d+)"', first)
    second = client.get(earlier).text
    shown = [re.findall(r">number (\d+)<", page) for page in (first, second)]
    assert [len(numbers) for numbers in shown] == [50, 2]
    assert sorted(map(int, shown[0] + shown[1])) == list(range(52))


def test_experiment_page_has_the_verdicts_of_mlpq_compare(store: Store, client: TestClient) -> None:
    train(store)
    for options, params in (
        ("", ComparisonParams()),
        ("?by=optimizer&metric=loss", ComparisonParams(by="optimizer", metric="loss")),
    ):
        page = words(client.get(f"/experiments/sweep{options}").text)
        verdicts = verdict_lines(compare_experiment(store, "sweep", params).comparison)
        assert verdicts
        assert all(" ".join(verdict.split()) in page for verdict in verdicts)


def test_charts_are_drawn_for_phones_except_with_large_type(store: Store, client: TestClient) -> None:
    train(store)
    page = client.get("/experiments/sweep").text
    phone = [html.unescape(url) for url in re.findall(r'<source media="[^"]+" srcset="([^"]+)"', page)]
    assert len(phone) == page.count("<img") >= 2
    for url in phone:
        drawn = client.get(url).text
        assert f'width="{PHONE.width}"' in drawn
        assert drawn != client.get(url.replace("&size=phone", "")).text
    assert client.get(phone[0].replace("=phone", "=watch")).status_code == 400
    large = client.get("/experiments/sweep?large&by=optimizer").text
    assert '<html lang="en" class="large">' in large
    assert "<source" not in large
    assert 'class="large"' not in page


def test_links_of_a_page_with_large_type_keep_it(store: Store, client: TestClient) -> None:
    train(store)
    for address in ("/", "/experiments/sweep", "/workers"):
        links = re.findall(r'<a [^>]*href="([^"]+)"', client.get(f"{address}?large").text)
        pages = [link for link in links if not link.startswith(("#", "/charts"))]
        assert pages
        assert all("?large" in link for link in pages), pages
        assert all(client.get(html.unescape(link)).status_code == 200 for link in pages)


def test_page_of_a_single_arm(store: Store, client: TestClient) -> None:
    submit(store, spec(), experiment="one")
    finish(store, claim_one(store))
    page = words(client.get("/experiments/one").text)
    assert "How good is sgd lr=0.001?" in page
    assert "There is only one arm" in page


def test_chart_of_running_jobs_changes_with_every_epoch(store: Store, client: TestClient) -> None:
    submit(store, *specs(optimizer=["sgd", "adam"], lr=0.1, seeds="0..1"), experiment="now")
    one, *others = claim(store, limit=4)

    def charts() -> list[str]:
        return [
            html.unescape(url) for url in re.findall(r'src="(/charts/now[^"]*)"', client.get("/experiments/now").text)
        ]

    assert charts() == []
    heartbeat(store, one, [epoch(1)])
    (first,) = charts()
    drawn = client.get(first).text
    assert "Training now" in drawn
    heartbeat(store, one, [epoch(2, 430)])
    heartbeat(store, others[-1], [epoch(1, 300)])
    (second,) = charts()
    assert second != first
    assert client.get(second).text not in ("", drawn)
    execution.record(store, [success(claimed) for claimed in (one, *others)])
    assert charts() == []
    assert client.get("/charts/now.svg?experiment=nobody").status_code == 404


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_page_does_not_draw_curves_above_the_limit_of_epochs(
    store: Store, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(store)
    submit(store, spec(seeds=9), experiment="sweep")
    claimed = claim_one(store)
    heartbeat(store, claimed, [epoch(1)])
    assert "/charts/now.svg" in client.get("/experiments/sweep").text
    monkeypatch.setattr(comparisons, "MAX_EPOCHS", 2 * 12)  # as many as the finished jobs have
    heartbeat(store, claimed, [epoch(2)])
    page = client.get("/experiments/sweep").text
    assert "/charts/now.svg" not in page
    assert client.get("/charts/now.svg?experiment=sweep").status_code == 404
    heartbeat(store, claimed, [epoch(3)])
    finish(store, claimed)
    page = client.get("/experiments/sweep").text
    assert "/charts/curves.svg" not in page
    assert "mlpq compare sweep --plot" in words(page)
    assert client.get("/experiments/sweep?metric=epochs&target=50").status_code == 400


def test_charts_are_images_of_this_server(store: Store, client: TestClient) -> None:
    train(store)
    job = queries.job_records(store, "sweep")[0].id
    for page, names in (
        ("/experiments/sweep", ["curves", "differences", "rates", "tuning"]),
        (f"/jobs/{job}", ["loss", "accuracy"]),
    ):
        found = [html.unescape(found) for found in re.findall(r'<img src="([^"]+)" alt="[^"]+"', client.get(page).text)]
        assert [re.findall(r"/(\w+)\.svg", address) for address in found] == [[name] for name in names]
        for address in found:
            picture = client.get(address)
            assert picture.headers["content-type"].startswith("image/svg+xml")
            assert picture.text.startswith("<svg")
            assert client.get(address, headers={"If-None-Match": picture.headers["etag"]}).status_code == 304
    assert client.get("/charts/nothing.svg?experiment=sweep").status_code == 404
    assert client.get("/charts/curves.svg?experiment=sweep&by=nothing").status_code == 400


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("by=optimiser", "did you mean 'optimizer'?"),
        ("by=seed", "arms"),
        ("metric=speed", "unknown metric 'speed'"),
        ("metric=epochs", "needs the accuracy to reach"),
        ("metric=epochs&target=much", "'much' is not a number"),
        ("metric=epochs&target=nan", "--target must be an accuracy"),
        ("against=nothing", "no arm is called 'nothing'"),
        ("status=done", "unknown status 'done'"),
    ],
)
def test_page_reports_invalid_parameters(store: Store, client: TestClient, options: str, said: str) -> None:
    train(store)
    answer = client.get(f"/experiments/sweep?{options}")
    assert answer.status_code == 400
    assert said in words(answer.text)
    assert "12 succeeded" in words(answer.text)


def test_page_does_not_compare_above_the_limits_of_jobs_and_pairs(store: Store, client: TestClient) -> None:
    train(store, lr=tuple((number + 1) / 100 for number in range(11)), seeds="0")
    for options, status in (("", 200), ("?metric=loss", 400)):  # the default parameters are no error
        answer = client.get(f"/experiments/sweep{options}")
        assert answer.status_code == status
        assert "22 arms make 231 pairs" in words(answer.text)
    assert client.get("/experiments/sweep?by=optimizer").status_code == 200
    jobs = len(queries.job_records(store, "sweep"))
    submit(store, *specs(seeds=f"1..{1000 - jobs}", lr=7), experiment="sweep")
    assert "mlpq compare sweep compares all" not in words(client.get("/experiments/sweep").text)
    submit(store, *specs(seeds=0, lr=7), experiment="sweep")
    assert "mlpq compare sweep compares all" in words(client.get("/experiments/sweep").text)


def test_jobs_are_paged_once_and_in_order(store: Store, client: TestClient) -> None:
    ids = submit(store, *specs(seeds="0..104"), experiment="many")
    finish(store, claim_one(store))
    fail(store, claim_one(store), Outcome.CANCELLED)
    seen, address = [], "/experiments/many"
    while address:
        page = client.get(address).text
        seen += re.findall(r'href="/jobs/([0-9a-f-]{36})"', page)
        (address,) = re.findall(r'href="([^"]+)">next page', page) or [""]
    assert seen == ids
    page = client.get("/experiments/many?status=cancelled").text
    assert re.findall(r'href="/jobs/([0-9a-f-]{36})"', page) == ids[1:2]
    queued = client.get("/experiments/many?status=queued&by=lr").text
    (address,) = re.findall(r'href="([^"]+)">next page', queued)
    assert "status=queued" in address
    assert "by=lr" in address


def test_running_job_shows_its_epoch(store: Store, client: TestClient) -> None:
    (job,) = submit(store, spec(epochs=7), experiment="sweep")
    claimed = claim_one(store)
    assert "0 of 7" in words(client.get("/experiments/sweep").text)
    heartbeat(store, claimed, [epoch(1), epoch(2)], "line one\nline two")
    assert "2 of 7" in words(client.get("/experiments/sweep").text)
    page = client.get(f"/jobs/{job[:8]}").text
    assert "running, epoch 2 of 7" in words(page)
    assert "line one\nline two" in page


def test_job_page_shows_attempts_environment_and_verifications(store: Store, client: TestClient) -> None:
    (job,) = submit(store, spec(), experiment="sweep")
    fail(store, claim_one(store), error="no space left on device")
    page = words(client.get(f"/jobs/{job}").text)
    assert "no space left on device" in page
    assert "torch 2.13.0" in page
    assert f"mlpq verify {job[:8]}" in page
    found = Verification(job, None, Grade.REFUTED, "the weights are missing", [], [], [], [])
    verifications.record(store, [found])
    assert "refuted: the weights are missing" in words(client.get(f"/jobs/{job}").text)


@pytest.mark.parametrize(
    "address",
    ["/nothing", "/experiments/nothing", "/experiments/%00", "/experiments/%FF", "/experiments/", "/jobs/zz",
     "/jobs/ab", "/jobs/%00", "/docs", "/openapi.json", "/static/../app.py", "/static/nothing.js", "/jobs/ab/loss.svg"],
)  # fmt: skip
def test_unknown_address_is_not_found(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 404
    assert words(answer.text)


@pytest.mark.parametrize("address", ["/?before=x", "/?before=-1", f"/?before={10**30}", "/experiments/a?after=x"])
def test_invalid_number_in_the_address_is_a_bad_request(store: Store, client: TestClient, address: str) -> None:
    submit(store, spec(), experiment="a")
    assert client.get(address).status_code == 400


def test_user_input_is_escaped(store: Store, client: TestClient) -> None:
    name = f"{ATTACK}/'\"&?#"
    (job, other) = submit(store, spec(), spec(seeds=1), experiment=name)
    claimed = claim_one(store, worker="<b>ann</b>:1:a")
    execution.record(store, [failure(claimed, Outcome.DIVERGED, ATTACK)])
    claimed = claim_one(store)
    heartbeat(store, claimed, [], ATTACK)
    execution.worker_heartbeat(store, "<b>ann</b>:1:a", WorkerCapabilities("cpu", ATTACK))
    attack = quote(ATTACK, safe="")
    for address in (
        "/", "/workers", f"/experiments/{quote(name, safe='')}", f"/experiments/{quote(name, safe='')}?by={attack}",
        f"/experiments/{quote(name, safe='')}?status={attack}", f"/experiments/{attack}", f"/jobs/{job}",
        f"/jobs/{other}", f"/jobs/{attack}", f"/{attack}",
    ):  # fmt: skip
        page = client.get(address).text
        assert "<script>alert" not in page
        assert "<b>" not in page
        assert re.findall(r"<script[^>]*>", page) == ['<script src="/static/live.js" defer>']
    assert client.get(f"/experiments/{quote(name, safe='')}").status_code == 200
    assert html.escape(ATTACK, quote=False) in client.get(f"/jobs/{other}").text.replace("&#34;", '"')


def test_pages_load_nothing_from_other_hosts_and_have_no_inline_code(store: Store, client: TestClient) -> None:
    train(store)
    job = queries.job_records(store, "sweep")[0].id
    for address in ("/", "/experiments/sweep", f"/jobs/{job}", "/workers", "/nothing"):
        answer = client.get(address)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.findall(r'(?:src|href|action)="(?!/|#|\?)[^"]*"', answer.text)
        assert not re.findall(r'\s(?:on\w+|style)="', answer.text)


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_other_methods_than_get_and_head_are_not_allowed(store: Store, client: TestClient, method: str) -> None:
    (job,) = submit(store, spec(), experiment="a")
    for address in ("/", "/experiments/a", f"/jobs/{job}", "/workers", "/metrics", "/healthz", "/static/live.js"):
        assert client.request(method, address).status_code == 405
        assert client.head(address).status_code == 200


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("name", "status"),
    [("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:8000", 200), ("lab.example.org", 200),
     ("LAB.example.org", 200), ("evil.example", 400), ("lab.example.org.evil.example", 400), ("", 400),
     ("localhost@evil.example", 400)],
)  # fmt: skip
def test_only_requests_for_known_hosts_are_answered(store: Store, name: str, status: int) -> None:
    client = TestClient(make_app(store, hosts("0.0.0.0", ["lab.example.org"])))
    assert client.get("/healthz", headers={"Host": name}).status_code == status


@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_no_page_scans_the_table_of_jobs(store: Store, client: TestClient) -> None:
    train(store)
    submit(store, *specs(seeds="5..9"), experiment="sweep", device="cuda")
    job = queries.job_records(store, "sweep")[0].id
    executed: list[tuple[str, Any]] = []
    event.listen(store._reader, "before_cursor_execute", lambda *given: executed.append((given[2], given[3])))
    for page in ("/", "/experiments/sweep", "/experiments/sweep?status=failed&after=3", f"/jobs/{job}", "/workers"):
        assert client.get(page).status_code == 200
    statements = [each for each in executed if "jobs" in each[0]]
    assert statements
    with store.read() as connection:
        for statement, parameters in statements:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
            scans = [row.detail for row in plan if re.match(r"SCAN (jobs|results)\b(?!.*INDEX)", row.detail)]
            assert not scans, statement


def test_url_has_only_parameters_that_differ_from_their_defaults() -> None:
    assert ComparisonParams().given() == {}
    assert ComparisonParams("lr", "epochs", "85", "adam").given() == {
        "by": "lr", "metric": "epochs", "target": "85", "against": "adam",
    }  # fmt: skip
