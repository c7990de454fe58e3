"""Shared: callback handlers of a caller in another process: which there are, and their events.

A worker must not need the handlers themselves: it has a stand-in for each kind of handler, which
looks to LangChain and LangGraph as the handlers of that kind do, and sends on what it is told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.tracers.base import BaseTracer
from langgraph.callbacks import GraphCallbackHandler

from ..seam.langchain import IGNORES, MessageEventsHandler, StreamingHandler

TAP = "tap"
"""Event of our own: a chunk of a run's output passed a streaming handler."""

UNTAP = "untap"
"""Event of our own: the run's output has ended."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """All that LangChain and LangGraph look at in a handler before they call it.

    ``tracer``: gets what LangGraph records for tracers. ``streaming``: wants the output of runs in
    chunks. ``message_events``: wants messages as typed events. ``graph``: wants interrupts and
    resumes. ``inherited``: called for nested runs as well.
    """

    tracer: bool
    streaming: bool
    message_events: bool
    graph: bool
    inherited: bool
    ignores: tuple[str, ...]


def kind_of(handler: BaseCallbackHandler, *, inherited: bool) -> Kind:
    """The kind of a handler."""
    return Kind(
        tracer=isinstance(handler, BaseTracer),
        # By inheritance, as LangGraph has it: whatever has the two methods is an instance.
        streaming=StreamingHandler in type(handler).__mro__,
        message_events=isinstance(handler, MessageEventsHandler),
        graph=isinstance(handler, GraphCallbackHandler),
        inherited=inherited,
        ignores=tuple(name for name in IGNORES if getattr(handler, name, False)),
    )


def description(manager: BaseCallbackManager, kinds: Sequence[Kind]) -> dict[str, Any]:
    """What a worker needs to know of a caller's callback manager, as plain data."""
    return {
        "kinds": [asdict(kind) for kind in kinds],
        "parent_run_id": manager.parent_run_id,
        "tags": list(manager.tags),
        "inheritable_tags": list(manager.inheritable_tags),
        "metadata": _plain(manager.metadata),
        "inheritable_metadata": _plain(manager.inheritable_metadata),
    }


def kinds_of(description: Mapping[str, Any]) -> list[Kind]:
    """The kinds of handlers of a description."""
    return [Kind(**{**kind, "ignores": tuple(kind["ignores"])}) for kind in description["kinds"]]


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in metadata.items() if isinstance(v, (str, int, float, bool))}
