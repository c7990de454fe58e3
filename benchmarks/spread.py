"""Benchmark of wide supersteps: how much faster they are on several workers (``spread``)."""

from __future__ import annotations

import time
import uuid
from contextlib import AsyncExitStack
from typing import Any, cast

from rich.console import Console
from rich.table import Table

from benchmarks import report
from benchmarks.lab import SERVER_FLAGS, Shape, open_lab, server_version
from benchmarks.report import Json
from benchmarks.shapes import spread as shape
from benchmarks.shipped import cli
from benchmarks.timing import median, p95, paired_ratio
from langgraph_temporal_exec import TemporalSaver


async def measure(rounds: int, console: Console, *, server_file: bool) -> dict[str, Json]:
    """Run one superstep on one, two and three worker processes in turns, and sum up.

    The process that drives the run is one of them. More processes than the machine has cores
    show nothing.
    """
    samples: dict[int, list[float]] = {count: [] for count in shape.PROCESSES}
    async with AsyncExitStack() as stack:
        opening = open_lab(cast(Shape, shape), server_file=server_file)
        lab = await stack.enter_async_context(opening)
        server = await server_version(lab.client)
        graphs: dict[int, Any] = {}
        for count in shape.PROCESSES:
            queue = f"spread-{count}"
            command = [*cli(), "worker", f"{shape.__name__}:graph"]
            command += ["--address", lab.address, "--task-queue", queue]
            # What computes shares a process badly: one at a time, and the rest is for the others.
            command += ["--max-concurrent-tasks", "1"]
            for number in range(1, count):
                name = f"{queue}-{number}"
                await stack.enter_async_context(
                    lab.worker_process(name, command, workflow_queue=queue, activity_queue=queue)
                )
            saver = TemporalSaver(lab.client, task_queue=queue, spread=count > 1)
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
            server, "file" if server_file else "memory", SERVER_FLAGS
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
