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
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.converter import (
    ExternalStorage,
    StorageDriver,
    StorageDriverClaim,
    StorageDriverRetrieveContext,
    StorageDriverStoreContext,
)

from benchmarks.billed import CountingServer
from langgraph_temporal_exec import TemporalSaver

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cost.md"
BEGIN, END = "<!-- written by python -m benchmarks.cost -->", "<!-- end -->"
REST = "<!-- and these -->"

MESSAGE = "word " * 200
"""1 kB, which every model call and every tool answers with."""

STEPS = ("model_1", "tool_1", "model_2", "tool_2", "model_3")
"""A turn of three model calls and two tool calls: five supersteps of one task."""

LATER_TURNS = 10
"""Averaged for "a later turn"."""

TOOL_S = 20.0
"""How long each of the two tools of the long run takes."""

PARK_AFTER_S = 15.0
"""Longer than the turns before it, and what is measured of them, take."""

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

    async def parked(self, graph: Any, thread_id: str) -> tuple[Row, Row]:
        """Turns on a thread, and what is left of it when it is parked: bytes in all."""
        used = await self.row("in use", graph, thread_id, times=LATER_TURNS)
        await self._server.forget()
        while (await self._bytes(thread_id))[0] >= used.active:  # noqa: ASYNC110 - in Temporal
            await asyncio.sleep(QUIET_S)
        await self._settle()
        after = await self._bytes(thread_id)
        return used, Row(
            what="parked", actions=await self._server.actions(), active=after[0], retained=after[1]
        )

    async def _settle(self) -> None:
        """Until the server has counted nothing new for a while."""
        before: Counter[str] | None = None
        while before != (before := await self._server.actions()):  # noqa: ASYNC110 - in Temporal
            await asyncio.sleep(QUIET_S)

    async def _bytes(self, thread_id: str) -> tuple[int, int]:
        cost = await self._saver.aget_cost(thread_id)
        return (0, 0) if cost is None else (cost.active_bytes, cost.retained_bytes)


class Elsewhere(StorageDriver):
    """An external storage."""

    def __init__(self) -> None:
        self._payloads: dict[str, Payload] = {}

    def name(self) -> str:
        return "elsewhere"

    async def store(
        self, context: StorageDriverStoreContext, payloads: Sequence[Payload]
    ) -> list[StorageDriverClaim]:
        keys = [str(len(self._payloads) + i) for i in range(len(payloads))]
        self._payloads.update(zip(keys, payloads, strict=True))
        return [StorageDriverClaim({"key": key}) for key in keys]

    async def retrieve(
        self, context: StorageDriverRetrieveContext, claims: Sequence[StorageDriverClaim]
    ) -> list[Payload]:
        return [self._payloads[claim.claim_data["key"]] for claim in claims]


@asynccontextmanager
async def metered(
    *, remote: bool, external: bool = False, park_after: timedelta | None = None
) -> AsyncIterator[Meter]:
    """A server of its own, so that it counts nothing else, with one worker."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = await CountingServer.start(port)
    client = server.client
    if external:
        storage = ExternalStorage(drivers=[Elsewhere()])
        converter = replace(client.data_converter, external_storage=storage)
        client = Client(**{**client.config(), "data_converter": converter})
    host = TemporalSaver(client, park_after=park_after)
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


async def measure_parked() -> str:
    """The table of a thread that is parked, in Markdown."""
    rows: list[tuple[str, Row, Row]] = []
    for external in (False, True):
        rest = timedelta(seconds=PARK_AFTER_S)
        async with metered(remote=False, external=external, park_after=rest) as meter:
            where = "with external storage" if external else "in Temporal"
            rows.append((where, *await meter.parked(agent(), "t")))
    lines = [
        f"| a thread of {LATER_TURNS} turns | active storage | parked | actions for that |",
        "|---|---:|---:|---|",
    ]
    for where, used, left in rows:
        kinds = ", ".join(f"{n} `{kind}`" for kind, n in sorted(left.actions.items()))
        lines.append(f"| {where} | {_bytes(used.active)} | {_bytes(left.active)} | {kinds} |")
    return "\n".join(lines)


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
    turns = f"{table(pairs[:4])}\n\n{table(pairs[4:])}"
    parked = await measure_parked()
    print(turns, parked, sep="\n\n")
    if write:
        put(BEGIN, turns)
        put(REST, parked)


def put(begin: str, text: str) -> None:
    """Replace what is between a mark and the end of its part."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
