"""Two programs with ``LANGGRAPH_STRICT_MSGPACK``: a worker, and a caller that tells what it saw."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from tests.support.values import (
    Box,
    Colour,
    Item,
    Named,
    Numbers,
    Order,
    Page,
    Pair,
    Right,
    Size,
)

READY = "the strict worker serves"


class Asking(TypedDict, total=False):
    given: list[Any]
    order: Order


def give() -> list[Any]:
    """Objects of all kinds of classes, none of them in a schema."""
    return [
        *(Item(n=1), Colour.POINT, Size.SMALL, Right.READ, Pair(1, Item(n=2)), Box((1, 2))),
        *(Named("a", "b"), Numbers([1]), Page[Item](rows=[Item(n=3)]), {Colour.RED: (Item(n=4),)}),
    ]


def ask(state: Asking, runtime: Runtime[Any]) -> Asking:
    runtime.stream_writer(give())
    return {"given": interrupt([*give(), state["order"]])}


def build_asking(checkpointer: Any) -> Any:
    builder = StateGraph(Asking).add_node("ask", ask).add_edge(START, "ask")
    graph = builder.compile(checkpointer=checkpointer)
    graph.name = "asking"
    return graph


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


async def start(saver: TemporalSaver, sqlite: str) -> str:
    """A run that asks, and the same with LangGraph's SQLite saver; the id of the run."""
    # The lowest supported LangGraph has no such saver, and its tests import this module.
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    given = {"given": give(), "order": Order(lines=[Order.Line(sku="a")])}
    config: Any = {"configurable": {"thread_id": "asks"}}
    async with AsyncSqliteSaver.from_conn_string(sqlite) as plain:
        await build_asking(plain).ainvoke(given, config)
    run = await saver.astart(build_asking(saver), given, config, stream_mode=["custom"])
    await run.aresult()
    return run.run_id


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["worker", "caller", "starter"])
    parser.add_argument("--address", required=True)
    parser.add_argument("--task-queue", required=True)
    parser.add_argument("--sqlite", default="")
    args = parser.parse_args()
    client = await Client.connect(args.address)
    saver = TemporalSaver(client, task_queue=args.task_queue, id_prefix=args.task_queue)
    if args.role == "worker":
        async with saver.worker(build(None), build_asking(None)):
            print(READY, flush=True)
            await asyncio.Event().wait()
    if args.role == "starter":
        print(await start(saver, args.sqlite), flush=True)
        saver.close()
        return
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
