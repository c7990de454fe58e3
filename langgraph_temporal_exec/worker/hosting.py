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

CACHED = 1000
"""Workflows that stay in memory by default; Temporal's own default as well."""

WORKFLOW_BYTES = 500_000
"""What one of them takes at most, rounded up: 0.1 MB for a short thread, 0.2 MB with a log of
180 kB, and as much again for its log in the process that drives it. A log moves into archives at
256 kB. Resident memory of a worker, over 80 to 150 threads; Python 3.11, temporalio 1.35."""

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
    max_cached_workflows: int | None = None
    workflow_cache_bytes: int | None = None
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
        for name in ("max_cached_workflows", "workflow_cache_bytes"):
            cached: object = getattr(self, name)
            if cached is not None and not (_is_number(cached) and cached >= 0):
                raise UsageError(
                    f"{name} is {cached!r}; it must be a number of at least 0, or None."
                )
        if None not in (self.max_cached_workflows, self.workflow_cache_bytes):
            raise UsageError(
                "max_cached_workflows and workflow_cache_bytes say the same; give one of them."
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

    @property
    def cached_workflows(self) -> int:
        """How many workflows stay in memory."""
        if self.workflow_cache_bytes is not None:
            return max(1, self.workflow_cache_bytes // WORKFLOW_BYTES)
        return CACHED if self.max_cached_workflows is None else self.max_cached_workflows


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
