"""`mlpq decide` as users run it: to a decision by real training, step by step, and its errors."""

from __future__ import annotations

import re

import pytest

from mlpq.store import queries
from tests.support.installations import Site

ARMS = (
    "--dataset", "digits", "--epochs", 2, "--optimizer", "sgd", "--lr", 0.1, "--optimizer", "adam:lr=0.01",
    "--seeds", "0..1",
)  # fmt: skip
QUESTION = ("--by", "optimizer", "--difference", 2)


def test_question_is_decided_and_typing_it_again_changes_nothing(served: Site) -> None:
    served.mlpq("submit", "--experiment", "race", *ARMS)
    done = served.mlpq("decide", "race", *QUESTION, "--wait")
    out = " ".join(done.out.split())
    assert re.search(
        r"adam is better than sgd by \d\d\.\d\d points of test accuracy on digits \(n = 7 of \d+ pairs, anytime p = ",
        out,
    )
    assert "race: registered 20" in out
    assert "UTC, before the first look: --by optimizer --difference 2, significance level 5 %; at most" in out
    assert "race: registered 20" in done.err
    assert "7 of at most" in done.err
    document = served.mlpq("decide", "race", *QUESTION, "--format", "json").json
    assert (document["verdict"], document["best"], document["n"]) == ("better", "adam", 7)
    assert document["cap"] >= 7
    assert document["p_anytime"] <= 0.05
    low, high = document["interval"]
    assert 0 < low < high < 1
    assert document["registered_at"].startswith("20")
    assert "pairs" not in document
    jobs = queries.job_records(served.store, "race")
    assert len(jobs) == 14
    assert served.mlpq("decide", "race", *QUESTION, "--wait", "--format", "json").json == document
    assert len(queries.job_records(served.store, "race")) == 14


def test_each_call_without_wait_takes_one_step(served: Site) -> None:
    served.mlpq("submit", "--experiment", "steps", *ARMS)
    first = served.mlpq("decide", "steps", *QUESTION)
    assert "the first 7 pairs determine how many seeds are needed at most" in first.err
    assert "type the same command again for the next look, or with --wait until it is decided" in first.err
    served.mlpq("watch", "steps")
    document = served.mlpq("decide", "steps", *QUESTION, "--format", "json").json
    assert (document["verdict"], document["is_over"]) == ("better", True)


def test_race_between_three_arms_has_its_pairs(served: Site) -> None:
    served.mlpq("submit", "--experiment", "three", *ARMS, "--optimizer", "rmsprop:lr=0.01")
    document = served.mlpq("decide", "three", *QUESTION, "--max-seeds", 10, "--wait", "--format", "json").json
    assert [(pair["a"], pair["b"]) for pair in document["pairs"] if "sgd" in (pair["a"], pair["b"])]
    assert {"verdict", "best", "n", "cap", "p_anytime", "interval", "registered_at"} <= document["pairs"][0].keys()
    assert all(pair["n"] <= pair["cap"] == 10 for pair in document["pairs"])
    out = served.mlpq("decide", "three", *QUESTION, "--max-seeds", 10).out
    assert "evidence" in out
    assert "worse" in out


def test_failed_job_is_named_and_the_status_is_1(alone: Site) -> None:
    rows = alone.submit("--experiment", "lost", *ARMS)
    alone.mlpq("cancel", rows[0]["id"])
    done = alone.mlpq("decide", "lost", *QUESTION, status=1)
    assert f"1 job failed: mlpq retry {rows[0]['id'][:8]}, then the same command continues" in done.err
    alone.mlpq("retry", rows[0]["id"])
    assert "waiting for" in alone.mlpq("decide", "lost", *QUESTION).err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--by", "optimizer"), "Missing option '--difference'"),
        (("--difference", "0"), "--difference must be a number above 0, not 0"),
        (("--difference", "1", "--margin", "-1"), "--margin must be a number above 0"),
        (("--difference", "1", "--max-seeds", "3"), "--max-seeds 3 can't decide anything: at least 6 are needed"),
        (("--difference", "1", "--against", "lbfgs"), "no arm is called 'lbfgs'"),
        (("--difference", "1", "--by", "color"), "the spec has no field 'color'"),
        (("--difference", "1", "--choose-seeds", "0..2", "--by", "optimizer"), "no side has several settings"),
    ],
)
def test_invalid_questions_are_one_line_and_register_nothing(
    alone: Site, arguments: tuple[str, ...], message: str
) -> None:
    alone.mlpq("submit", "--experiment", "bad", *ARMS)
    done = alone.mlpq("decide", "bad", *arguments, status=2)
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert queries.questions_of(alone.store, "bad") == []


def test_other_goal_of_a_registered_question_is_refused(alone: Site) -> None:
    alone.mlpq("submit", "--experiment", "once", *ARMS)
    alone.mlpq("decide", "once", *QUESTION)
    done = alone.mlpq("decide", "once", "--by", "optimizer", "--difference", 1, status=2)
    assert "with --by optimizer --difference 2, and does not change: type these, or" in done.err
    assert len(queries.job_records(alone.store, "once")) == 14
