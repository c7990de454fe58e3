"""Contender side: LangGraph's own call on graphs that have a checkpointer, whichever it is."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from benchmarks.contender import Turn, Values, graph_of

RECURSION_LIMIT = 10_000


class Plain:
    """``graph.ainvoke`` with a saver.

    Args:
        saver: The checkpointer.
        workers: Ids of the processes that execute, if others do.
        call: Options of the call.
    """

    def __init__(self, saver: Any, workers: Sequence[int] = (), **call: Any) -> None:
        self.saver = saver
        self.workers = workers
        self._call = call

    def thread(self, shape: str) -> Turn:
        """A new thread."""
        graph = graph_of(shape).copy({"checkpointer": self.saver})
        config = {
            "configurable": {"thread_id": str(uuid.uuid4())},
            "recursion_limit": RECURSION_LIMIT,
        }

        async def turn(given: Values) -> Values:
            result: Values = await graph.ainvoke(given, config, **self._call)
            return result

        return turn

    async def run(self, shape: str, given: Values) -> Values:
        """One run on a new thread."""
        return await self.thread(shape)(given)
