"""Public API: plain LangGraph code becomes durable on Temporal.

Exports are lazy: Temporal's workflow sandbox imports this package for its workflow modules, and
those must not load LangGraph.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .costs import ActionKind, Cost, CostPart
    from .errors import (
        DuplicateGraphError,
        DuplicateWorkerError,
        GraphNotFoundError,
        ImpossibleResumeError,
        MissingThreadIdError,
        NodeExitError,
        NotDurableError,
        NotWaitingError,
        NoWorkersError,
        PlacementError,
        RemoteError,
        RunCancelledError,
        RunFailedError,
        RunNotFoundError,
        RunTimeoutError,
        ServerUnavailableError,
        StorageError,
        StreamLostError,
        SubagentTimeoutError,
        TaskQueueError,
        TemporalExecError,
        ThreadBusyError,
        ThreadFullError,
        UnreadableError,
        UnserializableError,
        UnsupportedLangGraphError,
        UsageError,
        ValueTooLargeError,
        WorkerStoppedError,
    )
    from .idempotency import idempotency_key
    from .interrupts import interrupt_with_default
    from .logs import RunLogFilter
    from .options import NodeOptions, Retention, SubagentOptions
    from .runs import Run, RunFailure, RunStatus
    from .saver import TemporalSaver
    from .threads import ThreadInfo, ThreadStatus
    from .workers import WorkerInfo

_EXPORTS = {
    "ActionKind": "costs",
    "Cost": "costs",
    "CostPart": "costs",
    "DuplicateGraphError": "errors",
    "DuplicateWorkerError": "errors",
    "GraphNotFoundError": "errors",
    "ImpossibleResumeError": "errors",
    "MissingThreadIdError": "errors",
    "NoWorkersError": "errors",
    "NodeExitError": "errors",
    "NodeOptions": "options",
    "NotDurableError": "errors",
    "NotWaitingError": "errors",
    "PlacementError": "errors",
    "RemoteError": "errors",
    "Retention": "options",
    "Run": "runs",
    "RunCancelledError": "errors",
    "RunFailedError": "errors",
    "RunFailure": "runs",
    "RunLogFilter": "logs",
    "RunNotFoundError": "errors",
    "RunStatus": "runs",
    "RunTimeoutError": "errors",
    "ServerUnavailableError": "errors",
    "StorageError": "errors",
    "StreamLostError": "errors",
    "SubagentOptions": "options",
    "SubagentTimeoutError": "errors",
    "TaskQueueError": "errors",
    "TemporalExecError": "errors",
    "TemporalSaver": "saver",
    "ThreadBusyError": "errors",
    "ThreadFullError": "errors",
    "ThreadInfo": "threads",
    "ThreadStatus": "threads",
    "UnreadableError": "errors",
    "UnserializableError": "errors",
    "UnsupportedLangGraphError": "errors",
    "UsageError": "errors",
    "ValueTooLargeError": "errors",
    "WorkerInfo": "workers",
    "WorkerStoppedError": "errors",
    "idempotency_key": "idempotency",
    "interrupt_with_default": "interrupts",
}

__all__ = [
    "ActionKind",
    "Cost",
    "CostPart",
    "DuplicateGraphError",
    "DuplicateWorkerError",
    "GraphNotFoundError",
    "ImpossibleResumeError",
    "MissingThreadIdError",
    "NoWorkersError",
    "NodeExitError",
    "NodeOptions",
    "NotDurableError",
    "NotWaitingError",
    "PlacementError",
    "RemoteError",
    "Retention",
    "Run",
    "RunCancelledError",
    "RunFailedError",
    "RunFailure",
    "RunLogFilter",
    "RunNotFoundError",
    "RunStatus",
    "RunTimeoutError",
    "ServerUnavailableError",
    "StorageError",
    "StreamLostError",
    "SubagentOptions",
    "SubagentTimeoutError",
    "TaskQueueError",
    "TemporalExecError",
    "TemporalSaver",
    "ThreadBusyError",
    "ThreadFullError",
    "ThreadInfo",
    "ThreadStatus",
    "UnreadableError",
    "UnserializableError",
    "UnsupportedLangGraphError",
    "UsageError",
    "ValueTooLargeError",
    "WorkerInfo",
    "WorkerStoppedError",
    "idempotency_key",
    "interrupt_with_default",
]


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
