"""Worker side: how a worker of this process is to work: limits, pollers, its end, its health."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeGuard

from temporalio.worker import (
    PollerBehaviorAutoscaling,
    PollerBehaviorSimpleMaximum,
    WorkerDeploymentConfig,
    WorkerTuner,
)

from ..errors import UsageError
from ..options import check_text

SHUTDOWN_GRACE = timedelta(seconds=25)
"""Kubernetes kills a container 30 s after it has asked it to stop."""

MAX_NAME = 200
"""Bytes of a name: it is part of the name of a task queue, for which Temporal allows 1,000."""


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """The arguments of ``TemporalSaver.worker``, where they are described; validated.

    ``alone``: no other process can have the name, so whoever had it is gone.

    Raises:
        UsageError: An option is out of range, or two exclude each other.
    """

    name: str | None = None
    worker_queue_file: str | Path | None = None
    alone: bool = False
    max_concurrent_runs: int | None = None
    max_concurrent_tasks: int | None = None
    max_cached_workflows: int = 1000
    shutdown_grace: timedelta = SHUTDOWN_GRACE
    health_port: int | None = None
    tuner: WorkerTuner | None = None
    pollers: PollerBehaviorAutoscaling | PollerBehaviorSimpleMaximum | None = None
    deployment: WorkerDeploymentConfig | None = None

    def __post_init__(self) -> None:
        if self.name is not None:
            check_name(self.name)
            if self.worker_queue_file is not None:
                raise UsageError("name= and worker_queue_file= say the same; give one of them.")
        for name in ("max_concurrent_runs", "max_concurrent_tasks"):
            limit: object = getattr(self, name)
            if limit is not None and not (_is_number(limit) and limit >= 1):
                raise UsageError(
                    f"{name} is {limit!r}; it must be a number of at least 1, or None."
                )
        if self.tuner is not None and self.max_concurrent_runs is not None:
            raise UsageError(
                "max_concurrent_runs and tuner exclude each other: the slots for Activities that "
                "the tuner gives are those of runs."
            )
        grace: object = self.shutdown_grace
        if not (isinstance(grace, timedelta) and grace >= timedelta(0)):
            raise UsageError(f"shutdown_grace is {grace!r}; it must be a timedelta of at least 0.")
        port: object = self.health_port
        if port is not None and not (_is_number(port) and 0 < port < 65536):
            raise UsageError(f"health_port is {port!r}; it must be a port, or None.")
        cached: object = self.max_cached_workflows
        if not (_is_number(cached) and cached >= 0):
            raise UsageError(
                f"max_cached_workflows is {cached!r}; it must be a number of at least 0."
            )
        path: object = self.worker_queue_file
        if path is not None and not (isinstance(path, (str, Path)) and str(path).strip()):
            raise UsageError(f"worker_queue_file is {path!r}; it must be the path of a file.")
        kinds = (
            ("tuner", WorkerTuner),
            ("pollers", (PollerBehaviorAutoscaling, PollerBehaviorSimpleMaximum)),
            ("deployment", WorkerDeploymentConfig),
        )
        for name, kind in kinds:
            given: object = getattr(self, name)
            if given is not None and not isinstance(given, kind):
                raise UsageError(f"{name} is {given!r}; it must be one of temporalio.worker's.")


def _is_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def check_name(name: object) -> None:
    """Raise unless a worker can be called so.

    Raises:
        UsageError: It cannot.
    """
    text = check_text("The name of a worker", name, limit=MAX_NAME)
    if bad := next((c for c in "~@#/" if c in text), ""):
        raise UsageError(f"The name of a worker is {name!r}; it must not contain {bad!r}.")
