"""What is recorded: each scenario plays threads and runs of one deployment, named after itself.

``SCENARIOS`` says for each folder which of them it holds. A later one holds what histories did not
look like before: earlier ones are replayed for ever, and show the rest.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError

from langgraph_temporal_exec import (
    NodeOptions,
    RunCancelledError,
    RunTimeoutError,
    TemporalSaver,
    ThreadBusyError,
)
from langgraph_temporal_exec import interrupt_with_default as ask
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import ReadRequest
from langgraph_temporal_exec.worker.eager import EagerTasks
from langgraph_temporal_exec.workflow.thread import STARTS_AT_ONCE
from tests.storage.conftest import converse
from tests.storage.graphs import big, chat, turn
from tests.support.graphs import (
    LargeState,
    State,
    all_graphs,
    config,
    failing,
    nested,
    parallel,
    wide,
)
from tests.support.joined import is_joined
from tests.support.warm import WARM

ROOT = Path(__file__).parents[2]
TINY = 4_000
HEARTBEAT = timedelta(seconds=1)
IDENTITY = "recorder"
"""Of clients and workers; the default one names the process and the machine."""

SERVES = "serves"
"""Printed by a worker process that can be called."""

HELD = "held"
"""Printed by a worker process whose node has begun and will not end."""

Connect = Callable[[], Awaitable[Client]]
"""Another connection: one client serves a task queue once."""

Scenario = Callable[[str, Connect], Awaitable[None]]


def neutral_host() -> Any:
    """Names of queues hold the host's."""
    return patch.object(socket, "gethostname", lambda: "host")


def flag() -> tuple[asyncio.Event, Callable[[], None]]:
    """An event of this loop, and what sets it from any thread."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()

    def begin() -> None:
        loop.call_soon_threadsafe(event.set)

    return event, begin


def held(*, ends: bool, begun: Callable[[], None] = lambda: None) -> Any:
    """A graph whose node ends at once, or never."""

    async def node(state: State) -> State:
        begun()
        if not ends:
            await asyncio.Event().wait()
        return {"x": ["ended"]}

    return (
        StateGraph(State)
        .add_node("before", lambda state: {"x": ["before"]})
        .add_node("node", node)
        .add_edge(START, "before")
        .add_edge("before", "node")
        .compile(name="held")
    )


def saver_of(
    client: Client,
    queue: str,
    *,
    task_queue: str = "",
    heartbeat: timedelta = HEARTBEAT,
    **thresholds: int,
) -> TemporalSaver:
    """A saver of the deployment, which may have several task queues."""
    saver = TemporalSaver(
        client, task_queue=task_queue or queue, id_prefix=queue, heartbeat_timeout=heartbeat
    )
    saver._store.transport.archive_bytes = thresholds.get("archive_bytes", 0)
    saver._store.transport.roll_events = thresholds.get("roll_events", 0)
    return saver


@asynccontextmanager
async def serving(saver: TemporalSaver, *graphs: Any) -> AsyncIterator[None]:
    """Host a worker until all runs have closed, which is after their callers have the results."""
    query = f"WorkflowId STARTS_WITH '{saver.options.id_prefix}/run/'"
    async with saver.worker(*graphs):
        yield
        closed = 0
        while closed < 2:  # visibility lags
            await asyncio.sleep(0.3)
            found = [e async for e in saver.client.list_workflows(query)]
            running = [e for e in found if e.status == WorkflowExecutionStatus.RUNNING]
            closed = closed + 1 if found and not running else 0


async def settled(saver: TemporalSaver, thread_id: str) -> None:
    """Wait until nothing is being archived, compacted or removed any more."""
    workflow_id = names.thread_workflow_id(saver.options.id_prefix, thread_id)
    handle = saver.client.get_workflow_handle(workflow_id)
    pending = True
    while pending:  # the whole recording is bounded by whoever waits for it
        await asyncio.sleep(0.2)
        pending = bool((await handle.describe()).raw_description.pending_activities)
        await saver._store.reader.read(thread_id, "", ReadRequest())


# -- runs -------------------------------------------------------------------------------------


async def interrupts(queue: str, connect: Connect) -> None:
    """A question, a wrong turn (another input while it is open), an answer."""
    saver = saver_of(await connect(), queue)
    async with serving(saver, parallel()):
        graph = parallel().with_config(checkpointer=saver)
        await graph.ainvoke({"x": ["in"]}, config("t"))
        await graph.ainvoke({"x": ["again"]}, config("t"))
        await graph.ainvoke(Command(resume="yes"), config("t"))


async def fan_out(queue: str, connect: Connect) -> None:
    """Fifty tasks in one superstep."""
    saver = saver_of(await connect(), queue)
    async with serving(saver, wide()):
        await wide().with_config(checkpointer=saver).ainvoke({"x": []}, config("t"))


async def namespaces(queue: str, connect: Connect) -> None:
    """A nested graph asks; its namespace is a workflow of its own."""
    saver = saver_of(await connect(), queue)
    async with serving(saver, nested()):
        graph = nested().with_config(checkpointer=saver)
        await graph.ainvoke({"x": ["in"]}, config("t"))
        await graph.ainvoke(Command(resume="yes"), config("t"))


async def error(queue: str, connect: Connect) -> None:
    """A run that ends with an error."""
    saver = saver_of(await connect(), queue)
    async with serving(saver, failing()):
        with pytest.raises(Exception, match="boom"):
            await failing().with_config(checkpointer=saver).ainvoke({"x": []}, config("t"))


async def cancelled(queue: str, connect: Connect) -> None:
    """A run that its caller cancels, then another one."""
    saver = saver_of(await connect(), queue)
    begun, begin = flag()
    graph = held(ends=False, begun=begin)
    async with serving(saver, graph, parallel()):
        bound = graph.with_config(checkpointer=saver)
        call = asyncio.create_task(bound.ainvoke({"x": []}, config("t")))
        await begun.wait()
        call.cancel()
        await asyncio.wait([call])
        await parallel().with_config(checkpointer=saver).ainvoke({"x": []}, config("t"))


async def in_line(queue: str, connect: Connect) -> None:
    """Two runs of one thread at once: one waits for the other."""
    saver = saver_of(await connect(), queue)
    async with serving(saver, parallel()):
        graph = parallel().with_config(checkpointer=saver)
        await asyncio.gather(*(graph.ainvoke({"x": [n]}, config("t")) for n in range(2)))


async def elsewhere(queue: str, connect: Connect) -> None:
    """The caller hosts no worker."""
    host = saver_of(await connect(), queue)
    caller = saver_of(await connect(), queue)
    async with serving(host, parallel()):
        graph = parallel().with_config(checkpointer=caller)
        await graph.ainvoke({"x": ["in"]}, config("t"))
        await graph.ainvoke(Command(resume="yes"), config("t"))
    caller.close()


async def moved(queue: str, connect: Connect) -> None:
    """The worker is stopped in order in the middle of a run: attempt 2 is elsewhere."""
    begun, begin = flag()
    first = saver_of(await connect(), queue)
    second = saver_of(await connect(), queue)
    caller = saver_of(await connect(), queue)
    graph = held(ends=False, begun=begin)
    async with first.worker(graph):
        bound = held(ends=True).with_config(checkpointer=caller)
        call = asyncio.create_task(bound.ainvoke({"x": []}, config("t")))
        await begun.wait()
    async with serving(second, held(ends=True)):
        assert (await call)["x"] == ["before", "ended"]
    caller.close()


async def lost(queue: str, connect: Connect) -> None:
    """The worker is killed in the middle of a run: its Activities time out."""
    client = await connect()
    caller = saver_of(client, queue)
    command = ("-m", "tests.replay.scenarios", client.service_client.config.target_host, queue)
    process = await asyncio.create_subprocess_exec(
        WARM, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert (await process.stdout.readline()).decode().strip() == SERVES
        bound = held(ends=True).with_config(checkpointer=caller)
        call = asyncio.create_task(bound.ainvoke({"x": []}, config("t")))
        assert (await process.stdout.readline()).decode().strip() == HELD
    finally:
        process.kill()
        await process.wait()
    second = saver_of(await connect(), queue)
    async with serving(second, held(ends=True)):
        assert (await call)["x"] == ["before", "ended"]
    caller.close()


async def worker_that_holds(address: str, queue: str) -> None:
    """The process that ``lost`` kills."""
    client = await Client.connect(address, identity=IDENTITY)
    graph = held(ends=False, begun=lambda: print(HELD, flush=True))
    with neutral_host():
        async with saver_of(client, queue).worker(graph):
            print(SERVES, flush=True)
            await asyncio.Event().wait()


# -- storage ----------------------------------------------------------------------------------


async def archived(queue: str, connect: Connect) -> None:
    """A log that moves into archives while a conversation goes on."""
    saver = saver_of(await connect(), queue, archive_bytes=TINY)
    async with serving(saver, chat()):
        await converse(chat().with_config(checkpointer=saver), range(3))
        await settled(saver, "t")


async def compacted(queue: str, connect: Connect) -> None:
    """Pruned twice, with an open question, and what was replaced is discarded."""
    saver = saver_of(await connect(), queue, archive_bytes=TINY)
    async with serving(saver, chat()):
        graph = chat().with_config(checkpointer=saver)
        await converse(graph, range(1))
        await graph.ainvoke(turn(7), config("t"))
        await saver.aprune(["t"])
        await settled(saver, "t")
        await graph.ainvoke(Command(resume="yes"), config("t"))
        await saver.aprune(["t"])
        await settled(saver, "t")


async def rolled(queue: str, connect: Connect) -> None:
    """Continued as new with tasks, queued runs and archives under way."""
    saver = saver_of(await connect(), queue, roll_events=30, archive_bytes=TINY)
    async with serving(saver, all_graphs()):
        graph = wide().with_config(checkpointer=saver)
        await asyncio.gather(*(graph.ainvoke({"x": []}, config("t")) for _ in range(2)))
        deep = nested().with_config(checkpointer=saver)
        await deep.ainvoke({"x": []}, config("t"))
        await settled(saver, "t")


async def edited(queue: str, connect: Connect) -> None:
    """Written to from outside of any run, and forked."""
    saver = saver_of(await connect(), queue)
    async with serving(saver, chat()):
        graph = chat().with_config(checkpointer=saver)
        await converse(graph, range(2))
        await graph.aupdate_state(config("t"), {"notes": ["from outside"]})
        first = [s async for s in graph.aget_state_history(config("t"))][-2]
        await graph.ainvoke(None, first.config)


async def deleted(queue: str, connect: Connect) -> None:
    """Deleted with archives, large values, an open question and a nested namespace."""
    saver = saver_of(await connect(), queue, archive_bytes=TINY)
    async with serving(saver, chat(), big()):
        await converse(chat().with_config(checkpointer=saver), range(2))
        large = big().with_config(checkpointer=saver)
        await large.ainvoke({"kind": "string", "megabytes": 1}, config("t"))
        await settled(saver, "t")
        await saver.adelete_thread("t")


# -- since v1 ---------------------------------------------------------------------------------


def remembering(begun: Callable[[], None] = lambda: None) -> Any:
    """A nested graph that remembers asks; told to wait, it never ends."""

    async def question(state: State) -> State:
        answer = interrupt("well?")
        if answer == "wait":
            begun()
            await asyncio.Event().wait()
        return {"x": [answer]}

    inner = StateGraph(State).add_node("question", question).add_edge(START, "question")
    return (
        StateGraph(State)
        .add_node("inner", inner.compile(checkpointer=True))
        .add_edge(START, "inner")
        .compile(name="remembering")
    )


async def stopped(queue: str, connect: Connect) -> None:
    """A run is cancelled from elsewhere, in a nested graph, and learns of it at once."""
    begun, begin = flag()
    host, caller = saver_of(await connect(), queue), saver_of(await connect(), queue)
    async with serving(host, remembering(begin)):
        graph = remembering().with_config(checkpointer=caller)
        await graph.ainvoke({"x": ["in"]}, config("t"))
        run = await caller.aresume("t", "wait")
        await begun.wait()
        await run.acancel()
        with pytest.raises(RunCancelledError):
            await run.aresult()
        await graph.ainvoke(Command(resume="yes"), config("t"))
    caller.close()


async def fail_attempt(client: Client, workflow_id: str) -> None:
    """As if whoever drives a run had gone, although it is there."""
    (pending,) = (
        await client.get_workflow_handle(workflow_id).describe()
    ).raw_description.pending_activities
    drive = client.get_async_activity_handle(
        workflow_id=workflow_id, run_id=None, activity_id=pending.activity_id
    )
    await drive.fail(ApplicationError("gone"))


async def superseded(queue: str, connect: Connect) -> None:
    """An attempt takes over while tasks of the one before it are under way."""
    begun, begin = flag()
    go = threading.Event()

    def step(state: State) -> State:
        if not begun.is_set():
            begin()
            go.wait()
        return {"x": ["ended"]}

    builder = StateGraph(State).add_node("step", step).add_edge(START, "step")
    graph = builder.compile(name="superseded")
    # No heartbeat tells the first attempt that it is over.
    rare = timedelta(hours=1)
    host = saver_of(await connect(), queue, heartbeat=rare)
    caller = saver_of(await connect(), queue, heartbeat=rare)
    async with serving(host, graph):
        run = await caller.astart(graph, {"x": []}, config("t"))
        await begun.wait()
        await fail_attempt(caller.client, f"{queue}/run/{run.run_id}")
        assert await run.aresult() == {"x": ["ended"]}
        go.set()
    caller.close()


async def cancelled_and_lost(queue: str, connect: Connect) -> None:
    """Cancelled while a node does not stop, and then whoever drives the run is gone."""
    begun, begin = flag()
    told, tell = flag()
    end = asyncio.Event()

    async def step(state: State) -> State:
        begin()
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                tell()
        return {"x": ["ended"]}

    builder = StateGraph(State).add_node("step", step).add_edge(START, "step")
    graph = builder.compile(name="stubborn")
    host, caller = saver_of(await connect(), queue), saver_of(await connect(), queue)
    async with serving(host, graph):
        run = await caller.astart(graph, {"x": []}, config("t"))
        await begun.wait()
        await run.acancel()
        await told.wait()
        await fail_attempt(caller.client, f"{queue}/run/{run.run_id}")
        with pytest.raises(RunCancelledError):
            await run.aresult()
        end.set()
    caller.close()


async def deleted_running(queue: str, connect: Connect) -> None:
    """Deleted between two supersteps."""

    async def step(state: State) -> State:
        if len(state["x"]) == 3:
            begin()
        return {"x": ["again"]}

    builder = StateGraph(State).add_node("step", step).add_edge(START, "step")
    graph = builder.add_edge("step", "step").compile(name="busy")
    begun, begin = flag()
    host, caller = saver_of(await connect(), queue), saver_of(await connect(), queue)
    async with serving(host, graph):
        where: Any = {**config("t"), "recursion_limit": 100_000}
        bound = graph.with_config(checkpointer=caller)
        call = asyncio.create_task(bound.ainvoke({"x": []}, where))
        await begun.wait()
        await caller.adelete_thread("t")
        with pytest.raises(RunCancelledError):
            await call
    caller.close()


async def announced(queue: str, connect: Connect) -> None:
    """Runs that nobody waits for are known to their thread before any worker is there."""
    caller = saver_of(await connect(), queue)
    runs = [await caller.astart(parallel(), {"x": [n]}, config("t")) for n in range(2)]
    host = saver_of(await connect(), queue)
    async with serving(host, parallel()):
        for run in runs:
            await run.aresult()
        # By an Update that any client may send.
        await (await caller.aresume("t", "yes")).aresult()
    caller.close()


async def relocated(queue: str, connect: Connect) -> None:
    """A thread and its namespace leave a task queue that nobody serves any more."""
    old = saver_of(await connect(), queue, task_queue=f"{queue}-old")
    new = saver_of(await connect(), queue, task_queue=f"{queue}-new")
    async with old.worker(remembering()):
        graph = remembering().with_config(checkpointer=old)
        await graph.ainvoke({"x": ["in"]}, config("t"))
    old.close()
    async with serving(new, remembering()):
        graph = remembering().with_config(checkpointer=new)
        await graph.ainvoke(Command(resume="yes"), config("t"))
        query = f"TaskQueue = '{queue}-old' AND ExecutionStatus = 'Running'"
        while (await new.client.count_workflows(query)).count:  # noqa: ASYNC110 # a server has no event
            await asyncio.sleep(0.2)
        await graph.ainvoke({"x": ["again"]}, config("t"))


async def handed_over(queue: str, connect: Connect) -> None:
    """A stream of differences, with one more reader; a result that no outcome has room for."""
    begun, begin = flag()
    go = threading.Event()

    def hold(state: LargeState) -> LargeState:
        if state["start"] == 1:
            begin()
            go.wait()
        return {"start": 2}

    def write(state: LargeState) -> LargeState:
        return {"a": "a" * 2_000_000}

    builder = StateGraph(LargeState).add_sequence([("hold", hold), ("write", write)])
    graph = builder.add_edge(START, "hold").compile(name="large")
    host, caller = saver_of(await connect(), queue), saver_of(await connect(), queue)
    async with serving(host, graph):
        run = await caller.astart(graph, {"start": 1}, config("t"))
        await begun.wait()
        stream = run.astream()
        first = asyncio.ensure_future(anext(stream))
        while not await is_joined(caller.client, f"{queue}/run/{run.run_id}"):  # noqa: ASYNC110 # a server has no event
            await asyncio.sleep(0.1)
        go.set()
        assert [await first] + [chunk async for chunk in stream]
        assert await graph.with_config(checkpointer=caller).ainvoke({"start": 0}, config("t"))
    caller.close()


async def very_wide(queue: str, connect: Connect) -> None:
    """A superstep with more tasks than one workflow task schedules."""
    sends = [Send("work", {"x": [str(i)]}) for i in range(STARTS_AT_ONCE + 1)]
    graph = (
        StateGraph(State)
        .add_node("work", lambda state: state)
        .add_conditional_edges(START, lambda state: sends, ["work"])
        .compile(name="very wide")
    )
    saver = saver_of(await connect(), queue)
    async with serving(saver, graph):
        result = await graph.with_config(checkpointer=saver).ainvoke({"x": ["in"]}, config("t"))
        assert len(result["x"]) == len(sends) + 1


async def strategies(queue: str, connect: Connect) -> None:
    """Runs that find another one: rejected, in its stead, or in its stead as if it never was."""
    begun, begin = flag()
    go = threading.Event()

    def step(state: State) -> State:
        if state["x"][-1] == "first":
            begin()
            go.wait()
        return {"x": ["ended"]}

    def asked(strategy: str) -> Any:
        return {"configurable": {"thread_id": "t", "multitask_strategy": strategy}}

    builder = StateGraph(State).add_sequence([("before", step), ("node", step)])
    graph = builder.add_edge(START, "before").compile(name="steps")
    host, caller = saver_of(await connect(), queue), saver_of(await connect(), queue)
    async with serving(host, graph):
        bound = graph.with_config(checkpointer=caller)
        for strategy in ("interrupt", "rollback"):
            first = asyncio.create_task(bound.ainvoke({"x": ["first"]}, config("t")))
            await begun.wait()
            with pytest.raises(ThreadBusyError):
                await bound.ainvoke({"x": ["second"]}, asked("reject"))
            second = await caller.astart(graph, {"x": ["second"]}, asked(strategy))
            while strategy == "interrupt" and await second.astatus() != "queued":  # noqa: ASYNC110 # a server has no event
                await asyncio.sleep(0.1)
            if strategy == "interrupt":
                go.set()
            with pytest.raises(RunCancelledError):
                await first
            go.set()
            await second.aresult()
            begun.clear()
            go.clear()
    caller.close()


async def overdue(queue: str, connect: Connect) -> None:
    """A question that answers itself."""

    async def question(state: State) -> State:
        return {"x": [ask("well?", within=timedelta(seconds=1), default="nobody")]}

    builder = StateGraph(State).add_node("question", question).add_edge(START, "question")
    graph = builder.compile(name="overdue")
    saver = saver_of(await connect(), queue)
    async with serving(saver, graph):
        await graph.with_config(checkpointer=saver).ainvoke({"x": ["in"]}, config("t"))
        while (info := await saver.aget_thread("t")) is None or info.status != "idle":  # noqa: ASYNC110 # a server has no event
            await asyncio.sleep(0.2)


async def at_home(queue: str, connect: Connect) -> None:
    """A thread with a home: called from another worker, and moved when the home does not come."""
    graph = held(ends=True)
    first, second = saver_of(await connect(), queue), saver_of(await connect(), queue)
    caller = saver_of(await connect(), queue)
    hasty: Any = {"configurable": {"thread_id": "t", "home_timeout": timedelta(seconds=1)}}
    async with serving(second, graph):
        async with first.worker(graph, name="first"):
            await graph.with_config(checkpointer=first).ainvoke({"x": ["in"]}, config("t"))
            await graph.with_config(checkpointer=second).ainvoke({"x": ["in"]}, config("t"))
        # Its name is known, so it is waited for.
        await graph.with_config(checkpointer=caller).ainvoke({"x": ["in"]}, hasty)
        info = await caller.aget_thread("t")
        assert info is not None
        assert info.moved_from == "first"
    caller.close()


async def closed_namespaces(queue: str, connect: Connect) -> None:
    """A nested namespace is closed when it has ended, and opened again by an edit."""
    saver = saver_of(await connect(), queue)
    async with serving(saver, nested()):
        graph = nested().with_config(checkpointer=saver)
        await graph.ainvoke({"x": ["in"]}, config("t"))
        await graph.ainvoke(Command(resume="yes"), config("t"))
        found = saver.alist(config("t"))
        spaces = {item.config["configurable"]["checkpoint_ns"] async for item in found}
        (inner,) = spaces - {""}
        handle = saver.client.get_workflow_handle(names.thread_workflow_id(queue, "t", inner))
        while (await handle.describe()).status == WorkflowExecutionStatus.RUNNING:  # noqa: ASYNC110 # a server has no event
            await asyncio.sleep(0.2)
        within: Any = {"configurable": {"thread_id": "t", "checkpoint_ns": inner}}
        await graph.aupdate_state(within, {"x": ["edited"]}, as_node="ask")


async def placed(queue: str, connect: Connect) -> None:
    """A node on other workers calls a graph that asks; then its own worker takes it back."""
    elsewhere = {"inner": NodeOptions(task_queue=f"{queue}-other")}
    saver = TemporalSaver(
        await connect(),
        task_queue=queue,
        id_prefix=queue,
        heartbeat_timeout=HEARTBEAT,
        nodes=elsewhere,
    )
    other = saver_of(await connect(), queue, task_queue=f"{queue}-other")
    async with serving(saver, nested()), other.worker(nested()):
        graph = nested().with_config(checkpointer=saver)
        await graph.ainvoke({"x": ["in"]}, config("t"))
        assert (await graph.ainvoke(Command(resume="yes"), config("t")))["x"][-1] == "inner:yes"


async def expired(queue: str, connect: Connect) -> None:
    """A run whose time is over."""
    graph = held(ends=False)
    saver = saver_of(await connect(), queue)
    hasty: Any = {"configurable": {"thread_id": "t", "run_timeout": timedelta(seconds=1)}}
    async with serving(saver, graph):
        with pytest.raises(RunTimeoutError):
            await graph.with_config(checkpointer=saver).ainvoke({"x": ["in"]}, hasty)


async def eager_missed(queue: str, connect: Connect) -> None:
    """The workflow is in the cache of another worker than that which has the task."""
    graph = held(ends=True)
    options: Any = {"affinity": "none"}
    first, second = [
        TemporalSaver(await connect(), task_queue=queue, id_prefix=queue, **options)
        for _ in range(2)
    ]
    made = []
    with patch.object(EagerTasks, "arrived", lambda tasks: made.append(tasks)):
        async with serving(first, graph):
            await graph.with_config(checkpointer=first).ainvoke({"x": ["in"]}, config("t"))
            with patch.object(EagerTasks, "room", lambda tasks, workflow_id: 1):
                async with serving(second, graph):
                    bound = graph.with_config(checkpointer=second)
                    await bound.ainvoke({"x": ["in"]}, config("t"))
    assert made


async def later_runs(queue: str, connect: Connect) -> None:
    """Turns in one process."""
    graph = held(ends=True)
    saver = saver_of(await connect(), queue)
    async with serving(saver, graph):
        bound = graph.with_config(checkpointer=saver)
        for _ in range(3):
            await bound.ainvoke({"x": ["in"]}, config("t"))


async def parked(queue: str, connect: Connect) -> None:
    """A thread, and a namespace that asks, while nobody answers; then somebody does."""
    graph = nested()
    saver = TemporalSaver(
        await connect(), task_queue=queue, id_prefix=queue, park_after=timedelta(seconds=1)
    )
    handle = saver.client.get_workflow_handle(names.thread_workflow_id(queue, "t"))
    async with serving(saver, graph):
        bound = graph.with_config(checkpointer=saver)
        asked = await bound.ainvoke({"x": ["in"]}, config("t"))
        for _ in range(2):
            run = now = (await handle.describe()).run_id
            while now == run:  # the whole recording is bounded
                await asyncio.sleep(0.1)
                now = (await handle.describe()).run_id
            (question,) = asked["__interrupt__"]
            if (await bound.aget_state(config("t"))).next:
                await bound.ainvoke(Command(resume={question.id: "yes"}), config("t"))


SCENARIOS: dict[str, tuple[Scenario, ...]] = {
    "v1": (
        *(interrupts, fan_out, namespaces, error, cancelled, in_line, elsewhere, moved, lost),
        *(archived, compacted, rolled, edited, deleted),
    ),
    "v2": (
        # Also with the patches that v1 does not have.
        *(cancelled, moved, lost),
        *(stopped, superseded, cancelled_and_lost, deleted_running),
        *(announced, relocated, handed_over, strategies, overdue),
    ),
    "v3": (very_wide,),
    "v4": (at_home, closed_namespaces, placed, expired),
    # Steps that came with results, also over a continue-as-new and after a lost worker.
    "v5": (interrupts, fan_out, namespaces, rolled, lost, announced),
    # Outcomes that came with results; runs that were reported, or cancelled before that.
    "v6": (interrupts, namespaces, error, cancelled, in_line, rolled, strategies),
    # Eager tasks, and one that did not come so; runs that begin without asking.
    "v7": (eager_missed, later_runs, fan_out, rolled, very_wide),
    # Threads that rest for long.
    "v8": (parked,),
}

if __name__ == "__main__":
    asyncio.run(worker_that_holds(*sys.argv[1:]))
