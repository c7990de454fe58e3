"""Workflow side of Temporal's LangGraph plugin: a run, and a thread that stays open."""

from __future__ import annotations

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.contrib.workflow_streams import WorkflowStream
from temporalio.langgraph import graph

with workflow.unsafe.imports_passed_through():
    from langgraph.checkpoint.memory import InMemorySaver

CONFIG: Any = {"recursion_limit": 10_000}


@workflow.defn
class Run:
    """One run of a graph; no checkpointer, since nothing follows."""

    @workflow.run
    async def run(self, shape: str, given: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = await graph(shape).compile().ainvoke(given, CONFIG)
        return result


@workflow.defn
class Stream:
    """A run whose nodes write to a topic that clients read."""

    @workflow.init
    def __init__(self, shape: str, given: dict[str, Any]) -> None:
        self._stream = WorkflowStream()
        self._graph = graph(shape).compile()

    @workflow.run
    async def run(self, shape: str, given: dict[str, Any]) -> None:
        await self._graph.ainvoke(given, CONFIG)


@workflow.defn
class Thread:
    """A thread: the checkpoints are in the workflow's memory, and each turn is an Update."""

    @workflow.init
    def __init__(self, shape: str) -> None:
        self._graph = graph(shape).compile(checkpointer=InMemorySaver())
        self._lock = asyncio.Lock()

    @workflow.run
    async def run(self, shape: str) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.update
    async def turn(self, given: dict[str, Any]) -> dict[str, Any]:
        """One turn; the whole state comes back, as from ``ainvoke``."""
        async with self._lock:
            config: Any = {**CONFIG, "configurable": {"thread_id": workflow.info().workflow_id}}
            result: dict[str, Any] = await self._graph.ainvoke(given, config)
            return result
