"""Public API: plain LangGraph code becomes durable on Temporal.

Exports are lazy: Temporal's workflow sandbox imports this package for its workflow modules, and
those must not load LangGraph.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import (
        GraphNotFoundError,
        MissingThreadIdError,
        NoWorkersError,
        RemoteError,
        RunCancelledError,
        RunFailedError,
        ServerUnavailableError,
        TemporalExecError,
        UnserializableError,
        UnsupportedLangGraphError,
        ValueTooLargeError,
    )
    from .saver import TemporalSaver

_EXPORTS = {
    "GraphNotFoundError": "errors",
    "MissingThreadIdError": "errors",
    "NoWorkersError": "errors",
    "RemoteError": "errors",
    "RunCancelledError": "errors",
    "RunFailedError": "errors",
    "ServerUnavailableError": "errors",
    "TemporalExecError": "errors",
    "TemporalSaver": "saver",
    "UnserializableError": "errors",
    "UnsupportedLangGraphError": "errors",
    "ValueTooLargeError": "errors",
}

__all__ = [
    "GraphNotFoundError",
    "MissingThreadIdError",
    "NoWorkersError",
    "RemoteError",
    "RunCancelledError",
    "RunFailedError",
    "ServerUnavailableError",
    "TemporalExecError",
    "TemporalSaver",
    "UnserializableError",
    "UnsupportedLangGraphError",
    "ValueTooLargeError",
]


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
