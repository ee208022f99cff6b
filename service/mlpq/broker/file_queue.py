"""The embedded queue: a folder with one file for each message. Submitting needs no more than this module."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path


def put(folder: Path, queue: str, message: object) -> None:
    """Write a message of that queue, whole: a reader never sees a part of it."""
    name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
    temporary = folder / f".{name}"
    try:
        with temporary.open("x") as file:
            json.dump(message, file)
        temporary.rename(folder / name)
    finally:
        temporary.unlink(missing_ok=True)
