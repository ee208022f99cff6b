"""The temporary folder of a training process, and the removal of those that killed workers left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import weakref
from pathlib import Path

PREFIX = "mlpq-training-"
NAME = re.compile(rf"{PREFIX}(\d+)-\w+")  # with the worker's process id


class Scratch:
    """A temporary folder, locked while its worker lives; `remove` removes it and all in it."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-")
        self.remove = weakref.finalize(self, _remove, self.path, _locked(self.path))  # once, at exit at the latest


def remove_stale() -> None:
    """Remove the folders of this user's workers that are dead.

    The lock protects a worker whose process id means nothing here, such as one in another container.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        name = NAME.fullmatch(path.name)
        with contextlib.suppress(OSError):
            if name is not None and _is_own_folder(path) and not _is_alive(int(name[1])):
                _remove(str(path), _locked(str(path)))


def _remove(path: str, lock: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(lock)


def _locked(path: str) -> int:
    """A descriptor of the folder, which holds a lock until it is closed or this process ends.

    Raises OSError where another process holds it.
    """
    found = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(found)
        raise
    return found


def _is_own_folder(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True
