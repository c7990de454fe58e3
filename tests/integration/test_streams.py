"""Streams to a caller in another process: slow readers, readers that leave."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from temporalio.client import Client, WorkflowHandle

from langgraph_temporal_exec import TemporalSaver
from tests.support.graphs import config

STEPS = 150
CHUNK = 300_000
"""All chunks together are several times what the two sides keep for a reader (16 MB each)."""

HEARTBEAT_S = 5.0
AT_REST_S = 6.0
"""Longer than the heartbeat timeout: a graph that is held back is not one that is lost."""


class Count(TypedDict):
    n: int


def _chatty(progress: Path) -> Any:
    def speak(state: Count) -> Count:
        # Not like the one before, and nothing in it repeats: what travels is what is new, packed.
        noise = random.Random(state["n"]).randbytes(CHUNK).decode("latin-1")
        get_stream_writer()(f"{state['n']} {noise}")
        progress.write_text(str(state["n"] + 1))
        return {"n": state["n"] + 1}

    builder = StateGraph(Count).add_node("speak", speak).add_edge(START, "speak")
    builder.add_conditional_edges("speak", lambda s: "speak" if s["n"] < STEPS else END)
    return builder.compile(name="chatty")


def _read(progress: Path) -> str:
    return progress.read_text()


async def _at_rest(progress: Path) -> int:
    """Where the graph stands when it has stopped moving."""
    last, since = "", 0.0
    while since < AT_REST_S:
        text = _read(progress)
        last, since = text, since + 0.1 if text == last else 0
        await asyncio.sleep(0.1)
    return int(last)


async def _attempts(run: WorkflowHandle[Any, Any]) -> int:
    history = await run.fetch_history()
    return sum(e.HasField("activity_task_scheduled_event_attributes") for e in history.events)


async def _the_run(client: Client, saver: TemporalSaver) -> WorkflowHandle[Any, Any]:
    query = f"TaskQueue = '{saver.options.task_queue}' AND WorkflowType = 'LangGraphRun'"
    while True:
        async for execution in client.list_workflows(query):
            return client.get_workflow_handle(execution.id)
        await asyncio.sleep(0.1)


def _savers(client: Client, task_queue: str) -> tuple[TemporalSaver, TemporalSaver]:
    """Those of a worker and of a caller elsewhere."""
    options: dict[str, Any] = {"task_queue": task_queue, "id_prefix": task_queue}
    options["heartbeat_timeout"] = timedelta(seconds=HEARTBEAT_S)
    return TemporalSaver(client, inline=["speak"], **options), TemporalSaver(client, **options)


async def test_a_slow_reader_holds_the_graph_back_and_loses_nothing(
    client: Client, task_queue: str, tmp_path: Path
) -> None:
    progress = tmp_path / "progress"
    host, caller = _savers(client, task_queue)
    graph = _chatty(progress).with_config(checkpointer=caller)
    limit = {"recursion_limit": STEPS + 10}
    async with host.worker(_chatty(progress)):
        stream = graph.astream({"n": 0}, {**config("t"), **limit}, stream_mode="custom")
        chunks = [await anext(stream)]
        # More than a heartbeat timeout without a reader.
        assert await _at_rest(progress) < STEPS
        chunks += [chunk async for chunk in stream]
        assert [int(chunk.split()[0]) for chunk in chunks] == list(range(STEPS))
        assert await _attempts(await _the_run(client, caller)) == 1
    caller.close()


async def test_a_reader_that_vanishes_costs_nothing(
    client: Client, task_queue: str, tmp_path: Path
) -> None:
    progress = tmp_path / "progress"
    host, caller = _savers(client, task_queue)
    graph = _chatty(progress).with_config(checkpointer=caller)
    limit = {"recursion_limit": STEPS + 10}
    async with host.worker(_chatty(progress)):
        stream = graph.astream({"n": 0}, {**config("t"), **limit}, stream_mode="custom")
        await anext(stream)
        # As when its process is killed: nobody answers any more, and nothing is cancelled.
        caller.close()
        result = await (await _the_run(client, caller)).result()
        assert result
        assert int(progress.read_text()) == STEPS
        with pytest.raises(Exception, match="did not arrive"):
            async for _ in stream:
                pass
        state = await graph.aget_state(config("t"))
        assert state.values == {"n": STEPS}
    caller.close()
