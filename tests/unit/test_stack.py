"""The parts of a stack: inputs that share one product, the layout of parameters in memory, evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlpq.spec.datasets import DATASETS
from mlpq.spec.job import JobSpec
from mlpq_workers.engine import evaluation
from mlpq_workers.engine.data import Data
from mlpq_workers.engine.evaluation import Evaluation
from mlpq_workers.engine.network import build
from mlpq_workers.engine.plain import evaluate
from mlpq_workers.engine.stack import LINE, Forward, Parameters, Shape, apart, segments
from mlpq_workers.trainer.data import load
from tests.support.gang_training import job

STREAMS = st.lists(st.integers(0, 4), max_size=12)


def is_one_product(streams: list[int]) -> bool:
    """Whether networks that read these streams can share a product: all read the same one, or successive ones."""
    first = streams[0]
    return streams == [first] * len(streams) or streams == list(range(first, first + len(streams)))


def fewest(streams: list[int]) -> int:
    """The smallest number of segments, by trying every position of the last cut."""
    best = [0]
    for end in range(1, len(streams) + 1):
        best.append(min(best[start] + 1 for start in range(end) if is_one_product(streams[start:end])))
    return best[-1]


@settings(max_examples=300)
@given(STREAMS, st.data())
def test_segments_cover_their_networks_in_order_and_give_each_its_stream(
    streams: list[int], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(streams)))
    stop = data.draw(st.integers(start, len(streams)))
    found = segments(streams, slice(start, stop))
    covered = [network for segment in found for network in range(segment.networks.start, segment.networks.stop)]
    assert covered == list(range(start, stop))
    for segment in found:
        inputs = list(range(segment.inputs.start, segment.inputs.stop))
        networks = streams[segment.networks]
        assert networks in (inputs, inputs * len(networks))
        assert len(inputs) in (1, len(networks))


@settings(max_examples=300)
@given(STREAMS)
def test_segments_are_as_few_as_possible(streams: list[int]) -> None:
    assert len(segments(streams, slice(0, len(streams)))) == fewest(streams)


@given(st.integers(1, 5), st.lists(st.integers(1, 40), min_size=1, max_size=2), st.sampled_from(["float32", "float64"]))
def test_parts_start_at_cache_lines_with_gaps_between_them(networks: int, shape: list[int], dtype: str) -> None:
    whole = apart(networks, *shape, like=torch.empty(0, dtype=getattr(torch, dtype)))
    assert whole.shape == (networks, *shape)
    assert not whole.any()
    ends = 0
    for part in whole:
        assert part.is_contiguous()
        assert part.data_ptr() % 64 == 0
        assert part.data_ptr() >= ends
        ends = part.data_ptr() + (part.numel() + 1) * part.element_size()  # at least one element separates them


def of_one_shape(hidden: str, bias: bool, count: int) -> tuple[list[JobSpec], Parameters, list[dict[str, Tensor]]]:
    specs = [job(hidden=hidden, bias=bias, seeds=seed) for seed in range(count)]
    weights = [{name: p.detach() for name, p in build(spec)[0].state_dict().items()} for spec in specs]
    parameters = Parameters(Shape.of(specs[0]), count, torch.empty(0))
    for i, own in enumerate(weights):
        parameters.put(i, own)
    return specs, parameters, weights


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden", ["none", "1", "16", "33,7,16"])
def test_parameters_are_returned_as_they_were_set(hidden: str, bias: bool) -> None:
    _, parameters, weights = of_one_shape(hidden, bias, 3)
    for i, own in enumerate(weights):
        taken = parameters.take(i)
        assert list(taken) == list(own)
        for name, values in taken.items():
            assert torch.equal(values, own[name])
            assert values.is_contiguous()
            values.zero_()  # it is a copy
        assert all(torch.equal(again, own[name]) for name, again in parameters.take(i).items())


def test_matrices_start_at_cache_lines_and_gaps_are_zero() -> None:
    _, parameters, weights = of_one_shape("33,7,16", True, 3)
    for layer in parameters.layers:
        assert all(matrix.data_ptr() % (4 * LINE) == 0 for matrix in layer)
    for row, own in zip(parameters.rows, weights, strict=True):
        assert int(row.count_nonzero()) == sum(int(values.count_nonzero()) for values in own.values())
        assert not row[-1].any()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden", ["none", "1", "7", "16", "33,7,16"])
def test_row_of_parameters_is_a_multiple_of_two_vectors(hidden: str, bias: bool) -> None:
    _, parameters, _ = of_one_shape(hidden, bias, 2)
    row = parameters.rows[0]
    assert parameters.rows.is_contiguous()
    assert row.numel() * row.element_size() % (2 * 64) == 0


@pytest.mark.parametrize(("n", "parts"), [(255, {255}), (256, {256}), (257, {256, 1}), (600, {256, 88})])
def test_evaluation_takes_256_images_at_a_time(n: int, parts: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The rounding of a loss depends on it, so another number would give other losses than those stored."""
    taken: set[int] = set()

    class Recorded(Forward):
        def __init__(self, parameters: Parameters, groups: Any, streams: int, batch: int, scale: float) -> None:
            taken.add(batch)
            super().__init__(parameters, groups, streams, batch, scale)

    monkeypatch.setattr(evaluation, "Forward", Recorded)
    _, parameters, _ = of_one_shape("none", True, 2)
    rows, labels = torch.zeros(1, n, dtype=torch.int64), torch.zeros(1, n, dtype=torch.int64)
    losses, _ = Evaluation(parameters, [0, 0], rows, labels, 16).run(torch.zeros(1, 64, dtype=torch.uint8))
    assert taken == parts
    assert len(losses) == 2


@pytest.mark.parametrize("hidden", ["none", "33,7"])
@pytest.mark.parametrize("streams", [[0, 0, 0], [0, 1, 2], [2, 0, 0]])
@pytest.mark.usefixtures("one_thread")
def test_evaluation_uses_each_networks_own_rows(hidden: str, streams: list[int]) -> None:
    specs, parameters, _ = of_one_shape(hidden, True, 3)
    data = Data.of(load(DATASETS["digits"], Path("nowhere")))
    generator = torch.Generator().manual_seed(1)
    rows = torch.stack(
        [torch.randperm(1297, generator=generator)[:600] for _ in range(3)]
    )  # more than are evaluated at a time
    losses, correct = Evaluation(parameters, streams, rows, data.train_y[rows], data.scale).run(data.train_x)
    for i, (spec, stream) in enumerate(zip(specs, streams, strict=True)):
        own = rows[stream]
        loss, count = evaluate(build(spec)[0], data.train_x[own], data.train_y[own], data.scale)
        assert losses[i] == pytest.approx(loss, rel=1e-6)
        assert correct[i] == count
