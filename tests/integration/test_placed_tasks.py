"""Tasks that run on another worker than the one that drives their run."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from temporalio.client import Client

from langgraph_temporal_exec import (
    NodeExitError,
    NodeOptions,
    PlacementError,
    SubagentOptions,
    TemporalSaver,
    UsageError,
)
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.workflow import mailbox_sinks
from tests.conftest import TemporalServer
from tests.parity.stage import LEDGER
from tests.support import placing
from tests.support.graphs import config
from tests.support.placing import (
    HEARTBEAT,
    everything,
    fan,
    leaving,
    nested_node,
    painter,
    ran,
    slow,
    until,
    untravelled,
    workers,
)
from tests.support.warm import WARM


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where nodes leave marks of the processes that they run in."""
    made = tmp_path_factory.mktemp("marks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLACING", str(made))
        patch.setenv(LEDGER, str(made))
        yield made


@dataclass
class There:
    """Another worker.

    Args:
        queue: Its task queue.
        pid: Its process.
        folder: Where nodes leave marks; empty at the beginning of a test.
    """

    queue: str
    pid: int
    folder: Path

    def ran(self, name: str) -> set[int]:
        """The processes in which something ran."""
        return ran(self.folder, name)


PREFIX = "placed-tasks"


@pytest.fixture
def there(worker: tuple[str, int], folder: Path) -> There:
    for mark in folder.iterdir():
        mark.unlink()
    return There(*worker, folder)


@pytest.fixture(scope="module")
def worker(temporal_server: TemporalServer, folder: Path) -> Iterator[tuple[str, int]]:
    """One for all tests: processes are what they cost most."""
    loop = asyncio.new_event_loop()
    queue = f"{PREFIX}-there"
    opening = workers(temporal_server.address, [queue], PREFIX, folder)
    (process,) = loop.run_until_complete(opening.__aenter__())
    yield queue, process.pid
    loop.run_until_complete(opening.__aexit__(None, None, None))
    loop.close()


@pytest.fixture
def own(client: Client, task_queue: str) -> Callable[..., TemporalSaver]:
    """Makes savers with a task queue of the test's own."""

    def make(prefix: str = PREFIX, **options: Any) -> TemporalSaver:
        return TemporalSaver(
            client,
            task_queue=task_queue,
            id_prefix=prefix,
            heartbeat_timeout=HEARTBEAT,
            **options,
        )

    return make


def _without_ids(value: Any) -> str:
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}", "ID", repr(value))


@pytest.mark.compat
async def test_as_if_it_had_run_in_place(own: Any, there: There, thread_id: str) -> None:
    """Result, streams, nested graph, interrupt and state of a task on another worker."""
    saver = own(nodes={"work": NodeOptions(task_queue=there.queue)})
    async with saver.worker(), asyncio.timeout(60):
        graph = everything().with_config(checkpointer=saver)
        plain = everything()
        plain.checkpointer = InMemorySaver()
        seen: list[list[Any]] = []
        for subject in (graph, plain):
            chunks: list[Any] = []
            for input in ({"x": ["start"]}, Command(resume="yes")):
                stream = subject.astream(
                    input,
                    config(thread_id),
                    stream_mode=["custom", "updates", "values"],
                    subgraphs=True,
                )
                chunks += [chunk async for chunk in stream]
                state = await subject.aget_state(config(thread_id), subgraphs=True)
                chunks.append((state.values, state.next, [t.error for t in state.tasks]))
            seen.append([_without_ids(chunk) for chunk in chunks])
            if subject is graph:
                assert there.ran("work") == there.ran("first") == {there.pid}
                assert there.ran("answer yes") == {there.pid}
                assert there.ran("before") == there.ran("after") == {os.getpid()}
        assert seen[0] == seen[1]


async def test_one_tool_of_many(own: Any, there: There, thread_id: str) -> None:
    """A tool that has a queue runs there; the others, and the model, where the run is driven."""
    saver = own(tools={"render": NodeOptions(task_queue=there.queue)})
    async with saver.worker(), asyncio.timeout(60):
        graph = painter().with_config(checkpointer=saver)
        result = await graph.ainvoke({"messages": [("human", "paint")]}, config(thread_id))
    said = [message.text for message in result["messages"]]
    assert said == ["paint", "", "rendered a", "searched b", "rendered c", "painted"]
    assert there.ran("rendered a") == there.ran("rendered c") == {there.pid}
    assert there.ran("searched b") == {os.getpid()}


async def test_a_node_of_one_graph_alone(own: Any, there: There, thread_id: str) -> None:
    """``graph:node`` names a node of a nested graph, which is found on the other worker."""
    saver = own(nodes={"inside:work": NodeOptions(task_queue=there.queue)})
    async with saver.worker(), asyncio.timeout(60):
        graph = nested_node().with_config(checkpointer=saver)
        result = await graph.ainvoke({"x": []}, config(thread_id))
        assert result == {"x": ["outer work", "outer work", "inner work"]}
    assert there.ran("inner work") == {there.pid}
    assert there.ran("outer work") == {os.getpid()}


@pytest.mark.compat
async def test_from_sync_code(own: Any, there: There, thread_id: str) -> None:
    saver = own(nodes={"part": NodeOptions(task_queue=there.queue)})
    async with saver.worker(), asyncio.timeout(60):
        graph = fan(3).with_config(checkpointer=saver)
        result = await asyncio.to_thread(graph.invoke, {"x": []}, config(thread_id))
        assert result == {"x": [0, 1, 2]}
    assert there.ran("part") == {there.pid}


async def test_a_superstep_on_all_workers(
    temporal_server: TemporalServer, own: Any, there: There, thread_id: str, task_queue: str
) -> None:
    """``spread``: the tasks of one superstep run in several processes, and the result is right."""
    saver = own()
    async with (
        workers(temporal_server.address, [task_queue], PREFIX, there.folder) as (other,),
        saver.worker(fan()),
        asyncio.timeout(60),
    ):
        graph = fan().with_config(checkpointer=saver)
        call = {"configurable": {"thread_id": thread_id, "spread": True}}
        assert await graph.ainvoke({"x": []}, call) == {"x": list(range(12))}
        assert there.ran("part") == {os.getpid(), other.pid}
        call["configurable"]["spread"] = "yes"
        with pytest.raises(UsageError, match="spread"):
            await graph.ainvoke({"x": []}, call)


@pytest.mark.compat
async def test_a_lost_worker_costs_its_task_alone(
    temporal_server: TemporalServer,
    client: Client,
    own: Any,
    there: There,
    thread_id: str,
    task_queue: str,
) -> None:
    """The worker is killed in the middle of a task: that task runs again on another one."""
    gpu = f"{task_queue}-gpu"
    saver = own(nodes={"work": NodeOptions(task_queue=gpu)})
    async with (
        workers(temporal_server.address, [gpu, gpu], PREFIX, there.folder) as processes,
        saver.worker(),
        asyncio.timeout(90),
    ):
        graph = slow().with_config(checkpointer=saver)
        call = asyncio.create_task(graph.ainvoke({"x": []}, config(thread_id)))
        await until(lambda: bool(there.ran("begun")))
        first = there.ran("begun")
        (killed,) = (p for p in processes if p.pid in first)
        killed.kill()
        await until(lambda: there.ran("begun") != first)
        (there.folder / "open-work").touch()
        assert sorted((await call)["x"]) == ["beside", "done"]
        (second,) = there.ran("begun") - first
        assert there.ran("done") == {second}
        (run,) = [run async for run in saver.alist_runs(thread_id)]
        history = await client.get_workflow_handle(
            names.run_workflow_id(PREFIX, run.run_id)
        ).fetch_history()
        drives = [
            e for e in history.events if e.HasField("activity_task_scheduled_event_attributes")
        ]
        assert len(drives) == 1


async def test_the_process_that_drives_the_run_is_killed(
    temporal_server: TemporalServer, own: Any, there: There, thread_id: str, task_queue: str
) -> None:
    """The task that it waited for is cancelled, and runs again for the next one."""
    caller = own()
    async with (
        workers(
            temporal_server.address,
            [task_queue, task_queue],
            PREFIX,
            there.folder,
            elsewhere=there.queue,
        ) as drivers,
        asyncio.timeout(90),
    ):
        graph = slow().with_config(checkpointer=caller)
        call = asyncio.create_task(graph.ainvoke({"x": []}, config(thread_id)))
        await until(lambda: bool(there.ran("begun") and there.ran("beside")))
        (killed,) = (p for p in drivers if p.pid in there.ran("beside"))
        killed.kill()
        await until(lambda: bool(there.ran("cancelled")))
        (there.folder / "open-work").touch()
        assert sorted((await call)["x"]) == ["beside", "done"]
        assert there.ran("done") == {there.pid}
    caller.close()


async def test_the_command_serves_tasks(
    temporal_server: TemporalServer, own: Any, there: There, thread_id: str, task_queue: str
) -> None:
    """``langgraph-temporal worker module:agent --task-queue gpu`` is all it takes."""
    gpu = f"{task_queue}-gpu"
    process = await asyncio.create_subprocess_exec(
        *(
            WARM,
            "-m",
            "langgraph_temporal_exec.cli.main",
            "worker",
            "slow=tests.support.placing:command_line",
        ),
        *("--address", temporal_server.address, "--task-queue", gpu, "--id-prefix", PREFIX),
        cwd=placing.ROOT,
        stderr=asyncio.subprocess.DEVNULL,
    )
    (there.folder / "open-work").touch()
    saver = own(nodes={"work": NodeOptions(task_queue=gpu)})
    try:
        async with saver.worker(), asyncio.timeout(90):
            graph = slow().with_config(checkpointer=saver)
            result = await graph.ainvoke({"x": []}, config(thread_id))
            assert sorted(result["x"]) == ["beside", "done"]
            assert there.ran("done") == {process.pid}
    finally:
        process.kill()
        await process.wait()


async def test_a_result_whose_mail_is_lost(
    own: Any, there: There, thread_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found in the log: a question, then writes."""
    monkeypatch.setattr(mailbox_sinks, "listen", lambda *_: None)
    saver = own(nodes={"work": NodeOptions(task_queue=there.queue)})
    async with saver.worker(), asyncio.timeout(90):
        graph = everything().with_config(checkpointer=saver)
        (asked,) = (await graph.ainvoke({"x": ["start"]}, config(thread_id)))["__interrupt__"]
        assert asked.value == "inner question"
        result = await graph.ainvoke(Command(resume="yes"), config(thread_id))
        assert result == {"x": ["start", "before", "in", "first", "answer yes", "after"]}


async def test_what_cannot_travel_is_named(own: Any, there: There, thread_id: str) -> None:
    saver = own(nodes={"work": NodeOptions(task_queue=there.queue)})
    async with saver.worker(), asyncio.timeout(60):
        graph = untravelled().with_config(checkpointer=saver)
        with pytest.raises(PlacementError, match=r"'work'.*reads 'live'.*UntrackedValue"):
            await graph.ainvoke({"x": ["untracked"]}, config(f"{thread_id}-reads"))
        with pytest.raises(PlacementError, match=r"'work'.*wrote to 'live'"):
            await graph.ainvoke({"x": ["writes"]}, config(f"{thread_id}-writes"))


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_what_ends_programs_ends_no_worker(
    own: Any,
    folder: Path,
    temporal_server: TemporalServer,
    task_queue: str,
    thread_id: str,
    sync: bool,
) -> None:
    """Of a worker that has driven no run: its loop has run nothing of graphs yet."""
    queue = f"{task_queue}-there"
    saver = own(nodes={"work": NodeOptions(task_queue=queue)})
    graph = leaving(sync=sync).with_config(checkpointer=saver)
    async with (
        workers(temporal_server.address, [queue], PREFIX, folder) as (there,),
        saver.worker(),
        asyncio.timeout(60),
    ):
        for how in ("exit", "interrupt", "close"):
            with pytest.raises(NodeExitError, match="Node 'work' of thread"):
                await graph.ainvoke({"x": [how]}, config(f"{thread_id}-{how}"))
        result = await graph.ainvoke({"x": ["stay"]}, config(f"{thread_id}-stay"))
        assert result["x"] == ["stay", there.pid]


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_a_task_without_a_recorded_checkpoint_cannot_travel(
    own: Any, there: There, thread_id: str, sync: bool
) -> None:
    """Rather an error than a node that runs on another worker than it was given."""
    saver = own(nodes={"part": NodeOptions(task_queue=there.queue)})
    async with saver.worker(), asyncio.timeout(60):
        graph = fan().with_config(checkpointer=saver)

        async def call() -> None:
            given = ({"x": ["start"]}, config(thread_id))
            if sync:
                await asyncio.to_thread(graph.invoke, *given, durability="exit")
            else:
                await graph.ainvoke(*given, durability="exit")

        with pytest.raises(PlacementError, match=r"'part'.*durability='exit'"):
            await call()


async def test_a_worker_that_serves_something_else(own: Any, there: There, thread_id: str) -> None:
    there_alone = NodeOptions(task_queue=there.queue)
    saver = own(nodes={"work": there_alone, "part": there_alone})
    async with saver.worker(), asyncio.timeout(60):
        unknown, changed = slow(), fan()
        unknown.name, changed.name = "unknown", "everything"
        for graph, problem in ((unknown, "serves no such graph"), (changed, "its code differs")):
            durable = graph.with_config(checkpointer=saver)
            with pytest.raises(PlacementError, match=problem):
                await durable.ainvoke({"x": []}, config(f"{thread_id}-{graph.name}"))


async def test_a_cancelled_run_ends_the_task(own: Any, there: There, thread_id: str) -> None:
    saver = own(nodes={"work": NodeOptions(task_queue=there.queue)})
    async with saver.worker(), asyncio.timeout(60):
        graph = slow().with_config(checkpointer=saver)
        call = asyncio.create_task(graph.ainvoke({"x": []}, config(thread_id)))
        await until(lambda: bool(there.ran("begun")))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: bool(there.ran("cancelled")))


async def test_a_queue_that_nobody_polls(
    temporal_server: TemporalServer,
    own: Any,
    there: There,
    thread_id: str,
    task_queue: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The run waits, says so, and goes on as soon as there is a worker."""
    gpu = f"{task_queue}-gpu"
    saver = own(nodes={"work": NodeOptions(task_queue=gpu)})
    (there.folder / "open-work").touch()
    async with saver.worker(), asyncio.timeout(60):
        graph = slow().with_config(checkpointer=saver)
        call = asyncio.create_task(graph.ainvoke({"x": []}, config(thread_id)))
        await until(lambda: f"on task queue {gpu!r}, which no worker polls" in caplog.text)
        async with workers(temporal_server.address, [gpu], PREFIX, there.folder):
            assert sorted((await call)["x"]) == ["beside", "done"]


def test_options_that_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="inline"):
        NodeOptions(inline=True, task_queue="gpu")
    with pytest.raises(UsageError, match="positive"):
        SubagentOptions(timeout=timedelta(0))
    with pytest.raises(UsageError, match="on_timeout"):
        SubagentOptions(on_timeout="retry")  # type: ignore[arg-type] # that is the mistake
