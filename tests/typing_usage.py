"""Never run, only type-checked: how users call the public API."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TypedDict

from langgraph.graph import START, StateGraph
from temporalio.client import Client

from langgraph_temporal_exec import NoWorkersError, RemoteError, TemporalSaver


class State(TypedDict):
    x: int


async def node(state: State) -> State:
    return {"x": state["x"] + 1}


async def program() -> int:
    client = await Client.connect("localhost:7233")
    saver = TemporalSaver(
        client, task_queue="q", graph="g", inline=["n"], heartbeat_timeout=timedelta(seconds=5)
    )
    same: Client = saver.client
    builder = StateGraph(State)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    graph = builder.compile(checkpointer=saver)
    async with saver.worker(graph), saver.worker({"g": graph}), saver.worker() as opened:
        inner: TemporalSaver = opened
        assert inner.client is same
    async with TemporalSaver.local(Path("t.db"), task_queue="q") as embedded:
        other: TemporalSaver = embedded
        other.close()
    try:
        result = await graph.ainvoke({"x": 1}, {"configurable": {"thread_id": "t"}})
    except (NoWorkersError, RemoteError):
        return 0
    value: int = result["x"]
    return value
