"""Questions of parallel tasks: all of them, in the order of the tasks, whoever asks for them."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.support.graphs import State, config

NAMES = ("d", "b", "a", "c")
ORDER = ["a?", "b?", "c?", "d?"]
"""LangGraph makes the tasks of edges in the order of their nodes' names."""


def _asking(name: str) -> Any:
    async def node(state: State) -> State:
        return {"x": [f"{name} {interrupt(f'{name}?')}"]}

    return node


def _graph() -> Any:
    builder = StateGraph(State)
    for name in NAMES:
        builder.add_node(name, _asking(name)).add_edge(START, name)
    return builder.compile(name="questions")


@pytest.mark.compat
@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_all_of_them_in_order(client: Client, task_queue: str, mode: str) -> None:
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with host.worker(_graph()):
        saver = host if mode == "embedded" else caller
        graph = _graph().with_config(checkpointer=saver)
        for i in range(5):
            where = config(f"{mode}-{i}")
            result = await graph.ainvoke({"x": []}, where)
            assert [q.value for q in result["__interrupt__"]] == ORDER
            info = await saver.aget_thread(f"{mode}-{i}")
            assert info is not None
            assert [q.value for q in info.interrupts] == ORDER
            run = await saver.astart(_graph(), {"x": []}, config(f"{mode}-{i}-started"))
            result = await run.aresult()
            assert [q.value for q in result["__interrupt__"]] == ORDER
            stream = graph.astream({"x": []}, config(f"{mode}-{i}-s"), stream_mode="updates")
            chunks = [chunk async for chunk in stream]
            assert [q.value for c in chunks for q in c["__interrupt__"]] == ORDER
            # One answer: the others are asked again, still in order.
            one = {result["__interrupt__"][1].id: "yes"}
            result = await graph.ainvoke(Command(resume=one), config(f"{mode}-{i}-started"))
            assert [q.value for q in result["__interrupt__"]] == ["a?", "c?", "d?"]
    caller.close()
