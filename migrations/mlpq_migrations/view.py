"""The dialects of the view `results`, which reads the JSON of the specs; only that syntax differs.

Each migration that changes the view has its complete text, so that later changes here or there don't alter old
revisions.
"""

from collections.abc import Callable
from functools import partial


def statement(template: str, dialect: str) -> str:
    """The CREATE VIEW statement for that database.

    In `template`, "{text:a,b}" stands for the member b of the member a of the column `jobs.spec`, as text, and
    "{hidden}" for the widths of the hidden layers as a spec file has them: "1000,500", or "none".
    """

    def text(path: str) -> str:
        if dialect == "postgresql":
            return f"jobs.spec #>> '{{{path}}}'"
        return f"json_extract(jobs.spec, '$.{path.replace(',', '.')}')"

    made = template.replace("{hidden}", _widths(text("hidden")))
    return _filled(made, "text", text)


def safe_statement(template: str, dialect: str) -> str:
    """The CREATE VIEW statement of a view that no stored value makes fail: what has another type becomes NULL.

    In `template`, "{text:a,b}", "{number:a,b}", "{integer:a,b}" and "{boolean:a,b}" stand for the member b of the
    member a of the column `jobs.spec` with that type, and "{hidden}" for the widths as in `statement`.
    """
    kinds = _POSTGRESQL if dialect == "postgresql" else _SQLITE

    def member(kind: str, path: str) -> str:
        keys = path if dialect == "postgresql" else path.replace(",", ".")
        return kinds[kind].replace("@", keys)

    made = template.replace("{hidden}", _widths(member("text", "hidden")))
    for kind in kinds:
        made = _filled(made, kind, partial(member, kind))
    return made


# A cast of a number that the type can't hold is an error on PostgreSQL.
_MEMBER = "jobs.spec #> '{@}'"
_NUMBER = f"CAST({_MEMBER} AS numeric)"
_POSTGRESQL = {
    "text": "jobs.spec #>> '{@}'",
    "number": f"CASE jsonb_typeof({_MEMBER}) WHEN 'number' THEN CASE WHEN {_NUMBER} = 0 "
    f"OR abs({_NUMBER}) BETWEEN 5e-324 AND 1.7e308 THEN CAST({_NUMBER} AS DOUBLE PRECISION) END END",
    "integer": f"CASE jsonb_typeof({_MEMBER}) WHEN 'number' THEN CASE WHEN {_NUMBER} = trunc({_NUMBER}) "
    f"AND abs({_NUMBER}) < 2147483648 THEN CAST({_NUMBER} AS INTEGER) END END",
    "boolean": f"CASE jsonb_typeof({_MEMBER}) WHEN 'boolean' THEN CAST({_MEMBER} AS BOOLEAN) END",
}
# JSON functions fail for what is not JSON.
_SPEC = "CASE WHEN typeof(jobs.spec) = 'text' AND json_valid(jobs.spec) THEN jobs.spec END"
_TEXT = f"json_extract({_SPEC}, '$.@')"
_TYPE = f"json_type({_SPEC}, '$.@')"
_SQLITE = {
    "text": _TEXT,
    "number": f"CASE WHEN {_TYPE} IN ('integer', 'real') THEN CAST({_TEXT} AS DOUBLE PRECISION) END",
    "integer": f"CASE {_TYPE} WHEN 'integer' THEN CAST({_TEXT} AS INTEGER) END",
    "boolean": f"CASE WHEN {_TYPE} IN ('true', 'false') THEN CAST({_TEXT} AS BOOLEAN) END",
}


def _widths(bare: str) -> str:
    for character in "[] ":
        bare = f"replace({bare}, '{character}', '')"
    return f"CASE {bare} WHEN '' THEN 'none' ELSE {bare} END"


def _filled(made: str, kind: str, member: Callable[[str], str]) -> str:
    """The template with each "{kind:path}" replaced."""
    while f"{{{kind}:" in made:
        before, _, rest = made.partition(f"{{{kind}:")
        path, _, after = rest.partition("}")
        made = f"{before}{member(path)}{after}"
    return made
