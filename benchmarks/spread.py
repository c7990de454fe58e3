"""Benchmark of wide supersteps: how much faster they are on several workers (``spread``)."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.contender import ROOT
from benchmarks.processes import die_with_parent
from benchmarks.report import Json
from benchmarks.server import LabError, flags, open_server, stop
from benchmarks.shapes import spread as shape
from benchmarks.timing import median, p95, paired_ratio
from langgraph_temporal_exec import TemporalSaver

READY_S = 60
STOP_S = 15


@asynccontextmanager
async def _worker(address: str, queue: str, log: Path) -> AsyncIterator[None]:
    """A worker in another process, by the command line; entered when it serves."""
    command = ["-m", "langgraph_temporal_exec.cli", "worker", f"{shape.__name__}:graph"]
    command += ["--address", address, "--task-queue", queue]
    # What computes shares a process badly: one at a time, and the rest is for the others.
    command += ["--max-concurrent-tasks", "1"]
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *command),
            stdout=sink,
            stderr=sink,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            preexec_fn=die_with_parent,
        )
    try:
        deadline = time.monotonic() + READY_S
        while "serving task queue" not in (said := await asyncio.to_thread(log.read_text)):
            if process.returncode is not None or time.monotonic() > deadline:
                raise LabError(f"A worker process does not serve. It said: {said[-500:]}")
            await asyncio.sleep(0.1)
        yield
    finally:
        await stop(process, STOP_S)


async def measure(rounds: int, console: Console, *, server_file: bool) -> dict[str, Json]:
    """Run one superstep on one, two and three worker processes in turns, and sum up.

    The process that drives the run is one of them. More processes than the machine has cores
    show nothing.
    """
    samples: dict[int, list[float]] = {count: [] for count in shape.PROCESSES}
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(open_server(memory=not server_file))
        graphs: dict[int, Any] = {}
        for count in shape.PROCESSES:
            queue = f"spread-{count}"
            for number in range(1, count):
                log = server.directory / f"{queue}-{number}.log"
                await stack.enter_async_context(_worker(server.address, queue, log))
            saver = TemporalSaver(server.client, task_queue=queue, spread=count > 1)
            await stack.enter_async_context(saver.worker(shape.graph, max_concurrent_tasks=1))
            graphs[count] = shape.graph.with_config(checkpointer=saver)
        for number in range(rounds + 1):
            for count, graph in graphs.items():
                began = time.monotonic()
                config = {"configurable": {"thread_id": str(uuid.uuid4())}}
                result = await graph.ainvoke({"done": []}, config)
                assert sorted(result["done"]) == list(range(shape.TASKS))
                # The first round warms up.
                if number:
                    samples[count].append((time.monotonic() - began) * 1000)
            console.print(f"round {number}/{rounds}" if number else "warmed up")
    title = f"{shape.TASKS} tasks of {shape.CPU_S} s of CPU, ms"
    table = Table("processes", "p50", "p95", title=title)
    for count, took in samples.items():
        table.add_row(str(count), str(median(took)), str(p95(took)))
    console.print(table)
    return {
        "schema": report.SCHEMA,
        "shape": "spread",
        "rounds": rounds,
        "environment": report.environment(
            server.version,
            "file" if server_file else "memory",
            flags("tuned", memory=not server_file),
        ),
        "contenders": {
            f"{count}_processes": {"p50_ms": median(took), "p95_ms": p95(took)}
            for count, took in samples.items()
        },
        "ratios": {
            f"{count}_processes/1_process": paired_ratio(samples[count], samples[1])
            for count in shape.PROCESSES[1:]
        },
    }
