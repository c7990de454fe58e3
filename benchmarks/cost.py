"""Benchmark actions: what runs cost on Temporal, as the server counts it, for docs/cost.md.

``python -m benchmarks.cost`` prints the table, and ``--write`` puts it into docs/cost.md.
"""

from __future__ import annotations

import argparse
import asyncio
import operator
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph

from benchmarks.billed import CountingServer
from langgraph_temporal_exec import TemporalSaver

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cost.md"
BEGIN, END = "<!-- written by python -m benchmarks.cost -->", "<!-- end -->"

MESSAGE = "word " * 200
"""1 kB, which every model call and every tool answers with."""

STEPS = ("model_1", "tool_1", "model_2", "tool_2", "model_3")
"""A turn of three model calls and two tool calls: five supersteps of one task."""

LATER_TURNS = 10
"""Averaged for "a later turn"."""

TOOL_S = 20.0
"""How long each of the two tools of the long run takes."""

QUIET_S = 3.0
"""The server's metrics lag by a second, and upkeep comes after a run."""


class State(TypedDict):
    messages: Annotated[list[str], operator.add]


def agent(tool_s: float = 0.0) -> Any:
    """A chain of nodes that do what an agent's loop does, without a model."""

    def node(name: str) -> Callable[[State], Any]:
        async def run(state: State) -> State:
            if name.startswith("tool"):
                await asyncio.sleep(tool_s)
            return {"messages": [f"{name}: {MESSAGE}"]}

        return run

    builder = StateGraph(State)
    before = START
    for name in STEPS:
        builder.add_node(name, node(name)).add_edge(before, name)
        before = name
    return builder.compile(name="agent" if not tool_s else "slow_agent")


def leader() -> Any:
    """The same, as a sub-agent of a graph with one node before it."""

    async def ask(state: State) -> State:
        return {"messages": [f"ask: {MESSAGE}"]}

    builder = StateGraph(State).add_node("ask", ask).add_node("sub_agent", agent())
    return builder.add_edge(START, "ask").add_edge("ask", "sub_agent").compile(name="leader")


@dataclass(kw_only=True)
class Row:
    """What one thing costs.

    Args:
        what: The thing.
        actions: By kind, divided by ``times``.
        active: Bytes that are added to open workflows.
        retained: Bytes in closed ones.
    """

    what: str
    actions: Counter[str]
    active: float = 0.0
    retained: float = 0.0
    times: int = 1


class Meter:
    """Measures on one server.

    Args:
        server: The server.
        saver: Of the caller.
    """

    def __init__(self, server: CountingServer, saver: TemporalSaver) -> None:
        self._server = server
        self._saver = saver

    async def row(self, what: str, graph: Any, thread_id: str, *, times: int = 1) -> Row:
        """Turns of a graph on a thread."""
        await self._settle()
        await self._server.forget()
        before = await self._bytes(thread_id)
        durable = graph.with_config(checkpointer=self._saver)
        for _ in range(times):
            await durable.ainvoke(
                {"messages": [MESSAGE]}, {"configurable": {"thread_id": thread_id}}
            )
        await self._settle()
        after = await self._bytes(thread_id)
        return Row(
            what=what,
            actions=await self._server.actions(),
            active=after[0] - before[0],
            retained=after[1] - before[1],
            times=times,
        )

    async def _settle(self) -> None:
        """Until the server has counted nothing new for a while."""
        before: Counter[str] | None = None
        while before != (before := await self._server.actions()):  # noqa: ASYNC110 - in Temporal
            await asyncio.sleep(QUIET_S)

    async def _bytes(self, thread_id: str) -> tuple[int, int]:
        cost = await self._saver.aget_cost(thread_id)
        return (0, 0) if cost is None else (cost.active_bytes, cost.retained_bytes)


@asynccontextmanager
async def metered(*, remote: bool) -> AsyncIterator[Meter]:
    """A server of its own, so that it counts nothing else, with one worker."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = await CountingServer.start(port)
    host = TemporalSaver(server.client)
    caller = TemporalSaver(server.client) if remote else host
    try:
        async with host.worker(agent(), leader(), agent(TOOL_S)):
            if remote:
                # The mailbox of the process is made once.
                first = agent().with_config(checkpointer=caller)
                await first.ainvoke({"messages": []}, {"configurable": {"thread_id": "first"}})
            yield Meter(server, caller)
    finally:
        if remote:
            caller.close()
        host.close()
        await server.shutdown()


async def measure(*, remote: bool) -> list[Row]:
    """All rows of one of the two ways to call."""
    where = "remote" if remote else "embedded"
    async with metered(remote=remote) as meter:
        return [
            await meter.row(f"first turn, {where}", agent(), "t"),
            await meter.row(f"later turn, {where}", agent(), "t", times=LATER_TURNS),
            await meter.row(f"turn of a sub-agent, {where}", leader(), "s"),
            await meter.row(f"two tools of {TOOL_S:.0f} s, {where}", agent(TOOL_S), "slow"),
        ]


def table(rows: Sequence[Row]) -> str:
    """The table, in Markdown."""
    kinds = sorted({kind for row in rows for kind in row.actions})
    lines = [
        "| | " + " | ".join(row.what for row in rows) + " |",
        "|---|" + "---:|" * len(rows),
    ]
    for kind in kinds:
        cells = [_number(row.actions[kind] / row.times) for row in rows]
        lines.append(f"| `{kind}` | " + " | ".join(cells) + " |")
    totals = [f"**{_number(sum(row.actions.values()) / row.times)}**" for row in rows]
    lines.append("| **actions** | " + " | ".join(totals) + " |")
    for name in ("active", "retained"):
        cells = [_bytes(getattr(row, name) / row.times) for row in rows]
        lines.append(f"| {name} storage | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if value else ""


def _bytes(value: float) -> str:
    return f"{value / 1000:.1f} kB" if value else ""


async def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put it into {PAGE.name}")
    write = parser.parse_args(arguments).write
    embedded = await measure(remote=False)
    remote = await measure(remote=True)
    pairs = [row for pair in zip(embedded, remote, strict=True) for row in pair]
    text = f"{table(pairs[:4])}\n\n{table(pairs[4:])}"
    print(text)
    if write:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
