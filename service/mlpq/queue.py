"""The Celery client. A message is a wake-up that names a queue and never a job: a lost one delays jobs, no more."""

from __future__ import annotations

import os
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from mlpq.broker.file_queue import put
from mlpq.broker.messages import WAKE, wake_up
from mlpq.errors import QueueError, reason_of
from mlpq.settings import Settings, masked

if TYPE_CHECKING:
    from celery import Celery

WAKE_SECONDS = 10  # an upper limit, whatever the retries within the libraries
MESSAGES = "messages"  # the folder of the embedded queue
MAX_WAKES = 16  # per submission: a woken worker continues by itself until the queue is empty

# By scheme of the broker's URL.
TRANSPORTS = {
    "filesystem": "mlpq.broker.file_channel:Transport",
    "redis": "mlpq.broker.redis_channel:Transport",
    "rediss": "mlpq.broker.redis_channel:Transport",
}
# Sockets have timeouts and health checks: by default a half-open connection hangs forever.
REDIS_OPTIONS = {
    "socket_timeout": 10,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
    "global_keyprefix": "mlpq:",
    "ack_emulation": False,  # a lost wake-up costs seconds: Redis need not keep it until it is acknowledged
}


def queue_name(device: str) -> str:
    """The queue that wakes workers with that device; "auto" wakes any."""
    return f"mlpq.{device}"


@cache
def celery_app(broker_url: str) -> Celery:
    """The Celery application for that broker; the client and the worker share it. Importing Celery takes a while."""
    from celery import Celery
    from kombu.transport import TRANSPORT_ALIASES

    TRANSPORT_ALIASES.update(TRANSPORTS)
    app = Celery("mlpq", set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        result_backend=None,
        task_serializer="json",
        accept_content=["json"],
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        # Concerns late acknowledgement only, and without it Celery warns at each lost connection.
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0},
        **_broker(broker_url),
    )
    return app


def check_broker(config: Settings) -> None:
    """Raise QueueError, within about ten seconds, where the broker can't be reached."""
    if config.queue_dir is not None:
        _make_queue_dir(config)
        return
    from kombu.exceptions import ChannelError, KombuError

    try:
        with celery_app(config.broker_url).connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=10)
    except (KombuError, ChannelError, OSError) as error:
        raise QueueError(f"can't reach the broker {masked(config.broker_url)}: {error}; see mlpq doctor") from error


def wake(config: Settings, device: str, jobs: int) -> None:
    """Wake workers for `jobs` new jobs. Raises QueueError within WAKE_SECONDS; the jobs are committed nevertheless."""
    failed: list[Exception] = []
    sending = threading.Thread(target=_send, args=(config, device, min(jobs, MAX_WAKES), failed), daemon=True)
    sending.start()
    sending.join(WAKE_SECONDS)
    if sending.is_alive():
        failed.append(QueueError(f"the broker {masked(config.broker_url)} does not respond"))
    if failed:
        raise QueueError(f"can't wake workers: {' '.join(str(failed[0]).split())}") from failed[0]


def _send(config: Settings, device: str, count: int, failed: list[Exception]) -> None:
    try:
        name = queue_name(device)
        if config.queue_dir is not None:
            _make_queue_dir(config)
            for _ in range(count):
                put(config.queue_dir / MESSAGES, name, wake_up(name))
            return
        app = celery_app(config.broker_url)
        for _ in range(count):
            app.send_task(WAKE, args=[name], queue=name)
    except Exception as error:  # of any kind: the jobs are committed, and workers poll the database
        failed.append(error)


def _make_queue_dir(config: Settings) -> None:
    assert config.queue_dir is not None
    try:
        for folder in (config.queue_dir, config.queue_dir / MESSAGES, config.queue_dir / "control"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.chmod(folder, 0o700)
    except OSError as error:
        raise QueueError(f"can't use the queue folder {config.queue_dir}: {reason_of(error)}; set MLPQ_HOME") from error


def _broker(broker_url: str) -> dict[str, Any]:
    scheme, _, folder = broker_url.partition("://")
    if scheme != "filesystem":
        import ssl

        # Without this Celery verifies no certificate; parameters of the URL replace it.
        verified = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_check_hostname": True}
        tls = {"broker_use_ssl": verified} if scheme == "rediss" else {}
        return {"broker_url": broker_url, "broker_transport_options": REDIS_OPTIONS, **tls}
    messages = f"{folder}/{MESSAGES}"
    options = {"data_folder_in": messages, "data_folder_out": messages, "control_folder": f"{folder}/control"}
    return {"broker_url": "filesystem://localhost//", "broker_transport_options": options}
