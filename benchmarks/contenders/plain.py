"""Contender side: LangGraph's own calls on graphs that have a checkpointer, whichever it is."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.messages import AIMessageChunk

from benchmarks.contender import Caller, Fleet, Setup, Turn, Values, graph_of

RECURSION_LIMIT = 10_000


class Plain(Caller):
    """``graph.ainvoke`` with a saver.

    Args:
        setup: What the contender was given.
        saver: The checkpointer.
        fleet: The processes that execute, if others do.
        call: Options of the calls.
    """

    def __init__(self, setup: Setup, saver: Any, fleet: Fleet | None = None, **call: Any) -> None:
        super().__init__(setup, fleet)
        self._saver = saver
        self._call = call

    def _graph(self, shape: str) -> tuple[Any, Any]:
        """A graph, and the config of a new thread."""
        config = {
            "configurable": {"thread_id": str(uuid.uuid4())},
            "recursion_limit": RECURSION_LIMIT,
        }
        return graph_of(shape).copy({"checkpointer": self._saver}), config

    def thread(self, shape: str) -> Turn:
        """A new thread."""
        graph, config = self._graph(shape)

        async def turn(given: Values) -> Values:
            result: Values = await graph.ainvoke(given, config, **self._call)
            return result

        return turn

    async def run(self, shape: str, given: Values) -> Values:
        """One run on a new thread."""
        return await self.thread(shape)(given)

    async def stream(self, shape: str, given: Values) -> AsyncIterator[str]:
        """With ``stream_mode="messages"``."""
        graph, config = self._graph(shape)
        async for message, _ in graph.astream(given, config, stream_mode="messages"):
            if isinstance(message, AIMessageChunk) and message.content:
                yield str(message.content)
