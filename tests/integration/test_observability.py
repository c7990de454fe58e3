"""One trace from a caller to the nodes, log records that say what they are about, metrics."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from temporalio.client import Client, WorkflowExecutionStatus

from langgraph_temporal_exec import RunLogFilter, TemporalSaver
from langgraph_temporal_exec.protocol import names
from tests.conftest import TemporalServer

pytest.importorskip("opentelemetry.sdk", reason="not for the lowest versions")

from tests.support.graphs import config, parallel
from tests.support.observed import FOLDER, HOLD, NODES, READY, observed
from tests.support.warm import WARM

ROOT = Path(__file__).resolve().parents[2]
SYNC_NODES = ["plain", "deep_sync"]
USERS = "a.program.of.the.user"
SECRET = "what-is-in-the-state"
WAIT_S = 100


class Lab:
    """Processes of one test, and what they have written down."""

    def __init__(self, server: TemporalServer, task_queue: str, folder: Path) -> None:
        self.folder = folder
        self._common = ["--address", server.address, "--task-queue", task_queue]

    async def _start(self, *arguments: str, **pipes: Any) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(WARM, "-m", "tests.support.observed", *arguments, *self._common),
            cwd=ROOT,
            env={**os.environ, FOLDER: str(self.folder)},
            **pipes,
        )

    @asynccontextmanager
    async def worker(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A worker that serves; stopped in order, unless it is gone."""
        pipe = asyncio.subprocess.PIPE
        process = await self._start("work", *arguments, stdin=pipe, stdout=pipe)
        assert process.stdin
        assert process.stdout
        try:
            async with asyncio.timeout(WAIT_S):
                assert READY in (await process.stdout.readline()).decode()
            yield process
        finally:
            if process.returncode is None:
                process.stdin.close()
            try:
                async with asyncio.timeout(WAIT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    @asynccontextmanager
    async def calling(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """A caller that must end well."""
        process = await self._start("call", *arguments)
        try:
            yield process
            async with asyncio.timeout(WAIT_S):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def call(self, *arguments: str) -> None:
        """A caller, to its end."""
        async with self.calling(*arguments):
            pass

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something has happened in a process."""
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 - another process's event
                await asyncio.sleep(0.05)

    def spans(self) -> list[dict[str, Any]]:
        """All spans that have ended."""
        return self._lines("spans.jsonl")

    def records(self) -> list[dict[str, Any]]:
        """All log records."""
        return self._lines("records.jsonl")

    def _lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]


@pytest.fixture
def lab(temporal_server: TemporalServer, task_queue: str, tmp_path: Path) -> Lab:
    """Processes against the test server, on a task queue of the test."""
    return Lab(temporal_server, task_queue, tmp_path)


def in_one_trace(spans: list[dict[str, Any]], *, call: str, nodes: list[str]) -> None:
    """Each node has a span from which the parents lead to the span of the call."""
    by_id = {span["id"]: span for span in spans}
    (root,) = [span for span in spans if span["name"] == call]
    assert root["parent"] is None

    def path(span: dict[str, Any]) -> list[str]:
        above = path(by_id[span["parent"]]) if span["parent"] is not None else []
        return [*above, span["name"]]

    for node in nodes:
        found = [s for s in spans if s["name"] == f"node:{node}" and s["trace"] == root["trace"]]
        assert found, f"{node} is not in the trace of {call!r}"
        for span in found:
            assert path(span)[0] == call


@pytest.mark.parametrize(
    ("mode", "how"),
    [("embedded", "ainvoke"), ("embedded", "invoke"), ("remote", "invoke"), ("remote", "astart")],
)
async def test_one_trace_from_caller_to_node(lab: Lab, mode: str, how: str) -> None:
    nodes = SYNC_NODES if how == "invoke" else NODES
    if mode == "embedded":
        await lab.call("--how", how, "--calls", "2", "--host")
    else:
        async with lab.worker():
            await lab.call("--how", how, "--calls", "2")
    spans = lab.spans()
    assert sorted(s["name"] for s in spans if s["name"].startswith("node:")) == sorted(
        2 * [f"node:{node}" for node in nodes]
    )
    # Each call on a thread is a trace of its own.
    in_one_trace(spans, call="call 0", nodes=nodes)
    in_one_trace(spans, call="call 1", nodes=nodes)


@pytest.mark.parametrize("end", ["killed", "stopped"])
async def test_a_run_that_moves_stays_in_its_trace(lab: Lab, end: str) -> None:
    async with lab.worker() as first, lab.calling("--input", HOLD) as caller:
        await lab.until(lambda: list(lab.folder.glob("holding-*")))
        async with lab.worker() as second:
            if end == "killed":
                first.send_signal(signal.SIGKILL)
            else:
                assert first.stdin
                first.stdin.close()
            await first.wait()
            (lab.folder / "go").touch()
            async with asyncio.timeout(WAIT_S):
                await caller.wait()
            ran = second.pid
    here = [span for span in lab.spans() if span["pid"] in (caller.pid, ran)]
    in_one_trace(here, call="call 0", nodes=["hold", "plain", "deep", "deep_sync"])

    records = lab.records()
    (run_id,) = {r["run_id"] for r in records if r["logger"] == USERS}
    about = [r for r in records if r["run_id"] == run_id and r["thread_id"] == "t"]
    assert {r["attempt"] for r in about if r["logger"] == USERS and r["pid"] == ran} == {2}
    texts = [r["text"] for r in about]
    if end == "killed":
        # A worker that stops may have done the workflow task that says so, and not reported it.
        assert any("attempt 1" in t and "brought no outcome" in t for t in texts)
    assert any("continues here: attempt 2" in t for t in texts)
    assert any(t.endswith("ends: done") for t in texts)
    lost = [r for r in about if "is lost here, in attempt 1" in r["text"]]
    # One that is killed cannot say so.
    assert [r["pid"] for r in lost] == ([first.pid] if end == "stopped" else [])


@pytest.mark.parametrize(("mode", "how"), [("embedded", "invoke"), ("remote", "ainvoke")])
async def test_records_say_which_run_and_node(
    lab: Lab, client: Client, task_queue: str, mode: str, how: str
) -> None:
    nodes = SYNC_NODES if how == "invoke" else NODES
    if mode == "embedded":
        await lab.call("--how", how, "--input", SECRET, "--host")
    else:
        async with lab.worker():
            await lab.call("--how", how, "--input", SECRET)
    records = lab.records()
    assert not [r for r in records if "missing" in r.values()]
    (run_id,) = {r["run_id"] for r in records if r["run_id"] is not None}
    handle = client.get_workflow_handle(names.run_workflow_id(task_queue, run_id))
    assert (await handle.describe()).status == WorkflowExecutionStatus.COMPLETED

    by_node = {r["node"]: r for r in records if r["logger"] == USERS}
    assert sorted(by_node) == sorted(nodes)
    for node, record in by_node.items():
        assert record["text"].startswith(f"in {node}")
        assert (record["thread_id"], record["run_id"], record["attempt"]) == ("t", run_id, 1)
    assert by_node["deep_sync"]["step"] == (1 if how == "invoke" else 2)
    assert by_node["plain"]["step"] == (1 if how == "invoke" else 4)
    if how == "ainvoke":
        (record,) = [r for r in records if r["logger"] == "temporalio.activity"]
        assert (record["node"], record["run_id"]) == ("with_temporals_logger", run_id)

    ours = [r for r in records if r["logger"].startswith("langgraph_temporal_exec.")]
    assert not [r for r in records if SECRET in r["text"]]
    assert {r["level"] for r in ours} == {"INFO"}
    for record in ours:
        of_run = f"run {run_id} of thread 't'" in record["text"]
        assert (record["run_id"], record["thread_id"]) == ((run_id, "t") if of_run else (None,) * 2)
    texts = " | ".join(r["text"] for r in ours)
    for told in ("serves task queue", "begins: graph", "ends: done", "stops", "has stopped"):
        assert texts.count(told) == 1, told


class _Kept(logging.Handler):
    """Keeps what a formatter makes of each record."""

    def __init__(self, template: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.addFilter(RunLogFilter())
        self.setFormatter(logging.Formatter(template))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


async def test_the_filter_needs_no_durable_run() -> None:
    """The same logging set-up serves tests with another saver, and code outside of nodes."""
    kept = _Kept("%(thread_id)s %(run_id)s %(node)s %(step)s")
    users = logging.getLogger(USERS)
    users.addHandler(kept)
    users.setLevel(logging.INFO)
    try:
        graph = observed().copy({"checkpointer": InMemorySaver()})
        await graph.ainvoke({"x": []}, config("t"))
        users.info("outside")
        users.info("of somebody who knows", extra={"thread_id": "mine", "node": "own"})
    finally:
        users.removeHandler(kept)
    assert "t None think 1" in kept.lines
    assert "t None deep_sync 2" in kept.lines
    assert kept.lines[-2:] == ["None None None None", "mine None own None"]


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _metrics(address: str) -> list[tuple[str, dict[str, str]]]:
    """Name and labels of each value served."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=WAIT_S) as answer:
        lines = answer.read().decode().splitlines()
    found = [re.fullmatch(r"(\w+)\{(.*)\} \S+", line) for line in lines]
    return [(m[1], dict(re.findall(r'(\w+)="(.*?)"', m[2]))) for m in found if m]


def _values_of(metrics: list[tuple[str, dict[str, str]]], name: str, label: str) -> set[str]:
    return {labels[label] for metric, labels in metrics if metric == name and label in labels}


def _show_a_run(address: str, *, nodes: set[str]) -> None:
    # A run's workflow is completed a moment after its caller has the result.
    give_up = time.monotonic() + WAIT_S
    metrics: list[tuple[str, dict[str, str]]] = []
    while not _values_of(metrics, "temporal_workflow_completed", "workflow_type"):
        assert time.monotonic() < give_up
        metrics = _metrics(address)
    executed = _values_of(metrics, "temporal_activity_execution_latency_count", "activity_type")
    assert nodes | {"langgraph:drive"} <= executed
    assert "LangGraphRun" in _values_of(metrics, "temporal_workflow_completed", "workflow_type")
    tasks = "temporal_workflow_task_execution_latency_count"
    assert {"LangGraphRun", "LangGraphThread"} <= _values_of(metrics, tasks, "workflow_type")


async def test_metrics_of_a_client_with_a_runtime(lab: Lab) -> None:
    address = _free_address()
    async with lab.worker("--metrics", address):
        await lab.call()
        await asyncio.to_thread(_show_a_run, address, nodes={*NODES, "inner"})


async def test_metrics_of_the_worker_command(
    client: Client, temporal_server: TemporalServer, task_queue: str
) -> None:
    address = _free_address()
    process = await asyncio.create_subprocess_exec(
        *(WARM, "-m", "langgraph_temporal_exec.cli.main", "worker"),
        *("served=tests.support.served:graph", "--address", temporal_server.address),
        *("--task-queue", task_queue, "--metrics", address),
        cwd=ROOT,
        stderr=asyncio.subprocess.PIPE,
    )
    # The worker is still being started.
    wait = timedelta(seconds=WAIT_S)
    saver = TemporalSaver(client, task_queue=task_queue, graph="served", no_worker_timeout=wait)
    try:
        async with asyncio.timeout(WAIT_S):
            await parallel().with_config(checkpointer=saver).ainvoke({"x": []}, config("t"))
        await asyncio.to_thread(_show_a_run, address, nodes={"a", "b1", "b2", "ask"})
    finally:
        saver.close()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WAIT_S):
            _, stderr = await process.communicate()
    said = stderr.decode()
    assert re.search(
        r"INFO run \w+ of thread 't' begins: .* thread_id=t run_id=\w+ attempt=1", said
    )
    assert "ends: interrupted" in said


async def test_metrics_at_an_address_in_use(task_queue: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await asyncio.create_subprocess_exec(
            *(WARM, "-m", "langgraph_temporal_exec.cli.main", "worker"),
            *("tests.support.served:graph", "--metrics", f"127.0.0.1:{taken.getsockname()[1]}"),
            cwd=ROOT,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(WAIT_S):
            _, stderr = await process.communicate()
    assert process.returncode == 1
    assert "Metrics cannot be served at" in stderr.decode()
