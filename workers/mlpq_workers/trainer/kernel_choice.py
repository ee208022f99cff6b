"""Whether a training process trains by the kernel, which build of it, and what is missing where it can't."""

from __future__ import annotations

import importlib.util
import logging

from mlpq.errors import MlpqError
from mlpq_workers.kernel.library import Build, KernelUnavailable, build

OFF = "off"

log = logging.getLogger("mlpq.training")


def has_torch() -> bool:
    """Whether torch is installed; doesn't import it."""
    return importlib.util.find_spec("torch") is not None


def needs_torch(what: str) -> None:
    """Raise MlpqError where torch, which `what` needs, is not installed."""
    if not has_torch():
        raise MlpqError(f"{what} needs torch, which is not installed: pip install 'mlpq[worker]'")


def available_kernel(setting: str) -> tuple[Build | None, str]:
    """The build that MLPQ_KERNEL chooses, and the reason where there is none, empty with "off"; raises nothing."""
    if setting == OFF:
        return None, ""
    try:
        return build(setting), ""
    except KernelUnavailable as error:
        return None, str(error)


def choose_kernel(setting: str) -> Build | None:
    """The build that MLPQ_KERNEL chooses; None where torch trains instead. Raises MlpqError where nothing can train.

    With "auto", torch trains where the kernel can't be used, which is logged.
    """
    found, why = available_kernel(setting)
    if found is not None:
        return found
    if setting == OFF:
        needs_torch("MLPQ_KERNEL=off")
    elif setting != "auto":
        raise MlpqError(f"MLPQ_KERNEL is '{setting}': {why}")
    elif not has_torch():
        raise MlpqError(f"{why}; or train with torch instead: pip install 'mlpq[worker]'")
    else:
        log.warning("%s; until then jobs run on the stacked engine", why)
    return None
