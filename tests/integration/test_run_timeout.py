"""``run_timeout``: a run that does not end in time is cancelled, and its thread goes on."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from temporalio.client import Client
from temporalio.worker import Replayer

from langgraph_temporal_exec import RunCancelledError, RunTimeoutError, TemporalSaver, UsageError
from langgraph_temporal_exec.worker import drive
from langgraph_temporal_exec.workflow.run import RunWorkflow
from langgraph_temporal_exec.workflow.thread import ThreadWorkflow
from tests.support.graphs import State, config, countdown

SHORT = timedelta(seconds=1)


class Held:
    """A graph whose second node waits until it is let go."""

    def __init__(self, *, sync: bool = False) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

        async def wait(state: State) -> State:
            self.begun.set()
            await asyncio.to_thread(self.go.wait, 60)
            return {"x": ["waited"]}

        def wait_sync(state: State) -> State:
            self.begun.set()
            self.go.wait(60)
            return {"x": ["waited"]}

        builder = StateGraph(State).add_node("first", lambda state: {"x": ["first"]})
        builder.add_node("wait", wait_sync if sync else wait)
        builder.add_edge(START, "first").add_edge("first", "wait")
        self.graph = builder.compile(name="held")


def timed(thread_id: str, timeout: object = SHORT) -> Any:
    return {"configurable": {"thread_id": thread_id, "run_timeout": timeout}}


async def _replay(client: Client, *workflow_ids: str) -> None:
    replayer = Replayer(workflows=[RunWorkflow, ThreadWorkflow])
    for workflow_id in workflow_ids:
        history = await client.get_workflow_handle(workflow_id).fetch_history()
        await replayer.replay_workflow(history)


@pytest.mark.parametrize("mode", ["embedded", "remote"])
@pytest.mark.parametrize("given", ["saver", "call"])
async def test_a_run_that_takes_too_long_fails_and_leaves_its_thread(
    client: Client, task_queue: str, mode: str, given: str
) -> None:
    held = Held()
    own = {"run_timeout": SHORT} if given == "saver" else {}
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue, **own)  # type: ignore[arg-type] # one option
    async with host.worker(held.graph), asyncio.timeout(60):
        caller = host
        if mode == "remote":
            caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue, **own)  # type: ignore[arg-type] # as above
        graph = held.graph.with_config(checkpointer=caller)
        call = timed("t") if given == "call" else config("t")
        with pytest.raises(RunTimeoutError, match=r"Run .* of thread 't' had not ended after 1 s"):
            await graph.ainvoke({"x": []}, call)
        assert issubclass(RunTimeoutError, RunCancelledError)
        (run,) = [run async for run in caller.alist_runs("t")]
        with pytest.raises(RunTimeoutError):
            await run.aresult()
        assert await run.astatus() == "error"
        failure = await run.afailure()
        assert failure is not None
        assert failure.type_name.endswith("RunTimeoutError")
        await _replay(client, f"{task_queue}/run/{run.run_id}", f"{task_queue}/thread/t")
        thread = await caller.aget_thread("t")
        assert thread is not None
        assert thread.status == "error"
        assert thread.error is not None
        assert thread.error.type_name.endswith("RunTimeoutError")
        # What was recorded is kept, and the thread takes the next run.
        assert (await graph.aget_state(config("t"))).values == {"x": ["first"]}
        held.go.set()
        longer = timed("t", timedelta(minutes=5))
        assert await graph.ainvoke(None, longer) == {"x": ["first", "waited"]}
        caller.close()


async def test_time_in_the_run_queue_counts(client: Client, task_queue: str) -> None:
    held = Held()
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(held.graph), asyncio.timeout(60):
        graph = held.graph.with_config(checkpointer=saver)
        first = asyncio.create_task(graph.ainvoke({"x": []}, config("t")))
        await asyncio.to_thread(held.begun.wait, 30)
        with pytest.raises(RunTimeoutError):
            await graph.ainvoke({"x": []}, timed("t"))
        thread = await saver.aget_thread("t")
        # It never had the thread, which shows nothing of it.
        assert thread is not None
        assert (thread.status, thread.waiting) == ("busy", 0)
        held.go.set()
        assert await first == {"x": ["first", "waited"]}


async def test_a_sync_node_is_left_behind(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An OS thread cannot be stopped; what it returns is not recorded."""
    monkeypatch.setattr(drive, "CANCEL_GRACE_S", 1.0)
    held = Held(sync=True)
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(held.graph), asyncio.timeout(60):
        run = await saver.astart(held.graph.with_config(checkpointer=saver), {"x": []}, timed("t"))
        await asyncio.to_thread(held.begun.wait, 30)
        result = asyncio.create_task(run.aresult())
        with pytest.raises(RunTimeoutError):
            await result
        held.go.set()
        graph = held.graph.with_config(checkpointer=saver)
        assert (await graph.aget_state(config("t"))).next == ("wait",)


async def test_a_run_that_ends_in_time_is_not_bothered(client: Client, task_queue: str) -> None:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(), asyncio.timeout(60):
        graph = countdown().with_config(checkpointer=saver)
        assert await graph.ainvoke({"n": 2}, timed("t", timedelta(minutes=5))) == {"n": 0}


@pytest.mark.parametrize("wrong", [timedelta(0), 5, "1m"])
async def test_a_timeout_that_makes_no_sense_is_refused(
    client: Client, task_queue: str, wrong: Any
) -> None:
    with pytest.raises(UsageError, match="run_timeout is"):
        TemporalSaver(client, run_timeout=wrong)
    saver = TemporalSaver(client, task_queue=task_queue)
    with pytest.raises(UsageError, match="run_timeout is"):
        await countdown().with_config(checkpointer=saver).ainvoke({"n": 1}, timed("t", wrong))
