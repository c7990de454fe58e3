"""Bad input and absence: each a typed error with the remedy, nothing lost, the thread usable."""

from __future__ import annotations

import asyncio
import gc
import socket
import subprocess
import sys
import threading
from datetime import timedelta
from typing import Literal

import pytest
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from temporalio.client import Client

from langgraph_temporal_exec import (
    GraphNotFoundError,
    MissingThreadIdError,
    NotDurableError,
    NoWorkersError,
    ServerUnavailableError,
    StreamLostError,
    TemporalSaver,
    UnserializableError,
)
from langgraph_temporal_exec.errors import DuplicateGraphError, UsageError
from langgraph_temporal_exec.local import start_server
from langgraph_temporal_exec.seam import hooks
from tests.support.graphs import (
    State,
    all_graphs,
    config,
    countdown,
    durable,
    parallel,
    unserializable,
)


async def test_no_thread_id(client: Client, task_queue: str) -> None:
    graph = countdown().with_config(checkpointer=TemporalSaver(client, task_queue=task_queue))
    with pytest.raises(MissingThreadIdError, match="thread_id"):
        await graph.ainvoke({"n": 1})
    with pytest.raises(ValueError, match="thread_id"):
        await asyncio.to_thread(graph.invoke, {"n": 1})


async def test_no_worker_ever(client: Client, task_queue: str, thread_id: str) -> None:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    graph = countdown().with_config(checkpointer=saver)
    impatient = _impatient(client, task_queue)
    try:
        async with asyncio.timeout(60):
            with pytest.raises(NoWorkersError, match="langgraph-temporal worker") as caught:
                await (
                    countdown()
                    .with_config(checkpointer=impatient)
                    .ainvoke({"n": 1}, config(thread_id))
                )
        assert task_queue in str(caught.value)
        # Withdrawn: a worker that starts now has nothing to do, and the thread is usable.
        async with saver.worker(countdown()):
            assert (await graph.aget_state(config(thread_id))).values == {}
            assert await graph.ainvoke({"n": 1}, config(thread_id)) == {"n": 0}
    finally:
        impatient.close()
        saver.close()


def _impatient(client: Client, task_queue: str) -> TemporalSaver:
    """For calls that nobody answers; others may take longer on a busy machine."""
    soon = timedelta(seconds=1)
    return TemporalSaver(
        client, task_queue=task_queue, id_prefix=task_queue, no_worker_timeout=soon
    )


async def test_no_worker_for_state(
    client: Client, task_queue: str, thread_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    graph = countdown().with_config(checkpointer=saver)
    async with saver.worker(countdown()):
        await graph.ainvoke({"n": 1}, config(thread_id))
    async with asyncio.timeout(60):
        # Reading needs none.
        assert (await graph.aget_state(config(thread_id))).values == {"n": 0}
        impatient = countdown().with_config(checkpointer=_impatient(client, task_queue))
        with pytest.raises(NoWorkersError, match=thread_id):
            await impatient.aupdate_state(config(thread_id), {"n": 5})
    # Whoever is told has been told: nothing is left for asyncio to log.
    gc.collect()
    assert [r for r in caplog.records if "never retrieved" in r.getMessage()] == []
    async with saver.worker(countdown()):
        assert (await graph.aget_state(config(thread_id))).values == {"n": 0}


async def test_no_server() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    client = await Client.connect(f"127.0.0.1:{port}", lazy=True)
    await _calls_fail(client, port)


@pytest.mark.long
async def test_server_that_went_away(thread_id: str) -> None:
    server = await start_server()
    client = server.client
    port = int(client.service_client.config.target_host.rpartition(":")[2])
    await client.count_workflows()
    await server.shutdown()
    await _calls_fail(client, port)


async def _calls_fail(client: Client, port: int) -> None:
    saver = TemporalSaver(client)
    graph = countdown().with_config(checkpointer=saver)
    try:
        async with asyncio.timeout(100):
            # All at once: each waits for a while until it gives the server up.
            calls = (
                graph.ainvoke({"n": 1}, config("t")),
                graph.aget_state(config("t")),
                graph.aupdate_state(config("t"), {"n": 1}),
            )
            for error in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(error, ServerUnavailableError)
                assert str(port) in str(error)
    finally:
        saver.close()


async def test_worker_lacks_the_graph(client: Client, task_queue: str, thread_id: str) -> None:
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    try:
        async with host.worker({"other": countdown()}), asyncio.timeout(60):
            with pytest.raises(GraphNotFoundError, match=r"'countdown'.*other"):
                await (
                    countdown()
                    .with_config(checkpointer=caller)
                    .ainvoke({"n": 1}, config(thread_id))
                )
            named = TemporalSaver(
                client, task_queue=task_queue, id_prefix=task_queue, graph="other"
            )
            graph = countdown().with_config(checkpointer=named)
            assert await graph.ainvoke({"n": 1}, config(thread_id)) == {"n": 0}
            named.close()
    finally:
        caller.close()


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_unserializable_state(
    client: Client, task_queue: str, thread_id: str, mode: str
) -> None:
    async with durable(mode, client, task_queue) as saver, asyncio.timeout(60):
        graph = unserializable().with_config(checkpointer=saver)
        with pytest.raises(UnserializableError, match="channel 'x' written by node 'bad'") as e:
            await graph.ainvoke({"x": ["in"]}, config(thread_id))
        assert thread_id in str(e.value)
        assert "function" in str(e.value)
        state = await graph.aget_state(config(thread_id))
        assert state.values == {"x": ["in", "a"]}
        assert state.next == ("bad",)
        await graph.aupdate_state(config(thread_id), {"x": ["repaired"]}, as_node="bad")
        assert (await graph.aget_state(config(thread_id))).values["x"][-1] == "repaired"


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_unserializable_input(
    client: Client, task_queue: str, thread_id: str, mode: str
) -> None:
    async with durable(mode, client, task_queue) as saver, asyncio.timeout(60):
        graph = parallel().with_config(checkpointer=saver)
        with pytest.raises(UnserializableError, match=f"input channel 'x'.*{thread_id}"):
            await graph.ainvoke({"x": [object()]}, config(thread_id))
        with pytest.raises(UsageError, match=r"thread_id is 20,000 bytes long"):
            await graph.ainvoke({"x": ["in"]}, config("t" * 20_000))
        with pytest.raises(UsageError, match=r"thread_id is 20,000 bytes long"):
            await graph.aupdate_state(config("t" * 20_000), {"x": ["in"]}, as_node="a")
        result = await graph.ainvoke({"x": ["small"]}, config(thread_id))
        assert result["x"] == ["small", "a", "b1", "b2"]


def _writes_a_lock(given: State) -> State:
    writer = get_stream_writer()
    for chunk in ("before", {"held": threading.Lock()}, "after"):
        writer(chunk)
    return {"x": ["done"]}


async def test_a_chunk_that_cannot_be_sent(
    client: Client, task_queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are, the run ends well, and its caller is told why one is missing."""
    graph = StateGraph(State).add_node("node", _writes_a_lock).add_edge(START, "node").compile()
    host, caller = (TemporalSaver(client, task_queue=task_queue, graph="LangGraph") for _ in "ab")
    async with host.worker({"LangGraph": graph}):
        durable = graph.with_config(checkpointer=caller)
        stream = durable.astream({"x": []}, config("t"), stream_mode="custom")
        assert [await anext(stream), await anext(stream)] == ["before", "after"]
        with pytest.raises(StreamLostError, match=r"1 of its 3 .* type _thread.lock"):
            await anext(stream)
        assert (await durable.aget_state(config("t"))).values == {"x": ["done"]}
        stream = durable.astream({"x": []}, config("u"), stream_mode=["custom", "values"])
        assert [chunk async for chunk in stream] == [
            ("values", {"x": []}),
            ("custom", "before"),
            ("custom", "after"),
            ("values", {"x": ["done"]}),
        ]
        (told,) = [r for r in caplog.records if "result is complete" in r.getMessage()]
        assert "1 of 5 stream chunks did not arrive (a stream chunk holds" in told.getMessage()
    caller.close()


async def test_worker_arguments(client: Client, task_queue: str) -> None:
    saver = TemporalSaver(client, task_queue=task_queue)
    with pytest.raises(DuplicateGraphError, match="countdown"):
        async with saver.worker(countdown(), countdown()):
            pass
    with pytest.raises(UsageError, match="not a compiled"):
        async with saver.worker("no graph"):
            pass
    async with saver.worker(all_graphs()):
        with pytest.raises(UsageError, match="already hosts"):
            async with saver.worker():
                pass
    with pytest.raises(UsageError, match=r"temporalio\.client\.Client"):
        TemporalSaver("localhost:7233")  # type: ignore[arg-type] # the mistake under test


@pytest.mark.compat
def test_unsupported_langgraph() -> None:
    code = """
import asyncio
import langgraph.pregel._runner as runner
del runner.arun_with_retry
from temporalio.client import Client
from langgraph_temporal_exec import TemporalSaver, UnsupportedLangGraphError
async def main():
    client = await Client.connect("127.0.0.1:1", lazy=True)
    try:
        TemporalSaver(client)
    except UnsupportedLangGraphError as exc:
        print(exc)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "arun_with_retry is missing" in done.stdout
    assert ">=1.2.13,<1.3" in done.stdout


async def test_two_workers_of_one_client(client: Client, task_queue: str) -> None:
    first = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    second = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with first.worker(countdown()), asyncio.timeout(60):
        with pytest.raises(UsageError, match="share the saver"):
            async with second.worker(countdown()):
                pass
        graph = countdown().with_config(checkpointer=first)
        assert await graph.ainvoke({"n": 1}, config("t")) == {"n": 0}


@pytest.mark.compat
@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_hooks_that_were_removed(
    client: Client, task_queue: str, thread_id: str, durability: Literal["sync", "async", "exit"]
) -> None:
    """Without them LangGraph would run the graph in the caller's process."""
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    graph = countdown().with_config(checkpointer=saver)
    async with saver.worker(countdown()), asyncio.timeout(60):
        hooks.uninstall()
        try:
            with pytest.raises(NotDurableError, match=r"arun_with_retry.*put back"):
                await graph.ainvoke({"n": 1}, config(thread_id), durability=durability)
        finally:
            hooks.install()
        assert (await graph.aget_state(config(thread_id))).values == {}
        assert await graph.ainvoke({"n": 1}, config(thread_id)) == {"n": 0}
