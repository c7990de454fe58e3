"""How many runs and nodes a worker executes at once; that nothing waits for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from temporalio.client import Client
from temporalio.worker import PollerBehaviorAutoscaling, WorkerTuner

from langgraph_temporal_exec import RunCancelledError, TemporalSaver, UsageError
from tests.support.graphs import State, config, countdown


class Busy:
    """Counts how many are in it."""

    def __init__(self) -> None:
        self.now = self.most = self.all = 0
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[None]:
        with self._lock:
            self.now += 1
            self.all += 1
            self.most = max(self.most, self.now)
        try:
            yield
        finally:
            with self._lock:
                self.now -= 1


def deep(busy: Busy, *, sync: bool, stateful: bool = False) -> Any:
    """Three levels, two branches on each: one is work, the other calls the next level."""

    def work_sync(state: State) -> State:
        with busy.one():
            time.sleep(0.02)
        return {"x": ["work"]}

    async def work(state: State) -> State:
        with busy.one():
            await asyncio.sleep(0.02)
        return {"x": ["work"]}

    def level(inner: Any, name: str) -> Any:
        def call_sync(state: State) -> State:
            return {"x": inner.invoke({"x": []})["x"]}

        async def call(state: State) -> State:
            return {"x": (await inner.ainvoke({"x": []}))["x"]}

        builder = StateGraph(State).add_node("work", work_sync if sync else work)
        builder.add_edge(START, "work")
        if inner is not None:
            caller = f"call_{name}"
            builder.add_node(caller, call_sync if sync else call).add_edge(START, caller)
            builder.add_node("after", work_sync if sync else work).add_edge(caller, "after")
        if name == "deep":
            return builder.compile(name=name)
        return builder.compile(name=name, checkpointer=True if stateful else None)

    return level(level(level(None, "third"), "second"), "deep")


def functional(busy: Busy) -> Any:
    @task
    async def leaf(i: int) -> int:
        with busy.one():
            await asyncio.sleep(0.01)
        return i

    @task
    async def middle(i: int) -> int:
        return sum([await f for f in [leaf(i), leaf(i)]])

    @entrypoint()
    async def tasks(n: int) -> int:
        return sum([await f for f in [middle(i) for i in range(n)]])

    return tasks


async def call(graph: Any, value: Any, thread: str, *, sync: bool) -> Any:
    if sync:
        return await asyncio.to_thread(graph.invoke, value, config(thread))
    return await graph.ainvoke(value, config(thread))


@pytest.mark.parametrize("mode", ["embedded", "remote"])
@pytest.mark.parametrize("kind", ["async", "sync", "stateful", "inline", "functional"])
async def test_one_and_one_three_levels_deep(
    client: Client, task_queue: str, mode: str, kind: str
) -> None:
    """Two runs and their sub-agents' tasks, with one slot each: nobody waits for ever."""
    busy, sync = Busy(), kind == "sync"
    graph = deep(busy, sync=sync, stateful=kind == "stateful")
    value: Any = {"x": []}
    if kind == "functional":
        graph, value = functional(busy), 3
    # In place, within a task that is not: what it calls belongs to that one.
    inline = ["call_second"] if kind == "inline" else []
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue, inline=inline)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with (
        host.worker(graph, max_concurrent_runs=1, max_concurrent_tasks=1),
        asyncio.timeout(100),
    ):
        durable = graph.with_config(checkpointer=host if mode == "embedded" else caller)
        results = await asyncio.gather(*(call(durable, value, t, sync=sync) for t in "ab"))
    caller.close()
    if kind == "functional":
        assert results == [6, 6]
    else:
        assert [len(r["x"]) for r in results] == [5, 5]
    assert busy.most == 1
    assert busy.all == (12 if kind == "functional" else 10)


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_who_waits_for_tasks_of_other_workers_lends_its_slot(
    client: Client, task_queue: str, sync: bool
) -> None:
    """A node in place calls a graph whose tasks any worker may run: here, there is no other."""
    busy = Busy()
    inner = deep(busy, sync=sync)

    def outer_sync(state: State) -> State:
        return {"x": inner.invoke({"x": []})["x"]}

    async def outer(state: State) -> State:
        return {"x": (await inner.ainvoke({"x": []}))["x"]}

    builder = StateGraph(State).add_node("outer", outer_sync if sync else outer)
    graph = builder.add_edge(START, "outer").compile(name="outer")
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue, spread=True)
    async with (
        saver.worker({"outer": graph, "deep": inner}, max_concurrent_tasks=1),
        asyncio.timeout(100),
    ):
        durable = graph.with_config(checkpointer=saver)
        results = await asyncio.gather(*(call(durable, {"x": []}, t, sync=sync) for t in "ab"))
    assert [len(r["x"]) for r in results] == [5, 5]
    assert busy.most == 1
    assert busy.all == 10


def fan(busy: Busy, n: int) -> Any:
    async def work(state: State) -> State:
        with busy.one():
            await asyncio.sleep(0.02)
        return {"x": ["work"]}

    return (
        StateGraph(State)
        .add_node("work", work)
        .add_conditional_edges(START, lambda _: [Send("work", {"x": []}) for _ in range(n)])
        .compile(name="fan")
    )


async def test_so_many_tasks_at_once(client: Client, task_queue: str) -> None:
    busy = Busy()
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(max_concurrent_tasks=3), asyncio.timeout(60):
        graph = fan(busy, 20).with_config(checkpointer=saver)
        results = await asyncio.gather(*(graph.ainvoke({"x": []}, config(t)) for t in "ab"))
    assert [len(r["x"]) for r in results] == [20, 20]
    assert busy.most == 3


class Gate:
    """A graph whose only node waits until it is let go; it counts who waits."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.busy = Busy()
        self.inside = asyncio.Semaphore(0)
        loop = asyncio.get_running_loop()

        async def wait(state: State) -> State:
            with self.busy.one():
                loop.call_soon_threadsafe(self.inside.release)
                going = asyncio.run_coroutine_threadsafe(self.go.wait(), loop)
                await asyncio.wrap_future(going)
            return {"x": ["waited"]}

        self.graph = (
            StateGraph(State).add_node("wait", wait).add_edge(START, "wait").compile(name="gate")
        )


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_so_many_runs_at_once_and_who_waits_for_a_thread_is_none(
    client: Client, task_queue: str, mode: str
) -> None:
    gate = Gate()
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with host.worker(gate.graph, max_concurrent_runs=2), asyncio.timeout(60):
        graph = gate.graph.with_config(checkpointer=host if mode == "embedded" else caller)

        def begin(thread: str) -> asyncio.Task[Any]:
            return asyncio.create_task(graph.ainvoke({"x": []}, config(thread)))

        calls = [begin("a")]
        await gate.inside.acquire()
        # One that is in the run queue of its thread...
        calls.append(begin("a"))
        while (info := await host.aget_thread("a")) is None or not info.waiting:  # noqa: ASYNC110 # asked
            await asyncio.sleep(0.05)
        # ... holds nothing up; but there is no room for a third one.
        calls += [begin("b"), begin("c")]
        await gate.inside.acquire()
        assert gate.busy.now == 2
        gate.go.set()
        await asyncio.gather(*calls)
    caller.close()
    assert gate.busy.most == 2
    assert gate.busy.all == 4


async def test_calls_of_this_process_and_of_others_share_the_limit(
    client: Client, task_queue: str
) -> None:
    gate = Gate()
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with host.worker(gate.graph, max_concurrent_runs=1), asyncio.timeout(60):
        here = gate.graph.with_config(checkpointer=host)
        first = asyncio.create_task(here.ainvoke({"x": []}, config("a")))
        await gate.inside.acquire()
        run = await caller.astart(gate.graph, {"x": []}, config("b"))
        while await run.astatus() != "running":  # noqa: ASYNC110 # asked
            await asyncio.sleep(0.05)
        assert host._caller.host is not None
        slots = host._caller.host.run_slots  # type: ignore[attr-defined] # the worker's own
        while not slots.waiting:  # noqa: ASYNC110 # of another loop
            await asyncio.sleep(0.05)
        gate.go.set()
        await asyncio.gather(first, run.aresult())
    caller.close()
    assert gate.busy.most == 1


@pytest.mark.parametrize("what", ["run", "task"])
async def test_who_waits_for_a_slot_can_be_cancelled(
    client: Client, task_queue: str, what: str
) -> None:
    gate = Gate()
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    limits = {"run": {"max_concurrent_runs": 1}, "task": {"max_concurrent_tasks": 1}}[what]
    async with saver.worker(gate.graph, **limits), asyncio.timeout(60):  # type: ignore[arg-type] # numbers
        graph = gate.graph.with_config(checkpointer=saver)
        first = asyncio.create_task(graph.ainvoke({"x": []}, config("a")))
        await gate.inside.acquire()
        second = asyncio.create_task(graph.ainvoke({"x": []}, config("b")))
        assert saver._caller.host is not None
        host: Any = saver._caller.host
        slots = host.run_slots if what == "run" else host.task_slots
        while not slots.waiting:  # noqa: ASYNC110 # of another loop
            await asyncio.sleep(0.05)
        (run,) = [run async for run in saver.alist_runs("b")]
        await run.acancel()
        with pytest.raises(RunCancelledError):
            await second
        assert not slots.waiting
        gate.go.set()
        assert await first == {"x": ["waited"]}
        while (info := await saver.aget_thread("b")) is None or info.status != "idle":  # noqa: ASYNC110 # as above
            await asyncio.sleep(0.05)
        assert await graph.ainvoke({"x": []}, config("b")) == {"x": ["waited"]}


async def test_a_sync_task_that_waits_for_a_slot_does_not_begin_when_cancelled(
    client: Client, task_queue: str
) -> None:
    """What is executed goes on to its end, as ever; the other one is refused."""
    busy, begun, go = Busy(), threading.Event(), threading.Event()

    def work(state: State) -> State:
        with busy.one():
            begun.set()
            go.wait(60)
        return {"x": ["work"]}

    builder = StateGraph(State).add_node("a", work).add_node("b", work)
    graph = builder.add_edge(START, "a").add_edge(START, "b").compile(name="sync")
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with host.worker(graph, max_concurrent_tasks=1), asyncio.timeout(60):
        durable = graph.with_config(checkpointer=caller)
        called = asyncio.create_task(asyncio.to_thread(durable.invoke, {"x": []}, config("t")))
        await asyncio.to_thread(begun.wait, 30)
        here: Any = host._caller.host
        while not here.task_slots.waiting:  # noqa: ASYNC110 # of another loop
            await asyncio.sleep(0.05)
        (run,) = [run async for run in caller.alist_runs("t")]
        await run.acancel()
        while here.task_slots.waiting:  # noqa: ASYNC110 # of another loop
            await asyncio.sleep(0.05)
        go.set()
        with pytest.raises(RunCancelledError):
            await called
    caller.close()
    assert busy.all == 1


async def test_temporals_own_tuners_and_pollers(client: Client, task_queue: str) -> None:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    tuner = WorkerTuner.create_resource_based(target_memory_usage=0.95, target_cpu_usage=1.0)
    pollers = PollerBehaviorAutoscaling()
    async with saver.worker(countdown(), tuner=tuner, pollers=pollers), asyncio.timeout(60):
        graph = countdown().with_config(checkpointer=caller)
        assert await graph.ainvoke({"n": 2}, config("t")) == {"n": 0}
    caller.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_concurrent_runs": 0}, "max_concurrent_runs is 0"),
        ({"max_concurrent_tasks": "3"}, "max_concurrent_tasks is '3'"),
        ({"shutdown_grace": 30}, "shutdown_grace is 30"),
        ({"health_port": 0}, "health_port is 0"),
        (
            {
                "max_concurrent_runs": 1,
                "tuner": WorkerTuner.create_resource_based(
                    target_memory_usage=0.9, target_cpu_usage=0.9
                ),
            },
            "exclude each other",
        ),
    ],
)
async def test_options_that_make_no_sense(
    client: Client, task_queue: str, options: dict[str, Any], message: str
) -> None:
    saver = TemporalSaver(client, task_queue=task_queue)
    with pytest.raises(UsageError, match=message):
        saver.worker(**options)
