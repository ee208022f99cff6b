"""URLs: no malformed one shows a part of its secret, and well-formed ones have the parts that the libraries read."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import make_url

from mlpq.errors import SettingsError
from mlpq.settings import masked, read_settings
from mlpq.urls import hosts_and_ports, is_well_formed, parts

SECRET = "zQ7wX9kV"
PART = 3  # characters of the secret that tell something about it
# Characters that people have in passwords, each of which means something in some place of a URL.
AROUND = st.text("@:/?#%&=+[],. \\'\"$!*;ab1", max_size=4)
SCHEMES = ("postgresql", "postgresql+psycopg", "redis", "rediss", "mysql", "sqlite", "filesystem", "")
SEPARATORS = ("://", ":/", "//", ":", "", ":///")
SHAPES = (
    "{scheme}{separator}ann:{secret}@host/lab",
    "{scheme}{separator}:{secret}@host:6379/0",
    "{scheme}{separator}ann:{secret}@host:port/lab",
    "{scheme}{separator}ann:{secret}@@host/lab",
    "{scheme}{separator}host/lab?user=ann&password={secret}",
    "{scheme}{separator}host/lab?passwd={secret}",
    "{scheme}{separator}host/lab?sslpassword={secret}&sslmode=require",
    "ann:{secret}@host/lab",
)


def leaks(text: str) -> list[str]:
    return [part for at in range(len(SECRET) - PART + 1) if (part := SECRET[at : at + PART]) in text]


def refusal(name: str, url: str) -> str:
    """The error of that setting; empty where it is accepted."""
    try:
        read_settings({name: url})
    except SettingsError as error:
        return str(error)
    return ""


@example("{scheme}{separator}ann:{secret}@host/lab", "postgresql", "://", "@", "?")
@example("{scheme}{separator}ann:{secret}@host/lab", "postgresql", "://", "@", "?a=")
@given(
    shape=st.sampled_from(SHAPES),
    scheme=st.sampled_from(SCHEMES),
    separator=st.sampled_from(SEPARATORS),
    before=AROUND,
    after=AROUND,
)
def test_no_part_of_a_secret_is_shown(shape: str, scheme: str, separator: str, before: str, after: str) -> None:
    url = shape.format(scheme=scheme, separator=separator, secret=f"{before}{SECRET}{after}")
    if scheme in ("sqlite", "filesystem") and is_well_formed(url):
        return  # a path
    assert not leaks(masked(url)), masked(url)
    for name in ("MLPQ_DATABASE_URL", "MLPQ_BROKER_URL"):
        said = refusal(name, url)
        assert not leaks(said), said
        assert said == "" or said.startswith(name)


@given(
    user=st.text("abc%40_", max_size=5),
    password=st.none() | st.text("ab/?#:%$!", max_size=8),
    host=st.sampled_from(["host", "10.0.0.1", "a_b.example.org"]),
    port=st.none() | st.integers(1, 65535),
    database=st.sampled_from(["", "/", "/lab", "/a-b"]),
    query=st.sampled_from(["", "?sslmode=require", "?options=-csearch_path%3Dfoo&connect_timeout=3"]),
)
def test_postgresql_urls_have_the_parts_that_sqlalchemy_reads(
    user: str, password: str | None, host: str, port: int | None, database: str, query: str
) -> None:
    if password is not None:
        user += f":{password}"
    url = f"postgresql+psycopg://{user and user + '@'}{host}{f':{port}' if port else ''}{database}{query}"
    found, read = parts(url), make_url(url)
    assert found is not None
    assert hosts_and_ports(url) == [(read.host, str(read.port or ""))]
    assert (found["password"] is None) == (read.password is None)


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("h1:5433,h2:5434", [("h1", "5433"), ("h2", "5434")]),
        ("h1:5433,h2", [("h1", "5433"), ("h2", "")]),
        ("h1,h2:5434", [("h1", ""), ("h2", "5434")]),
        ("[::1]:5433,[fe80::2]:5434", [("::1", "5433"), ("fe80::2", "5434")]),
        ("[::1]", [("::1", "")]),
    ],
)
def test_url_may_have_several_hosts(hosts: str, expected: list[tuple[str, str]]) -> None:
    url = f"postgresql://ann:{SECRET}@{hosts}/lab"
    assert hosts_and_ports(url) == expected
    assert masked(url) == f"postgresql://ann:***@{hosts}/lab"


def test_at_sign_in_a_password_is_explained() -> None:
    with pytest.raises(SettingsError, match="write @ as %40"):
        read_settings({"MLPQ_DATABASE_URL": "postgresql://u:a@bc@host/db"})
