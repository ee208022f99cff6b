"""Questions of `mlpq decide`: registered once, before their first look, and never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Select, insert, select

from mlpq.errors import NotFoundError, StoreError
from mlpq.question_records import Question, QuestionTerms, UnreadableQuestion
from mlpq.store.reading import UnreadableRowError, record
from mlpq.store.schema import experiments, question_caps, questions
from mlpq.store.session import Store, insert_or_ignore, now

# What distinguishes the questions of an experiment.
_KEY = ("by", "metric", "target", "against")
_COLUMNS = {"by": "fields"}
_OWN = ("id", "experiment", "registered_at", "caps")


def register(store: Store, experiment: str, terms: QuestionTerms) -> Question:
    """Insert a question, unless the experiment has one with the same fields, metric, target and arm to compare with.

    Returns the one that is stored: its other terms may differ from `terms`. With `terms.max_seeds` its caps are stored
    in the same transaction. Raises NotFoundError where there is no such experiment, and StoreError where the stored one
    can't be read.
    """
    values = {_COLUMNS.get(name, name): value for name, value in asdict(terms).items()}
    with store.write() as connection:
        id_ = connection.execute(select(experiments.c.id).where(experiments.c.name == experiment)).scalar()
        if id_ is None:
            raise NotFoundError(f"no experiment is called '{experiment}'")
        statement = insert_or_ignore(connection, questions).values(experiment_id=id_, registered_at=now(), **values)
        added = connection.execute(statement.returning(questions.c.id)).scalar()
        if added is not None and terms.max_seeds is not None:
            caps = [terms.max_seeds] * len(terms.pairs)
            connection.execute(insert(question_caps).values(question_id=added, caps=caps, registered_at=now()))
        own = [questions.c[_COLUMNS.get(name, name)] == getattr(terms, name) for name in _KEY]
        return _readable(connection.execute(select_questions(experiment).where(*own)).mappings().one())


def register_caps(store: Store, question: Question, caps: Sequence[int]) -> Question:
    """Store the caps of a question, unless it has some; returns it as it is stored."""
    with store.write() as connection:
        values = {"question_id": question.id, "caps": list(caps), "registered_at": now()}
        connection.execute(insert_or_ignore(connection, question_caps).values(values))
        own = select_questions(question.experiment).where(questions.c.id == question.id)
        return _readable(connection.execute(own).mappings().one())


def select_questions(experiment: str) -> Select[Any]:
    """The rows of an experiment's questions, with their caps."""
    return (
        select(questions, experiments.c.name.label("experiment"), question_caps.c.caps)
        .join(experiments, experiments.c.id == questions.c.experiment_id)
        .outerjoin(question_caps, question_caps.c.question_id == questions.c.id)
        .where(experiments.c.name == experiment)
        .order_by(questions.c.id)
    )


def from_row(row: Mapping[Any, Any]) -> Question | UnreadableQuestion:
    """A stored question."""
    terms = {field.name: row[_COLUMNS.get(field.name, field.name)] for field in fields(QuestionTerms)}
    try:
        return record(Question, {**{name: row[name] for name in _OWN}, "terms": terms})
    except UnreadableRowError as error:
        return UnreadableQuestion(row["id"], str(error))


def _readable(row: Mapping[Any, Any]) -> Question:
    found = from_row(row)
    if isinstance(found, UnreadableQuestion):
        raise StoreError(f"this question is registered, and can't be read: {found.reason}; use another experiment")
    return found
