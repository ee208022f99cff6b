"""An experiment of any number of arms with all that charts can show, which no database holds."""

from __future__ import annotations

import random
from collections.abc import Sequence

from mlpq.analysis.best_of_k import best_of
from mlpq.analysis.comparison import compare
from mlpq.analysis.experiment_comparison import ExperimentComparison
from mlpq.analysis.params import ComparisonParams
from mlpq.analysis.questions import QuestionState, question_state
from mlpq.question_records import Question, QuestionSide, QuestionTerms
from mlpq.records import EpochMetrics, JobRecord
from mlpq.spec.job import JobSpec
from tests.support.result_rows import SUBMITTED, curve, job_record, specs, with_figures

OPTIMIZERS = ("sgd:momentum=0.9", "adam", "nadam", "rmsprop", "adagrad", "adamw", "radam", "adamax", "sgd", "asgd")
RATES = (0.1, 0.01, 0.003, 0.001, 0.0003)
EPOCHS = 20


def charted(
    arms: int, seeds: int = 10, has_long_names: bool = False, by: str = "", rates: int = 1
) -> ExperimentComparison:
    """`arms` arms with some seeds, curves, validation figures and a decided race; names are long where so wished.

    With several `rates`, each optimizer has so many arms.
    """
    records = []
    long = {"schedule": "step:size=7,gamma=0.3", "hidden": [1000, 500, 250]} if has_long_names else {}
    own = OPTIMIZERS[: -(-arms // rates)] if rates > 1 else OPTIMIZERS
    settings = [(optimizer, rate) for rate in RATES for optimizer in own][:arms]
    for at, (optimizer, rate) in enumerate(settings):
        typed = f"{optimizer}{',' if ':' in optimizer else ':'}lr={rate}"
        more = {**long, "warmup": 2} if has_long_names and at % 2 else {}
        found = specs(optimizer=typed, seeds=f"0..{seeds - 1}", validation=0.1, epochs=EPOCHS, **more)
        records += [_job(spec, 1000 * at + spec.seed, at) for spec in found]
    curves = {job.id: _curve(job) for job in records}
    params = ComparisonParams(by=by)
    comparison = compare(records, [], curves, params)
    states = () if by else (_race(records),)
    return ExperimentComparison("lab", records, [], curves, comparison, best_of(records), states)


def _job(spec: JobSpec, number: int, arm: int) -> JobRecord:
    noise = random.Random(number)
    correct = round(470 - 4 * arm - 40 * abs(spec.lr - 0.01) + noise.gauss(0, 3))
    job = job_record(spec, number, correct)
    return with_figures(job, validation_correct=correct * 100 // 500, validation_total=100, validation_loss=1.0)


def _curve(job: JobRecord) -> Sequence[EpochMetrics]:
    assert job.result is not None
    noise, last = random.Random(job.id), job.result.test_correct
    figures = [round(last - 250 / (epoch + 1) + 12 + noise.gauss(0, 4)) for epoch in range(EPOCHS)]
    return curve(figures, [each // 5 for each in figures], total=500)


def _race(records: Sequence[JobRecord]) -> QuestionState:
    found = compare(records, [], {}, ComparisonParams())
    sides = tuple(QuestionSide(side.label, (side.arm.first.spec_hash,)) for side in reversed(found.sides))
    seeds = tuple(sorted({job.spec.seed for job in records}))
    terms = QuestionTerms(
        by="", metric="accuracy", target="", against="", difference=0.3, margin=0.5, alpha=0.05, max_seeds=len(seeds),
        choose_seeds=(), seeds=seeds, pilot=6, sides=sides,
    )  # fmt: skip
    question = Question(1, "lab", terms, SUBMITTED, (len(seeds),) * len(terms.pairs))
    return question_state(question, records, [], {})
