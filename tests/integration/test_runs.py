"""Runs that nobody waits for: started, found, joined, cancelled, from this process and others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import operator
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from temporalio.client import Client

from langgraph_temporal_exec import (
    GraphNotFoundError,
    Run,
    RunCancelledError,
    RunFailedError,
    RunFailure,
    RunNotFoundError,
    TemporalSaver,
    ThreadBusyError,
    UsageError,
)
from langgraph_temporal_exec.caller import join
from tests.integration.test_multitask import WAIT_S, _exists, _note, _ran, _until
from tests.support.graphs import NodeFailed, State, config, countdown
from tests.support.joined import is_joined

pytestmark = pytest.mark.compat


def _graph(folder: Path) -> Any:
    """A step, one that waits for a file, and one that asks, fails or ends."""

    async def before(state: State) -> State:
        return {"x": ["before"]}

    async def hold(state: State) -> State:
        _note(folder, "hold")
        await _until(lambda: _exists(folder / "go"))
        return {"x": ["held"]}

    async def end(state: State) -> State:
        if "ask" in state["x"]:
            return {"x": [interrupt("well?")]}
        if "fail" in state["x"]:
            raise NodeFailed("no", code=3)
        return {"x": ["end"]}

    builder = StateGraph(State).add_sequence([before, hold, end]).add_edge(START, "before")
    return builder.compile(name="background")


class Deployment:
    """A worker, and the savers of callers that have nothing to do with each other."""

    def __init__(self, client: Client, queue: str, graph: Any, host: TemporalSaver) -> None:
        self.graph = graph
        self.host = host
        self._new = lambda: TemporalSaver(client, task_queue=queue, id_prefix=queue)
        self._savers: list[TemporalSaver] = []

    async def joined(self, run: Run, readers: int = 1) -> None:
        """Wait until readers have joined the run."""
        workflow_id = f"{self.host.options.id_prefix}/run/{run.run_id}"
        async with asyncio.timeout(WAIT_S):
            while not await is_joined(self.host.client, workflow_id, readers):  # noqa: ASYNC110 # a server has no event
                await asyncio.sleep(0.05)

    def saver(self) -> TemporalSaver:
        """One of another process."""
        self._savers.append(self._new())
        return self._savers[-1]

    def close(self) -> None:
        for saver in self._savers:
            saver.close()


@pytest.fixture
async def deployment(client: Client, task_queue: str, tmp_path: Path) -> AsyncIterator[Deployment]:
    graph = _graph(tmp_path)
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with host.worker(graph):
        made = Deployment(client, task_queue, graph, host)
        yield made
        made.close()


async def test_started_found_and_waited_for(deployment: Deployment, tmp_path: Path) -> None:
    run = await deployment.saver().astart(deployment.graph, {"x": ["in"]}, config("t"))
    await _until(lambda: _ran(tmp_path) == ["hold"])
    other = deployment.saver()
    (found,) = [r async for r in other.alist_runs("t")]
    by_id = await other.aget_run(run.run_id)
    assert (found.run_id, by_id.run_id, by_id.thread_id) == (run.run_id, run.run_id, "t")
    assert await found.astatus() == "running"
    (tmp_path / "go").touch()
    expected = {"x": ["in", "before", "held", "end"]}
    for handle in (run, found, by_id):
        assert await handle.aresult() == expected
        assert await handle.astatus() == "done"
    second = await other.astart(deployment.graph, {"x": ["again"]}, config("t"))
    await second.aresult()
    assert [r.run_id async for r in other.alist_runs("t")] == [run.run_id, second.run_id]


async def test_joined_streams_begin_now_and_end_with_the_run(
    deployment: Deployment, tmp_path: Path
) -> None:
    run = await deployment.saver().astart(
        deployment.graph, {"x": ["in"]}, config("t"), stream_mode="tasks"
    )
    await _until(lambda: _ran(tmp_path) == ["hold"])
    others = [await deployment.saver().aget_run(run.run_id) for _ in range(2)]
    streams = [asyncio.create_task(_all(other.astream())) for other in others]
    await deployment.joined(run, readers=2)
    (tmp_path / "go").touch()
    for stream in streams:
        chunks = await stream
        assert [c for m, c in chunks if m == "updates"] == [
            {"hold": {"x": ["held"]}},
            {"end": {"x": ["end"]}},
        ]
        assert chunks[-1] == ("values", {"x": ["in", "before", "held", "end"]})
        assert "tasks" in {mode for mode, _ in chunks}
    # Of a run that has ended there is nothing to stream.
    assert await _all(others[0].astream()) == []


async def test_a_run_of_an_embedded_caller_is_joined(
    deployment: Deployment, tmp_path: Path
) -> None:
    durable = deployment.graph.with_config(checkpointer=deployment.host)
    call = asyncio.create_task(durable.ainvoke({"x": ["in"]}, config("t")))
    await _until(lambda: _ran(tmp_path) == ["hold"])
    (run,) = [r async for r in deployment.saver().alist_runs("t")]
    stream = asyncio.create_task(_all(run.astream()))
    await deployment.joined(run)
    (tmp_path / "go").touch()
    expected = {"x": ["in", "before", "held", "end"]}
    assert await call == await run.aresult() == expected
    assert ("values", expected) in await stream


async def test_cancelled_from_elsewhere(deployment: Deployment, tmp_path: Path) -> None:
    run = await deployment.saver().astart(deployment.graph, {"x": ["in"]}, config("t"))
    await _until(lambda: _ran(tmp_path) == ["hold"])
    other = await deployment.saver().aget_run(run.run_id)
    await other.acancel()
    with pytest.raises(RunCancelledError):
        await run.aresult()
    assert await run.astatus() == "cancelled"
    await other.acancel()
    (tmp_path / "go").touch()
    durable = deployment.graph.with_config(checkpointer=deployment.host)
    assert (await durable.ainvoke(None, config("t")))["x"][-1] == "end"


async def test_interrupted_and_failed_runs(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    saver = deployment.saver()
    asking = await saver.astart(deployment.graph, {"x": ["ask"]}, config("t"))
    assert [i.value for i in (await asking.aresult())["__interrupt__"]] == ["well?"]
    assert await asking.astatus() == "interrupted"
    answered = await saver.astart(deployment.graph, Command(resume="yes"), config("t"))
    assert (await answered.aresult())["x"][-1] == "yes"
    failing = await saver.astart(deployment.graph, {"x": ["fail"]}, config("u"))
    with pytest.raises(NodeFailed) as raised:
        await failing.aresult()
    assert raised.value.code == 3
    assert await failing.astatus() == "error"


async def test_failed_runs_are_found(
    deployment: Deployment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "go").touch()
    caplog.set_level(logging.INFO)
    saver = deployment.saver()
    run = await saver.astart(deployment.graph, {"x": ["fail"]}, config("t"))
    for other in (run, await deployment.saver().aget_run(run.run_id)):
        with pytest.raises(NodeFailed) as raised:
            await _all(other.astream())
        assert raised.value.code == 3
        with pytest.raises(NodeFailed):
            await asyncio.to_thread(list, other.stream())
        failure = await other.afailure()
        assert failure == RunFailure(type_name="tests.support.graphs.NodeFailed", message="no")
        assert await asyncio.to_thread(other.failure) == failure
    info = await deployment.saver().aget_thread("t")
    assert info is not None
    assert (info.status, info.error) == ("error", failure)
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert record.levelno == logging.ERROR
    assert record.run_id == run.run_id  # type: ignore[attr-defined] # of ours
    text = logging.Formatter().format(record)
    for part in (run.run_id, "NodeFailed: no", "Traceback", 'raise NodeFailed("no", code=3)'):
        assert part in text
    # Of the last run to end, not of one before it.
    again = await saver.astart(deployment.graph, None, config("t"))
    with pytest.raises(NodeFailed):
        await again.aresult()
    durable = deployment.graph.with_config(checkpointer=saver)
    await durable.aupdate_state(config("t"), {"x": []}, as_node="end")
    await (await saver.astart(deployment.graph, None, config("t"))).aresult()
    info = await saver.aget_thread("t")
    assert info is not None
    assert (info.status, info.error) == ("idle", None)


@pytest.mark.parametrize("where", ["embedded", "remote"])
async def test_whoever_waits_hears_of_the_failure_alone(
    deployment: Deployment, tmp_path: Path, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    (tmp_path / "go").touch()
    saver = deployment.host if where == "embedded" else deployment.saver()
    with pytest.raises(NodeFailed):
        await deployment.graph.with_config(checkpointer=saver).ainvoke({"x": ["fail"]}, config("t"))
    info = await saver.aget_thread("t")
    assert info is not None
    assert str(info.error) == "tests.support.graphs.NodeFailed: no"
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    (run,) = [r async for r in saver.alist_runs("t")]
    assert str(await run.afailure()) == str(info.error)


async def test_runs_that_never_began_are_found(
    deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    saver = deployment.saver()
    run = await saver.astart(countdown(), {"n": 1}, config("t"))
    with pytest.raises(GraphNotFoundError):
        await _all(run.astream())
    failure = await run.afailure()
    assert failure is not None
    assert failure.type_name == "langgraph_temporal_exec.errors.GraphNotFoundError"
    info = await saver.aget_thread("t")
    assert info is not None
    assert (info.status, info.error) == ("idle", failure)
    assert [r.run_id async for r in saver.alist_runs("t")] == [run.run_id]
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert run.run_id in record.getMessage()
    assert "GraphNotFound" in record.getMessage()


async def test_runs_begun_without_a_worker_keep_their_order(
    client: Client, task_queue: str
) -> None:
    """A task queue keeps none: it has partitions."""
    graph = (
        StateGraph(State)
        .add_node("node", lambda state: {"x": ["ran"]})
        .add_edge(START, "node")
        .compile()
    )
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    begun = [await saver.astart(graph, {"x": [f"{n}"]}, config("t")) for n in range(8)]
    info = await saver.aget_thread("t")
    assert info is not None
    assert (info.status, info.waiting) == ("busy", 7)
    async with saver.worker(graph), asyncio.timeout(WAIT_S):
        await asyncio.gather(*(run.aresult() for run in begun))
        durable = graph.with_config(checkpointer=saver)
        lines = (await durable.aget_state(config("t"))).values["x"]
    saver.close()
    assert lines == [line for n in range(8) for line in (f"{n}", "ran")]


async def test_the_stream_of_a_cancelled_run_says_so(
    deployment: Deployment, tmp_path: Path
) -> None:
    run = await deployment.saver().astart(deployment.graph, {"x": ["in"]}, config("t"))
    await _until(lambda: _ran(tmp_path) == ["hold"])
    stream = asyncio.create_task(_all(run.astream()))
    await deployment.joined(run)
    await run.acancel()
    with pytest.raises(RunCancelledError):
        await stream
    with pytest.raises(RunCancelledError):
        await asyncio.to_thread(list, run.stream())
    assert await run.afailure() is None
    info = await deployment.saver().aget_thread("t")
    assert info is not None
    assert info.error is None
    (tmp_path / "go").touch()


@pytest.mark.parametrize("where", ["embedded", "remote"])
@pytest.mark.parametrize("kind", ["end", "ask", "fail"])
async def test_a_call_without_input_joins_the_run_that_has_the_thread(
    deployment: Deployment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    kind: str,
) -> None:
    found: list[str] = []
    sign_of_life = join._sign_of_life

    async def finds(transport: Any, run_id: str, thread_id: str) -> None:
        found.append(run_id)
        await sign_of_life(transport, run_id, thread_id)

    monkeypatch.setattr(join, "_sign_of_life", finds)
    run = await deployment.saver().astart(deployment.graph, {"x": [kind]}, config("t"))
    await _until(lambda: _ran(tmp_path) == ["hold"])
    saver = deployment.host if where == "embedded" else deployment.saver()
    durable = deployment.graph.with_config(checkpointer=saver)
    call = asyncio.create_task(durable.ainvoke(None, config("t")))
    await _until(lambda: found == [run.run_id])
    (tmp_path / "go").touch()
    if kind == "fail":
        with pytest.raises(NodeFailed):
            await call
    else:
        assert await call == await run.aresult()
    assert _ran(tmp_path) == ["hold"]
    assert len([r async for r in saver.alist_runs("t")]) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"stream_mode": "values"},
        {"stream_mode": "updates"},
        {"stream_mode": ["values"], "subgraphs": True},
        {"stream_mode": ["updates", "values"], "version": "v2"},
    ],
    ids=str,
)
async def test_the_result_of_a_call_in_any_form(
    deployment: Deployment, tmp_path: Path, options: dict[str, Any]
) -> None:
    (tmp_path / "go").touch()
    saver = deployment.saver()
    durable = deployment.graph.with_config(checkpointer=saver)
    async for _ in durable.astream({"x": ["ask"]}, config("t"), **options):
        pass
    (run,) = [r async for r in saver.alist_runs("t")]
    result = await run.aresult()
    if "values" in options["stream_mode"]:
        assert result["x"] == ["ask", "before", "held"]
    if "updates" in options["stream_mode"]:
        assert [i.value for i in result["__interrupt__"]] == ["well?"]


@pytest.mark.parametrize("strategy", ["enqueue", "reject"])
async def test_after_a_run_was_terminated_by_hand(
    deployment: Deployment, client: Client, task_queue: str, tmp_path: Path, strategy: str
) -> None:
    """Nobody tells its thread; whoever comes next finds out."""
    saver = deployment.saver()
    run = await saver.astart(deployment.graph, {"x": ["in"]}, config("t"))
    await _until(lambda: _ran(tmp_path) == ["hold"])
    await client.get_workflow_handle(f"{task_queue}/run/{run.run_id}").terminate()
    with pytest.raises(RunFailedError):
        await run.aresult()
    with pytest.raises(RunFailedError):
        await _all(run.astream())
    assert "terminated" in str(await run.afailure())
    (tmp_path / "go").touch()
    durable = deployment.graph.with_config(checkpointer=saver)
    again = {"configurable": {"thread_id": "t", "multitask_strategy": strategy}}
    assert (await durable.ainvoke(None, again))["x"][-1] == "end"


async def test_calls_that_are_turned_away_leave_nothing_behind(
    deployment: Deployment, tmp_path: Path
) -> None:
    run = await deployment.saver().astart(deployment.graph, {"x": ["in"]}, config("t"))
    await _until(lambda: _ran(tmp_path) == ["hold"])
    durable = deployment.graph.with_config(checkpointer=deployment.host)
    busy = {"configurable": {"thread_id": "t", "multitask_strategy": "reject"}}
    with pytest.raises(ThreadBusyError):
        await durable.ainvoke({"x": ["no"]}, busy)
    host = deployment.host._caller.host
    assert host is not None
    async with asyncio.timeout(WAIT_S):
        while host.embedded.ids():  # noqa: ASYNC110 # it is reported by an Activity
            await asyncio.sleep(0.05)
    (tmp_path / "go").touch()
    await run.aresult()


async def test_sync_handles(deployment: Deployment, tmp_path: Path) -> None:
    saver = deployment.saver()

    def use() -> Any:
        run = saver.start(deployment.graph, {"x": ["in"]}, config("t"))
        assert run.status() in ("scheduled", "running")
        (tmp_path / "go").touch()
        list(run.stream())
        assert [r.run_id for r in saver.list_runs("t")] == [run.run_id]
        saver.get_run(run.run_id).cancel()
        return run.result()

    async with asyncio.timeout(WAIT_S):
        assert (await asyncio.to_thread(use))["x"][-1] == "end"


async def test_what_there_is_not(deployment: Deployment) -> None:
    saver = deployment.saver()
    with pytest.raises(RunNotFoundError, match="'nothing'"):
        await saver.aget_run("nothing")
    assert [r async for r in saver.alist_runs("nothing")] == []
    with pytest.raises(UsageError, match="v1"):
        await saver.astart(deployment.graph, {"x": []}, config("t"), version="v2")


async def _all(chunks: AsyncIterator[Any]) -> list[Any]:
    async with asyncio.timeout(WAIT_S), contextlib.aclosing(chunks) as stream:  # type: ignore[type-var] # it is a generator
        return [chunk async for chunk in stream]


@entrypoint()
async def _essay(topic: str) -> str:
    return topic * 400_000


def _letters() -> Any:
    """A graph whose state is no dict."""
    return (
        StateGraph(Annotated[list, operator.add])
        .add_node("write", lambda state: [state[0] * 400_000])
        .add_edge(START, "write")
        .compile(name="letters")
    )


@pytest.mark.parametrize("graph", [_essay, _letters()], ids=["entrypoint", "list"])
async def test_a_large_result_without_channels(client: Client, task_queue: str, graph: Any) -> None:
    """An outcome has no room for it, so it is read from the thread."""
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    given = "topic" if graph is _essay else ["topic"]
    async with saver.worker(graph), asyncio.timeout(60):
        run = await saver.astart(graph.with_config(checkpointer=saver), given, config("t"))
        found = await run.aresult()
    assert found == await graph.copy({"checkpointer": InMemorySaver()}).ainvoke(given, config("t"))
