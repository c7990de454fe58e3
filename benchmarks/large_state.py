"""Benchmark of large state: what a value costs each turn that does not touch it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast, get_args

from langgraph.checkpoint.memory import InMemorySaver
from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.lab import SERVER_FLAGS, Lab, Shape, open_lab, server_version
from benchmarks.report import Json
from benchmarks.shapes import large_state as shape
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

Key = tuple[str, shape.Way, int]


async def measure(rounds: int, console: Console, *, server_file: bool) -> dict[str, Json]:
    """Take a turn of every contender at every size in each round, on one server, and sum up."""
    ways: tuple[shape.Way, ...] = get_args(shape.Way)
    keys: list[Key] = [(c, w, s) for c in CONTENDERS for w in ways for s in shape.SIZES_MB]
    samples: dict[Key, list[float]] = {key: [] for key in keys}
    async with AsyncExitStack() as stack:
        opening = open_lab(cast(Shape, shape), server_file=server_file)
        lab = await stack.enter_async_context(opening)
        server = await server_version(lab.client)
        graphs = {n: await stack.enter_async_context(c(lab)) for n, c in CONTENDERS.items()}
        threads = {key: str(uuid.uuid4()) for key in keys}
        for (name, _, size), thread_id in threads.items():
            given = {"n": 0, "blob": shape.blob(size)}
            await graphs[name].ainvoke(given, {"configurable": {"thread_id": thread_id}})
        for number in range(rounds + 1):
            for key in keys:
                name, way, _ = key
                took = await shape.turn(graphs[name], threads[key], way)
                # The first round warms up.
                if number:
                    samples[key].append(took)
            console.print(f"round {number}/{rounds}" if number else "warmed up")
    title = f"a turn of {shape.SUPERSTEPS} supersteps beside so much state, ms"
    table = Table("", *(f"{size} MB" for size in shape.SIZES_MB), title=title)
    contenders: dict[str, Json] = {}
    ratios: dict[str, Json] = {}
    for name in CONTENDERS:
        for way in ways:
            found = {size: samples[name, way, size] for size in shape.SIZES_MB}
            contenders[f"{name}_{way}"] = {
                f"{size}_mb": {"p50_ms": median(took), "p95_ms": p95(took)}
                for size, took in found.items()
            }
            for size in shape.SIZES_MB[1:]:
                ratio = paired_ratio(found[size], found[0])
                ratios[f"{name}_{way}_{size}_mb/0_mb"] = ratio
            table.add_row(f"{name} {way}", *(str(median(took)) for took in found.values()))
    console.print(table)
    return {
        "schema": report.SCHEMA,
        "shape": "large_state",
        "supersteps": shape.SUPERSTEPS,
        "rounds": rounds,
        "environment": report.environment(
            server, "file" if server_file else "memory", SERVER_FLAGS
        ),
        "contenders": contenders,
        "ratios": ratios,
    }
