"""The graph of the tests of mixed releases: an agent's loop, a fan-out, a subgraph that asks.

Loaded by every release, so it uses nothing of the package. What a turn leaves in ``log`` follows
from the turn alone, and every node leaves a line in the ledger: what ran twice is seen there.
"""

from __future__ import annotations

import operator
import os
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send, interrupt

from tests.faults.ledger import ONCE, Ledger, Ran

MODEL_CALLS = 3
PARTS = 3


STREAMED = [
    *["model", "tool"] * (MODEL_CALLS - 1),
    "model",
    *["part"] * PARTS,
    "__interrupt__",
]
"""The nodes of a turn as they are streamed until it asks."""


class Said(TypedDict, total=False):
    """A conversation."""

    turn: str
    part: int
    log: Annotated[list[str], operator.add]


def build(root: Path) -> Any:
    """The graph on the directory of one test."""
    ledger = Ledger(root)

    def answers(state: Said) -> int:
        return sum(line.startswith(f"{state['turn']} model") for line in state["log"])

    async def model(state: Said) -> Said:
        n = answers(state)
        await ledger.execute(f"{state['turn']}-model-{n}")
        return {"log": [f"{state['turn']} model {n}"]}

    async def tool(state: Said) -> Said:
        n = answers(state)
        await ledger.execute(f"{state['turn']}-tool-{n}")
        return {"log": [f"{state['turn']} tool {n}"]}

    def calls(state: Said) -> Any:
        if answers(state) < MODEL_CALLS:
            return "tool"
        return [Send("part", {"turn": state["turn"], "part": n}) for n in range(PARTS)]

    async def part(state: Said) -> Said:
        await ledger.execute(f"{state['turn']}-part-{state['part']}")
        return {"log": [f"{state['turn']} part {state['part']}"]}

    async def look(state: Said) -> Said:
        await ledger.execute(f"{state['turn']}-look")
        return {"log": [f"{state['turn']} look"]}

    async def ask(state: Said) -> Said:
        answer = interrupt(f"{state['turn']}?")
        await ledger.execute(f"{state['turn']}-ask")
        return {"log": [f"{state['turn']} ask: {answer}"]}

    inner = StateGraph(Said).add_sequence([("look", look), ("ask", ask)]).add_edge(START, "look")
    review = inner.compile()

    async def reviewed(state: Said) -> Said:
        found = await review.ainvoke({"turn": state["turn"], "log": []})
        return {"log": found["log"]}

    async def close(state: Said) -> Said:
        await ledger.execute(f"{state['turn']}-close")
        return {"log": [f"{state['turn']} close"]}

    builder = StateGraph(Said)
    for node in (model, tool, part, reviewed, close):
        builder.add_node(node.__name__, node)
    builder.add_edge(START, "model").add_edge("tool", "model")
    builder.add_conditional_edges("model", calls, ["tool", "part"])
    builder.add_edge("part", "reviewed").add_edge("reviewed", "close").add_edge("close", END)
    return builder.compile(name="conversation")


def steps(turn: str) -> dict[str, Ran]:
    """What the ledger shows of a turn that was answered, if nothing was executed twice."""
    loop = [f"model-{n}" for n in range(MODEL_CALLS)]
    loop += [f"tool-{n}" for n in range(1, MODEL_CALLS)]
    names = [*loop, *(f"part-{n}" for n in range(PARTS)), "look", "ask", "close"]
    return {f"{turn}-{name}": ONCE for name in names}


def __getattr__(name: str) -> Any:
    # Not a plain global: the tests import this module too, and have no such variable.
    if name == "graph":
        graph = build(Path(os.environ["FAULTS_DIR"]))
        globals()["graph"] = graph
        return graph
    raise AttributeError(name)
