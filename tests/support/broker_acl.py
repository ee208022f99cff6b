"""Redis with the users of docker-compose.yml: the very script of its service, run here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import redis
import yaml

from tests.support.installations import ROOT
from tests.support.services import START_SECONDS, free_port, wait_until

PASSWORDS = {"REDIS_WORKER_PASSWORD": "p@ss/w$rd#1", "REDIS_SUBMITTER_PASSWORD": "s3cret 'of' \"ann\""}


def script() -> str:
    """What the service `redis` runs."""
    shell, flags, text = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["redis"]["command"]
    assert (shell, flags) == ("sh", "-ec")
    return re.sub(r"\$\$", "$", text)


class RedisOfDeployment:
    """A Redis server with the users submit and worker."""

    def __init__(self) -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="mlpq-redis-"))

    def start(self) -> None:
        command = script().replace("redis-server - <<", f"redis-server - --bind 127.0.0.1 --port {self.port} <<")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-ec", command], env={**os.environ, **PASSWORDS}, cwd=self._folder, stdout=log, stderr=log
            )
        wait_until("Redis answers", self._answers)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(START_SECONDS)
        shutil.rmtree(self._folder)

    def client(self, user: str) -> redis.Redis:
        variable = {"worker": "REDIS_WORKER_PASSWORD", "submit": "REDIS_SUBMITTER_PASSWORD"}[user]
        return redis.Redis(port=self.port, username=user, password=PASSWORDS[variable])

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            pytest.fail(f"Redis ended: {(self._folder / 'log').read_text()}")
        try:
            with self.client("submit") as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False
