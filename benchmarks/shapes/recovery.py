"""Benchmark shape: short tasks one after another, while whoever executes them is killed."""

from __future__ import annotations

import asyncio
import operator
from time import monotonic
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from benchmarks.contender import Caller, UnsupportedError

TASK_S = 0.2
TASKS = 15
KILL_AFTER_S = 1.5
"""In the middle of the run."""


class State(TypedDict):
    ended: Annotated[list[float], operator.add]  # monotonic clock at the end of each task


async def task(state: State) -> State:
    await asyncio.sleep(TASK_S)
    return {"ended": [monotonic()]}


async def again(state: State) -> str:
    return "task" if len(state["ended"]) < TASKS else END


builder: StateGraph[State, None, State, State] = StateGraph(State)
builder.add_node("task", task)
builder.add_edge(START, "task")
builder.add_conditional_edges("task", again, ["task", END])
graph: CompiledStateGraph[Any, Any, Any, Any] = builder.compile(name="recovery")


async def sample(caller: Caller, *, spare: bool) -> dict[str, float]:
    """From a SIGKILL of the worker to the next end of a task, in seconds.

    Args:
        caller: What is measured; with the options it has by default.
        spare: Whether another worker waits; else the killed one is started again at once.
    """
    fleet = caller.fleet
    if fleet is None:
        raise UnsupportedError("its worker is no process of its own")
    if spare:
        await fleet.start()
    run = asyncio.create_task(caller.run("recovery", {"ended": []}))
    try:
        await asyncio.sleep(KILL_AFTER_S)
        if run.done():
            # It has failed.
            await run
        # The oldest is where the run is: the other one came later, or takes its chance.
        killed_at = monotonic()
        await fleet.kill()
        if not spare:
            await fleet.start()
        ended = (await run)["ended"]
    finally:
        run.cancel()
    assert len(ended) == TASKS
    return {"recovery_s": min(at for at in ended if at > killed_at) - killed_at}
