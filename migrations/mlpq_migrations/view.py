"""The dialects of the view `results`, which reads the JSON of the specs; only that syntax differs.

Each migration that changes the view has its complete text, so that later changes here or there don't alter old
revisions.
"""


def statement(template: str, dialect: str) -> str:
    """The CREATE VIEW statement for that database.

    In `template`, "{text:a,b}" stands for the member b of the member a of the column `jobs.spec`, as text, and
    "{hidden}" for the widths of the hidden layers as a spec file has them: "1000,500", or "none".
    """

    def text(path: str) -> str:
        if dialect == "postgresql":
            return f"jobs.spec #>> '{{{path}}}'"
        return f"json_extract(jobs.spec, '$.{path.replace(',', '.')}')"

    bare = text("hidden")
    for character in "[] ":
        bare = f"replace({bare}, '{character}', '')"
    made = template.replace("{hidden}", f"CASE {bare} WHEN '' THEN 'none' ELSE {bare} END")
    while "{text:" in made:
        before, _, rest = made.partition("{text:")
        path, _, after = rest.partition("}")
        made = f"{before}{text(path)}{after}"
    return made
