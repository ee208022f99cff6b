"""Labels of charts: all of a text is in its lines, and no line is wider than its room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlpq.report.chart_text import pair_labels, text_width, wrapped


@given(text=st.text(st.sampled_from("abimW1 ,=/_-é数"), max_size=80), room=st.floats(10, 300))
def test_lines_have_the_whole_text_and_are_as_wide_as_their_room(text: str, room: float) -> None:
    lines = wrapped(text, room, 8)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(text_width(line, 8) <= room or len(line.strip()) == 1 for line in lines)


def test_words_stay_whole_where_they_fit() -> None:
    assert wrapped("MLP 32, nadam schedule=constant warmup=0", 130, 8) == [
        "MLP 32, nadam",
        "schedule=constant warmup=0",
    ]
    assert wrapped("step:size=7,gamma=0.3", 60, 8) == ["step:size=7,", "gamma=0.3"]


def test_pairs_are_named_in_one_line_in_two_or_by_numbers_with_a_key() -> None:
    pairs = [("sgd", "adam"), ("sgd momentum=0.9", "adam")]
    assert pair_labels(pairs, 200, 8).labels == ["sgd − adam", "sgd momentum=0.9 − adam"]
    assert pair_labels(pairs, 80, 8).labels == ["sgd\n− adam", "sgd momentum=0.9\n− adam"]
    numbered = pair_labels(pairs, 30, 8)
    assert numbered.labels == ["1", "2"]
    assert numbered.key == ["1: sgd − adam", "2: sgd momentum=0.9 − adam"]
