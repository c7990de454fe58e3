"""Contender: ``langgraph-temporal``, which wraps a graph.

Its documentation has the worker run workflows outside of Temporal's sandbox. It calls routing
functions synchronously, so they are given to it in that form.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from langgraph.temporal import TemporalGraph
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner

from benchmarks import contender
from benchmarks.contender import Caller, Setup, Values, graph_of

SHAPES = ("sequential", "one_step", "fanout")

REASONS = {
    # deepagent-temporal 0.1.0 with deepagents 0.7.32, the only ones that fit langgraph 1.2.
    "deep_agent": "deepagent-temporal fails at the agent's first node (ValueError: Missing "
    "required config key 'N/A' for 'before_agent')",
    # `read_handler` in its activities.py overlays writes without the channel's reducer.
    "turn": "its routing functions are given a node's write instead of the channel's value, so an "
    "agent's loop does not end",
}
"""Of shapes that it cannot run."""


class Wrapped(Caller):
    """``ainvoke`` of the wrapped graph: a workflow of the thread's id from its start to its end."""

    def __init__(self, setup: Setup, graphs: dict[str, Any]) -> None:
        super().__init__(setup)
        self._graphs = graphs

    async def run(self, shape: str, given: Values) -> Values:
        """A workflow from its start to its result."""
        if shape not in self._graphs:
            return await super().run(shape, given)
        config = {"configurable": {"thread_id": str(uuid.uuid4())}, "recursion_limit": 10_000}
        result: Values = await self._graphs[shape].ainvoke(given, config)
        return result


@asynccontextmanager
async def opened(setup: Setup) -> AsyncIterator[Caller]:
    """The worker on a thread of this process."""
    client = await Client.connect(setup.address, namespace=setup.namespace)
    graphs = {shape: _wrapped(shape, client) for shape in SHAPES}
    async with contender.on_thread(lambda: worker(setup)):
        yield Wrapped(setup, graphs)


def _wrapped(shape: str, client: Client) -> Any:
    builder = graph_of(shape).builder
    for branches in builder.branches.values():
        for branch in branches.values():
            branch.path.func = _at_once(branch.path.afunc)
    return TemporalGraph(builder.compile(name=shape), client, task_queue=f"wrapper-{shape}")


def _at_once(route: Callable[[Any], Coroutine[Any, Any, Any]]) -> Callable[[Any], Any]:
    """A coroutine function that never waits, as a function."""

    def run(state: Any) -> Any:
        try:
            route(state).send(None)
        except StopIteration as end:
            return end.value
        raise RuntimeError("it waits")

    return run


@asynccontextmanager
async def worker(setup: Setup) -> AsyncIterator[None]:
    """A worker for each graph."""
    client = await Client.connect(setup.address, namespace=setup.namespace)
    async with AsyncExitStack() as stack:
        for shape in SHAPES:
            made = _wrapped(shape, client).create_worker(
                workflow_runner=UnsandboxedWorkflowRunner()
            )
            await stack.enter_async_context(made)
        yield
