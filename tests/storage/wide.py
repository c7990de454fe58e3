"""A graph with many tasks in one superstep, whose values are small one by one."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import Send


class Wide(TypedDict, total=False):
    n: int
    out: Annotated[list[str], operator.add]


def wide() -> Any:
    """``n`` Sends of two kilobytes each."""

    async def begin(state: Wide) -> Any:
        return {}

    async def work(task: dict[str, Any]) -> Any:
        return {"out": [f"{task['i']:05} {task['text'][:10]}"]}

    return (
        StateGraph(Wide)
        .add_node("begin", begin)
        .add_node("work", work)
        .add_edge(START, "begin")
        .add_conditional_edges(
            "begin",
            lambda s: [Send("work", {"i": i, "text": f"{i} " * 600}) for i in range(s["n"])],
            ["work"],
        )
        .compile(name="wide_sends")
    )
