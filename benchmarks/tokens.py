"""Benchmark of streams: how long a token takes from a model to whoever reads the stream."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from langgraph.checkpoint.memory import InMemorySaver
from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.lab import SERVER_FLAGS, Lab, Shape, open_lab, server_version
from benchmarks.report import Json
from benchmarks.shapes import tokens as shape
from benchmarks.shipped import worker_elsewhere
from benchmarks.timing import median, p95, paired_ratio
from langgraph_temporal_exec import TemporalSaver


@asynccontextmanager
async def _inmemory(lab: Lab) -> AsyncIterator[Any]:
    yield shape.graph.copy({"checkpointer": InMemorySaver()})


@asynccontextmanager
async def _embedded(lab: Lab) -> AsyncIterator[Any]:
    saver = TemporalSaver(lab.client, task_queue="embedded")
    async with saver.worker(shape.graph):
        yield shape.graph.with_config(checkpointer=saver)


@asynccontextmanager
async def _remote(lab: Lab) -> AsyncIterator[Any]:
    async with worker_elsewhere(lab, "remote") as saver:
        yield shape.graph.with_config(checkpointer=saver)


CONTENDERS = {"inmemory": _inmemory, "embedded": _embedded, "remote": _remote}


async def measure(rounds: int, console: Console, *, server_file: bool) -> dict[str, Json]:
    """Stream from all contenders in turns, on one server, and sum up."""
    samples: dict[str, list[list[float]]] = {name: [] for name in CONTENDERS}
    async with AsyncExitStack() as stack:
        opening = open_lab(cast(Shape, shape), server_file=server_file)
        lab = await stack.enter_async_context(opening)
        server = await server_version(lab.client)
        graphs = {n: await stack.enter_async_context(c(lab)) for n, c in CONTENDERS.items()}
        for number in range(rounds + 1):
            for name, graph in graphs.items():
                found = await shape.delays(graph, str(uuid.uuid4()))
                # The first round warms up.
                if number:
                    samples[name].append(found)
            console.print(f"round {number}/{rounds}" if number else "warmed up")
    table = Table("", "p50", "p95", "arrived", title="delay of a token, ms")
    contenders: dict[str, Json] = {}
    for name, rounds_of in samples.items():
        every = [delay for round_ in rounds_of for delay in round_]
        arrived = len(every) / (rounds * shape.TOKENS)
        contenders[name] = {"p50_ms": median(every), "p95_ms": p95(every), "arrived": arrived}
        table.add_row(name, str(median(every)), str(p95(every)), f"{arrived:.0%}")
    console.print(table)
    over = [median(r) for r in samples["remote"]]
    return {
        "schema": report.SCHEMA,
        "shape": "tokens",
        "tokens": shape.TOKENS,
        "rounds": rounds,
        "environment": report.environment(
            server, "file" if server_file else "memory", SERVER_FLAGS
        ),
        "contenders": contenders,
        "ratios": {
            f"remote/{name}": paired_ratio(over, [median(r) for r in samples[name]])
            for name in ("inmemory", "embedded")
        },
    }
