"""Workflow side of the floors: the Activities of a shape, and nothing else."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from time import monotonic_ns
from typing import Any

from temporalio import activity, workflow

TIMEOUT = timedelta(seconds=60)


@activity.defn
async def step(state: dict[str, Any]) -> dict[str, Any]:
    """What the node of ``sequential`` does."""
    now = monotonic_ns()
    return {"left": state["left"] - 1, "first_ns": state["first_ns"] or now, "last_ns": now}


@activity.defn
async def echo(value: Any) -> Any:
    """What the other nodes do."""
    return value


@activity.defn
async def nap(seconds: float) -> None:
    """What a tool of ``turn`` does."""
    await asyncio.sleep(seconds)


@workflow.defn
class Floor:
    """A run: Activity, then the next Activity."""

    @workflow.run
    async def run(self, shape: str, given: dict[str, Any]) -> dict[str, Any]:
        if shape == "sequential":
            while given["left"]:
                given = await workflow.execute_activity(step, given, start_to_close_timeout=TIMEOUT)
            return given
        if shape == "fanout":
            parts = (
                workflow.execute_activity(echo, i, start_to_close_timeout=TIMEOUT)
                for i in range(given["width"])
            )
            return {"done": list(await asyncio.gather(*parts))}
        if shape == "turn":
            for seconds in (0, given["tool_s"], 0, given["tool_s"], 0):
                await workflow.execute_activity(nap, seconds, start_to_close_timeout=TIMEOUT)
            return {"messages": [None] * 6}
        assert shape == "one_step"
        n = await workflow.execute_activity(echo, given["n"] + 1, start_to_close_timeout=TIMEOUT)
        return {"n": n}


@workflow.defn
class FloorThread:
    """A thread: a workflow that stays open, and an Update with an Activity for each turn."""

    def __init__(self) -> None:
        self._said = 0

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: False)

    @workflow.update
    async def turn(self, body: Any) -> Any:
        """One turn; what is sent comes back."""
        return await workflow.execute_activity(echo, body, start_to_close_timeout=TIMEOUT)
