"""Contender: ``temporalio-langgraph``, Temporal's official plugin.

A graph runs inside a workflow, its nodes as Activities. A thread is a workflow that stays open with
an ``InMemorySaver``, to which each turn is an Update: the form that keeps the state of a chat.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from temporalio.client import Client, WithStartWorkflowOperation, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.contrib.workflow_streams import WorkflowStreamClient
from temporalio.langgraph import LangGraphPlugin
from temporalio.worker import Worker

from benchmarks import contender
from benchmarks.contender import Caller, Fleet, Setup, Turn, Values, graph_of
from benchmarks.contenders.plugin_workflow import Run, Stream, Thread
from benchmarks.shapes.tokens import Clock

SHAPES = ("sequential", "one_step", "fanout", "chat", "turn", "large_state")

REASONS = {
    "deep_agent": "not a graph that it takes: temporalio-deepagents is for those",
    "recovery": "its Activities do not beat: their start_to_close_timeout has to pass, here 5 min",
}
"""Of shapes that it cannot run."""

TOPIC = "tokens"
END = ""

OPTIONS = {"start_to_close_timeout": timedelta(minutes=5)}


STREAMS = "-streams"


def _queue(setup: Setup) -> str:
    return f"plugin-{setup.variant}"


async def _client(setup: Setup) -> Client:
    return await Client.connect(
        setup.address,
        namespace=setup.namespace,
        # The one that the SDK has for pydantic: messages are such models.
        data_converter=pydantic_data_converter,
    )


def _graphs() -> dict[str, Any]:
    graphs = {}
    for shape in SHAPES:
        graphs[shape] = graph_of(shape).builder
        for node in graphs[shape].nodes.values():
            node.metadata = {"execute_in": "activity"}
    return graphs


class Official(Caller):
    """Workflows that run graphs."""

    def __init__(self, setup: Setup, client: Client, fleet: Fleet | None = None) -> None:
        super().__init__(setup, fleet)
        self._client = client
        self._queue = _queue(setup)

    async def run(self, shape: str, given: Values) -> Values:
        """A workflow from its start to its result."""
        result: Values = await self._client.execute_workflow(
            Run.run, args=[shape, given], id=f"plugin-{uuid.uuid4()}", task_queue=self._queue
        )
        return result

    def thread(self, shape: str) -> Turn:
        """An open workflow; the first turn starts it."""
        start = WithStartWorkflowOperation(
            Thread.run,
            shape,
            id=f"plugin-{uuid.uuid4()}",
            task_queue=self._queue,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
        handle: WorkflowHandle[Any, Any] | None = None

        async def turn(given: Values) -> Values:
            nonlocal handle
            if handle is not None:
                return await handle.execute_update(Thread.turn, given)
            result: Values = await self._client.execute_update_with_start_workflow(
                Thread.turn, given, start_workflow_operation=start
            )
            handle = await start.workflow_handle()
            return result

        return turn

    async def stream(self, shape: str, given: Values) -> AsyncIterator[str]:
        """What the nodes of a workflow write to its topic."""
        handle = await self._client.start_workflow(
            Stream.run,
            args=[shape, given],
            id=f"plugin-{uuid.uuid4()}",
            task_queue=self._queue + STREAMS,
        )
        topic = WorkflowStreamClient.create(self._client, handle.id).topic(TOPIC, type=str)
        async for item in topic.subscribe(from_offset=0):
            if item.data == END:
                break
            yield item.data


async def speak(state: MessagesState) -> dict[str, Any]:
    """The node of ``tokens``, which writes as the plugin's documentation says."""
    writer = get_stream_writer()
    async for chunk in Clock().astream("time?"):
        writer(str(chunk.content))
    writer(END)
    return {}


def _streaming(setup: Setup, client: Client) -> Worker:
    """A worker of its own: with a topic, the plugin takes only workflows that have streams."""
    builder = StateGraph(MessagesState)
    builder.add_node("speak", speak, metadata={"execute_in": "activity"})
    builder.add_edge(START, "speak")
    return Worker(
        client,
        task_queue=_queue(setup) + STREAMS,
        workflows=[Stream],
        plugins=[
            LangGraphPlugin(
                graphs={"tokens": builder},
                default_activity_options=OPTIONS,
                streaming_topic=TOPIC,
            )
        ],
    )


@asynccontextmanager
async def opened(setup: Setup) -> AsyncIterator[Caller]:
    """By variant."""
    client = await _client(setup)
    if setup.variant == "embedded":
        async with contender.on_thread(lambda: worker(setup)):
            yield Official(setup, client)
    else:
        async with contender.elsewhere("plugin", setup) as fleet:
            yield Official(setup, client, fleet)


@asynccontextmanager
async def worker(setup: Setup) -> AsyncIterator[None]:
    """A worker with the plugin."""
    client = await _client(setup)
    graphs = Worker(
        client,
        task_queue=_queue(setup),
        workflows=[Run, Thread],
        plugins=[LangGraphPlugin(graphs=_graphs(), default_activity_options=OPTIONS)],
    )
    async with graphs, _streaming(setup, client):
        yield
