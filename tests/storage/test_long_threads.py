"""Threads of many supersteps and runs: nothing is lost, little is carried.

What makes a thread long is how often it is archived and continues as new; it does so early here.
"""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.channels.delta import DeltaChannel
from langgraph.graph import END, START, StateGraph
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import ReadRequest, ThreadStart
from langgraph_temporal_exec.worker.upkeep import FAN_OUT, HEAD_INLINE_BYTES
from langgraph_temporal_exec.workflow.core.thread_log import ARCHIVE_BYTES
from langgraph_temporal_exec.workflow.core.thread_state import (
    REMEMBERED_OUTCOME_BYTES,
    REMEMBERED_RUNS,
)
from langgraph_temporal_exec.workflow.rollover import CARRY_BYTES
from tests.storage.conftest import MakeSaver
from tests.storage.graphs import extended
from tests.storage.test_archives import carried
from tests.support.graphs import config

RUNS = 5
SUPERSTEPS = 60
STATES = RUNS * (SUPERSTEPS + 2)  # the input and what START made of it are checkpoints as well

SMALL = 4_000
"""Bytes of the log that make it an archive."""

ROLL_EVENTS = 200
"""Events that make a thread continue as new."""

CARRIED = (
    2 * ARCHIVE_BYTES  # the log, and what is added to it while it is being archived
    + HEAD_INLINE_BYTES
    + REMEMBERED_RUNS * (REMEMBERED_OUTCOME_BYTES + 100)
    + 2 * FAN_OUT * 200  # archives, of two levels
)
"""Bytes carried over continue-as-new by a thread whose archives can be written, however long."""


class Long(TypedDict, total=False):
    left: int
    done: int
    items: Annotated[list[str], operator.add]
    notes: Annotated[list[str], DeltaChannel(extended, snapshot_frequency=20)]


def loop() -> Any:
    """As many supersteps as ``left`` says; each adds to a list and to a DeltaChannel."""

    async def step(state: Long) -> Long:
        done = state.get("done", 0)
        return {
            "left": state["left"] - 1,
            "done": done + 1,
            "items": [item(done)],
            "notes": [note(done)],
        }

    return (
        StateGraph(Long)
        .add_node("step", step)
        .add_edge(START, "step")
        .add_conditional_edges("step", lambda s: "step" if s["left"] else END, ["step", END])
        .compile(name="loop")
    )


def item(n: int) -> str:
    return f"item {n}"


def note(n: int) -> str:
    return f"note {n}"


def check(state: Any, done: int) -> None:
    """A state holds what so many supersteps added, in order."""
    assert state.values.get("done", 0) == done
    assert state.values.get("items", []) == [item(n) for n in range(done)]
    assert state.values.get("notes", []) == [note(n) for n in range(done)]


def runs_of(saver: TemporalSaver, client: Client, thread_id: str) -> Any:
    """The inputs of all runs of a thread's workflow, oldest first."""
    return carried(client, names.thread_workflow_id(saver.options.id_prefix, thread_id))


def check_carried(starts: list[ThreadStart], *, at_least: int) -> None:
    """It continued as new often, and what was carried is bounded whatever the thread's length."""
    assert len(starts) > at_least
    assert CARRIED < CARRY_BYTES
    assert max(len(s.snapshot) for s in starts) <= CARRIED


async def check_archives(saver: TemporalSaver, thread_id: str) -> None:
    """The list of archives stays short."""
    reply = await saver._store.reader.read(thread_id, "", ReadRequest())
    assert reply is not None
    levels = [s.pack.level for s in reply.page.segments]
    assert all(levels.count(level) < FAN_OUT for level in levels)
    assert levels == sorted(levels, reverse=True)


@pytest.mark.timeout(600)
@pytest.mark.long
async def test_a_thread_of_many_supersteps(make_saver: MakeSaver, client: Client) -> None:
    saver = make_saver(archive_bytes=SMALL, roll_events=ROLL_EVENTS)
    limit = {**config("t"), "recursion_limit": SUPERSTEPS + 10}
    async with saver.worker(loop()):
        graph = loop().with_config(checkpointer=saver)
        for _ in range(RUNS):
            await graph.ainvoke({"left": SUPERSTEPS}, limit)
        check_carried(await runs_of(saver, client, "t"), at_least=10)
        await check_archives(saver, "t")
        # A cold process.
        cold = loop().with_config(checkpointer=make_saver())
        check(await cold.aget_state(config("t")), RUNS * SUPERSTEPS)
        found = 0
        middle: Any = None
        async for state in cold.aget_state_history(config("t")):
            found += 1
            step = STATES - 1 - found
            assert state.metadata["step"] == step
            run, within = divmod(step + 1, SUPERSTEPS + 2)
            done = run * SUPERSTEPS + max(0, within - 1)
            check(state, done)
            if done == 120:
                middle = state
        assert found == STATES
        # Time travel to the very first one, and from the middle on.
        first = await cold.aget_state(state.config)
        assert first.metadata["step"] == -1
        assert first.next == ("__start__",)
        check(first, 0)
        fork = await graph.aupdate_state(middle.config, {"left": 20}, as_node="step")
        await graph.ainvoke(None, fork)
        check(await graph.aget_state(config("t")), 140)
        again = loop().with_config(checkpointer=make_saver())
        check(await again.aget_state(config("t")), 140)


@pytest.mark.timeout(600)
@pytest.mark.long
async def test_a_thread_of_many_runs(make_saver: MakeSaver, client: Client) -> None:
    """Four callers at once: their runs wait in the run queue, in whichever order."""
    callers, runs = 4, 26
    saver = make_saver(roll_events=ROLL_EVENTS)
    async with saver.worker(loop()):
        graph = loop().with_config(checkpointer=saver)

        async def caller() -> None:
            for _ in range(runs):
                await graph.ainvoke({"left": 2}, config("t"))

        await asyncio.gather(*(caller() for _ in range(callers)))
        check_carried(await runs_of(saver, client, "t"), at_least=1)
        await check_archives(saver, "t")
        total = callers * runs * 4
        cold = loop().with_config(checkpointer=make_saver())
        states = [s async for s in cold.aget_state_history(config("t"))]
        assert [s.metadata["step"] for s in states] == list(range(total - 2, -2, -1))
        for index, state in enumerate(reversed(states)):
            run, within = divmod(index, 4)
            check(state, run * 2 + max(0, within - 1))
        assert sum(s.metadata["source"] == "input" for s in states) == callers * runs
