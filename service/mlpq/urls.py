"""URLs of databases and brokers: their parts, and how they are shown without secrets."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

_USER = r"(?:(?P<user>[^:/?#@\s\[\]]*)"
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]+)?(?::[0-9]{1,5})?"  # the folder of a socket is percent-encoded
_HOSTS = rf"(?P<hosts>{_HOST}(?:,{_HOST})*)"
_PARAMETER = r"\w+=[^&#\s]*"
_QUERY = rf"(?:\?(?P<query>(?:{_PARAMETER}(?:&{_PARAMETER})*)?))?"
# As SQLAlchemy and redis-py read them: a password in a PostgreSQL URL may contain / ? and #.
_PATTERNS = (
    re.compile(
        rf"postgresql(?:\+psycopg)?://{_USER}(?::(?P<password>[^@\s]*))?@)?{_HOSTS}(?P<path>/[^?#@\s]*)?{_QUERY}"
    ),
    re.compile(rf"rediss?://{_USER}(?::(?P<password>[^/?#@\s]*))?@)?(?P<hosts>{_HOST})(?P<path>/[0-9]*)?{_QUERY}"),
)
_LOCAL = re.compile(r"sqlite:////.*|filesystem:///.*", re.DOTALL)  # paths, without secrets
# Parameters whose values are no secrets.
_SHOWN = {
    "application_name", "client_encoding", "connect_timeout", "dbname", "host", "load_balance_hosts", "options", "port",
    "prepare_threshold", "ssl_ca_certs", "ssl_cert_reqs", "ssl_check_hostname", "sslmode", "sslrootcert",
    "target_session_attrs", "user",
}  # fmt: skip
_PLAIN = re.compile(r"[\w.,/:+%~=-]*")
_HIDDEN = "***"


def parts(url: str) -> re.Match[str] | None:
    """The groups user, password, hosts, path and query of the URL of a service; None where it is malformed."""
    return next((found for pattern in _PATTERNS if (found := pattern.fullmatch(url))), None)


def is_well_formed(url: str) -> bool:
    """Whether this is the URL of a service, or the absolute path of an embedded database or queue."""
    return parts(url) is not None or _LOCAL.fullmatch(url) is not None


def masked(url: str) -> str:
    """The URL without passwords, safe to log and to print; only the mask where it is malformed."""
    if _LOCAL.fullmatch(url):
        return url
    found = parts(url)
    if found is None or "@" in (found["query"] or ""):  # what reads as the host may be a part of a password
        return _HIDDEN
    shown = url.partition("://")[0] + "://"
    if found["user"] is not None:
        lone = found["password"] is None
        # redis://SECRET@host has no user; some clients take it for the password.
        shown += _HIDDEN if lone and url.startswith("redis") else found["user"]
        shown += "@" if lone else f":{_HIDDEN}@"
    shown += found["hosts"] + (found["path"] or "")
    return shown if found["query"] is None else f"{shown}?{'&'.join(map(_parameter, found['query'].split('&')))}"


def parameter(url: str, name: str) -> str | None:
    """The value of a parameter of a well-formed URL, the last one as in Python; None where it is missing."""
    found = parts(url)
    return dict(parse_qsl(found["query"] or "")).get(name) if found else None


def hosts_and_ports(url: str) -> list[tuple[str, str]]:
    """The hosts of a well-formed URL with their ports, each empty where the URL has none."""
    found = parts(url)
    hosts = found["hosts"].split(",") if found else []
    return [(host.strip("[]"), port) for host, _, port in map(_split_port, hosts)]


def _split_port(host: str) -> tuple[str, str, str]:
    return (host, "", "") if host.endswith("]") or ":" not in host else host.rpartition(":")


def _parameter(text: str) -> str:
    name, separator, value = text.partition("=")
    if separator and name in _SHOWN and _PLAIN.fullmatch(value):
        return text
    return f"{name}={_HIDDEN}" if separator and re.fullmatch(r"(?:ssl)?passw(?:or)?d", name) else _HIDDEN
