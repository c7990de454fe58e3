"""What the tests of storage share: savers with small thresholds, and the model to compare with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.storage.graphs import chat, turn
from tests.support.graphs import config

MakeSaver = Callable[..., TemporalSaver]


@pytest.fixture
def make_saver(client: Client, task_queue: str) -> MakeSaver:
    """Makes savers of one deployment, each as cold as one of a new process."""

    def make(*, archive_bytes: int = 0, roll_events: int = 0, **options: Any) -> TemporalSaver:
        options.setdefault("client", client)
        saver = TemporalSaver(task_queue=task_queue, id_prefix=task_queue, **options)
        saver._store.transport.archive_bytes = archive_bytes
        saver._store.transport.roll_events = roll_events
        return saver

    return make


async def converse(graph: Any, turns: range, thread_id: str = "t") -> None:
    """Play turns; a question is answered."""
    for n in turns:
        result = await graph.ainvoke(turn(n), config(thread_id))
        if "__interrupt__" in result:
            await graph.ainvoke(Command(resume=f"yes {n}"), config(thread_id))


async def model(turns: range) -> Any:
    """The same conversation in memory."""
    graph = chat().copy({"checkpointer": InMemorySaver()})
    await converse(graph, turns)
    return graph


async def history(graph: Any, thread_id: str = "t") -> list[Any]:
    """All states of a thread but for ids and times."""
    return [comparable(s) async for s in graph.aget_state_history(config(thread_id))]


def comparable(state: Any) -> Any:
    """A state without what differs between two runs of the same conversation."""
    values = {
        channel: [(m.type, m.content, m.id) for m in value] if channel == "messages" else value
        for channel, value in state.values.items()
    }
    metadata = {k: state.metadata[k] for k in ("source", "step") if k in (state.metadata or {})}
    tasks = [
        (t.name, [dataclasses.replace(i, id="").value for i in t.interrupts]) for t in state.tasks
    ]
    return values, state.next, metadata, tasks
