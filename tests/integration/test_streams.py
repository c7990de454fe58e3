"""Streams to a caller in another process: slow readers, readers that leave."""

from __future__ import annotations

import asyncio
import random
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langgraph.config import get_stream_writer
from langgraph.graph import END, START, StateGraph
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle

from langgraph_temporal_exec import StreamLostError, TemporalSaver
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import Mail, MailItem
from langgraph_temporal_exec.protocol.wire import pack
from langgraph_temporal_exec.storage import process_workflows
from langgraph_temporal_exec.workflow import mailbox_sinks
from tests.support.graphs import config
from tests.support.joined import is_joined

RUNNING = WorkflowExecutionStatus.RUNNING

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
        # Unlike the one before, and nothing in it repeats: what travels is new, and compressed.
        noise = random.Random(state["n"]).randbytes(CHUNK).decode("latin-1")
        get_stream_writer()(f"{state['n']} {noise}")
        progress.write_text(str(state["n"] + 1))
        return {"n": state["n"] + 1}

    builder = StateGraph(Count).add_node("speak", speak).add_edge(START, "speak")
    builder.add_conditional_edges("speak", lambda s: "speak" if s["n"] < STEPS else END)
    return builder.compile(name="chatty")


def _paced(go: threading.Semaphore) -> Any:
    """Three supersteps, each when it may."""

    def step(state: Count) -> Count:
        go.acquire()
        return {"n": state["n"] + 1}

    builder = StateGraph(Count).add_node("step", step).add_edge(START, "step")
    builder.add_conditional_edges("step", lambda s: "step" if s["n"] < 3 else END)
    return builder.compile(name="paced")


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


@pytest.mark.long
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


async def _run_of(client: Client, workflow_id: str) -> str:
    return (await client.get_workflow_handle(workflow_id).describe()).run_id


async def test_a_mailbox_is_renewed_under_a_call(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call may take longer than any workflow of a mailbox may live."""
    monkeypatch.setattr(process_workflows, "RENEWED_S", 0.5)
    host, caller = _savers(client, task_queue)
    go = threading.Semaphore(0)
    graph = _paced(go).with_config(checkpointer=caller)
    async with host.worker(_paced(go)):
        stream = graph.astream({"n": 0}, config("t"))
        go.release()
        assert await anext(stream) == {"step": {"n": 1}}
        mailbox = await caller._caller.mailbox.address()
        seen = {await _run_of(client, mailbox)}
        for n in (2, 3):
            while (run := await _run_of(client, mailbox)) in seen:  # noqa: ASYNC110 # a server has no event
                await asyncio.sleep(0.1)
            seen.add(run)
            go.release()
            assert await anext(stream) == {"step": {"n": n}}
        assert [chunk async for chunk in stream] == []
    caller.close()
    assert (await client.get_workflow_handle(mailbox).describe()).status != RUNNING


async def test_mail_that_nobody_can_read(client: Client, task_queue: str) -> None:
    """Of somebody else, or of an incompatible release: its caller is told, the run goes on."""
    host, caller = _savers(client, task_queue)
    go = threading.Semaphore(0)
    graph = _paced(go).with_config(checkpointer=caller)
    async with host.worker(_paced(go)):
        stream = graph.astream({"n": 0}, config("t"))
        go.release()
        assert await anext(stream) == {"step": {"n": 1}}
        run = await _the_run(client, caller)
        item = MailItem(attempt=1, seq=1, data=b"no difference", slot=5, delta=True, piece=1)
        mail = pack(Mail(run_id=run.id.rpartition("/")[2], items=(item,)))
        mailbox = client.get_workflow_handle(await caller._caller.mailbox.address())
        await mailbox.query(names.DELIVER_QUERY, mail)
        with pytest.raises(StreamLostError, match=r"thread 't'\) cannot be read: Not a delta"):
            await anext(stream)
        go.release(2)
        assert await run.result()
        assert (await graph.aget_state(config("t"))).values == {"n": 3}
    caller.close()


async def test_a_reader_goes_on_after_mail_that_nobody_can_read(
    client: Client, task_queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    host, caller = _savers(client, task_queue)
    go = threading.Semaphore(0)
    async with host.worker(_paced(go)):
        run = await caller.astart(_paced(go), {"n": 0}, config("t"))
        stream = run.astream()
        first = asyncio.ensure_future(anext(stream))
        while not await is_joined(client, f"{task_queue}/run/{run.run_id}"):  # noqa: ASYNC110 # as above
            await asyncio.sleep(0.1)
        bad = MailItem(attempt=1, seq=0, data=b"\xc1", slot=5, delta=True, piece=1)
        for stream_id in list(mailbox_sinks._sinks):
            mailbox_sinks.deliver(stream_id, (bad,))
        go.release(3)
        read = [await first, *[chunk async for chunk in stream]]
        # The first update has the number of what could not be read.
        steps = [(("updates", {"step": {"n": n}}), ("values", {"n": n})) for n in (1, 2, 3)]
        assert read == [chunk for step in steps for chunk in step][1:]
        assert "a chunk is left out" in caplog.text
        assert await run.aresult() == {"n": 3}
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
