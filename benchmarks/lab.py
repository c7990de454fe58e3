"""Benchmark set-up: one tuned Temporal dev server, its client and the worker processes."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, GetSystemInfoRequest
from temporalio.client import Client

from langgraph_temporal_exec.local import DURABLE_TUNING, TUNING, LocalServer, start_server

ROOT = Path(__file__).resolve().parent.parent

SERVER_FLAGS = (*TUNING, *DURABLE_TUNING)

WORKER_READY_S = 60
"""A worker process imports LangGraph before it polls."""

WORKER_EXIT_S = 15
"""A worker that is told to stop drains first; after this it is killed."""


class LabError(RuntimeError):
    """Something the benchmark needs is missing or did not start."""


class Shape(Protocol):
    """What a module of ``benchmarks.shapes`` defines."""

    __name__: str
    builder: StateGraph[Any, Any, Any, Any]
    graph: CompiledStateGraph[Any, Any, Any, Any]  # has no checkpointer; what a worker serves


@dataclass(frozen=True, kw_only=True)
class Lab:
    """What every contender is given."""

    shape: Shape
    client: Client
    address: str  # host:port of the server
    directory: Path  # for files of a contender; removed at the end

    async def _has_pollers(self, queue: str, kind: TaskQueueType.ValueType) -> bool:
        reply = await self.client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=self.client.namespace,
                task_queue=TaskQueue(name=queue),
                task_queue_type=kind,
            )
        )
        return bool(reply.pollers)

    @asynccontextmanager
    async def worker_process(
        self, name: str, command: Sequence[str], *, workflow_queue: str, activity_queue: str
    ) -> AsyncIterator[None]:
        """A child process that works for as long as the block lasts; entered when it polls."""
        log = self.directory / f"{name}.log"
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with log.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdout=sink,
                stderr=sink,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": path},
            )
        try:
            queues = (
                (workflow_queue, TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW),
                (activity_queue, TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY),
            )
            try:
                async with asyncio.timeout(WORKER_READY_S):
                    for queue, kind in queues:
                        while not await self._has_pollers(queue, kind):
                            if process.returncode is not None:
                                raise LabError(
                                    f"The worker process exited with {process.returncode} before "
                                    f"it polled {queue!r}. It said: {_tail(log)}"
                                )
                            await asyncio.sleep(0.1)
            except TimeoutError:
                raise LabError(
                    f"The worker process did not poll {queue!r} within {WORKER_READY_S} s. "
                    f"It said: {_tail(log)}"
                ) from None
            yield
        finally:
            await _stop(process)


def _tail(log: Path) -> str:
    text = log.read_text(errors="replace").strip()
    return " | ".join(text.splitlines()[-5:]) or "nothing"


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(WORKER_EXIT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def server_version(client: Client) -> str:
    """Version of the Temporal server, as it reports itself."""
    info = await client.workflow_service.get_system_info(GetSystemInfoRequest())
    return info.server_version


@asynccontextmanager
async def open_server(*, server_file: bool) -> AsyncIterator[tuple[LocalServer, Path]]:
    """A dev server, on a file or in memory, and a directory that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
        database = str(Path(directory) / "temporal.db") if server_file else None
        server = await start_server(database)
        try:
            yield server, Path(directory)
        finally:
            await server.shutdown()


@asynccontextmanager
async def open_lab(shape: Shape, *, server_file: bool) -> AsyncIterator[Lab]:
    """A server and a client of it."""
    async with open_server(server_file=server_file) as (server, directory):
        yield Lab(
            shape=shape,
            client=server.client,
            address=server.address,
            directory=directory,
        )
