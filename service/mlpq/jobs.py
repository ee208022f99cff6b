"""The statuses of a job and the transitions between them.

blocked -> queued      its parent succeeded
queued -> running      a worker claimed it
running -> queued      its lease expired, or its attempt failed and attempts are left
running -> succeeded | failed | cancelled
blocked | queued -> cancelled, blocked -> failed      its parent failed
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    BLOCKED = "blocked"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        """Finished jobs never change."""
        return self in FINISHED


FINISHED = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED})

TRANSITIONS = frozenset(
    {
        (Status.BLOCKED, Status.QUEUED),
        (Status.BLOCKED, Status.CANCELLED),
        (Status.BLOCKED, Status.FAILED),
        (Status.QUEUED, Status.RUNNING),
        (Status.QUEUED, Status.CANCELLED),
        (Status.RUNNING, Status.QUEUED),
        (Status.RUNNING, Status.SUCCEEDED),
        (Status.RUNNING, Status.FAILED),
        (Status.RUNNING, Status.CANCELLED),
    }
)


class Outcome(StrEnum):
    """How an attempt ended."""

    SUCCEEDED = "succeeded"
    DIVERGED = "diverged"  # the loss became NaN: a finding about the settings, not a crash; never retried
    FAILED = "failed"  # an error, kept with the attempt
    LOST = "lost"  # the lease expired: the worker died or could not reach the database
    RELEASED = "released"  # the worker shut down and returned the job to the queue; does not count as an attempt
    CANCELLED = "cancelled"


class Engine(StrEnum):
    """What trained a job."""

    GANG = "gang"  # torch, stacked with the other jobs of its gang
    PLAIN = "plain"  # torch, alone, by autograd and torch.optim
    KERNEL = "kernel"  # mlpq's own arithmetic, on the CPU


TORCH_ENGINES = (Engine.GANG, Engine.PLAIN)


STACKING_DEVICES = ("cpu", "cuda")  # kinds of device that train gangs; on others (MPS) jobs run one at a time
GANG = 64  # jobs that a worker trains together by default
MAX_GANG = 1024
MAX_WORLD_SIZE = 64  # processes that train one job together
LEASE_SECONDS = 60  # a worker without a heartbeat for this long loses its jobs
BEAT_SECONDS = 20  # three heartbeats in a lease: two may fail
MAX_ATTEMPTS = 3

VERIFY = "verify"  # the experiment of the reruns of mlpq verify, and of no other jobs

_NAMESPACE = uuid.UUID("5f0c6d4e-7f0b-5b52-9d0e-3c3a1f6f0a11")


def job_id(experiment: str, spec_hash: str, repeat: int) -> str:
    """The id of the `repeat`-th job (from 0) of a spec in an experiment: submitting twice makes the same id."""
    return str(uuid.uuid5(_NAMESPACE, f"{experiment}\n{spec_hash}\n{repeat}"))


def fingerprint(facts: Mapping[str, object]) -> str:
    """SHA-256 of the facts of an environment: one row for each distinct one."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
