"""The data folder, for the commands that write to it."""

from __future__ import annotations

from pathlib import Path


def writable_data_dir() -> Path:
    """The data folder. Its parent is the home by default, which must be private whoever creates it first."""
    from mlpq.errors import DataError, reason_of
    from mlpq.regular_files import make_private_folder
    from mlpq.settings import settings

    config = settings()
    if config.data_dir.is_relative_to(config.home):
        try:
            make_private_folder(config.home)
        except OSError as error:
            raise DataError(
                f"can't create the folder {config.home}: {reason_of(error)}; set MLPQ_HOME to one that you own"
            ) from error
    return config.data_dir
