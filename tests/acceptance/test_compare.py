"""`mlpq compare`, `plan` and `report` on jobs that a worker trained."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from html.parser import HTMLParser

import pytest

from mlpq.analysis.sequential import anytime_interval, anytime_p
from mlpq.records import EpochMetrics
from mlpq.store import queries
from tests.support.installations import Site

SWEEP = (
    "--experiment", "duel", "--dataset", "digits", "--epochs", 4, "--validation", 0.1, "--seeds", "0..13",
    "--optimizer", "sgd", "--lr", "0.1,0.5", "--optimizer", "adam:lr=0.01",
)  # fmt: skip
CHARTS = ("Learning curves", "Paired differences", "Accuracy against learning rate", "Expected best of k settings")
QUICK = ("--dataset", "digits", "--epochs", 1)


@pytest.fixture(scope="module")
def duel(served: Site) -> Site:
    """A site with two optimizers, one of them at two learning rates; seven seeds choose, seven compare."""
    served.mlpq("submit", *SWEEP, "--wait")
    return served


def test_compare_prints_the_verdict(duel: Site) -> None:
    out = " ".join(duel.mlpq("compare", "duel", "--by", "optimizer").out.split())
    assert re.search(
        r"adam is better than sgd by \d+\.\d\d ± \d+\.\d\d points of test accuracy on digits \(n = 7 pairs, p = 0\.016,"
        r" valid only if n was fixed beforehand; anytime p = 0\.0\d\d, interval ",
        out,
    )
    assert "! sgd is represented by lr=0.5, chosen from 2 settings by mean validation accuracy on seeds 0..6" in out
    assert "! unequal tuning budgets: adam with 1 setting, sgd with 2 settings" in out


def test_compare_in_json_and_markdown_agree(duel: Site) -> None:
    document = duel.mlpq("compare", "duel", "--by", "optimizer", "--format", "json").json
    markdown = duel.mlpq("compare", "duel", "--by", "optimizer", "--format", "md").out
    rows = duel.mlpq("results", "duel", "--format", "json").json
    correct = {(row["optimizer"], row["lr"], row["seed"]): row["test_correct"] for row in rows}
    (pair,) = document["pairs"]
    differences = [(correct["adam", 0.01, seed] - correct["sgd", 0.5, seed]) / 5 for seed in range(7, 14)]
    assert pair["seeds"] == list(range(7, 14))
    assert [each["chosen_on_seeds"] for each in document["arms"]] == [[], list(range(7))]
    assert pair["p_anytime"] == pytest.approx(anytime_p(differences))
    interval = anytime_interval(differences)
    assert pair["interval_anytime"] == pytest.approx([interval.low, interval.high])
    assert pair["difference"] == pytest.approx(sum(differences) / 7)
    assert pair["superiority"] == sum((d > 0) + (d == 0) / 2 for d in differences) / 7
    assert f"- {pair['verdict']}" in markdown
    (best_of,) = document["best_of_k"]
    assert best_of["optimizer"] == "sgd"
    assert len(best_of["expected_test_percent"]) == 2


def figure_by_hand(metric: object, epochs: Sequence[EpochMetrics]) -> float:
    """Of one job, from its stored epochs; the target is 15 %."""
    validation = [100 * (epoch.validation_correct or 0) / 130 for epoch in epochs]
    reached = next(number for number, accuracy in enumerate(validation, 1) if accuracy >= 15)
    return {
        "loss": epochs[-1].test_loss,
        "validation": max(validation),
        "epochs": float(reached),
        "seconds": sum(epoch.seconds for epoch in epochs[:reached]),
    }[str(metric)]


@pytest.mark.parametrize(
    "metric", [("loss",), ("validation",), ("epochs", "--target", 15), ("seconds", "--target", 15)]
)
def test_compare_by_other_metrics(duel: Site, metric: tuple[object, ...]) -> None:
    document = duel.mlpq("compare", "duel", "--metric", *metric, "--format", "json").json
    assert document["metric"]["name"] == metric[0]
    assert len(document["pairs"]) == 3
    expected = {
        (f"{job.spec.optimizer} lr={job.spec.lr:g}", str(job.spec.seed)): figure_by_hand(
            metric[0], queries.curve(duel.store, job.id)
        )
        for job in queries.job_records(duel.store, "duel")
    }
    found = {(arm["arm"], seed): value for arm in document["arms"] for seed, value in arm["values"].items()}
    assert found == pytest.approx(expected)
    assert all(arm["mean"] == pytest.approx(sum(arm["values"].values()) / 14) for arm in document["arms"])


def test_charts_are_written_as_images_and_as_a_page(duel: Site) -> None:
    for name in ("charts.png", "charts.svg", "charts.html"):
        duel.mlpq("compare", "duel", "--by", "optimizer", "--plot", name)
    assert (duel.folder / "charts.png").read_bytes().startswith(b"\x89PNG")
    drawn = "".join(ElementTree.parse(duel.folder / "charts.svg").getroot().itertext())
    assert all(title in drawn for title in CHARTS)
    assert "n = 7" in drawn
    assert (duel.folder / "charts.svg").read_text() in (duel.folder / "charts.html").read_text()


class Outside(HTMLParser):
    """What a page would load from elsewhere, and its scripts; pictures that it contains are neither."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            f"{tag} {name}"
            for name, value in attrs
            if name in ("src", "href", "srcset", "data") and value and not value.startswith("data:image/png;base64,")
        ]
        self.found += [tag] if tag in ("script", "link", "iframe", "object") else []


def test_a_report_is_one_page_that_needs_nothing_else(duel: Site) -> None:
    duel.mlpq("report", "duel", "--by", "optimizer", "-o", "report.html")
    page = (duel.folder / "report.html").read_text()
    outside = Outside()
    outside.feed(page)
    assert outside.found == ["script"]  # which reads "?large" from the address
    assert "url(" not in page
    assert all(title in page for title in CHARTS)
    assert "adam or sgd: which is better?" in page
    assert "adam is better than sgd by" in page
    assert "mlpq verify duel --sample 3" in page
    assert "mlpq compare duel --by optimizer" in page
    assert page.count("42 jobs") >= 2
    assert "Equal for all jobs: digits, hidden=32, sigmoid, bias=true," in page
    assert "kernel" in page


def test_the_name_of_an_experiment_stays_text_in_a_report(duel: Site) -> None:
    name = "<script>alert(1)</script> & so on"
    duel.mlpq("submit", "--experiment", name, *QUICK)
    duel.mlpq("report", name, "-o", "markup.html")
    page = (duel.folder / "markup.html").read_text()
    (script,) = re.findall(r"<script[^>]*>(.*?)</script>", page)
    assert script.startswith("document.documentElement.classList.toggle(")  # its own, which the policy allows by hash
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; so on" in page


def test_compare_and_report_of_an_experiment_without_results(duel: Site) -> None:
    duel.mlpq("submit", "--experiment", "elsewhere", *QUICK, "--device", "mps")
    assert "0 of 1" in duel.mlpq("compare", "elsewhere").out
    assert "nothing to draw yet" in duel.mlpq("compare", "elsewhere", "--plot", "none.svg", status=2).err
    duel.mlpq("report", "elsewhere", "-o", "elsewhere.html")
    assert "0 of 1 job succeeded" in (duel.folder / "elsewhere.html").read_text()


@pytest.mark.parametrize("chart", ["curves", "differences", "rates", "best-of-k"])
@pytest.mark.parametrize("suffix", [".pdf", ".svg", ".png"])
def test_one_chart_is_drawn_at_the_width_of_a_column(duel: Site, chart: str, suffix: str) -> None:
    name = f"{chart}{suffix}"
    done = duel.mlpq("compare", "duel", "--plot", name, "--chart", chart, "--width", "3.35in")
    assert f"chart in {name}" in done.err
    content = (duel.folder / name).read_bytes()
    assert {".pdf": b"MediaBox [0 0 241.2 ", ".svg": b'width="241.2pt"', ".png": b"\x89PNG"}[suffix] in content


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--chart", "curves"), "--chart needs --plot FILE"),
        (("--width", "3in"), "--width needs --plot FILE and --chart NAME"),
        (("--plot", "a.pdf", "--style", "slides"), "--style needs --plot FILE and --chart NAME"),
        (("--plot", "a.pdf", "--chart", "curve"), "did you mean 'curves'"),
        (("--plot", "a.html", "--chart", "curves"), "name the file NAME.pdf or NAME.svg or NAME.png"),
        (("--plot", "a.pdf", "--chart", "curves", "--width", "3"), "is not a length"),
        (("--plot", "a.pdf", "--chart", "race"), "no question is registered"),
    ],
)
def test_charts_that_can_not_be_drawn_say_why(duel: Site, options: tuple[str, ...], message: str) -> None:
    assert message in duel.mlpq("compare", "duel", *options, status=2).err


def test_results_comparisons_and_queries_are_tables_in_latex(duel: Site) -> None:
    compared = duel.mlpq("compare", "duel", "--by", "optimizer", "--format", "latex").out
    (best, _) = duel.mlpq("compare", "duel", "--by", "optimizer", "--format", "json").json["arms"]
    assert compared.count("\\toprule") == compared.count("\\bottomrule") >= 4
    assert f"adam & 7 & {best['mean']:.2f} $\\pm$ {best['sd']:.2f} & " in compared
    assert "\\item adam is better than sgd" in compared
    assert "sgd lr=0.1 & 14 & " in duel.mlpq("results", "duel", "--format", "latex").out
    duel.mlpq("sql", "SELECT 'a_b' AS some_name, 1 AS n", "-o", "query.tex")
    assert "a\\_b & 1 \\\\" in (duel.folder / "query.tex").read_text()


def test_plan_counts_and_submits_missing_seeds(duel: Site) -> None:
    command = ("plan", "duel", "--by", "optimizer", "--difference", 3, "--format", "json")
    planned = duel.mlpq(*command).json
    (pair,) = planned["pairs"]
    assert planned["submitted"] == 0
    assert len(planned["seeds"]) == pair["seeds_needed"]
    out = duel.mlpq("plan", "duel", "--by", "optimizer", "--difference", 100, "--submit").out
    assert "0 jobs submitted" in out
    assert "! sgd is represented by lr=0.5, chosen from 2 settings" in out
    two = ("--optimizer", "sgd", "--optimizer", "adam", "--seeds", "0,1")
    duel.mlpq("submit", "--experiment", "small", *QUICK, *two, "--wait")
    planned = duel.mlpq("plan", "small", "--difference", 100, "--submit", "--format", "json").json
    assert (planned["seeds"], planned["submitted"]) == ([0, 1, 2, 3, 4, 5], 8)
    rows = duel.mlpq("results", "small", "--format", "json").json
    assert sorted((row["optimizer"], row["seed"]) for row in rows) == [
        (o, s) for o in ("adam", "sgd") for s in range(6)
    ]


def test_plan_submits_parents_of_missing_seeds(duel: Site) -> None:
    parents = duel.submit("--experiment", "before", *QUICK, "--seeds", "0,1", "--wait")
    for parent in parents:
        again = ("--continue-from", parent["id"], "--experiment", "after")
        duel.mlpq("submit", *again, "--optimizer", "adam", "--optimizer", "rmsprop", "--wait")
    assert duel.mlpq("plan", "after", "--difference", 100, "--submit", "--format", "json").json["submitted"] == 8
    rows = {name: duel.mlpq("results", name, "--format", "json").json for name in ("before", "after")}
    assert sorted(row["seed"] for row in rows["before"]) == list(range(6))
    assert sorted((row["optimizer"], row["seed"]) for row in rows["after"]) == [
        (optimizer, seed) for optimizer in ("adam", "rmsprop") for seed in range(6)
    ]
    of = {row["id"]: row["seed"] for row in rows["before"]}
    assert all(of[row["parent_id"]] == row["seed"] for row in rows["after"])


def test_several_experiments_are_ranked_over_their_problems(duel: Site) -> None:
    duel.mlpq(
        "submit", "--experiment", "shapes", *QUICK, "--hidden", 8, "--hidden", 16, "--optimizer", "sgd:lr=0.5",
        "--optimizer", "adam:lr=0.01", "--seeds", "0..2", "--wait",
    )  # fmt: skip
    several = ("compare", "--experiments", "duel,shapes", "--by", "optimizer")
    document = duel.mlpq(*several, "--format", "json", "--plot", "profiles.svg").json
    assert [each["problem"] for each in document["problems"]] == [
        "duel", "shapes: MLP 8 sigmoid", "shapes: MLP 16 sigmoid",
    ]  # fmt: skip
    assert sorted(each["arm"] for each in document["arms"]) == ["adam", "sgd"]
    assert "3 problems can't give a significant result" in document["verdict"]
    assert document["verdict"] in " ".join(duel.mlpq(*several).out.split())
    assert f"- {document['verdict']}" in duel.mlpq(*several, "--format", "md").out
    drawn = "".join(ElementTree.parse(duel.folder / "profiles.svg").getroot().itertext())
    assert "Performance profiles" in drawn


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("compare nothing", "no experiment is called 'nothing'"),
        ("compare duel --by optimiser", "the spec has no field 'optimiser' (did you mean 'optimizer'?)"),
        ("compare duel --metric acuracy", "unknown metric 'acuracy' (did you mean 'accuracy'?)"),
        ("compare duel --against lion", "no arm is called 'lion': type one of adam lr=0.01; sgd lr=0.5; sgd lr=0.1"),
        (
            "compare duel --plot charts.gif",
            "the suffix of 'charts.gif' is not a supported format: name the file NAME.pdf or NAME.png or NAME.svg or "
            "NAME.html",
        ),
        ("compare duel --plot nowhere/charts.png", "the folder nowhere does not exist"),
        ("report duel -o nowhere/report.html", "the folder nowhere does not exist"),
        ("compare", "Name one EXPERIMENT, or several with --experiments A,B,C."),
        ("compare duel --experiments duel,small", "Name one EXPERIMENT, or several with --experiments A,B,C."),
        ("compare --experiments duel --by optimizer", "one problem has no verdict over several"),
        ("compare duel --choose-seeds 0..4", "--choose-seeds chooses between the settings of a side: add --by"),
        ("compare duel --by optimizer --choose-seeds 0..13", "--choose-seeds 0..13 leaves no seed to compare on"),
        ("plan duel --difference 0", "--difference must be a number above 0"),
        ("plan duel --difference 1 --power 80", "--power is a probability between 0 and 1, not 80"),
        ("plan duel --difference 1e-9", "no number of seeds detects a difference of 1e-09 points"),
    ],
)
def test_invalid_comparison_is_rejected(duel: Site, command: str, words: str) -> None:
    before = len(queries.job_records(duel.store))
    done = duel.mlpq(*command.split(), status=2)
    assert words in done.err
    assert len(done.err.splitlines()) == 1
    assert len(queries.job_records(duel.store)) == before
