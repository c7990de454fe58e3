"""Contender: bare Temporal, the least that the same shape costs there.

A run is a workflow that executes one Activity after the other. A turn on a thread is one Update of
an open workflow, which executes one Activity. No checkpoints, no history of the state.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from temporalio.client import Client, WithStartWorkflowOperation, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.worker import Worker

from benchmarks import contender
from benchmarks.contender import Caller, Fleet, Setup, Turn, UnsupportedError, Values
from benchmarks.contenders.floor_workflow import Floor, FloorThread, echo, nap, step

RUNS = ("sequential", "one_step", "fanout", "turn")
THREADS = ("one_step", "chat")


def _queue(setup: Setup) -> str:
    return f"floor-{setup.variant}"


class Bare(Caller):
    """Workflows by name of the shape."""

    def __init__(self, setup: Setup, client: Client, fleet: Fleet | None = None) -> None:
        super().__init__(setup, fleet)
        self._client = client
        self._queue = _queue(setup)

    async def run(self, shape: str, given: Values) -> Values:
        """A workflow from its start to its result."""
        if shape not in RUNS:
            raise UnsupportedError("no floor of this shape")
        if shape == "turn":
            given = {"tool_s": given["tool_s"]}
        result: Values = await self._client.execute_workflow(
            Floor.run, args=[shape, given], id=f"floor-{uuid.uuid4()}", task_queue=self._queue
        )
        return result

    def thread(self, shape: str) -> Turn:
        """An open workflow; the first turn starts it."""
        if shape not in THREADS:
            raise UnsupportedError("no floor of this shape")
        start = WithStartWorkflowOperation(
            FloorThread.run,
            id=f"floor-{uuid.uuid4()}",
            task_queue=self._queue,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
        )
        handle: WorkflowHandle[Any, Any] | None = None
        messages = 0

        async def update(body: Any) -> Any:
            nonlocal handle
            if handle is not None:
                return await handle.execute_update(FloorThread.turn, body)
            result = await self._client.execute_update_with_start_workflow(
                FloorThread.turn, body, start_workflow_operation=start
            )
            handle = await start.workflow_handle()
            return result

        async def turn(given: Values) -> Values:
            nonlocal messages
            if shape == "one_step":
                return {"n": await update(given["n"]) + 1}
            await update(given["messages"][0].content)
            messages += 2
            return {"messages": [None] * messages}

        return turn


@asynccontextmanager
async def opened(setup: Setup) -> AsyncIterator[Caller]:
    """By variant."""
    client = await Client.connect(setup.address, namespace=setup.namespace)
    if setup.variant != "remote":
        async with contender.on_thread(lambda: worker(setup)):
            yield Bare(setup, client)
    else:
        async with contender.elsewhere("floor", setup) as fleet:
            yield Bare(setup, client, fleet)


@asynccontextmanager
async def worker(setup: Setup) -> AsyncIterator[None]:
    """A worker for both workflows."""
    client = await Client.connect(setup.address, namespace=setup.namespace)
    async with Worker(
        client,
        task_queue=_queue(setup),
        workflows=[Floor, FloorThread],
        activities=[step, echo, nap],
        # Eager: an Activity comes with the answer to the workflow task that scheduled it.
        disable_eager_activity_execution=setup.variant == "not_eager",
    ):
        yield
