"""Threads without workers, pruned, retained, copied, deleted and listed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt
from pydantic import BaseModel
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from langgraph_temporal_exec import NoWorkersError, Retention, TemporalSaver, ThreadInfo, UsageError
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import ReadRequest
from tests.storage.conftest import MakeSaver, comparable, converse, history
from tests.storage.graphs import big, chat, turn
from tests.storage.test_large_values import blobs_of
from tests.support.graphs import config, failing, nested

pytestmark = pytest.mark.exhaustive

TINY = 4_000


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what happens behind the caller's back; the test's timeout is the bound."""
    while not await condition():  # noqa: ASYNC110 - it happens in Temporal, nobody sets an event
        await asyncio.sleep(0.1)


async def ids(graph: Any, thread_id: str = "t") -> list[str]:
    found = [s async for s in graph.aget_state_history(config(thread_id))]
    return [s.config["configurable"]["checkpoint_id"] for s in found]


async def events(client: Client, prefix: str) -> int:
    """Events in all histories of a deployment."""
    total = 0
    async for execution in client.list_workflows(f"WorkflowId STARTS_WITH '{prefix}/'"):
        total += execution.history_length
    return total


async def settled(saver: TemporalSaver, thread_id: str = "t") -> Any:
    """Wait until nothing is being archived, compacted or removed any more."""
    handle = saver.client.get_workflow_handle(
        names.thread_workflow_id(saver.options.id_prefix, thread_id)
    )
    while True:
        now = (await handle.describe()).raw_description
        # Between one Activity and the next only a workflow task is pending.
        busy = now.pending_activities or now.HasField("pending_workflow_task")
        reply = await saver._store.reader.read(thread_id, "", ReadRequest())
        if not busy:
            return reply
        await asyncio.sleep(0.05)


class Tags(BaseModel):
    """A model that iterates as its content does."""

    names: list[str]

    def __iter__(self) -> Any:
        return iter(self.names)


@dataclass
class Ticket:
    """An object of the user's in the state, with others inside."""

    opened: date
    by: dict[Any, Any]
    tags: Tags


def _asks_about(ticket: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [interrupt({"about": ticket["ticket"]})]}


async def test_an_export_has_the_fields_of_objects(make_saver: MakeSaver) -> None:
    class WithTicket(MessagesState):
        ticket: Ticket

    builder = StateGraph(WithTicket).add_node("ask", _asks_about).add_edge(START, "ask")
    ticket = Ticket(
        opened=date(2026, 1, 2),
        by={("ann", 1): HumanMessage("please", id="m")},
        tags=Tags(names=["a"]),
    )
    saver = make_saver()
    async with saver.worker(graph := builder.compile(name="asks")):
        await graph.with_config(checkpointer=saver).ainvoke({"ticket": ticket}, config("t"))
        *_, last = [item async for item in saver.aexport_thread("t")]
    assert json.loads(json.dumps(last)) == last
    told = last["values"]["ticket"]
    assert told["opened"] == "2026-01-02"
    assert told["tags"] == {"names": ["a"]}
    assert told["by"]["('ann', 1)"]["kwargs"]["content"] == "please"
    ((asked,),) = [w["value"] for w in last["pending_writes"] if w["channel"] == "__interrupt__"]
    assert asked["value"] == {"about": told}
    assert len(asked["id"]) == 32


@pytest.mark.parametrize("archive_bytes", [0, TINY])
async def test_reading_needs_no_worker_and_starts_nothing(
    make_saver: MakeSaver, client: Client, task_queue: str, archive_bytes: int
) -> None:
    saver = make_saver(archive_bytes=archive_bytes)
    async with saver.worker(chat(), nested()):
        graph = chat().with_config(checkpointer=saver)
        await converse(graph, range(9))
        deep = nested().with_config(checkpointer=saver)
        await deep.ainvoke({"x": ["in"]}, config("deep"))
        expected = await history(graph)
        below = await deep.aget_state(config("deep"), subgraphs=True)
        exported = [item async for item in saver.aexport_thread("deep")]
        info = await saver.aget_thread("deep")
    # No worker from here on.
    before = await events(client, task_queue)
    cold = make_saver()
    graph = chat().with_config(checkpointer=cold)
    assert comparable(await graph.aget_state(config("t"))) == expected[0]
    assert await history(graph) == expected
    deep = nested().with_config(checkpointer=cold)
    state = await deep.aget_state(config("deep"), subgraphs=True)
    assert state.tasks[0].state.values == below.tasks[0].state.values
    assert state.tasks[0].interrupts == below.tasks[0].interrupts
    assert [item async for item in cold.aexport_thread("deep")] == exported
    assert await cold.aget_thread("deep") == info

    async def listed() -> bool:
        return {t.thread_id async for t in cold.alist_threads()} == {"t", "deep"}

    await until(listed)
    assert (await graph.aget_state(config("nobody"))).values == {}
    with pytest.raises(NoWorkersError):
        await graph.aupdate_state(config("t"), {"facts": {"a": "b"}})
    assert await events(client, task_queue) == before


async def test_history_and_worker_agree_at_every_moment(make_saver: MakeSaver) -> None:
    """What is folded from recorded events is what the workflow holds, superseded parts included."""
    saver = make_saver(archive_bytes=TINY, roll_events=60)
    async with saver.worker(chat()):
        graph = chat().with_config(checkpointer=saver)
        for n in range(12):
            await converse(graph, range(n, n + 1))
            reply = await settled(saver)
            state = await saver._store.history.state(
                names.thread_workflow_id(saver.options.id_prefix, "t")
            )
            assert state is not None
            assert sorted(state.log.entries) == sorted(reply.page.ops)
            assert (state.log.base, state.log.segments, state.log.head) == (
                reply.page.start,
                reply.page.segments,
                reply.page.head,
            )


@pytest.mark.parametrize("archive_bytes", [0, TINY])
async def test_pruning_is_safe_for_interrupts_and_delta_channels(
    make_saver: MakeSaver, client: Client, task_queue: str, archive_bytes: int
) -> None:
    saver = make_saver(archive_bytes=archive_bytes)
    async with saver.worker(chat()):
        graph = chat().with_config(checkpointer=saver)
        await converse(graph, range(7))
        asked = await graph.ainvoke(turn(7), config("t"))
        assert "__interrupt__" in asked
        before = comparable(await graph.aget_state(config("t")))
        await saver.aprune(["t"])
        await settled(saver)
        assert len(await ids(graph)) == 1
        for reader in (saver, make_saver()):
            state = await chat().with_config(checkpointer=reader).aget_state(config("t"))
            assert comparable(state) == before
        done = await graph.ainvoke(Command(resume="yes"), config("t"))
        assert done["notes"][-1] == "checked yes"
        assert len(done["messages"]) == 16
        await converse(graph, range(8, 12))
        assert len((await graph.aget_state(config("t"))).values["notes"]) == 13
        # Again, over what was compacted already.
        await saver.aprune(["t"])
        reply = await settled(saver)
        assert len(reply.page.segments) == 1
        cold = chat().with_config(checkpointer=make_saver())
        assert len(await ids(cold)) == 1
        assert len((await cold.aget_state(config("t"))).values["messages"]) == 24


async def test_pruning_frees_large_values(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    saver = make_saver()
    async with saver.worker(big()):
        graph = big().with_config(checkpointer=saver)
        for _ in range(3):
            await graph.ainvoke({"kind": "string", "megabytes": 1}, config("t"))
            await graph.aupdate_state(config("t"), {"value": "small", "answer": "x"}, as_node="ask")
        assert len(await blobs_of(client, task_queue, "t")) > 3
        await saver.aprune(["t"])
        await settled(saver)
        kept = await blobs_of(client, task_queue, "t")
        assert (await graph.aget_state(config("t"))).values["value"] == "small"
        # The archive, and what nested namespaces keep of their latest checkpoints.
        assert len(kept) < 20
        await graph.aupdate_state(config("t"), {"value": "y" * 300_000}, as_node="make")
        cold = big().with_config(checkpointer=make_saver())
        assert (await cold.aget_state(config("t"))).values["value"] == "y" * 300_000


async def test_delete_for_runs_keeps_what_others_build_on(make_saver: MakeSaver) -> None:
    saver = make_saver(archive_bytes=TINY)
    async with saver.worker(chat()):
        graph = chat().with_config(checkpointer=saver)
        await converse(graph, range(3))
        run = {"run_id": "7e0e2f3c-0000-4000-8000-000000000001"}
        marked = {**config("t"), "metadata": run}
        await graph.ainvoke(turn(3), marked)
        await converse(graph, range(4, 6))
        values = comparable(await graph.aget_state(config("t")))
        found = len(await ids(graph))
        for _ in range(2):
            await saver.adelete_for_runs([run["run_id"]])
        await settled(saver)
        for reader in (saver, make_saver()):
            again = chat().with_config(checkpointer=reader)
            assert comparable(await again.aget_state(config("t"))) == values
            assert len(await ids(again)) < found


async def test_retention(make_saver: MakeSaver, client: Client, task_queue: str) -> None:
    saver = make_saver(archive_bytes=TINY, retention=Retention(last=5))
    async with saver.worker(chat(), nested()):
        graph = chat().with_config(checkpointer=saver)
        deep = nested().with_config(checkpointer=saver)
        await converse(graph, range(8))
        for n in range(3):
            await deep.ainvoke({"x": [n]}, config("deep"))
            await deep.ainvoke(Command(resume=n), config("deep"))
        prefix = names.thread_workflow_id(task_queue, "deep")
        query = f"WorkflowId STARTS_WITH '{prefix}/' AND ExecutionStatus = 'Running'"

        async def retained() -> bool:
            return max(len(await ids(graph)), len(await ids(deep, "deep"))) <= 5

        async def nested_ended() -> bool:
            """The nested namespaces of runs that are not kept."""
            return (await client.count_workflows(query)).count <= 1

        await until(retained)
        await until(nested_ended)
        state = await graph.aget_state(config("t"))
        assert len(state.values["messages"]) == 16
        assert len(state.values["notes"]) == 9
        asked = await graph.ainvoke(turn(17), config("t"))
        assert "__interrupt__" in asked
        await until(retained)
        done = await graph.ainvoke(Command(resume="still here"), config("t"))
        assert done["notes"][-1] == "checked still here"


async def test_retention_by_age_keeps_the_latest(make_saver: MakeSaver) -> None:
    saver = make_saver(retention=Retention(max_age=timedelta(microseconds=1)))
    async with saver.worker(chat()):
        graph = chat().with_config(checkpointer=saver)
        await converse(graph, range(3))

        async def one_left() -> bool:
            return len(await ids(graph)) == 1

        await until(one_left)
        assert len((await graph.aget_state(config("t"))).values["notes"]) == 3
    young = make_saver(retention=Retention(max_age=timedelta(days=1)))
    with pytest.raises(UsageError, match="at least 1"):
        Retention(last=0)
    with pytest.raises(UsageError, match="positive"):
        Retention(max_age=timedelta(0))
    with pytest.raises(UsageError, match="last"):
        Retention()
    async with young.worker(chat()):
        graph = chat().with_config(checkpointer=young)
        await converse(graph, range(3), "young")
        assert len(await ids(graph, "young")) == 12


@pytest.mark.parametrize("archive_bytes", [0, TINY])
async def test_copies_are_whole_and_their_own(
    make_saver: MakeSaver, client: Client, task_queue: str, archive_bytes: int
) -> None:
    saver = make_saver(archive_bytes=archive_bytes)
    async with saver.worker(chat(), big()):
        graph = chat().with_config(checkpointer=saver)
        await converse(graph, range(9))
        expected = await history(graph)
        large = big().with_config(checkpointer=saver)
        await large.ainvoke({"kind": "string", "megabytes": 1}, config("big"))
        await saver.acopy_thread("t", "t2")
        await saver.acopy_thread("big", "big2")
        await saver.adelete_thread("t")
        await saver.adelete_thread("big")
        for reader in (saver, make_saver()):
            again = chat().with_config(checkpointer=reader)
            assert await history(again, "t2") == expected
        state = await large.aget_state(config("big2"), subgraphs=True)
        assert len(state.values["value"]) == 1_000_000
        done = await large.ainvoke(Command(resume="yes"), config("big2"))
        assert done["answer"] == "yes"
        inner = [
            t
            async for t in saver.alist(config("big2"))
            if t.config["configurable"]["checkpoint_ns"]
        ]
        assert len(inner[0].checkpoint["channel_values"]["value"]) == 1_000_000
        await converse(graph, range(9, 11), "t2")
        assert len((await graph.aget_state(config("t2"))).values["messages"]) == 22


@pytest.mark.long
async def test_deletion_leaves_nothing_to_read(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    """Blobs and archives are gone; a purged thread is gone from closed executions too."""
    saver = make_saver(archive_bytes=TINY)
    async with saver.worker(chat(), big()):
        for thread_id in ("deleted", "purged"):
            graph = chat().with_config(checkpointer=saver)
            await converse(graph, range(6), thread_id)
            large = big().with_config(checkpointer=saver)
            await large.ainvoke({"kind": "string", "megabytes": 1}, config(thread_id))
            assert await blobs_of(client, task_queue, thread_id)
        blobs = {t: await blobs_of(client, task_queue, t) for t in ("deleted", "purged")}
        await saver.adelete_thread("deleted")
        await saver.apurge_thread("purged")

        async def unlisted() -> bool:
            return not any([await blobs_of(client, task_queue, t) for t in blobs])

        for thread_id, had in blobs.items():
            for workflow_id in had:
                with pytest.raises(RPCError):
                    await client.get_workflow_handle(workflow_id).fetch_history()
            for reader in (saver, make_saver()):
                graph = chat().with_config(checkpointer=reader)
                assert (await graph.aget_state(config(thread_id))).values == {}
                assert await reader.aget_thread(thread_id) is None
        # Nested namespaces ended with the thread.
        running = f"WorkflowId STARTS_WITH '{task_queue}/thread/' AND ExecutionStatus = 'Running'"

        async def ended() -> bool:
            return not (await client.count_workflows(running)).count

        async def purged() -> bool:
            """Temporal deletes closed executions in the background."""
            purged_id = names.thread_workflow_id(task_queue, "purged")
            try:
                await client.get_workflow_handle(purged_id).fetch_history()
            except RPCError:
                return True
            return False

        await until(unlisted)
        await until(ended)
        await until(purged)
        text = json.dumps([h async for h in _inputs(client, task_queue)])
        assert "question 3" in text  # of the deleted one, until the server's retention
        # The name can be used again.
        graph = chat().with_config(checkpointer=saver)
        await saver.adelete_thread("deleted")
        await converse(graph, range(1), "deleted")
        assert len((await graph.aget_state(config("deleted"))).values["messages"]) == 2


async def test_many_deletions_at_once(make_saver: MakeSaver, client: Client) -> None:
    """That of a thread waits for those of its namespaces; none of them may wait for a slot."""
    saver = make_saver()
    async with saver.worker(nested()):
        graph = nested().with_config(checkpointer=saver)
        threads = [f"t{i}" for i in range(12)]
        await asyncio.gather(*(graph.ainvoke({"x": []}, config(t)) for t in threads))
        await asyncio.gather(*(saver.adelete_thread(t) for t in threads))
        prefix = f"WorkflowId STARTS_WITH '{saver.options.id_prefix}/thread/'"

        async def all_ended() -> bool:
            return not (
                await client.count_workflows(f"{prefix} AND ExecutionStatus = 'Running'")
            ).count

        await until(all_ended)
        # Not by the one who gave up waiting for them.
        ended = f"{prefix} AND ExecutionStatus = 'Terminated'"
        assert (await client.count_workflows(ended)).count == 0


@pytest.mark.long
async def test_deletion_without_a_worker_is_done_by_the_next_one(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    """It fails, changes nothing that can be read, and is not taken back.

    See docs/reference/limits.md.
    """
    saver = make_saver(archive_bytes=TINY)
    async with saver.worker(chat(), big()):
        graph = chat().with_config(checkpointer=saver)
        await converse(graph, range(6))
        large = big().with_config(checkpointer=saver)
        await large.ainvoke({"kind": "string", "megabytes": 1}, config("t"))
        expected = comparable(await graph.aget_state(config("t")))
        await settled(saver)
    blobs = await blobs_of(client, task_queue, "t")
    # No worker from here on.
    caller = make_saver(no_worker_timeout=timedelta(seconds=1))
    with pytest.raises(NoWorkersError):
        await caller.adelete_thread("t")
    for reader in (caller, make_saver()):
        graph = chat().with_config(checkpointer=reader)
        assert comparable(await graph.aget_state(config("t"))) == expected
    assert await blobs_of(client, task_queue, "t") == blobs != []
    saver = make_saver()
    async with saver.worker(chat(), big()):
        prefix = names.thread_workflow_id(task_queue, "t")
        running = f"WorkflowId STARTS_WITH '{prefix}' AND ExecutionStatus = 'Running'"

        async def ended() -> bool:
            return not (await client.count_workflows(running)).count

        await until(ended)
        for workflow_id in blobs:
            with pytest.raises(RPCError):
                await client.get_workflow_handle(workflow_id).fetch_history()
        # A caller that asks again, as it is told to, is not refused.
        await caller.adelete_thread("t")
        for reader in (caller, saver, make_saver()):
            graph = chat().with_config(checkpointer=reader)
            assert (await graph.aget_state(config("t"))).values == {}
            assert await reader.aget_thread("t") is None
            assert [item async for item in reader.aexport_thread("t")] == []


async def _inputs(client: Client, prefix: str) -> Any:
    async for execution in client.list_workflows(f"WorkflowId STARTS_WITH '{prefix}/run/'"):
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        try:
            async for event in handle.fetch_history_events():
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                    started = event.workflow_execution_started_event_attributes
                    yield str(started.input.payloads[0].data)
        except RPCError as exc:
            # Of the purged thread: listed a moment longer than it is there.
            if exc.status is not RPCStatusCode.NOT_FOUND:
                raise


async def test_listing_tells_status_graph_and_interrupts(make_saver: MakeSaver) -> None:
    saver = make_saver()
    async with saver.worker(chat(), failing(), big()):
        graph = chat().with_config(checkpointer=saver)
        await converse(graph, range(1), "idle")
        await graph.ainvoke(turn(7), config("asking"))
        with pytest.raises(Exception, match="boom"):
            await failing().with_config(checkpointer=saver).ainvoke({"x": []}, config("broken"))
        wanted = {"idle": "idle", "asking": "interrupted", "broken": "error"}
        found: dict[str, ThreadInfo] = {}

        async def listed() -> bool:
            found.update({t.thread_id: t async for t in saver.alist_threads()})
            return {k: t.status for k, t in found.items()} == wanted

        await until(listed)
        assert {t.graph for t in found.values()} == {"chat", "failing"}
        assert [i.value for i in found["asking"].interrupts] == ["sure?"]
        assert found["asking"].updated_at >= found["asking"].created_at
        only = [t.thread_id async for t in saver.alist_threads(status="interrupted")]
        assert only == ["asking"]
        assert [t.thread_id async for t in saver.alist_threads(graph="failing")] == ["broken"]
        assert len([t async for t in saver.alist_threads(limit=2)]) == 2
        assert await saver.aget_thread("nobody") is None
        assert (await asyncio.to_thread(saver.get_thread, "idle")) == found["idle"]
