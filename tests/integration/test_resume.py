"""A thread that waits for a person holds nothing, and is answered without its graph."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    StartWorkflowUpdateInput,
    WorkflowExecutionStatus,
)

from langgraph_temporal_exec import NotWaitingError, NoWorkersError, TemporalSaver, UsageError
from langgraph_temporal_exec.local import find_temporal
from tests.conftest import TemporalServer
from tests.support.graphs import State, config
from tests.support.warm import WARM

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
    ours = [WARM, "-m", "langgraph_temporal_exec.cli.main", "threads"]
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


async def test_without_a_worker_nothing_is_sent(saver: TemporalSaver) -> None:
    """A worker that starts later must not take an answer that was refused."""
    graph = _asking().with_config(checkpointer=saver)
    async with saver.worker(_asking()):
        await graph.ainvoke({"x": []}, config("t"))
    impatient = TemporalSaver(
        saver.client,
        task_queue=saver.options.task_queue,
        id_prefix=saver.options.id_prefix,
        no_worker_timeout=timedelta(seconds=1),
    )
    with pytest.raises(NoWorkersError, match=r"answer was not sent"):
        await impatient.aresume("t", "yes")
    async with saver.worker(_asking()):
        assert (await saver.aget_thread("t")).status == "interrupted"  # type: ignore[union-attr] # it is there
        assert [r async for r in saver.alist_runs("t")][1:] == []
        history = await saver.client.get_workflow_handle(
            saver._store.transport.thread_workflow_id("t")
        ).fetch_history()
        accepted = [
            e.workflow_execution_update_accepted_event_attributes.accepted_request.input.name
            for e in history.events
            if e.HasField("workflow_execution_update_accepted_event_attributes")
        ]
        assert "resume" not in accepted
        assert (await (await saver.aresume("t", "yes")).aresult())["x"] == ["yes"]


class _LeavingWorker(Interceptor, OutboundInterceptor):
    """In the moment between the check and the answer the worker stops."""

    def __init__(self) -> None:
        self.stop: Callable[[], Awaitable[object]] | None = None

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        OutboundInterceptor.__init__(self, next)
        return self

    async def start_workflow_update(self, input: StartWorkflowUpdateInput) -> Any:
        if input.update == "resume" and self.stop is not None:
            await self.stop()
        return await super().start_workflow_update(input)


async def test_a_worker_that_leaves_meanwhile(
    client: Client, temporal_server: TemporalServer, task_queue: str
) -> None:
    """Then the answer was sent, and the error says so."""
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    leaving = _LeavingWorker()
    caller = TemporalSaver(
        await Client.connect(temporal_server.address, interceptors=[leaving]),
        task_queue=task_queue,
        id_prefix=task_queue,
        no_worker_timeout=timedelta(seconds=1),
    )
    async with contextlib.AsyncExitStack() as worker:
        await worker.enter_async_context(host.worker(_asking()))
        await _asking().with_config(checkpointer=host).ainvoke({"x": []}, config("t"))
        leaving.stop = worker.aclose
        with pytest.raises(NoWorkersError, match=r"not taken back.*see whether thread 't' still"):
            await caller.aresume("t", "yes")
    caller.close()


async def test_no_internal_names_in_messages(saver: TemporalSaver) -> None:
    """Types of failures are for programs."""
    graph = _asking().with_config(checkpointer=saver)
    async with saver.worker(_asking()):
        await graph.ainvoke({"x": []}, config("t"))
        with pytest.raises(UsageError) as wrong:
            await saver.aresume("t", 2**70)
        assert str(wrong.value).startswith("The answer to thread 't' is refused")
        await (await saver.aresume("t", 1)).aresult()
        await (await saver.aresume("t", 2)).aresult()
        with pytest.raises(NotWaitingError) as nothing:
            await saver.aresume("t", 3)
        assert str(nothing.value).startswith("Thread 't' cannot be resumed")
