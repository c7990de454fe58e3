"""Plain LangGraph graphs that ask twice, with a step in between during which a worker can die.

The step is named after its graph; it lies after an answer that was taken, before the next question.
"""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.pregel import Pregel
from langgraph.types import interrupt

from tests.faults.ledger import Ledger


class Answers(TypedDict):
    """What was answered, in order."""

    answers: Annotated[list[str], operator.add]


Graph = Pregel[Any, Any, Any, Any]


def build_gates(root: Path) -> dict[str, Graph]:
    """The graphs by name."""
    ledger = Ledger(root)
    builders = {
        "same_node": _same_node(ledger),
        "next_node": _sequence(ledger, "next_node"),
        "nested": _nested(ledger),
        "called": _called(ledger),
        "siblings": _siblings(ledger),
    }
    return {name: builder.compile(name=name) for name, builder in builders.items()}


def _same_node(ledger: Ledger) -> StateGraph[Answers]:
    async def both(state: Answers) -> Answers:
        first = interrupt("first?")
        await ledger.execute("same_node")
        return {"answers": [first, interrupt("second?")]}

    builder = StateGraph(Answers)
    builder.add_node("both", both)
    builder.add_edge(START, "both")
    return builder


def _sequence(ledger: Ledger, step: str) -> StateGraph[Answers]:
    async def first(state: Answers) -> Answers:
        return {"answers": [interrupt("first?")]}

    async def second(state: Answers) -> Answers:
        await ledger.execute(step)
        return {"answers": [interrupt("second?")]}

    builder = StateGraph(Answers)
    builder.add_sequence([("first", first), ("second", second)])
    builder.add_edge(START, "first")
    return builder


def _nested(ledger: Ledger) -> StateGraph[Answers]:
    builder = StateGraph(Answers)
    builder.add_node("inner", _sequence(ledger, "nested").compile())
    builder.add_edge(START, "inner")
    return builder


def _called(ledger: Ledger) -> StateGraph[Answers]:
    """The inner graph is called by a function, as a tool calls a sub-agent."""
    inner = _sequence(ledger, "called").compile()

    async def call_inner(state: Answers) -> Answers:
        return {"answers": (await inner.ainvoke({"answers": []}))["answers"]}

    builder = StateGraph(Answers)
    builder.add_node("call_inner", call_inner)
    builder.add_edge(START, "call_inner")
    return builder


def _siblings(ledger: Ledger) -> StateGraph[Answers]:
    async def asks_twice(state: Answers) -> Answers:
        return {"answers": [interrupt("first?"), interrupt("second?")]}

    async def slow_sibling(state: Answers) -> Answers:
        answer = interrupt("sibling?")
        await ledger.execute("siblings")
        return {"answers": [answer]}

    builder = StateGraph(Answers)
    builder.add_node("asks_twice", asks_twice)
    builder.add_node("slow_sibling", slow_sibling)
    builder.add_edge(START, "asks_twice")
    builder.add_edge(START, "slow_sibling")
    return builder


def __getattr__(name: str) -> Any:
    # Not a plain global: the tests import this module too, and have no such variable.
    if name == "graphs":
        graphs = build_gates(Path(os.environ["FAULTS_DIR"]))
        globals()["graphs"] = graphs
        return graphs
    raise AttributeError(name)
