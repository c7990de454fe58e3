"""Benchmark baselines: LangGraph's own savers, and the same round trips on bare Temporal."""

from __future__ import annotations

import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Durability
from temporalio.workflow import UpdateMethodMultiParam

from benchmarks.floor_worker import serve_on_thread
from benchmarks.floor_workflow import FloorWorkflow, process_queue
from benchmarks.lab import Lab
from benchmarks.timing import Measure, Sample

FloorUpdate = UpdateMethodMultiParam[[FloorWorkflow, bytes], bytes]


def _with_saver(
    lab: Lab, saver: BaseCheckpointSaver[str], durability: Durability | None = None
) -> Measure:
    graph = lab.shape.builder.compile(checkpointer=saver)

    async def measure() -> Sample:
        return await lab.sample(graph, durability)

    return measure


@asynccontextmanager
async def inmemory(lab: Lab) -> AsyncIterator[Measure]:
    """``InMemorySaver``: plain LangGraph, nothing survives."""
    yield _with_saver(lab, InMemorySaver())


@asynccontextmanager
async def sqlite(lab: Lab) -> AsyncIterator[Measure]:
    """``AsyncSqliteSaver`` with LangGraph's default durability: writes trail the loop."""
    async with AsyncSqliteSaver.from_conn_string(str(lab.directory / "async.sqlite")) as saver:
        yield _with_saver(lab, saver)


@asynccontextmanager
async def sqlite_sync(lab: Lab) -> AsyncIterator[Measure]:
    """``AsyncSqliteSaver`` with ``durability="sync"``: recorded before the loop goes on."""
    async with AsyncSqliteSaver.from_conn_string(str(lab.directory / "sync.sqlite")) as saver:
        yield _with_saver(lab, saver, "sync")


def _updates(lab: Lab, task_queue: str, update: FloorUpdate) -> Measure:
    """As many Updates, one after another, as the measured run has supersteps."""

    async def measure() -> Sample:
        handle = await lab.client.start_workflow(
            FloorWorkflow.run, id=f"floor-{uuid.uuid4()}", task_queue=task_queue
        )
        # The first one waits for the workflow to start, which no superstep does.
        await handle.execute_update(update, b"")
        begun = perf_counter()
        for _ in range(lab.supersteps):
            await handle.execute_update(update, b"")
        took_s = perf_counter() - begun
        await handle.terminate()
        return Sample(superstep_ms=took_s * 1e3 / lab.supersteps)

    return measure


@asynccontextmanager
async def floor_update(lab: Lab) -> AsyncIterator[Measure]:
    """A superstep is one Update that returns at once; the worker is a thread of this process."""
    queue = "floor-update"
    async with serve_on_thread(lab.client, queue):
        yield _updates(lab, queue, FloorWorkflow.at_once)


@asynccontextmanager
async def floor_update_activity(lab: Lab) -> AsyncIterator[Measure]:
    """A superstep is one Update that runs an Activity; the worker is a thread of this process."""
    queue = "floor-update-activity"
    async with serve_on_thread(lab.client, queue):
        yield _updates(lab, queue, FloorWorkflow.by_activity)


@asynccontextmanager
async def floor_update_activity_remote(lab: Lab) -> AsyncIterator[Measure]:
    """The same with the worker in another process."""
    queue = "floor-update-activity-remote"
    command = [sys.executable, "-m", "benchmarks.floor_worker"]
    command += ["--address", lab.address, "--task-queue", queue]
    async with lab.worker_process(
        "floor_update_activity_remote",
        command,
        workflow_queue=queue,
        activity_queue=process_queue(queue),
    ):
        yield _updates(lab, queue, FloorWorkflow.by_activity)
