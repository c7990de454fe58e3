"""A deep agent with sub-agents of three levels, whose tools tell where they run.

Run as a program, it is a worker that serves it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from deepagents import create_deep_agent
from langchain_core.tools import tool

from tests.parity.scenarios.fakes import Scripted, Turn
from tests.support.placing import gate, mark, serve


@tool
async def look(topic: str) -> str:
    """Looks something up."""
    return mark(f"looked at {topic}")


@tool
async def linger(topic: str) -> str:
    """Takes as long as a test wants."""
    mark(f"lingers {topic}")
    try:
        await gate(topic)
    except asyncio.CancelledError:
        mark(f"cancelled {topic}")
        raise
    return mark(f"lingered {topic}")


@tool
async def send(topic: str) -> str:
    """Sends something, if it is approved."""
    return mark(f"sent {topic}")


def hand(to: str, what: str) -> tuple[str, dict[str, Any]]:
    """A call of the tool that delegates."""
    return ("task", {"description": what, "subagent_type": to})


MANY = 10

HELPING: dict[str, list[Turn]] = {
    "help": [[("look", {"topic": "x"}), ("look", {"topic": "y"})], "helped"],
}
RESEARCH: dict[str, list[Turn]] = {
    **{
        f"research-{i}": [
            [("look", {"topic": f"{i}a"}), ("look", {"topic": f"{i}b"})],
            [("look", {"topic": f"{i}c"})],
            f"found {i}",
        ]
        for i in range(MANY)
    },
    "twice": [[("look", {"topic": "one"})], [("linger", {"topic": "two"})], "found both"],
    "wait": [[("linger", {"topic": "long"})], "waited"],
}
LEADING: dict[str, list[Turn]] = {
    "lead": [[hand("helper", "help out"), ("look", {"topic": "z"})], "led"],
}
SENDING: dict[str, list[Turn]] = {"letter": [[("send", {"topic": "letter"})], "it is sent"]}
MAIN: dict[str, list[Turn]] = {
    "many": [
        [
            *(hand("researcher", f"research-{i}") for i in range(MANY - 1)),
            hand("lead", "lead them"),
        ],
        "all is known",
    ],
    "twice": [[hand("researcher", "twice")], "done"],
    "wait": [[hand("researcher", "wait")], "gone on"],
    "approve": [[hand("sender", "letter"), hand("researcher", "wait")], "both are done"],
}


def delegator() -> Any:
    """The agent."""
    lead = create_deep_agent(
        model=Scripted(scripts=LEADING, label="lead"),
        tools=[look],
        subagents=[
            {
                "name": "helper",
                "description": "Helps.",
                "system_prompt": "Help.",
                "model": Scripted(scripts=HELPING, label="helper"),
                "tools": [look],
            }
        ],
        name="lead",
    )
    return create_deep_agent(
        model=Scripted(scripts=MAIN, label="main"),
        subagents=[
            {
                "name": "researcher",
                "description": "Researches.",
                "system_prompt": "Research.",
                "model": Scripted(scripts=RESEARCH, label="researcher"),
                "tools": [look, linger],
            },
            {
                "name": "sender",
                "description": "Sends.",
                "system_prompt": "Send.",
                "model": Scripted(scripts=SENDING, label="sender"),
                "tools": [send],
                "interrupt_on": {"send": True},
            },
            {"name": "lead", "description": "Leads.", "runnable": lead},
        ],
        name="delegator",
    )


if __name__ == "__main__":
    asyncio.run(serve({"delegator": delegator()}))
