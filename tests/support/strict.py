"""Two programs with ``LANGGRAPH_STRICT_MSGPACK``: a worker, and a caller that tells what it saw."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.support.values import Item, Order

READY = "the strict worker serves"


class State(TypedDict, total=False):
    order: Order
    other: Any
    seen: list[str]
    told: Order


def kinds(order: Any, other: Any) -> list[str]:
    """Names of the types of an order, of what is in it, and of something in no schema."""
    line = getattr(order, "lines", [None])[0]
    return [type(value).__qualname__ for value in (order, line, other)]


async def look(state: State, runtime: Runtime[Order]) -> State:
    seen = [*kinds(state["order"], state["other"]), type(runtime.context).__qualname__]
    return {"seen": seen, "told": state["order"]}


def build(checkpointer: Any) -> Any:
    """The graph; compiling it allows the classes of its schemas."""
    builder = StateGraph(State, context_schema=Order).add_node("look", look)
    graph = builder.add_edge(START, "look").compile(checkpointer=checkpointer)
    graph.name = "strict"
    return graph


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["worker", "caller"])
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    args = parser.parse_args()
    client = await Client.connect(args.address)
    saver = TemporalSaver(client, task_queue=args.task_queue, id_prefix=args.task_queue)
    if args.role == "worker":
        async with saver.worker(build(None)):
            print(READY, flush=True)
            await asyncio.Event().wait()
    order, config = Order(lines=[Order.Line(sku="a")]), {"configurable": {"thread_id": "strict"}}
    given = {"order": order, "other": Item(n=1)}
    told: dict[str, Any] = {}
    for name, graph in (("durable", build(saver)), ("in memory", build(InMemorySaver()))):
        result = await graph.ainvoke(given, config, context=order)
        read = (await graph.aget_state(config)).values
        told[name] = {
            "node": result["seen"],
            "result": kinds(result["told"], result["other"]),
            "read": kinds(read["told"], read["other"]),
        }
    run = await saver.astart(build(saver), given, {"configurable": {"thread_id": "started"}})
    told["started"] = kinds((await run.aresult())["told"], None)
    print(json.dumps(told), flush=True)
    saver.close()


if __name__ == "__main__":
    asyncio.run(main())
