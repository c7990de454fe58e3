"""A task that is lost on its way to the process that drives its run."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from temporalio import activity, client, worker
from temporalio.client import Client
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from langgraph_temporal_exec import TemporalSaver
from tests.conftest import TemporalServer
from tests.support.graphs import State, config


class Loses(client.Interceptor, worker.Interceptor):
    """Of the Activities of a node the first reaches nobody, as if a connection had broken."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.lost = asyncio.Event()

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Loses(self, next)


class _Loses(ActivityInboundInterceptor):
    def __init__(self, loses: Loses, next: ActivityInboundInterceptor) -> None:
        super().__init__(next)
        self._loses = loses

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        if activity.info().activity_type == self._loses.node and not self._loses.lost.is_set():
            self._loses.lost.set()
            await asyncio.Event().wait()
        return await super().execute_activity(input)


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_it_runs_when_temporal_has_noticed(
    temporal_server: TemporalServer, task_queue: str, mode: str
) -> None:
    """After three times the heartbeat timeout: the run itself is alive."""
    ran: list[str] = []

    async def node(state: State) -> State:
        ran.append("node")
        return {"x": ["node"]}

    builder = StateGraph(State).add_node("before", lambda state: {"x": ["before"]})
    builder.add_node("node", node).add_edge(START, "before").add_edge("before", "node")
    graph = builder.compile(name="lossy")
    loses = Loses("node")
    connected = await Client.connect(
        temporal_server.address, namespace=temporal_server.namespace, interceptors=[loses]
    )
    options: Any = {"task_queue": task_queue, "id_prefix": task_queue}
    host = TemporalSaver(connected, heartbeat_timeout=timedelta(seconds=1), **options)
    caller = host if mode == "embedded" else TemporalSaver(connected, **options)
    async with host.worker(graph), asyncio.timeout(60):
        result = await graph.with_config(checkpointer=caller).ainvoke({"x": ["in"]}, config("t"))
    assert result == {"x": ["in", "before", "node"]}
    assert loses.lost.is_set()
    assert ran == ["node"]
    caller.close()
