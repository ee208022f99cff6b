"""A real worker whose queues contain anything: it reads all of it, goes on, and is woken by what is a wake-up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.installations import EMBEDDED, SERVICES, Site, Sites, Worker
from tests.support.messages import messages
from tests.support.services import wait_until

QUICK = ("--dataset", "digits", "--epochs", 2)
KEY = "mlpq:mlpq.auto"


@dataclass
class Listening:
    """A worker, and what puts raw messages into its queue and counts those that are unread."""

    site: Site
    worker: Worker
    put: Callable[[bytes], object]
    unread: Callable[[], int]
    log: Path


@pytest.fixture(scope="module", params=[EMBEDDED, SERVICES])
def listening(
    request: pytest.FixtureRequest, sites: Sites, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Listening]:
    with ExitStack() as stack:
        site = stack.enter_context(sites.open(request.param, tmp_path_factory.mktemp("messages")))
        put, unread = _folder(site) if site.kind == EMBEDDED else _redis(stack, site)
        worker = stack.enter_context(site.worker())
        yield Listening(site, worker, put, unread, site.folder / "worker-1.log")


def _folder(site: Site) -> tuple[Callable[[bytes], object], Callable[[], int]]:
    folder = messages_folder(site)
    folder.mkdir(parents=True)
    (folder.parent / "control").mkdir()
    (folder.parent / "control" / "mlpq.auto.exchange").write_text("[[5")
    numbers = iter(range(10**9))
    return (
        lambda content: (folder / f"{next(numbers)}_x.mlpq.auto.msg").write_bytes(content),
        lambda: len([path for path in folder.iterdir() if path.suffix == ".msg"]),
    )


def _redis(stack: ExitStack, site: Site) -> tuple[Callable[[bytes], object], Callable[[], int]]:
    client = stack.enter_context(redis.Redis.from_url(site.env["MLPQ_BROKER_URL"]))
    return lambda content: client.lpush(KEY, content), lambda: int(str(client.llen(KEY)))


def messages_folder(site: Site) -> Path:
    return Path(site.env["MLPQ_HOME"]) / "queue" / "messages"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(some=st.lists(messages(), min_size=1, max_size=20))
def test_worker_survives_any_message(listening: Listening, some: Sequence[bytes]) -> None:
    for content in some:
        listening.put(content)
    wait_until("every message is read", lambda: listening.worker.poll() is not None or not listening.unread())
    assert listening.worker.poll() is None


def test_worker_is_woken_after_unreadable_messages(listening: Listening) -> None:
    listening.put(b"garbage{")
    (job,) = listening.site.submit(*QUICK, "--experiment", "woken")
    listening.site.wait_for(job["id"], "succeeded")
    wait_until("every message is read", lambda: not listening.unread())
    text = listening.log.read_text()
    assert "dropped a message in the queue mlpq.auto" in text
    assert text.count("dropped a message") <= 10  # one a minute
    assert "Traceback" not in text
    assert "restart" not in text


@pytest.mark.parametrize("listening", [EMBEDDED], indirect=True)
def test_what_is_not_a_file_is_set_aside(listening: Listening) -> None:
    folder, secret = messages_folder(listening.site), listening.site.folder / "secret"
    secret.write_text("kept")
    (folder / "1_folder.mlpq.auto.msg").mkdir()
    (folder / "1_link.mlpq.auto.msg").symlink_to(secret)
    os.mkfifo(folder / "1_fifo.mlpq.auto.msg")
    (job,) = listening.site.submit(*QUICK, "--experiment", "aside")
    listening.site.wait_for(job["id"], "succeeded")
    wait_until("every message is read or set aside", lambda: not listening.unread())
    aside = sorted(path.name.partition(".")[0] for path in folder.glob("*.unreadable"))
    assert aside == ["1_fifo", "1_folder", "1_link"]
    assert secret.read_text() == "kept"
    assert listening.worker.poll() is None
