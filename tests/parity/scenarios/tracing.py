"""Scenarios: a graph whose runs are traced; see ``test_tracing.py``."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph

from tests.parity.stage import Stage, scenario


@tool
async def look_up(topic: str) -> str:
    """Look something up."""
    return f"{topic} is known"


def _traced(checkpointer: Any) -> Any:
    async def think(state: MessagesState) -> dict[str, Any]:
        model = GenericFakeChatModel(messages=iter([AIMessage("a thought", id="thought")]))
        return {"messages": [await model.ainvoke(state["messages"])]}

    async def use(state: MessagesState) -> dict[str, Any]:
        return {"messages": [("ai", await look_up.ainvoke({"topic": "rain"}))]}

    def fail(state: MessagesState) -> dict[str, Any]:
        raise ValueError("at the end")

    inner = StateGraph(MessagesState).add_node("think", think).add_edge(START, "think").compile()
    return (
        StateGraph(MessagesState)
        .add_node("inner", inner)
        .add_node("use", use)
        .add_node("fail", fail)
        .add_edge(START, "inner")
        .add_edge("inner", "use")
        .add_edge("use", "fail")
        .compile(checkpointer=checkpointer)
    )


@scenario(_traced)
async def traced(s: Stage) -> None:
    await s.invoke({"messages": "hello"})
