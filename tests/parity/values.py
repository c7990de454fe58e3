"""A graph that takes values by every way there is, says what it got, and gives them back."""

from __future__ import annotations

from typing import Any, TypedDict

from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

from tests.support.values import form

NAME = "values"


class State(TypedDict, total=False):
    given: list[Any]
    forms_of_given: Any
    forms_of_context: Any
    forms_of_answer: Any
    answer: list[Any]


def _look(state: State, runtime: Runtime[Any]) -> State:
    """What arrived, and a chunk of it that is never stored."""
    get_stream_writer()(runtime.context)
    return {
        "forms_of_given": [form(v) for v in state["given"]],
        "forms_of_context": [form(v) for v in runtime.context],
    }


def _ask(state: State) -> State:
    answer = interrupt(state["given"])
    return {"forms_of_answer": [form(v) for v in answer], "answer": answer}


def build(checkpointer: Any) -> Any:
    """The graph. Its context is a list."""
    builder = StateGraph(State)
    builder.add_sequence([("look", _look), ("ask", _ask)]).add_edge(START, "look")
    graph = builder.compile(checkpointer=checkpointer)
    graph.name = NAME
    return graph
