"""Never run, only type-checked: how users call the public API."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict

import temporalio.common
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy
from temporalio.client import Client

from langgraph_temporal_exec import (
    NodeOptions,
    NoWorkersError,
    RemoteError,
    Retention,
    StorageError,
    TemporalSaver,
    ThreadInfo,
)


class State(TypedDict):
    x: int


async def node(state: State) -> State:
    return {"x": state["x"] + 1}


async def program() -> int:
    client = await Client.connect("localhost:7233")
    saver = TemporalSaver(
        client,
        task_queue="q",
        graph="g",
        inline=["n"],
        nodes={
            "m": NodeOptions(retry=RetryPolicy(max_attempts=2)),
            "o": NodeOptions(retry=temporalio.common.RetryPolicy(maximum_attempts=2)),
        },
        run_timeout=timedelta(minutes=5),
        park_after=timedelta(days=1),
        heartbeat_timeout=timedelta(seconds=5),
        retention=Retention(last=10, max_age=timedelta(days=30)),
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
    except (NoWorkersError, RemoteError, StorageError):
        return 0
    value: int = result["x"]
    return value


async def threads(saver: TemporalSaver) -> int:
    waiting = 0
    async for info in saver.alist_threads(status="interrupted", graph="g", limit=10):
        updated: datetime = info.updated_at
        waiting += info.waiting + len(info.interrupts) + updated.second
    one: ThreadInfo | None = await saver.aget_thread("t")
    async for checkpoint in saver.aexport_thread("t"):
        plain: dict[str, Any] = checkpoint
        waiting += len(plain)
    await saver.apurge_thread("t")
    return waiting if one is None else one.waiting


def threads_sync(saver: TemporalSaver) -> int:
    found: Sequence[ThreadInfo] = saver.list_threads(status="busy", graph=None, limit=None)
    one: ThreadInfo | None = saver.get_thread("t")
    exported: Sequence[dict[str, Any]] = saver.export_thread("t")
    saver.purge_thread("t")
    return len(found) + len(exported) + (one.waiting if one else 0)
