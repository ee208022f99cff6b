"""The embedded queue as a transport of kombu, for workers."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem, virtual

from mlpq.broker.file_queue import put
from mlpq.broker.messages import MAX_BYTES, is_wake_up, wake_up
from mlpq.log import RateLimit

log = logging.getLogger("mlpq.queue.files")
log.addFilter(RateLimit())


class Channel(filesystem.Channel):
    """kombu's channel, which reads only regular files, writes them whole, and keeps its routing table in memory."""

    supports_fanout = False  # all messages go to the queue that they name
    get_table = virtual.Channel.get_table

    def _put(self, queue: str, message: object, **_: Any) -> None:  # type: ignore[override]  # kombu's own differ
        put(Path(self.data_folder_out), queue, message)

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        folder = Path(self.data_folder_in)
        for name in sorted(os.listdir(folder)):
            if name.partition(".")[2] == f"{queue}.msg":
                content = _take(folder / name)
                if content is not None and is_wake_up(content, queue):
                    return wake_up(queue)
        raise Empty


class Transport(filesystem.Transport):
    Channel = Channel


def _take(path: Path) -> bytes | None:
    """Read and remove a file; None where another worker took it, or it had to be set aside."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError("not a regular file")
            content = file.read(MAX_BYTES + 1)
        path.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("set aside %s, which can't be read: %s", path, error.strerror or error)
        with contextlib.suppress(OSError):
            path.rename(path.with_name(f"{path.name}.{uuid.uuid4().hex}.unreadable"))
        return None
    return content
