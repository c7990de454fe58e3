"""What plain LangGraph returns for the same conversation: the measure of a right result."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from tests.faults.agent import build_agent


async def undisturbed(*said: str) -> Any:
    """The values after the last of these turns, in plain LangGraph, as JSON."""
    config: RunnableConfig = {"configurable": {"thread_id": "undisturbed"}}
    with tempfile.TemporaryDirectory() as folder:
        graph = build_agent(Path(folder)).copy({"checkpointer": InMemorySaver()})
        values: Any = None
        for text in said:
            values = await graph.ainvoke({"messages": [("user", text)]}, config)
    return plain(values)


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """State as JSON; messages as [type, text, names of called tools], for their ids differ."""
    messages = [_plain_message(message) for message in values.get("messages", ())]
    return {**values, "messages": messages}


def _plain_message(message: BaseMessage) -> list[Any]:
    return [message.type, message.text, [c["name"] for c in getattr(message, "tool_calls", [])]]
