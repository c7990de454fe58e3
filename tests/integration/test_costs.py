"""What runs and threads cost: counted from histories, and as the server itself counts."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy
from temporalio import activity
from temporalio import client as client_side
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)
from typer.testing import CliRunner

from benchmarks.billed import CountingServer
from langgraph_temporal_exec import Cost, CostPart, Run, RunNotFoundError, TemporalSaver
from langgraph_temporal_exec.caller import admitted
from langgraph_temporal_exec.cli.main import app
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.saver import caller_of, store_of
from tests.support.graphs import (
    Counter as Count,
)
from tests.support.graphs import (
    NodeFailed,
    config,
    countdown,
    durable,
    failing,
    large,
    nested,
    parallel,
)

# What makes these change changes docs/cost.md too: `python -m benchmarks.cost` writes it anew.
NEW_THREAD = {"start_workflow": 1, "record_activity_markers": 1}
RUN = {"start_workflow": 1, "schedule_activity": 1}
"""The run's workflow and the Activity that drives it."""
HOSTED = {"start_workflow": 1}
"""Of a run whose caller hosts a worker: its end is reported by an Update."""


@pytest.fixture(autouse=True)
def undriven(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, such runs end before they are driven."""
    monkeypatch.setattr(admitted, "UNDRIVEN_S", 300.0)


@pytest.fixture
async def server() -> AsyncIterator[CountingServer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = await CountingServer.start(port)
    try:
        yield started
    finally:
        await started.shutdown()


PROCESS = {"start_workflow": 1, "start_timer": 1}
"""The workflow of a worker, and that of a mailbox, when they begin."""


def added(*parts: dict[str, int]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


async def worker_is_there(server: CountingServer) -> None:
    """Count from now on: the worker has made its own workflow."""
    await server.comes_to(PROCESS)
    await server.forget()


def check(cost: Cost, *parts: dict[str, int], steps: int, begins: int = 2) -> None:
    """All kinds are as expected; of Updates there are as many as could be.

    Which steps are Updates, and which travel in the results of tasks, is a matter of time. Every
    run has the one by which it attaches, and its first step, or one that is both; the server counts
    the same.
    """
    actions = dict(cost.actions)
    reported = int(HOSTED in parts)
    assert begins + reported <= actions.pop("accept_workflow_update") <= begins + reported + steps
    assert actions == added(*parts)


def part(cost: Cost, name: str) -> CostPart:
    (found,) = [p for p in cost.parts if p.name == name]
    return found


async def stored(client: Client) -> tuple[int, int]:
    """Bytes of open and of closed workflows of threads, as the server counts them."""
    sizes = {True: 0, False: 0}
    async for execution in client.list_workflows():
        if execution.workflow_type in (names.WORKER_WORKFLOW, names.MAILBOX_WORKFLOW):
            continue
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        raw = (await handle.describe()).raw_description.workflow_execution_info
        sizes[not raw.HasField("close_time")] += raw.history_size_bytes
    return sizes[True], sizes[False]


async def at_rest(saver: TemporalSaver, server: CountingServer, thread_id: str) -> Cost:
    """The cost of the only thread there is, when it is all that the server has counted."""
    while True:
        cost = await saver.aget_cost(thread_id)
        assert cost is not None
        sizes = (cost.active_bytes, cost.retained_bytes)
        if cost.actions == await server.seen() and sizes == await stored(server.client):
            return cost
        # Upkeep, or visibility, which lags behind.
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_supersteps(server: CountingServer, task_queue: str, mode: str) -> None:
    remote = mode == "remote"
    async with durable(mode, server.client, task_queue) as saver:
        graph = countdown().with_config(checkpointer=saver)
        # What worker and mailbox cost comes before.
        await graph.ainvoke({"n": 9}, config("first"))
        first = await saver.aget_cost("first")
        assert first is not None
        processes = added(PROCESS, PROCESS) if remote else PROCESS
        await server.comes_to(added(dict(first.actions), processes))
        await server.forget()
        await graph.ainvoke({"n": 3}, config("t"))
        (run,) = [run async for run in saver.alist_runs("t")]
        await run.aresult()
        cost = await run.acost()
        assert (cost.thread_id, cost.run_id, cost.incomplete) == ("t", run.run_id, False)
        kind = RUN if remote else HOSTED
        check(cost, NEW_THREAD, kind, {"schedule_activity": 3}, steps=3)
        await server.comes_to(cost.actions)
        report = {} if remote else {"accept_workflow_update": 1}
        assert part(cost, "runs").actions == added(kind, report)
        # Nothing of the thread belongs to another one.
        whole = await saver.aget_cost("t")
        assert whole is not None
        assert whole.actions == cost.actions
        # The workflow of the run has ended; that of the thread stays open.
        assert whole.retained_bytes == cost.retained_bytes == part(cost, "runs").retained_bytes
        assert 0 < cost.active_bytes <= whole.active_bytes == part(whole, "thread").active_bytes
        assert cost.mailboxes.executions == int(remote)
        assert cost.mailboxes.actions == (PROCESS if remote else {})
        # The next run finds its thread.
        await graph.ainvoke({"n": 2}, config("t"))
        _, second = [run async for run in saver.alist_runs("t")]
        await second.aresult()
        more = await second.acost()
        check(more, kind, {"schedule_activity": 2}, steps=2, begins=1)
        whole = await saver.aget_cost("t")
        assert whole is not None
        assert whole.actions == added(dict(cost.actions), dict(more.actions))
    # Without a worker, by whoever asks.
    assert await saver.aget_cost("t") == whole
    assert await asyncio.to_thread(saver.get_cost, "t") == whole
    assert (await asyncio.to_thread(second.cost)).parts == more.parts
    assert await saver.aget_cost("nobody") is None
    with pytest.raises(RunNotFoundError, match="gone"):
        await Run(store_of(saver), caller_of(saver).mailbox, "gone", "t").acost()


async def test_a_nested_graph(server: CountingServer, task_queue: str) -> None:
    """Its workflow is the thread's, until it is closed and put on a shelf."""
    saver = TemporalSaver(server.client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(nested()):
        await worker_is_there(server)
        await nested().with_config(checkpointer=saver).ainvoke({"x": []}, config("t"))
        (asked,) = [run async for run in saver.alist_runs("t")]
        first = await asked.acost()
        opened = {"start_child_workflow": 2, "schedule_activity": 4}
        # One of them opens the namespace.
        check(first, NEW_THREAD, HOSTED, opened, steps=5)
        assert part(first, "namespaces").actions["schedule_activity"] == 2
        answered = await saver.aresume("t", "yes")
        await answered.aresult()
        whole = await at_rest(saver, server, "t")
        second = await answered.acost()
        # What the thread has done for itself: two Activities, a shelf, and word to the workflow.
        rest = Counter(whole.actions) - Counter(first.actions) - Counter(second.actions)
        assert rest == {"schedule_activity": 2, "start_workflow": 1, "signal_workflow": 1}
        assert part(whole, "blobs").executions == 1
        assert part(whole, "namespaces").retained_bytes > 0
        assert part(whole, "namespaces").active_bytes == 0


async def test_a_thread_that_continues_as_new(server: CountingServer, task_queue: str) -> None:
    """All its executions count, and runs know their share of each."""
    saver = TemporalSaver(server.client, task_queue=task_queue, id_prefix=task_queue)
    store_of(saver).transport.roll_events = 60
    graph = countdown().with_config(checkpointer=saver)
    async with saver.worker():
        await worker_is_there(server)
        await graph.ainvoke({"n": 20}, config("t"))
        await graph.ainvoke({"n": 20}, config("t"))
        whole = await saver.aget_cost("t")
        assert whole is not None
        runs = [await run.acost() async for run in saver.alist_runs("t")]
        assert [cost.actions["schedule_activity"] for cost in runs] == [20, 20]
        rest = Counter(whole.actions) - Counter(runs[0].actions) - Counter(runs[1].actions)
        rolled = part(whole, "thread").executions - 1
        assert rolled >= 2
        # The versions of the workflow's code are noted anew each time.
        assert rest.pop("record_activity_markers") >= rolled
        assert rest == {"continue_as_new_workflow": rolled}
        assert whole.retained_bytes > sum(part(cost, "runs").retained_bytes for cost in runs)
        await server.comes_to(whole.actions)


async def test_large_values(server: CountingServer, task_queue: str) -> None:
    saver = TemporalSaver(server.client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(large()):
        await worker_is_there(server)
        await large().with_config(checkpointer=saver).ainvoke({"start": 0}, config("t"))
        (run,) = [run async for run in saver.alist_runs("t")]
        # Known to the histories, so that visibility is not waited for.
        cost = await run.acost()
        blobs = part(cost, "blobs")
        assert blobs.actions == {"start_workflow": blobs.executions}
        assert blobs.active_bytes > 3_000_000
        whole = await at_rest(saver, server, "t")
        assert whole.actions == cost.actions


async def test_a_node_that_fails_and_is_retried(server: CountingServer, task_queue: str) -> None:
    """LangGraph's own retries are within one Activity."""
    tried = 0

    async def flaky(state: Count) -> Count:
        nonlocal tried
        tried += 1
        if tried < 3:
            raise ConnectionError
        return {"n": tried}

    policy = RetryPolicy(max_attempts=3, initial_interval=0.01)
    builder = StateGraph(Count).add_node("flaky", flaky, retry_policy=policy)
    graph = builder.add_edge(START, "flaky").compile(name="flaky")
    saver = TemporalSaver(server.client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(graph, failing()):
        await worker_is_there(server)
        done = await graph.with_config(checkpointer=saver).ainvoke({"n": 0}, config("t"))
        assert done == {"n": 3}
        cost = await at_rest(saver, server, "t")
        check(cost, NEW_THREAD, HOSTED, {"schedule_activity": 1}, steps=1)
        await server.forget()
        with pytest.raises(NodeFailed):
            await failing().with_config(checkpointer=saver).ainvoke({"x": []}, config("fails"))
        failed = await saver.aget_cost("fails")
        assert failed is not None
        check(failed, NEW_THREAD, HOSTED, {"schedule_activity": 2}, steps=2)
        await server.comes_to(failed.actions)


class FailsOnce(client_side.Interceptor, Interceptor):
    """The first Activity of a type fails, so that Temporal tries it again."""

    def __init__(self, activity: str) -> None:
        self.activity = activity
        self.failed = False

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _FailingOnce(self, next)


class _FailingOnce(ActivityInboundInterceptor):
    def __init__(self, owner: FailsOnce, next: ActivityInboundInterceptor) -> None:
        super().__init__(next)
        self._owner = owner

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        if activity.info().activity_type == self._owner.activity and not self._owner.failed:
            self._owner.failed = True
            raise ApplicationError("the first try fails")
        return await super().execute_activity(input)


async def test_an_activity_that_temporal_retries(server: CountingServer, task_queue: str) -> None:
    fails = FailsOnce(names.CLOSE_ACTIVITY)
    client = await Client.connect(server.address, interceptors=[fails])
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(nested()):
        await worker_is_there(server)
        await nested().with_config(checkpointer=saver).ainvoke({"x": []}, config("t"))
        await (await saver.aresume("t", "yes")).aresult()
        cost = await at_rest(saver, server, "t")
        assert fails.failed
        assert cost.actions["retry_activity"] == 1
        assert part(cost, "thread").actions["retry_activity"] == 1


async def test_a_run_that_nobody_waits_for(server: CountingServer, task_queue: str) -> None:
    """It has made its thread, by a Signal, before there is a worker."""
    saver = TemporalSaver(server.client, task_queue=task_queue, id_prefix=task_queue)
    run = await saver.astart(countdown(), {"n": 1}, config("t"))
    announced = {"start_workflow": 1, "signal_workflow_with_start": 1}
    assert (await run.acost()).actions == announced
    await server.comes_to(announced)
    assert (await run.acost()).retained_bytes == 0
    saver.close()


async def test_from_the_shell(client: Client, task_queue: str, temporal_server: Any) -> None:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(parallel()):
        await parallel().with_config(checkpointer=saver).ainvoke({"x": []}, config("t"))
        await parallel().with_config(checkpointer=saver).ainvoke({"x": []}, config("other"))
    (run,) = [run async for run in saver.alist_runs("t")]
    where = ["--address", temporal_server.address, "--id-prefix", task_queue]

    async def shell(*args: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(CliRunner().invoke, app, ["cost", *args, *where])
        return done.exit_code, done.stdout, done.stderr

    cost = await saver.aget_cost("t")
    assert cost is not None
    code, out, _ = await shell("t", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["actions"] == cost.actions
    assert told["total_actions"] == cost.total_actions == sum(cost.actions.values())
    assert told["active_bytes"] == cost.active_bytes
    assert [p["name"] for p in told["parts"]] == ["thread", "namespaces", "runs", "blobs"]
    assert "query_workflow" in told["unseen"]
    code, out, err = await shell("t")
    assert code == 0
    assert "record_activity_heartbeat" in err
    (row,) = [line.split() for line in out.splitlines() if line.startswith("schedule_activity")]
    assert row == ["schedule_activity", "4", "4"]
    code, out, _ = await shell("t", "--run", run.run_id, "--json")
    assert (code, json.loads(out)["run_id"]) == (0, run.run_id)
    code, _, err = await shell("other", "--run", run.run_id)
    assert (code, f"is one of thread '{run.thread_id}'" in err) == (1, True)
    code, _, err = await shell("nobody")
    assert (code, "no thread 'nobody'" in err) == (1, True)
