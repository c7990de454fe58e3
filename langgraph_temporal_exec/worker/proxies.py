"""Worker side: callback handlers that stand in for those of a caller in another process."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.tracers.base import BaseTracer
from langgraph.callbacks import GraphCallbackHandler

from ..seam.langchain import (
    IGNORED_BY,
    IGNORES,
    PERSIST_RUN,
    MessageEventsHandler,
    StreamingHandler,
)
from ..values.callbacks import TAP, UNTAP, Kind, kinds_of

Send = Callable[[int, str, tuple[Any, ...], dict[str, Any]], None]
"""Takes the number of a kind, an event's name, and its arguments."""

_taps = itertools.count()


class _StandIn:
    """What all stand-ins share; the rest of their class depends on the kind."""

    # In the thread and at the moment of the event, so that the order is that of the events.
    run_inline = True
    raise_error = False

    number: int
    send: Send

    def __init__(self, number: int, send: Send) -> None:
        super().__init__()
        self.number = number
        self.send = send


def _forward(event: str) -> Callable[..., None]:
    def forward(self: _StandIn, *args: Any, **kwargs: Any) -> None:
        self.send(self.number, event, args, kwargs)

    forward.__name__ = event
    return forward


class _Taps:
    """The part of streaming stand-ins: a run's output, on its way to whoever consumes it."""

    async def tap_output_aiter(
        self: Any, run_id: UUID, output: AsyncIterator[Any]
    ) -> AsyncIterator[Any]:
        tap = next(_taps)
        async for chunk in output:
            self.send(self.number, TAP, (tap, run_id, chunk), {})
            yield chunk
        self.send(self.number, UNTAP, (tap,), {})

    def tap_output_iter(self: Any, run_id: UUID, output: Iterator[Any]) -> Iterator[Any]:
        tap = next(_taps)
        for chunk in output:
            self.send(self.number, TAP, (tap, run_id, chunk), {})
            yield chunk
        self.send(self.number, UNTAP, (tap,), {})


def _stand_in(number: int, kind: Kind, send: Send) -> BaseCallbackHandler:
    bases: list[type] = [_StandIn]
    if kind.streaming:
        bases += [_Taps, StreamingHandler]
    if kind.message_events:
        bases.append(MessageEventsHandler)
    if kind.tracer:
        bases.append(BaseTracer)
    if kind.graph:
        bases.append(GraphCallbackHandler)
    if not kind.tracer and not kind.graph:
        bases.append(BaseCallbackHandler)
    body: dict[str, Any] = {event: _forward(event) for event in IGNORED_BY}
    body |= {name: name in kind.ignores for name in IGNORES}
    body[PERSIST_RUN] = lambda self, run: None
    handler: BaseCallbackHandler = type("StandIn", tuple(bases), body)(number, send)
    return handler


def manager_for(description: Mapping[str, Any], send: Send) -> BaseCallbackManager:
    """A callback manager as the caller's, with stand-ins for its handlers.

    Args:
        description: Of the caller's manager (see ``_callbacks.description``).
        send: Called with every event, in any thread; must not block.
    """
    kinds = kinds_of(description)
    handlers = [_stand_in(number, kind, send) for number, kind in enumerate(kinds)]
    return BaseCallbackManager(
        handlers=handlers,
        inheritable_handlers=[h for h, k in zip(handlers, kinds, strict=True) if k.inherited],
        parent_run_id=description["parent_run_id"],
        tags=description["tags"],
        inheritable_tags=description["inheritable_tags"],
        metadata=description["metadata"],
        inheritable_metadata=description["inheritable_metadata"],
    )
