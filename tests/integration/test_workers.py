"""The ways to host a worker, and threads that several runs want at once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from temporalio.api.common.v1 import Payload
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.converter import DataConverter, PayloadCodec

from langgraph_temporal_exec import TemporalExecError, TemporalSaver
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.worker import service
from tests.conftest import TemporalServer
from tests.integration.test_multitask import _held, _in_line
from tests.support.graphs import State, config, countdown, durable, nested, parallel, wide
from tests.support.warm import WARM

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("how", ["one", "several", "mapping", "none"])
async def test_worker_variants(client: Client, task_queue: str, how: str) -> None:
    graphs = {"one": [countdown()], "several": [countdown(), parallel()], "none": []}
    served = graphs.get(how, [{"countdown": countdown()}])
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    assert saver.client is client
    async with saver.worker(*served) as same, asyncio.timeout(60):
        assert same is saver
        graph = countdown().with_config(checkpointer=saver)
        assert await graph.ainvoke({"n": 2}, config("t")) == {"n": 0}


@pytest.mark.parametrize("how", ["with_config", "config", "compile", "copy"])
async def test_every_way_to_give_the_saver(client: Client, task_queue: str, how: str) -> None:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    plain = countdown()
    extra = {}
    if how == "with_config":
        graph = plain.with_config({"recursion_limit": 50}, checkpointer=saver)
    elif how == "config":
        graph, extra = plain, {"checkpointer": saver}
    elif how == "compile":
        graph = plain.builder.compile(checkpointer=saver, name="countdown")
    else:
        graph = plain.copy({"checkpointer": saver})
    async with saver.worker(), asyncio.timeout(60):
        assert await graph.ainvoke({"n": 2}, {**config("t"), **extra}) == {"n": 0}
    workflow_id = names.thread_workflow_id(task_queue, "t")
    described = await client.get_workflow_handle(workflow_id).describe()
    assert described.status == WorkflowExecutionStatus.RUNNING
    assert plain.checkpointer is None


async def test_temporal_shows_nodes_runs_and_children(client: Client, task_queue: str) -> None:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(), asyncio.timeout(60):
        await nested().with_config(checkpointer=saver).ainvoke({"x": ["in"]}, config("t"))
    root = names.thread_workflow_id(task_queue, "t")
    history = await client.get_workflow_handle(root).fetch_history()
    scheduled = [
        e.activity_task_scheduled_event_attributes
        for e in history.events
        if e.HasField("activity_task_scheduled_event_attributes")
    ]
    assert [a.activity_type.name for a in scheduled] == ["a", "inner"]
    # That of the sub-graph comes with the answer to the workflow task, too.
    assert {a.task_queue.name for a in scheduled} == {task_queue}
    summaries = [e.user_metadata.summary.data for e in history.events if e.user_metadata.summary]
    assert b'"step 1"' in summaries
    (child,) = [
        e.start_child_workflow_execution_initiated_event_attributes
        for e in history.events
        if e.HasField("start_child_workflow_execution_initiated_event_attributes")
    ]
    assert child.workflow_type.name == names.THREAD_WORKFLOW
    inner = await client.get_workflow_handle(child.workflow_id).fetch_history()
    nodes = [
        e.activity_task_scheduled_event_attributes.activity_type.name
        for e in inner.events
        if e.HasField("activity_task_scheduled_event_attributes")
    ]
    assert nodes == ["first", "ask"]


async def test_temporal_shows_what_a_thread_is_doing(
    client: Client, task_queue: str, tmp_path: Path
) -> None:
    async def details(workflow_id: str) -> str:
        handle = client.get_workflow_handle(workflow_id)
        metadata = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        return metadata.current_details

    async with _held(client, task_queue, tmp_path, "remote") as (graph, first):
        waiting = asyncio.create_task(graph.ainvoke({"x": ["second"]}, config("t")))
        await _in_line(graph, 1)
        thread = await details(f"{task_queue}/thread/t")
        assert "graph: **steps**" in thread
        assert "status: **busy**" in thread
        assert "nodes: hold" in thread
        assert "step: " in thread
        assert "run queue: 1" in thread
        (run_id,) = [line.split()[1].strip(",") for line in thread.split("\n") if "run:" in line]
        run = await details(f"{task_queue}/run/{run_id}")
        assert "**running**, attempt 1" in run
        (tmp_path / "go").touch()
        await asyncio.gather(first, waiting)
        assert "status: **idle**" in await details(f"{task_queue}/thread/t")


async def test_one_run_at_a_time(client: Client, task_queue: str) -> None:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    other = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(wide()), asyncio.timeout(100):
        here = [
            wide().with_config(checkpointer=s).ainvoke({"x": []}, config("t"))
            for s in (saver, other, saver, other, saver, other)
        ]
        results = await asyncio.gather(*here)
    other.close()
    assert sorted(len(r["x"]) for r in results) == [51 * i for i in range(1, 7)]


async def test_a_terminated_run_does_not_block_its_thread(client: Client, task_queue: str) -> None:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    stream_config = config("t")
    async with saver.worker(), asyncio.timeout(100):
        graph = countdown().with_config(checkpointer=saver)
        stream = graph.astream({"n": 3}, stream_config, stream_mode="updates")
        await anext(stream)
        (run_id,) = saver._caller.host.embedded._runs  # type: ignore[union-attr] # it hosts one
        handle = client.get_workflow_handle(names.run_workflow_id(task_queue, run_id))
        await handle.terminate("by hand")
        result = await graph.ainvoke({"n": 2}, stream_config)
        assert result == {"n": 0}
        with pytest.raises(Exception, match="terminated"):
            async for _ in stream:
                pass


@pytest.mark.compat
async def test_worker_as_a_process(
    client: Client, temporal_server: TemporalServer, task_queue: str
) -> None:
    command = [
        *(sys.executable, "-m", "langgraph_temporal_exec.cli.main", "worker"),
        "served=tests.support.served:graph",
        *("--address", temporal_server.address, "--task-queue", task_queue),
        *("--max-concurrent-runs", "2", "--max-concurrent-tasks", "1", "--autoscale-pollers"),
        *("--shutdown-grace", "5", "--max-cached-workflows", "100"),
    ]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    try:
        # A busy machine takes its time to start a Python process.
        patient = timedelta(seconds=90)
        saver = TemporalSaver(
            client, task_queue=task_queue, graph="served", no_worker_timeout=patient
        )
        graph = parallel().with_config(checkpointer=saver)
        async with asyncio.timeout(100):
            memory = parallel().copy({"checkpointer": InMemorySaver()})
            modes = ["values", "updates"]
            chunks = [
                c async for c in graph.astream({"x": ["in"]}, config(task_queue), stream_mode=modes)
            ]
            same = [c async for c in memory.astream({"x": ["in"]}, config("t"), stream_mode=modes)]
            assert sorted(m for m, _ in chunks) == sorted(m for m, _ in same)
            assert [p for m, p in chunks if m == "values"][-2] == {"x": ["in", "a", "b1", "b2"]}
        saver.close()
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            _, stderr = await process.communicate()
    assert process.returncode == 0, stderr
    assert task_queue in stderr.decode()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nonsense", "not of the form"),
        ("no_such_module:graph", "no module 'no_such_module'"),
        ("tests.support.served:nothing", "has no 'nothing'"),
        ("tests.support.served:graph", "Cannot connect to Temporal"),
    ],
)
def test_worker_command_with_bad_arguments(target: str, message: str) -> None:
    done = subprocess.run(
        [
            *(WARM, "-m", "langgraph_temporal_exec.cli.main", "worker", target),
            *("--address", "127.0.0.1:1"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "COLUMNS": "300"},
    )
    assert done.returncode == 1
    assert message in " ".join(done.stderr.split())


async def test_inline_nodes_are_no_activities(client: Client, task_queue: str) -> None:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue, inline=["a", "b2"])
    async with saver.worker(), asyncio.timeout(60):
        graph = parallel().with_config(checkpointer=saver)
        result = await graph.ainvoke({"x": ["in"]}, config("t"))
        assert result["x"] == ["in", "a", "b1", "b2"]
        assert (await graph.aget_state(config("t"))).next == ("ask",)
    root = names.thread_workflow_id(task_queue, "t")
    history = await client.get_workflow_handle(root).fetch_history()
    nodes = [
        e.activity_task_scheduled_event_attributes.activity_type.name
        for e in history.events
        if e.HasField("activity_task_scheduled_event_attributes")
    ]
    assert sorted(nodes) == ["ask", "b1"]


@pytest.mark.parametrize("mode", ["embedded", "remote"])
@pytest.mark.parametrize("after_ms", [0, 20, 120])
async def test_a_cancelled_call_leaves_no_run(
    client: Client, task_queue: str, mode: str, after_ms: int
) -> None:
    async with durable(mode, client, task_queue) as saver, asyncio.timeout(100):
        graph = countdown().with_config(checkpointer=saver)
        if mode == "remote":
            await saver._caller.mailbox.address()
        call = asyncio.create_task(graph.ainvoke({"n": 500}, config("t")))
        await asyncio.sleep(after_ms / 1000)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        # Whatever of it was recorded is cancelled: the thread is free for the next call.
        assert await graph.ainvoke({"n": 1}, config("t")) == {"n": 0}


@pytest.mark.compat
async def test_a_saver_made_inline_in_a_fresh_process(
    temporal_server: TemporalServer, task_queue: str
) -> None:
    program = f"""
import asyncio
from temporalio.client import Client
from langgraph_temporal_exec import TemporalSaver
from tests.support.graphs import config, countdown
async def main():
    client = await Client.connect({temporal_server.address!r})
    graph = countdown().with_config(checkpointer=TemporalSaver(client, task_queue={task_queue!r}))
    async with graph.checkpointer.worker():
        assert await graph.ainvoke({{"n": 1}}, config("inline")) == {{"n": 0}}
        assert (await graph.aget_state(config("inline"))).values == {{"n": 0}}
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(100):
        _, stderr = await process.communicate()
    assert process.returncode == 0, stderr.decode()


class _Silent(PayloadCodec):
    """A codec whose key server stops answering."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answers = True

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        if not self.answers:
            self.asked.set()
            await asyncio.Event().wait()
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return list(payloads)


async def test_a_worker_that_cannot_stop_is_left(
    temporal_server: TemporalServer,
    task_queue: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever a codec does, leaving the worker ends."""
    monkeypatch.setattr(service, "SHUTDOWN_S", 1.0)
    codec = _Silent()
    connect = partial(Client.connect, temporal_server.address)
    client = await connect(data_converter=DataConverter(payload_codec=codec))
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)

    async def fall_silent(state: State) -> State:
        codec.answers = False
        return {"x": ["done"]}

    builder = StateGraph(State).add_node("node", fall_silent).add_edge(START, "node")
    graph = builder.compile(name="silent")
    async with saver.worker(graph, shutdown_grace=timedelta(seconds=1)):
        bound = graph.with_config(checkpointer=saver)
        call = asyncio.create_task(bound.ainvoke({"x": []}, config("t")))
        while codec.answers:  # noqa: ASYNC110 # set on another loop
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
    assert "is left behind" in caplog.text
    with pytest.raises((TemporalExecError, asyncio.CancelledError)):
        await call
    codec.answers = True
    # The run is lost to whoever serves the queue next.
    again = TemporalSaver(await connect(), task_queue=task_queue, id_prefix=task_queue)
    builder = StateGraph(State).add_node("node", lambda state: {"x": ["done"]})
    async with again.worker(builder.add_edge(START, "node").compile(name="silent")):
        (run,) = [run async for run in again.alist_runs("t")]
        assert (await run.aresult())["x"] == ["done"]
