"""Threads that nobody has used for a while leave only what finds them again."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from langgraph_temporal_exec import TemporalSaver, UsageError
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import ReadRequest, Snapshot
from langgraph_temporal_exec.protocol.wire import unpack
from langgraph_temporal_exec.workflow import thread
from tests.conftest import TemporalServer
from tests.integration.test_deadline import asking_graph
from tests.storage.conftest import MakeSaver, comparable, converse, history, model
from tests.storage.driver import Files, storage
from tests.storage.graphs import agents, chat, noisy
from tests.storage.test_archives import carried
from tests.storage.test_closed_namespaces import ask, check_same
from tests.storage.test_lifetime import until
from tests.support.graphs import all_graphs, config
from tests.support.warm import WARM

UPDATED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED
SOON = timedelta(seconds=1)
PARKED_BYTES = 4_000
"""History of a thread that is parked; far less than that of one turn."""


async def is_parked(client: Client, workflow_id: str) -> bool:
    """Whether a workflow has continued as new to be parked, and nothing has come since."""
    last = (await carried(client, workflow_id))[-1]
    if not last.snapshot or not unpack(Snapshot, last.snapshot).parked:
        return False
    events = (await client.get_workflow_handle(workflow_id).fetch_history()).events
    return all(
        e.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED for e in events
    )


async def parked(saver: TemporalSaver, thread_id: str = "t", namespace: str = "") -> int:
    """Wait until a thread, or a namespace of it, is parked.

    Returns:
        Bytes of its workflow's history.
    """
    workflow_id = names.thread_workflow_id(saver.options.id_prefix, thread_id, namespace)
    await until(lambda: is_parked(saver.client, workflow_id))
    described = await saver.client.get_workflow_handle(workflow_id).describe()
    return described.raw_description.workflow_execution_info.history_size_bytes


async def opened(saver: TemporalSaver, thread_id: str = "t") -> tuple[str, ...]:
    """The nested namespaces of a thread that have workflows."""
    reply = await saver._store.reader.read(thread_id, "", ReadRequest())
    assert reply is not None
    return reply.namespaces


async def test_a_parked_thread_is_read_and_goes_on_as_if_it_were_not(
    make_saver: MakeSaver,
) -> None:
    expected = await history(await model(range(8)))
    after = await history(await model(range(10)))
    saver = make_saver(park_after=SOON)
    async with saver.worker(chat()):
        graph = chat().with_config(checkpointer=saver)
        await converse(graph, range(8))
        assert await parked(saver) < PARKED_BYTES
        # The process that knows it, and one that does not.
        assert await history(graph) == expected
        cold = make_saver()
        assert await history(chat().with_config(checkpointer=cold)) == expected
        await converse(graph, range(8, 10))
        assert await history(graph) == after
        # Once more.
        assert await parked(saver) < PARKED_BYTES
    # Without any worker, too.
    assert await history(chat().with_config(checkpointer=make_saver())) == after


async def test_what_waits_for_a_human_is_parked_with_its_namespaces(
    make_saver: MakeSaver,
) -> None:
    saver = make_saver(park_after=SOON)
    async with saver.worker(all_graphs()):
        nested = all_graphs()["nested"].with_config(checkpointer=saver)
        asked = await nested.ainvoke({"x": ["in"]}, config("t"))
        before = comparable(await nested.aget_state(config("t"), subgraphs=True))
        (namespace,) = await opened(saver)
        assert await parked(saver) < PARKED_BYTES
        assert await parked(saver, namespace=namespace) < PARKED_BYTES
        cold = all_graphs()["nested"].with_config(checkpointer=make_saver())
        assert comparable(await cold.aget_state(config("t"), subgraphs=True)) == before
        for known in (saver, cold.checkpointer):
            info = await known.aget_thread("t")
            assert info is not None
            assert info.status == "interrupted"
        (question,) = asked["__interrupt__"]
        answered = await nested.ainvoke(Command(resume={question.id: "yes"}), config("t"))
        assert "__interrupt__" not in answered
        assert answered["x"][-1] == "inner:yes"


async def test_a_question_answers_itself_although_its_thread_is_parked(
    make_saver: MakeSaver,
) -> None:
    within = timedelta(seconds=8)
    graph_ = asking_graph({"sync": within, "inner": within})
    saver = make_saver(park_after=SOON)
    async with saver.worker(graph_):
        graph = graph_.with_config(checkpointer=saver)
        assert len((await graph.ainvoke({"x": []}, config("t")))["__interrupt__"]) == 2
        assert await parked(saver) < PARKED_BYTES

        async def answered() -> bool:
            info = await saver.aget_thread("t")
            return info is not None and info.status == "idle"

        await until(answered)
        found = (await graph.aget_state(config("t"))).values["x"]
        assert sorted(found[:2]) == ["inner no", "sync {'no': [1]}"]
        assert found[2:] == ["last"]


async def test_the_next_worker_parks_what_has_rested_without_one(make_saver: MakeSaver) -> None:
    saver = make_saver(park_after=timedelta(seconds=2))
    workflow_id = names.thread_workflow_id(saver.options.id_prefix, "t")
    async with saver.worker(chat()):
        await converse(chat().with_config(checkpointer=saver), range(1))
    handle = saver.client.get_workflow_handle(workflow_id)

    async def rang() -> bool:
        events = (await handle.fetch_history()).events
        return any(e.event_type == EventType.EVENT_TYPE_TIMER_FIRED for e in events)

    await until(rang)
    assert not await is_parked(saver.client, workflow_id)
    later = make_saver()
    async with later.worker(chat()):
        assert await parked(later) < PARKED_BYTES


async def test_many_namespaces_are_told(
    make_saver: MakeSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few at a time."""
    monkeypatch.setattr(thread, "SIGNALS_AT_ONCE", 2)
    saver = make_saver(park_after=SOON)
    asks = agents(tuple(range(5)))
    async with saver.worker(asks):
        graph = asks.copy({"checkpointer": saver})
        assert len((await ask(graph, 0, 5))["__interrupt__"]) == 5
        namespaces = await opened(saver)
        assert len(namespaces) == 5
        for namespace in ("", *namespaces):
            assert await parked(saver, namespace=namespace) < PARKED_BYTES


async def test_it_is_parked_once_it_has_rested_for_so_long(
    make_saver: MakeSaver, client: Client
) -> None:
    rest = timedelta(seconds=3)
    saver = make_saver(park_after=rest)
    workflow_id = names.thread_workflow_id(saver.options.id_prefix, "t")
    async with saver.worker(chat()):
        graph = chat().with_config(checkpointer=saver)
        for n in range(6):
            await converse(graph, range(n, n + 1))
            await asyncio.sleep(1)
        await parked(saver)
        runs = await carried(client, workflow_id)
        await asyncio.sleep(2 * rest.total_seconds())
        # Not again while it rests.
        assert len(await carried(client, workflow_id)) == len(runs)
    query = f"WorkflowId = '{workflow_id}' AND ExecutionStatus = 'ContinuedAsNew'"
    left = [w async for w in client.list_workflows(query)]
    assert left
    for execution in left:
        handle = client.get_workflow_handle(workflow_id, run_id=execution.run_id)
        *before, last = (await handle.fetch_history()).events
        used = [e for e in before if e.event_type == UPDATED][-1]
        assert last.event_time.ToDatetime() - used.event_time.ToDatetime() >= rest
        # Not one for each use.
        assert sum(e.event_type == EventType.EVENT_TYPE_TIMER_STARTED for e in before) <= 5


async def test_what_no_checkpoint_needs_any_more_goes_first(make_saver: MakeSaver) -> None:
    """Garbage that is too little to be worth the work at other times."""
    saver = make_saver(park_after=SOON)
    async with saver.worker(chat()):
        graph = chat().with_config(checkpointer=saver)
        await converse(graph, range(4))
        await saver.aprune(["t"], strategy="keep_latest")
        latest = await history(graph)
        await parked(saver)
        reply = await make_saver()._store.reader.read("t", "", ReadRequest())
        assert reply is not None
        assert reply.page.ops == ()
        assert await history(chat().with_config(checkpointer=make_saver())) == latest


async def test_a_parked_thread_is_deleted_without_a_trace(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    saver = make_saver(park_after=SOON)
    async with saver.worker(chat()):
        graph = chat().with_config(checkpointer=saver)
        await converse(graph, range(8))
        await parked(saver)
        await saver.adelete_thread("t")
        assert await history(graph) == []

        async def nothing_open() -> bool:
            found = client.list_workflows(
                f"WorkflowId STARTS_WITH '{task_queue}/' AND ExecutionStatus = 'Running'"
            )
            return not [w async for w in found if "/blob/" in w.id or w.id.endswith("/t")]

        await until(nothing_open)


async def test_what_comes_while_it_is_being_parked_finds_the_thread(make_saver: MakeSaver) -> None:
    """At once before, during and after; from the process of the last run, and from another."""
    expected = await history(await model(range(12)))
    saver = make_saver(park_after=SOON)
    async with saver.worker(chat()):
        graph = chat().with_config(checkpointer=saver)
        cold = chat().with_config(checkpointer=make_saver())
        for n in range(12):
            await converse(graph if n % 3 else cold, range(n, n + 1))
            await asyncio.sleep(SOON.total_seconds() + 0.02 * (n - 5))
        assert await history(graph) == expected
        assert await history(chat().with_config(checkpointer=make_saver())) == expected


async def test_with_external_storage_only_references_stay(
    client: Client, make_saver: MakeSaver, task_queue: str, tmp_path: Path
) -> None:
    files = Files(tmp_path)
    converter = replace(client.data_converter, external_storage=storage(files))
    config_ = {**client.config(), "data_converter": converter}
    saver = make_saver(client=Client(**config_), park_after=SOON)
    async with saver.worker(noisy(100)):
        graph = noisy(100).with_config(checkpointer=saver)
        await converse(graph, range(3))
        assert await parked(saver) < PARKED_BYTES
        cost = await saver.aget_cost("t")
        # Less than 1 kB for each archive, head and value.
        assert cost.active_bytes < 12_000
        assert sum(files.stored.values()) > 200_000
        before = await history(graph)
        cold = make_saver(client=Client(**config_))
        assert await history(noisy(100).with_config(checkpointer=cold)) == before
        await converse(graph, range(3, 4))
        assert len((await graph.aget_state(config("t"))).values["messages"]) == 8


@pytest.mark.long
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_worker_dies_while_it_parks(
    make_saver: MakeSaver,
    temporal_server: TemporalServer,
    task_queue: str,
    tmp_path: Path,
    when: str,
) -> None:
    command = [WARM, "-m", "tests.storage.dying_worker", "--address", temporal_server.address]
    command += ["--task-queue", task_queue, "--folder", str(tmp_path), "--park-after", "1"]
    command += ["--kill", f"{when} activity:{names.ARCHIVE_ACTIVITY}"]
    process = await asyncio.create_subprocess_exec(*command)
    caller = make_saver()
    graph = agents().copy({"checkpointer": caller})
    model = agents().copy({"checkpointer": InMemorySaver()})
    try:
        assert await ask(graph, 0, 3) == await ask(model, 0, 3)
        assert await process.wait() == -signal.SIGKILL
    finally:
        if process.returncode is None:
            process.kill()
    saver = make_saver(park_after=SOON)
    async with saver.worker(agents()):
        if when == "after":
            # It may be used at once, whatever became of the parking.
            assert await ask(graph, 3, 1) == await ask(model, 3, 1)
        assert await parked(saver) < PARKED_BYTES
        await check_same(graph, model, (0, 1, 2, 3) if when == "after" else (0, 1, 2))
    caller.close()


@pytest.mark.parametrize("value", [timedelta(0), timedelta(milliseconds=900), 5, "1 h", True])
def test_bad_times_are_refused(make_saver: MakeSaver, value: Any) -> None:
    with pytest.raises(UsageError, match="park_after"):
        make_saver(park_after=value)
