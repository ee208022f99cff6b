"""Triggers that check single columns, in the dialects of both databases. Migrations use them: they never change."""

from dataclasses import dataclass

SPEC_BYTES = 10_000  # the longest valid spec has about 1,000


@dataclass(frozen=True)
class Check:
    """A condition on a column, which the dialects call @; a violation says that the column must be `rule`."""

    rule: str
    postgresql: str
    sqlite: str


# SQLite has no regular expressions, and most of its functions take a text to end at a null character.
_HEX = "[0-9a-f]"
_CONTROL = "'*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'"
_SQLITE_PRINTABLE = f"typeof(@) = 'text' AND @ NOT GLOB {_CONTROL} AND instr(CAST(@ AS BLOB), x'00') = 0"
# In another encoding than UTF-8, the same numbers may be letters, or parts of them.
_POSTGRESQL_PRINTABLE = (
    r"@ !~ '[\u0001-\u001f\u007f]' "
    r"AND (current_setting('server_encoding') <> 'UTF8' OR @ !~ '[\u0080-\u009f]')"
)
_WITHOUT_HEX = "rtrim(@, '0123456789abcdef')"  # "host:pid:"
_WITHOUT_PID = f"rtrim(substr({_WITHOUT_HEX}, 1, length({_WITHOUT_HEX}) - 1), '0123456789')"  # "host:"

PRINTABLE = Check(
    rule="text without control characters",
    postgresql=_POSTGRESQL_PRINTABLE,
    sqlite=_SQLITE_PRINTABLE,
)
POSITIVE = Check(
    rule="1 or more",
    postgresql="@ >= 1",
    sqlite="typeof(@) = 'integer' AND @ >= 1",
)
SHA256 = Check(
    rule="64 hexadecimal digits",
    postgresql=f"@ ~ '^{_HEX}{{64}}$'",
    sqlite=f"length(CAST(@ AS BLOB)) = 64 AND @ GLOB '{_HEX * 64}'",
)
UUID = Check(
    rule="a UUID",
    postgresql=f"@ ~ '^{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}}$'",
    sqlite=f"length(CAST(@ AS BLOB)) = 36 AND @ GLOB '{'-'.join(_HEX * digits for digits in (8, 4, 4, 4, 12))}'",
)
SPEC = Check(
    rule=f"a JSON object of at most {SPEC_BYTES} bytes",
    postgresql=f"jsonb_typeof(@) = 'object' AND octet_length(CAST(@ AS text)) <= {SPEC_BYTES}",
    sqlite="CASE WHEN typeof(@) = 'text' AND json_valid(@) THEN json_type(@) = 'object' ELSE 0 END "
    f"AND length(CAST(@ AS BLOB)) <= {SPEC_BYTES}",
)
WORKER_NAME = Check(
    rule="host:pid:hex",
    postgresql=rf"@ ~ '^.+:[0-9]+:{_HEX}+$' AND {_POSTGRESQL_PRINTABLE}",
    sqlite=f"{_SQLITE_PRINTABLE} AND {_WITHOUT_HEX} <> @ AND {_WITHOUT_HEX} LIKE '%:' "
    f"AND length({_WITHOUT_PID}) < length({_WITHOUT_HEX}) - 1 AND {_WITHOUT_PID} LIKE '_%:'",
)

FUNCTION = """
CREATE OR REPLACE FUNCTION mlpq_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = TG_ARGV[0], TABLE = TG_TABLE_NAME;
END
$$
"""  # of PostgreSQL


def triggers(table: str, column: str, check: Check, dialect: str) -> list[str]:
    """The statements that create the triggers of a check. A column that is NULL violates none."""
    name, message = f"check_{table}_{column}", f"{table}.{column} must be {check.rule}"
    if dialect == "postgresql":
        return [
            f"CREATE TRIGGER {name} BEFORE INSERT OR UPDATE OF {column} ON {table} FOR EACH ROW "
            f"WHEN (NOT ({check.postgresql.replace('@', f'NEW.{column}')})) EXECUTE FUNCTION mlpq_refuse('{message}')"
        ]
    violation = f"NEW.{column} IS NOT NULL AND NOT ({check.sqlite.replace('@', f'NEW.{column}')})"
    return [
        f"CREATE TRIGGER {name}_{event.partition(' ')[0].lower()} BEFORE {event} ON {table} WHEN {violation} "
        f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
        for event in ("INSERT", f"UPDATE OF {column}")
    ]
