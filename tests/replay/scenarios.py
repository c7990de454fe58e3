"""What is recorded: each scenario plays threads and runs of one deployment, named after itself."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from temporalio.client import Client, WorkflowExecutionStatus

from langgraph_temporal_exec import TemporalSaver
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import ReadRequest
from tests.storage.conftest import converse
from tests.storage.graphs import big, chat, turn
from tests.support.graphs import State, all_graphs, config, failing, nested, parallel, wide

ROOT = Path(__file__).parents[2]
TINY = 4_000
HEARTBEAT = timedelta(seconds=1)
IDENTITY = "recorder"
"""Of clients and workers; the default one names the process and the machine."""

HELD = "held"
"""Printed by a worker process whose node has begun and will not end."""

Connect = Callable[[], Awaitable[Client]]
"""Another connection: one client serves a task queue once."""

Scenario = Callable[[str, Connect], Awaitable[None]]


def neutral_host() -> Any:
    """Names of queues hold the host's."""
    return patch.object(socket, "gethostname", lambda: "host")


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


def saver_of(client: Client, queue: str, **thresholds: int) -> TemporalSaver:
    """A saver of the deployment."""
    saver = TemporalSaver(client, task_queue=queue, id_prefix=queue, heartbeat_timeout=HEARTBEAT)
    saver.transport.archive_bytes = thresholds.get("archive_bytes", 0)
    saver.transport.roll_events = thresholds.get("roll_events", 0)
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
        await saver.reader.read(thread_id, "", ReadRequest())


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
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    graph = held(ends=False, begun=lambda: loop.call_soon_threadsafe(begun.set) and None)
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
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    first = saver_of(await connect(), queue)
    second = saver_of(await connect(), queue)
    caller = saver_of(await connect(), queue)
    graph = held(ends=False, begun=lambda: loop.call_soon_threadsafe(begun.set) and None)
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
        sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    bound = held(ends=True).with_config(checkpointer=caller)
    call = asyncio.create_task(bound.ainvoke({"x": []}, config("t")))
    assert process.stdout is not None
    assert (await process.stdout.readline()).decode().strip() == HELD
    process.send_signal(signal.SIGKILL)
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
    """Continued as new with tasks, runs in line and archives under way."""
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


SCENARIOS: tuple[Scenario, ...] = (
    *(interrupts, fan_out, namespaces, error, cancelled, in_line, elsewhere, moved, lost),
    *(archived, compacted, rolled, edited, deleted),
)

if __name__ == "__main__":
    asyncio.run(worker_that_holds(*sys.argv[1:]))
