"""Options: one frozen, validated object shared by the Python API and the command line."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from .errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Options:
    """How runs of one saver are recorded and executed.

    Args:
        task_queue: Temporal task queue of the workflows and of runs that are not bound to a
            process. Each worker process adds a queue of its own, derived from this name.
        graph: Name of the graph on the workers; ``None`` takes the graph's own ``name``.
        inline: Names of nodes that run inside the loop instead of as Activities. Their result
            is recorded with the next superstep, so a crash repeats them.
        heartbeat_timeout: A worker that is silent for this long is considered dead and the run
            moves to another one. At least one second.
        no_worker_timeout: How long a caller waits for a sign of life of any worker before it
            raises ``NoWorkersError``.
        id_prefix: First part of every workflow id; separates deployments in one namespace.

    Raises:
        UsageError: An option is out of range.
    """

    task_queue: str = "langgraph"
    graph: str | None = None
    inline: frozenset[str] = frozenset()
    heartbeat_timeout: timedelta = timedelta(seconds=10)
    no_worker_timeout: timedelta = timedelta(seconds=10)
    id_prefix: str = "langgraph"

    def __post_init__(self) -> None:
        if not self.task_queue:
            raise UsageError("task_queue is empty; pass the name of a Temporal task queue.")
        if not self.id_prefix or "/" in self.id_prefix:
            raise UsageError(
                f"id_prefix {self.id_prefix!r} must be a non-empty string without '/'."
            )
        if self.heartbeat_timeout < timedelta(seconds=1):
            raise UsageError(
                f"heartbeat_timeout is {self.heartbeat_timeout}; the least is 1 second, "
                "because heartbeats are sent three times within it."
            )
        if self.no_worker_timeout < timedelta(seconds=1):
            raise UsageError(f"no_worker_timeout is {self.no_worker_timeout}; the least is 1 s.")
