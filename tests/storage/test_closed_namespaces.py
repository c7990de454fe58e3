"""Sub-agents that have ended: their workflows are closed, and all of them stays readable."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import temporalio.client
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError
from temporalio.worker import Replayer

from langgraph_temporal_exec import Retention, TemporalSaver
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import ReadRequest, StepRequest
from langgraph_temporal_exec.protocol.wire import unpack
from langgraph_temporal_exec.storage import maintenance, shelves
from langgraph_temporal_exec.storage.blobs import delete_execution
from langgraph_temporal_exec.workflow.thread import ThreadWorkflow
from tests.conftest import TemporalServer
from tests.storage.conftest import MakeSaver
from tests.storage.graphs import agents, caller
from tests.storage.test_large_values import blobs_of
from tests.storage.test_lifetime import until
from tests.support.graphs import config
from tests.support.reading import check_without_worker
from tests.support.warm import WARM


async def executions(
    client: Client, task_queue: str, status: str, thread_id: str = "t"
) -> list[WorkflowExecution]:
    """Workflows of a thread and its namespaces."""
    prefix = names.thread_workflow_id(task_queue, thread_id)
    query = f"WorkflowId STARTS_WITH '{prefix}' AND ExecutionStatus = '{status}'"
    return [e async for e in client.list_workflows(query)]


async def closed(client: Client, task_queue: str, left: int = 1, thread_id: str = "t") -> None:
    """Wait until so many workflows of a thread are open."""

    async def few() -> bool:
        return len(await executions(client, task_queue, "Running", thread_id)) == left

    await until(few)


async def forget_closed(client: Client, task_queue: str, thread_id: str = "t") -> int:
    """What the retention of a Temporal namespace does; how many there were."""
    ended = await executions(client, task_queue, "Completed", thread_id)
    for execution in ended:
        await delete_execution(client, execution.id, execution.run_id)

    async def gone(execution: WorkflowExecution) -> bool:
        try:
            await client.get_workflow_handle(execution.id, run_id=execution.run_id).describe()
        except RPCError:
            return True
        return False

    for execution in ended:
        await until(partial(gone, execution))
    return len(ended)


async def nested(graph: Any, thread_id: str = "t") -> dict[int, str]:
    """The namespace of each topic, by the checkpoints that there are."""
    found: dict[int, str] = {}
    async for item in graph.checkpointer.alist(config(thread_id)):
        namespace = item.config["configurable"]["checkpoint_ns"]
        values = item.checkpoint["channel_values"]
        if namespace and "topic" in values:
            found[values["topic"]] = namespace
    return found


def at(namespace: str, thread_id: str = "t") -> Any:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": namespace}}


async def states(graph: Any, namespace: str, thread_id: str = "t") -> list[Any]:
    """All of a namespace but for ids and times; each state is read twice, by listing and by id."""
    listed = []
    async for state in graph.aget_state_history(at(namespace, thread_id)):
        again = await graph.aget_state(state.config)
        assert (again.values, again.next) == (state.values, state.next)
        told = {k: state.metadata[k] for k in ("source", "step")}
        listed.append((state.values, state.next, told))
    latest = await graph.aget_state(at(namespace, thread_id))
    assert (latest.values, latest.next) == listed[0][:2]
    return listed


async def check_same(graph: Any, model: Any, topics: tuple[int, ...]) -> None:
    """The sub-agents of some topics have the states that they have in memory."""
    ours, theirs = await nested(graph), await nested(model)
    assert ours.keys() == theirs.keys()
    for topic in topics:
        expected = await states(model, theirs[topic])
        assert len(expected) == 4
        assert await states(graph, ours[topic]) == expected


async def ask(graph: Any, start: int, count: int, thread_id: str = "t") -> Any:
    return await graph.ainvoke({"start": start, "count": count}, config(thread_id))


@contextlib.asynccontextmanager
async def used(
    make_saver: MakeSaver, runs: int, count: int, asking: tuple[int, ...] = (), **options: Any
) -> AsyncIterator[tuple[Any, Any]]:
    """A thread that has used a sub-agent in several runs, and the same thread in memory."""
    model = agents(asking).copy({"checkpointer": InMemorySaver()})
    saver = make_saver(**options)
    async with saver.worker(agents(asking)):
        graph = agents(asking).copy({"checkpointer": saver})
        for run in range(runs):
            result = await ask(graph, run * count, count)
            assert result["found"] == (await ask(model, run * count, count))["found"]
        yield graph, model


async def test_sub_agents_that_have_ended_are_closed(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    async with used(make_saver, 2, 3) as (graph, model):
        await closed(client, task_queue)
        await check_without_worker(graph.checkpointer, "t")
        for reader in (graph.checkpointer, make_saver()):
            await check_same(agents().copy({"checkpointer": reader}), model, (0, 3, 5))
        # From inside of one: it is opened again, with all it had, and closed once more.
        for one in (graph, model):
            namespace = (await nested(one))[3]
            middle = [s async for s in one.aget_state_history(at(namespace))][1]
            assert middle.next == ("tell",)
            edited = await one.aupdate_state(middle.config, {"notes": ["more"]})
            assert (await one.aget_state(edited)).values["notes"][1:] == ["more"]
        assert len(await executions(client, task_queue, "Running")) == 2
        assert await ask(graph, 6, 1) == await ask(model, 6, 1)
        await closed(client, task_queue)
        for one in (graph, model):
            assert len(await states(one, (await nested(one))[3])) == 5
    # No worker from here on.
    cold = agents().copy({"checkpointer": make_saver()})
    ours, theirs = await nested(cold), await nested(model)
    assert ours.keys() == theirs.keys()
    for topic in (3, 6):
        assert await states(cold, ours[topic]) == await states(model, theirs[topic])


@pytest.mark.timeout(600)
@pytest.mark.long
async def test_a_sub_agent_used_two_hundred_times(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    async with used(make_saver, 4, 50) as (graph, model):
        await closed(client, task_queue)
        # Beside the thread itself: of as many namespaces a few shelves are left, and their list.
        assert len(await blobs_of(client, task_queue, "t")) < 10
        await check_same(graph, model, (0, 100, 199))
        # After the retention of the Temporal namespace.
        assert await forget_closed(client, task_queue) == 200
        for reader in (graph.checkpointer, make_saver()):
            await check_same(agents().copy({"checkpointer": reader}), model, (0, 100, 199))
        reply = await graph.checkpointer._store.reader.read("t", "", ReadRequest())
        # What the thread carries of them is the same, however many there are.
        assert reply.namespaces == ()
        assert reply.shelves.ref is not None
        await fork(graph, model, 100)
        await closed(client, task_queue)


async def fork(graph: Any, model: Any, topic: int) -> None:
    """Go on from before a sub-agent was called, and from within it."""
    for one in (graph, model):
        namespace = (await nested(one))[topic]
        task = namespace.partition(":")[2]
        history = [s async for s in one.aget_state_history(config("t"))]
        (before,) = [s for s in history if task in {t.id for t in s.tasks}]
        given = next(s for s in history if s.config == before.parent_config)
        assert given.next == ("plan",)
        count = before.values["count"]
        found = len(before.values.get("found", ()))
        # From the very checkpoint: the tasks have the same ids, and so have the namespaces.
        again = await one.ainvoke(None, before.config)
        assert len(again["found"]) == found + count
        # From one step before it.
        again = await one.ainvoke(None, given.config)
        assert len(again["found"]) == found + count
        # From a checkpoint of the sub-agent's own.
        inner = [s async for s in one.aget_state_history(at(namespace))]
        within = next(s for s in inner if s.next == ("tell",))
        again = await one.ainvoke(None, within.config)
        assert len(again["found"]) == found + count
    ours, theirs = await nested(graph), await nested(model)
    assert [s async for s in told(graph, ours)] == [s async for s in told(model, theirs)]


async def told(graph: Any, namespaces: dict[int, str]) -> AsyncIterator[Any]:
    """States of all topics, as they are found by the latest namespace of each."""
    for topic in sorted(namespaces):
        yield topic, [s[0] for s in await states(graph, namespaces[topic])]


async def test_entered_again_by_time_travel(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    async with used(make_saver, 2, 2) as (graph, model):
        await closed(client, task_queue)
        await fork(graph, model, 1)
        await closed(client, task_queue)


async def test_one_asks_while_its_siblings_are_closed(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    async with used(make_saver, 1, 3, asking=(1,)) as (graph, model):
        # The thread, and the one that asks.
        await closed(client, task_queue, left=2)
        asked = (await graph.aget_state(config("t"), subgraphs=True)).tasks
        (waiting,) = [t for t in asked if t.interrupts]
        assert waiting.state.values["topic"] == 1
        assert waiting.state.next == ("tell",)
        for one in (graph, model):
            done = await one.ainvoke(Command(resume="yes"), config("t"))
            assert done["found"] == ["0: 1", "1: 1 yes", "2: 1"]
        await closed(client, task_queue)
        ours, theirs = await nested(graph), await nested(model)
        for topic in range(3):
            assert await states(graph, ours[topic]) == await states(model, theirs[topic])


async def test_closing_and_continuing_as_new(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    """What is recorded is carried over, and all histories replay."""
    async with used(make_saver, 3, 2, roll_events=25, archive_bytes=2_000) as (graph, model):
        await closed(client, task_queue)
        assert await executions(client, task_queue, "ContinuedAsNew")
        await check_same(graph, model, (0, 3, 5))
    replayer = Replayer(workflows=[ThreadWorkflow])
    of_thread = f"WorkflowId STARTS_WITH '{names.thread_workflow_id(task_queue, 't')}'"
    async for execution in client.list_workflows(of_thread):
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        await replayer.replay_workflow(await handle.fetch_history())


async def test_a_thread_with_closed_namespaces_is_copied_and_deleted(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    async with used(make_saver, 2, 2, archive_bytes=2_000) as (graph, model):
        saver = graph.checkpointer
        await closed(client, task_queue)
        exported = [item async for item in saver.aexport_thread("t")]
        assert len(exported) == 2 * 4 + 4 * 4
        await saver.acopy_thread("t", "copy")
        await closed(client, task_queue, thread_id="copy")
        copied = [item async for item in saver.aexport_thread("copy")]
        assert [c["checkpoint_id"] for c in copied] == [e["checkpoint_id"] for e in exported]
        # Its name is the beginning of no other's.
        await saver.adelete_thread("t")
        assert [item async for item in saver.aexport_thread("t")] == []
        ours, theirs = await nested(graph, "copy"), await nested(model)
        for topic in ours:
            expected = await states(model, theirs[topic])
            assert await states(graph, ours[topic], "copy") == expected
        await saver.aprune(["copy"])
        await closed(client, task_queue, thread_id="copy")
        assert len([item async for item in saver.aexport_thread("copy")]) == 1 + 4
        await saver.adelete_thread("copy")

        async def nothing_left() -> bool:
            return not [b for t in ("t", "copy") for b in await blobs_of(client, task_queue, t)]

        await until(nothing_left)
        # Begun anew under its name, it knows nothing of what it had.
        for namespace in ours.values():
            assert (await graph.aget_state(at(namespace))).values == {}
        assert (await ask(graph, 7, 1))["found"] == ["7: 1"]
        assert (await nested(graph)).keys() == {7}


async def test_retention_drops_closed_namespaces_with_their_checkpoint(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    async with used(make_saver, 4, 2, retention=Retention(last=3)) as (graph, _):

        async def only_the_last() -> bool:
            return (await nested(graph)).keys() == {6, 7}

        await until(only_the_last)
        await closed(client, task_queue)

        async def one_shelf() -> bool:
            reply = await graph.checkpointer._store.reader.read("t", "", ReadRequest())
            kept = await _on_shelves(graph, reply)
            return not reply.forgotten and len(kept) == 2

        await until(one_shelf)


@dataclass
class Held:
    """Stops who comes to it, and says that somebody has."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def stop(self) -> None:
        self.reached.set()
        await self.go.wait()


class Gate(temporalio.client.Interceptor):
    """Lets a process append to threads a few times, and holds what comes then; or, ``opening``,
    does so with the steps that open namespaces."""

    def __init__(self, passing: int, *, opening: bool = False) -> None:
        self.passing = passing
        self.opening = opening
        self.held = Held()

    def intercept_client(
        self, next: temporalio.client.OutboundInterceptor
    ) -> temporalio.client.OutboundInterceptor:
        return _Gated(next, self)

    async def __call__(self, update: str, args: Sequence[Any]) -> None:
        if self.opening:
            meant = update == names.STEP_UPDATE and bool(unpack(StepRequest, args[0]).open)
        else:
            meant = update == names.APPEND_UPDATE
        if meant:
            self.passing -= 1
            if self.passing < 0:
                await self.held.stop()


class _Gated(temporalio.client.OutboundInterceptor):
    def __init__(self, next: temporalio.client.OutboundInterceptor, gate: Gate) -> None:
        super().__init__(next)
        self._gate = gate

    async def start_update_with_start_workflow(
        self, input: temporalio.client.StartWorkflowUpdateWithStartInput
    ) -> Any:
        update = input.update_workflow_input
        await self._gate(update.update, update.args)
        return await self.next.start_update_with_start_workflow(input)

    async def start_workflow_update(self, input: temporalio.client.StartWorkflowUpdateInput) -> Any:
        await self._gate(input.update, input.args)
        return await self.next.start_workflow_update(input)


LAST_RUN = Retention(last=3)
"""The checkpoint at which the last run has called sub-agents is the oldest that is kept, and of
each of their four the first is dropped."""


async def retained(saver: TemporalSaver, retention: Retention = LAST_RUN) -> None:
    """What follows the end of a run."""
    await maintenance.retain(saver._store, "t", retention)


async def at_rest(graph: Any) -> None:
    """Wait until all namespaces are closed, and none is still to be taken from the shelves."""

    async def nothing_left() -> bool:
        reply = await graph.checkpointer._store.reader.read("t", "", ReadRequest())
        return not (reply.namespaces or reply.forgotten)

    await until(nothing_left)


async def check_shelves(graph: Any, topics: set[int]) -> None:
    """When all is closed, the shelves hold the sub-agents of some topics and nothing else."""
    await at_rest(graph)
    kept = await nested(graph)
    assert kept.keys() == topics
    reply = await graph.checkpointer._store.reader.read("t", "", ReadRequest())
    assert sorted(await _on_shelves(graph, reply)) == sorted(kept.values())


async def pruned(saver: TemporalSaver) -> None:
    await saver.aprune(["t"])


@contextlib.asynccontextmanager
async def half_done(
    work: Callable[[TemporalSaver], Coroutine[Any, Any, None]],
    passing: int,
    make_saver: MakeSaver,
    temporal_server: TemporalServer,
) -> AsyncIterator[tuple[Gate, asyncio.Task[None]]]:
    """A process drops checkpoints: it has read the thread, appends to it so often, and is held."""
    gate = Gate(passing)
    slow = make_saver(client=await Client.connect(temporal_server.address, interceptors=[gate]))
    task = asyncio.create_task(work(slow))
    await gate.held.reached.wait()
    try:
        yield gate, task
    finally:
        gate.held.go.set()
        await asyncio.gather(task, return_exceptions=True)
        slow.close()


@pytest.mark.parametrize(("work", "passing"), [(retained, 1), (pruned, 0)])
async def test_who_is_late_leaves_nothing_of_what_a_retention_has_dropped(
    make_saver: MakeSaver,
    client: Client,
    temporal_server: TemporalServer,
    task_queue: str,
    work: Callable[[TemporalSaver], Coroutine[Any, Any, None]],
    passing: int,
) -> None:
    """Runs follow each other fast: the retention of an earlier one has read sub-agents, which that
    of the next one drops before it comes to them."""
    async with used(make_saver, 2, 2) as (graph, _):
        await closed(client, task_queue)
        async with half_done(work, passing, make_saver, temporal_server) as (gate, late):
            await ask(graph, 4, 2)
            await closed(client, task_queue)
            await retained(make_saver())
            await at_rest(graph)
            gate.held.go.set()
            await late
        await check_shelves(graph, {4, 5})
        assert (await ask(graph, 6, 1))["found"][-1] == "6: 1"


async def test_a_retention_that_is_broken_off_leaves_no_namespace_without_its_checkpoint(
    make_saver: MakeSaver, client: Client, temporal_server: TemporalServer, task_queue: str
) -> None:
    async with used(make_saver, 2, 2) as (graph, _):
        await closed(client, task_queue)
        async with half_done(retained, 1, make_saver, temporal_server) as (_, broken):
            broken.cancel()
        await retained(make_saver())
        await check_shelves(graph, {2, 3})


async def test_what_is_written_after_its_checkpoint_was_dropped_goes_with_the_next_run(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    async with used(make_saver, 2, 2) as (graph, _):
        namespace = (await nested(graph))[1]
        edited = (await graph.aget_state(at(namespace))).config
        await closed(client, task_queue)
        await retained(make_saver())
        await check_shelves(graph, {2, 3})
        await graph.aupdate_state(at(namespace), {"topic": 1}, as_node="look")
        assert (await nested(graph))[1] == namespace
        await ask(graph, 4, 1)
        await closed(client, task_queue)
        await retained(make_saver())
        await check_shelves(graph, {4})
        assert (await graph.aget_state(edited)).values == {}


async def test_retention_spares_what_a_run_uses(
    make_saver: MakeSaver, client: Client, task_queue: str
) -> None:
    """Sub-agents that go on at a checkpoint which is about to go, or at the latest one, which is
    not followed by another yet, and those of checkpoints that are kept."""
    busy: dict[int, Held] = {}

    async def hold(topic: int) -> None:
        if topic in busy:
            await busy[topic].stop()

    saver = make_saver()
    async with saver.worker(agents((0,), hold)):
        graph = agents((0,), hold).copy({"checkpointer": saver})
        assert "__interrupt__" in await ask(graph, 0, 2)
        asked = (await graph.aget_state(config("t"))).config
        for start in (2, 4):
            await ask(graph, start, 2)
        await closed(client, task_queue)
        ours = await nested(graph)
        assert ours.keys() == {0, 1, 2, 3, 4, 5}
        # The old question is answered after all.
        busy[0] = Held()
        answered = asyncio.create_task(graph.ainvoke(Command(resume="yes"), asked))
        await busy[0].reached.wait()
        await retained(make_saver())
        cold = agents().copy({"checkpointer": make_saver()})
        assert await nested(cold) == {t: ours[t] for t in (0, 1, 4, 5)}
        busy.pop(0).go.set()
        assert (await answered)["found"] == ["0: 1 yes", "1: 1"]
        assert (await graph.aget_state(at(ours[0]))).values["found"] == ["0: 1 yes"]
        busy[6] = Held()
        call = asyncio.create_task(ask(graph, 6, 2))
        await busy[6].reached.wait()
        await retained(make_saver(), Retention(last=1))
        now = await nested(graph)
        assert {6, 7} <= now.keys()
        busy.pop(6).go.set()
        assert (await call)["found"][-2:] == ["6: 1", "7: 1"]
        for topic in (6, 7):
            assert (await graph.aget_state(at(now[topic]))).values["found"] == [f"{topic}: 1"]
        await closed(client, task_queue)
        await retained(make_saver())
        await check_shelves(graph, {6, 7})


@contextlib.asynccontextmanager
async def old_question(
    saver: TemporalSaver, task_queue: str, before: Callable[[], Coroutine[Any, Any, None]]
) -> AsyncIterator[tuple[Any, Any, str]]:
    """A sub-agent has asked, and the thread went on without an answer: the graph, where that was,
    and the namespace, which is closed."""
    async with saver.worker(caller(before)):
        graph = caller(before).copy({"checkpointer": saver})
        assert "__interrupt__" in await ask(graph, 0, 1)
        asked = (await graph.aget_state(config("t"))).config
        for start in (1, 3):
            await ask(graph, start, 1)
        await closed(saver._store.transport.client, task_queue)
        yield graph, asked, (await nested(graph))[0]


async def test_what_a_process_knows_of_a_namespace_is_worth_nothing_once_that_is_dropped(
    make_saver: MakeSaver, task_queue: str
) -> None:
    """A run has gone back to an old question. Before it calls the sub-agent that has asked, a
    retention drops that: the process still knows what it held."""
    held: list[Held] = []

    async def before() -> None:
        for one in held:
            await one.stop()

    async with old_question(make_saver(), task_queue, before) as (graph, asked, namespace):
        held.append(Held())
        answered = asyncio.create_task(graph.ainvoke(Command(resume="yes"), asked))
        await held[0].reached.wait()
        await retained(make_saver(), Retention(last=1))
        held[0].go.set()
        assert (await answered)["found"] == ["0: 2 yes"]
        cold = caller(before).copy({"checkpointer": make_saver()})
        assert (await nested(cold))[0] == namespace
        assert len((await cold.aget_state(at(namespace))).values["notes"]) == 2
        await states(cold, namespace)


async def test_a_namespace_that_is_dropped_under_a_run_gets_nothing_that_builds_on_it(
    make_saver: MakeSaver, temporal_server: TemporalServer, task_queue: str
) -> None:
    """The sub-agent has read what it held, and is about to write to it: that attempt is lost, and
    the next one finds neither the checkpoint nor the namespace."""
    gate = Gate(3, opening=True)

    async def before() -> None:
        pass

    saver = make_saver(client=await Client.connect(temporal_server.address, interceptors=[gate]))
    async with old_question(saver, task_queue, before) as (graph, asked, namespace):
        answered = asyncio.create_task(graph.ainvoke(Command(resume="yes"), asked))
        await gate.held.reached.wait()
        await retained(make_saver(), Retention(last=1))
        gate.held.go.set()
        # What it goes on from is not what this is about.
        await asyncio.gather(answered, return_exceptions=True)
        cold = caller(before).copy({"checkpointer": make_saver()})
        assert namespace not in (await nested(cold)).values()
        assert (await cold.aget_state(at(namespace))).values == {}
        # The thread goes on, and all of it can be read.
        assert (await ask(graph, 5, 1))["found"] == ["1: 2", "3: 2", "5: 2"]
        assert (await nested(cold)).keys() == {5}
        assert await pages_of(cold)


async def pages_of(graph: Any) -> list[Any]:
    """Everything that a thread holds, read anew."""
    return [item async for item in graph.checkpointer.aexport_thread("t")]


async def _on_shelves(graph: Any, reply: Any) -> list[str]:
    blobs = graph.checkpointer._store.blobs
    return [
        kept.namespace
        for shelved in await shelves.listed(blobs, "t", reply.shelves)
        for kept in await shelves.content(blobs, "t", shelved.ref)
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    "kill",
    [
        f"before activity:{names.CLOSE_ACTIVITY}",
        f"after activity:{names.CLOSE_ACTIVITY}",
        f"after signal:{names.RETIRE_SIGNAL}",
        f"after activity:{names.RETIRE_ACTIVITY}",
    ],
)
async def test_a_worker_dies_while_it_closes(
    make_saver: MakeSaver,
    client: Client,
    temporal_server: TemporalServer,
    task_queue: str,
    tmp_path: Path,
    kill: str,
) -> None:
    command = [WARM, "-m", "tests.storage.dying_worker", "--address", temporal_server.address]
    command += ["--task-queue", task_queue, "--folder", str(tmp_path), "--kill", kill]
    process = await asyncio.create_subprocess_exec(*command)
    caller = make_saver()
    model = agents().copy({"checkpointer": InMemorySaver()})
    graph = agents().copy({"checkpointer": caller})
    # It may die before the caller learns how its run has ended.
    call = asyncio.create_task(ask(graph, 0, 3))
    try:
        assert await process.wait() == -signal.SIGKILL
    finally:
        if process.returncode is None:
            process.kill()
    saver = make_saver()
    async with saver.worker(agents()):
        assert await call == await ask(model, 0, 3)
        # It may be used at once, whatever became of the closing.
        assert await ask(graph, 3, 1) == await ask(model, 3, 1)
        await closed(client, task_queue)
        await check_same(graph, model, (0, 1, 2, 3))
    caller.close()
