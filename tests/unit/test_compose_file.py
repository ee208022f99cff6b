"""Security of docker-compose.yml, checked without Docker; tests/compose runs it."""

from __future__ import annotations

import re

import yaml

from tests.support.installations import ROOT

TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES = yaml.safe_load(TEXT)["services"]


def test_only_the_dashboard_can_be_published_beyond_this_machine() -> None:
    addresses = {port.rpartition(":$")[0] for service in SERVICES.values() for port in service.get("ports", [])}
    assert addresses == {"127.0.0.1", "${DASHBOARD_ADDRESS:-127.0.0.1}"}


def test_no_password_has_a_default() -> None:
    passwords = re.findall(r"\$\{\w*PASSWORD[^}]*\}", TEXT)
    assert {re.sub(r"\w+_PASSWORD", "X", password) for password in passwords} == {"${X:?run scripts/secrets first}"}


def test_every_container_is_limited() -> None:
    for name, service in SERVICES.items():
        assert service["mem_limit"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert set(service["logging"]["options"]) == {"max-size", "max-file"}, name
