"""Shared: callback handlers of a caller in another process: which there are, and their events.

A worker must not need the handlers themselves: it has a stand-in for each kind of handler, which
looks to LangChain and LangGraph as the handlers of that kind do, and sends on what it is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.tracers.base import BaseTracer
from langgraph.callbacks import GraphCallbackHandler

from ..seam.langchain import (
    IGNORED_BY,
    IGNORES,
    MessageEventsHandler,
    StreamingHandler,
    ahandle_event,
    handle_event,
)

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


# -- telling the handlers themselves -------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Telling:
    """One event for the handlers of one kind.

    Args:
        kind: Its number.
        name: The event, or ``TAP`` or ``UNTAP``.
        args: Its arguments.
        kwargs: Its keyword arguments.
    """

    kind: int
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Tap:
    """The output of a run on its way through one streaming handler."""

    def __init__(self, handler: Any, run_id: UUID) -> None:
        self._chunks: deque[Any] = deque()
        self._tapped: AsyncIterator[Any] = handler.tap_output_aiter(run_id, self._output())

    async def _output(self) -> AsyncIterator[Any]:
        while self._chunks:
            yield self._chunks.popleft()

    async def chunk(self, chunk: Any) -> None:
        self._chunks.append(chunk)
        await anext(self._tapped, None)

    async def end(self) -> None:
        await anext(self._tapped, None)


class Told:
    """Handlers that are told of events which happen in another process.

    Args:
        groups: The handlers, by the number of their kind.
    """

    def __init__(self, groups: Sequence[Sequence[BaseCallbackHandler]]) -> None:
        self._groups = groups
        self._taps: dict[tuple[int, int], _Tap] = {}

    async def atell(self, told: Telling) -> None:
        """Tell of an event; exceptions are those of handlers that have ``raise_error``."""
        handlers = self._groups[told.kind]
        if told.name == TAP:
            number, run_id, chunk = told.args
            for i, handler in enumerate(handlers):
                tap = self._taps.setdefault((number, i), _Tap(handler, run_id))
                await tap.chunk(chunk)
        elif told.name == UNTAP:
            for i in range(len(handlers)):
                if (told.args[0], i) in self._taps:
                    await self._taps.pop((told.args[0], i)).end()
        else:
            await ahandle_event(
                list(handlers), told.name, IGNORED_BY[told.name], *told.args, **told.kwargs
            )

    def tell(self, told: Telling) -> None:
        """Sync ``atell``."""
        # Handlers that tap outputs belong to `astream_events` and `astream_log`.
        if told.name not in (TAP, UNTAP):
            handlers = list(self._groups[told.kind])
            handle_event(handlers, told.name, IGNORED_BY[told.name], *told.args, **told.kwargs)

    def forget_taps(self) -> None:
        """What was streamed so far comes to no end."""
        self._taps.clear()
