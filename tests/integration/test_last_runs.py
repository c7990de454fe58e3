"""Runs that begin without asking, in the process that had the last run of their thread."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langgraph.graph import END, START, StateGraph
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from langgraph_temporal_exec import NodeOptions, RunCancelledError, TemporalSaver
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import BeginRequest
from langgraph_temporal_exec.storage import thread_client
from langgraph_temporal_exec.worker import outbox
from tests.support.graphs import State, config
from tests.support.reading import check_without_worker


class Counted:
    """A graph of one node, which counts."""

    def __init__(self) -> None:
        self.ran = 0

    async def node(self, state: State) -> State:
        self.ran += 1
        return {"x": ["."]}

    def graph(self) -> Any:
        builder = StateGraph(State).add_node("node", self.node).add_edge(START, "node")
        return builder.compile(name="counted")


class Starts(AsyncCallbackHandler):
    """How often LangGraph has said that it begins."""

    def __init__(self) -> None:
        self.count = 0

    async def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self.count += kwargs.get("parent_run_id") is None


async def updates(client: Client, prefix: str) -> list[str]:
    """Names of the Updates that a thread has accepted."""
    handle = client.get_workflow_handle(names.thread_workflow_id(prefix, "t"))
    return [
        event.workflow_execution_update_accepted_event_attributes.accepted_request.input.name
        async for event in handle.fetch_history_events()
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
    ]


def bound(client: Client, queue: str, graph: Any, **options: Any) -> tuple[Any, TemporalSaver]:
    saver = TemporalSaver(client, task_queue=queue, id_prefix=queue, **options)
    return graph.with_config(checkpointer=saver), saver


def one_node(*, sync: bool) -> Any:
    """A graph of one node."""
    if not sync:
        return Counted().graph()
    builder = StateGraph(State).add_node("node", lambda state: {"x": ["."]})
    return builder.add_edge(START, "node").compile(name="counted")


async def three_turns(graph: Any, *, sync: bool) -> None:
    for n in range(1, 4):
        if sync:
            got = await asyncio.to_thread(graph.invoke, {"x": ["in"]}, config("t"))
        else:
            got = await graph.ainvoke({"x": ["in"]}, config("t"))
        assert got["x"] == ["in", "."] * n


@pytest.mark.parametrize("sync", [False, True])
async def test_a_later_run_is_one_update(client: Client, task_queue: str, sync: bool) -> None:
    graph, saver = bound(client, task_queue, one_node(sync=sync))
    async with saver.worker(graph):
        await three_turns(graph, sync=sync)
        await check_without_worker(saver, "t")
        steps = [m["step"] async for m in metadata(graph)]
    assert steps == list(range(7, -2, -1))
    sent = await updates(client, task_queue)
    assert sent[:2] == [names.ATTACH_UPDATE, names.STEP_UPDATE]
    assert sent.count(names.BEGIN_UPDATE) == 2
    assert names.ATTACH_UPDATE not in sent[2:]


@pytest.mark.parametrize("sync", [False, True])
async def test_so_it_is_for_a_caller_elsewhere(client: Client, task_queue: str, sync: bool) -> None:
    served = one_node(sync=sync)
    _, saver = bound(client, task_queue, served)
    other = await Client.connect(client.service_client.config.target_host)
    graph, caller = bound(other, task_queue, served)
    async with saver.worker(served):
        await three_turns(graph, sync=sync)
        # What is seen of the beginning, and a run that nobody waits for, asks.
        chunks = [c async for c in graph.astream({"x": ["in"]}, config("t"), stream_mode="values")]
        assert [len(c["x"]) for c in chunks] == [7, 8]
        run = await caller.astart(graph, {"x": ["in"]}, config("t"))
        assert len((await run.aresult())["x"]) == 10
        await check_without_worker(saver, "t")
    sent = await updates(client, task_queue)
    assert sent.count(names.BEGIN_UPDATE) == 2
    assert sent.count(names.ATTACH_UPDATE) == 3
    caller.close()


async def test_somebody_else_has_been_there_before_a_caller_elsewhere(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = thread_client.Transport.begin
    presumed: set[str] = set()

    async def noted(transport: Any, workflow_id: str, request: BeginRequest) -> Any:
        presumed.add(request.attach.run_id)
        return await begin(transport, workflow_id, request)

    monkeypatch.setattr(thread_client.Transport, "begin", noted)
    counted = Counted()
    _, saver = bound(client, task_queue, counted.graph())
    other = await Client.connect(client.service_client.config.target_host)
    graph, caller = bound(other, task_queue, Counted().graph())
    async with saver.worker(counted.graph()):
        await graph.ainvoke({"x": ["in"]}, config("t"))
        await graph.aupdate_state(config("t"), {"x": ["other"]})
        got = await graph.ainvoke({"x": ["in"]}, config("t"))
        assert got["x"] == ["in", ".", "other", "in", "."]
        got = await graph.ainvoke({"x": ["in"]}, config("t"))
        assert got["x"][5:] == ["in", "."]
        await check_without_worker(saver, "t")
    assert counted.ran == 3
    assert len(presumed) == 1
    assert names.BEGIN_UPDATE not in await updates(client, task_queue)
    caller.close()


async def metadata(graph: Any) -> Any:
    async for state in graph.aget_state_history(config("t")):
        yield state.metadata


async def test_somebody_else_has_been_there(client: Client, task_queue: str) -> None:
    """What they have written is what the run begins with, and from then on runs ask."""
    counted = Counted()
    graph, saver = bound(client, task_queue, counted.graph())
    other_client = await Client.connect(client.service_client.config.target_host)
    other, _ = bound(other_client, task_queue, Counted().graph())
    starts = Starts()
    async with saver.worker(graph):
        await graph.ainvoke({"x": ["in"]}, config("t"))
        await other.aupdate_state(config("t"), {"x": ["other"]})
        calls = {**config("t"), "callbacks": [starts]}
        got = await graph.ainvoke({"x": ["in"]}, calls)
        assert got["x"] == ["in", ".", "other", "in", "."]
        got = await graph.ainvoke({"x": ["in"]}, calls)
        assert got["x"][5:] == ["in", "."]
        await check_without_worker(saver, "t")
    assert counted.ran == 3
    # LangGraph has begun the second call twice.
    assert starts.count == 3
    assert names.BEGIN_UPDATE not in await updates(client, task_queue)


async def test_the_thread_was_deleted_meanwhile(client: Client, task_queue: str) -> None:
    graph, saver = bound(client, task_queue, Counted().graph())
    other_client = await Client.connect(client.service_client.config.target_host)
    _, other = bound(other_client, task_queue, Counted().graph())
    async with saver.worker(graph):
        await graph.ainvoke({"x": ["in"]}, config("t"))
        await other.adelete_thread("t")
        assert (await graph.ainvoke({"x": ["new"]}, config("t")))["x"] == ["new", "."]
        await check_without_worker(saver, "t")


async def test_a_release_that_does_not_know_of_it_has_the_workflow(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted()
    graph, saver = bound(client, task_queue, counted.graph())
    async with saver.worker(graph):
        await graph.ainvoke({"x": ["in"]}, config("t"))
        monkeypatch.setattr(thread_client.names, "BEGIN_UPDATE", "of no release")
        assert (await graph.ainvoke({"x": ["in"]}, config("t")))["x"] == ["in", "."] * 2
    assert counted.ran == 2


@pytest.mark.parametrize("stays", [True, False])
async def test_an_answer_is_lost(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch, stays: bool
) -> None:
    """Sent again, it is no second beginning: also if that is when the run has ended, as for a
    request that stays."""
    counted = Counted()
    graph, saver = bound(client, task_queue, counted.graph())
    begin = thread_client.Transport.begin
    sent = 0

    async def twice(*args: Any, **kwargs: Any) -> Any:
        nonlocal sent
        sent += 1
        await begin(*args, **kwargs)
        return await begin(*args, **kwargs)

    monkeypatch.setattr(thread_client.Transport, "begin", twice)
    if not stays:
        monkeypatch.setattr(outbox.Outbox, "_may_stay", lambda *_: False)
    async with saver.worker(graph):
        for n in (1, 2, 3):
            assert (await graph.ainvoke({"x": ["in"]}, config("t")))["x"] == ["in", "."] * n
            await check_without_worker(saver, "t")
    assert counted.ran == 3
    assert sent >= 1


@pytest.mark.parametrize("case", ["stream", "exit", "inline", "continues"])
async def test_what_would_be_seen_before_asks(client: Client, task_queue: str, case: str) -> None:
    counted = Counted()
    options = {"nodes": {"node": NodeOptions(inline=True)}} if case == "inline" else {}
    graph, saver = bound(client, task_queue, counted.graph(), **options)
    async with saver.worker(graph):
        for n in range(1, 3):
            if case == "stream":
                chunks = [c async for c in graph.astream({"x": ["in"]}, config("t"))]
                assert chunks == [{"node": {"x": ["."]}}]
            elif case == "continues" and n == 2:
                await graph.ainvoke(None, config("t"))
            else:
                more = {"durability": "exit"} if case == "exit" else {}
                got = await graph.ainvoke({"x": ["in"]}, config("t"), **more)
                assert got["x"] == ["in", "."] * n
    assert names.BEGIN_UPDATE not in await updates(client, task_queue)


async def test_it_comes_to_a_nested_graph_that_was_not_there(
    client: Client, task_queue: str
) -> None:
    """The namespace is begun by a step, not as the thread was."""
    inner = Counted()
    builder = StateGraph(State).add_node("node", lambda state: {"x": ["."]})
    builder.add_node("inner", inner.graph()).add_edge(START, "node")
    builder.add_conditional_edges(
        "node", lambda state: "inner" if len(state["x"]) > 3 else END, ["inner", END]
    )
    graph, saver = bound(client, task_queue, builder.compile())
    async with saver.worker(graph), asyncio.timeout(60):
        assert (await graph.ainvoke({"x": ["in"]}, config("t")))["x"] == ["in", "."]
        got = await graph.ainvoke({"x": ["in"]}, config("t"))
        # What a nested graph returns holds what it was given.
        assert got["x"] == [*["in", "."] * 2, *["in", "."] * 2, "."]
        assert (await graph.ainvoke({"x": ["in"]}, config("t")))["x"][9:11] == ["in", "."]
        await check_without_worker(saver, "t")
    assert inner.ran == 2
    assert (await updates(client, task_queue)).count(names.BEGIN_UPDATE) == 1


async def test_two_processes_call_at_once(client: Client, task_queue: str) -> None:
    """Both have had the thread. One run follows the other, whoever presumes what."""
    host = client.service_client.config.target_host
    counted = [Counted(), Counted()]
    clients = [client, await Client.connect(host)]
    (one, saver), (two, other) = (
        bound(c, task_queue, n.graph(), affinity="none")
        for c, n in zip(clients, counted, strict=True)
    )
    async with saver.worker(one), other.worker(two), asyncio.timeout(120):
        for _ in range(5):
            await asyncio.gather(
                one.ainvoke({"x": ["in"]}, config("t")), two.ainvoke({"x": ["in"]}, config("t"))
            )
        assert (await one.aget_state(config("t"))).values["x"] == ["in", "."] * 10
        await check_without_worker(saver, "t")
    assert [n.ran for n in counted] == [5, 5]


async def test_it_is_cancelled_before_it_has_begun(
    client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted()
    graph, saver = bound(client, task_queue, counted.graph())
    begin = thread_client.Transport.begin
    sending, send = asyncio.Event(), asyncio.Event()
    here = asyncio.get_running_loop()

    runs: list[str] = []

    async def held(transport: Any, workflow_id: str, request: BeginRequest) -> Any:
        runs.append(request.step.run_id)
        here.call_soon_threadsafe(sending.set)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(send.wait(), here))
        return await begin(transport, workflow_id, request)

    async with saver.worker(graph), asyncio.timeout(60):
        await graph.ainvoke({"x": ["in"]}, config("t"))
        monkeypatch.setattr(thread_client.Transport, "begin", held)
        call = asyncio.create_task(graph.ainvoke({"x": ["in"]}, config("t")))
        await sending.wait()
        run = await saver.aget_run(runs[0])
        await run.acancel()
        await asyncio.sleep(0.2)
        send.set()
        with pytest.raises(RunCancelledError):
            await call
        while await run.astatus() != "cancelled":  # noqa: ASYNC110 # a server has no event
            await asyncio.sleep(0.05)
        await graph.ainvoke({"x": ["more"]}, config("t"))
        await check_without_worker(saver, "t")
