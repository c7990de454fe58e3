"""A thread that waits for a person holds nothing, and is answered without its graph."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from temporalio.client import Client, WorkflowExecutionStatus

from langgraph_temporal_exec import NotWaitingError, TemporalSaver, UsageError
from langgraph_temporal_exec.local import find_temporal
from tests.conftest import TemporalServer
from tests.support.graphs import State, config

pytestmark = pytest.mark.compat


def _asking() -> Any:
    """Two questions in two nodes."""

    async def first(state: State) -> State:
        return {"x": [interrupt("first?")]}

    async def second(state: State) -> State:
        return {"x": [interrupt("second?")]}

    builder = StateGraph(State).add_sequence([first, second]).add_edge(START, "first")
    return builder.compile(name="asking")


async def _run(*command: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
def saver(client: Client, task_queue: str) -> TemporalSaver:
    """A saver whose worker each test starts itself."""
    return TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)


async def test_a_waiting_thread_holds_nothing(client: Client, saver: TemporalSaver) -> None:
    graph = _asking().with_config(checkpointer=saver)
    async with saver.worker(_asking()):
        await graph.ainvoke({"x": []}, config("t"))
    prefix = saver.options.id_prefix
    running = f"WorkflowId STARTS_WITH '{prefix}/' AND ExecutionStatus = 'Running'"
    while (await client.count_workflows(running)).count != 1:  # noqa: ASYNC110 # visibility lags
        await asyncio.sleep(0.1)
    description = await client.get_workflow_handle(f"{prefix}/thread/t").describe()
    assert description.status is WorkflowExecutionStatus.RUNNING
    pending = description.raw_description
    assert not pending.pending_activities
    assert not pending.pending_children
    assert not pending.HasField("pending_workflow_task")
    history = await client.get_workflow_handle(f"{prefix}/thread/t").fetch_history()
    assert not [e for e in history.events if e.HasField("timer_started_event_attributes")]


async def test_answered_by_the_saver(saver: TemporalSaver) -> None:
    graph = _asking().with_config(checkpointer=saver)
    async with saver.worker(_asking()):
        first = (await graph.ainvoke({"x": []}, config("t")))["__interrupt__"][0]
        run = await saver.aresume("t", {first.id: ["a", {"b": 1}]})
        assert [i.value for i in (await run.aresult())["__interrupt__"]] == ["second?"]
        both = await asyncio.gather(
            *(saver.aresume("t", n) for n in (1, 2)), return_exceptions=True
        )
        # Applied once: the other found the thread taken.
        (given,) = [r for r in both if not isinstance(r, BaseException)]
        (refused,) = [r for r in both if isinstance(r, BaseException)]
        assert isinstance(refused, NotWaitingError)
        result = await given.aresult()
        assert result["x"][0] == ["a", {"b": 1}]
        assert result["x"][1:] in ([1], [2])
        assert [r.run_id async for r in saver.alist_runs("t")][1:] == [run.run_id, given.run_id]
        with pytest.raises(NotWaitingError, match="waits for nothing"):
            await saver.aresume("t", 3)
        await graph.ainvoke({"x": []}, config("u"))
        for wrong in (2**70, ["x" * 400_000]):
            with pytest.raises(UsageError, match="must be plain JSON"):
                await saver.aresume("u", wrong)
        assert (await saver.aresume("u", 4)).thread_id == "u"
        with pytest.raises(NotWaitingError, match="no thread 'nobody'"):
            await saver.aresume("nobody", 3)


async def test_answered_from_the_shell(
    saver: TemporalSaver, temporal_server: TemporalServer, task_queue: str
) -> None:
    graph = _asking().with_config(checkpointer=saver)
    where = ["--address", temporal_server.address, "--task-queue", task_queue]
    ours = [sys.executable, "-m", "langgraph_temporal_exec.cli.main", "threads"]
    options = [*where, "--id-prefix", task_queue]
    async with saver.worker(_asking()):
        await graph.ainvoke({"x": []}, config("t"))
        code, out, err = await _run(*ours, "resume", "t", "--value", "yes", *options)
        assert (code, "must be JSON" in err) == (1, True)
        code, out, err = await _run(*ours, "resume", "t", "--value", '"yes"', "--wait", *options)
        assert (code, err.strip()) == (0, "interrupted")
        run_id = out.strip()
        code, out, err = await _run(*ours, "runs", "t", *options)
        assert out.splitlines()[1] == f"{run_id} interrupted"
        code, out, err = await _run(*ours, "cancel", run_id, *options)
        assert code == 0, err
        # Any client of Temporal can do the same, in whatever language.
        code, out, err = await _run(
            *(find_temporal(), "workflow", "update", "execute", "--name", "resume"),
            *("--workflow-id", f"{task_queue}/thread/t", "--input", '{"answer": [1, "two"]}'),
            *("--address", temporal_server.address, "--output", "json"),
        )
        assert code == 0, err
        run = await saver.aget_run(json.loads(out)["result"])
        assert (await run.aresult())["x"] == ["yes", {"answer": [1, "two"]}]
        assert await run.astatus() == "done"
        code, out, err = await _run(*ours, "resume", "t", "--value", "1", *options)
        assert (code, "waits for nothing" in err) == (1, True)
