"""Benchmark set-up: workers of this package in other processes, by its command line."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.lab import Lab
from langgraph_temporal_exec import TemporalSaver


@asynccontextmanager
async def worker_elsewhere(lab: Lab, queue: str) -> AsyncIterator[TemporalSaver]:
    """A saver of this process, and a worker process that serves the shape's graph."""
    command = [*cli(), "worker", f"{lab.shape.__name__}:graph"]
    command += ["--address", lab.address, "--task-queue", queue]
    async with lab.worker_process(queue, command, workflow_queue=queue, activity_queue=queue):
        saver = TemporalSaver(lab.client, task_queue=queue)
        try:
            yield saver
        finally:
            saver.close()


def cli() -> list[str]:
    """The console script of this environment; not installed, its module."""
    script = Path(sys.executable).parent / "langgraph-temporal"
    if script.exists():
        return [str(script)]
    module = "langgraph_temporal_exec.cli.main"
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"neither {script.name} nor {module} exists")
    return [sys.executable, "-m", module]
