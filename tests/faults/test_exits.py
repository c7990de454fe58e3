"""What ends programs ends the run that raised it, and nothing else; and programs that do end."""

from __future__ import annotations

import asyncio
import gc
import itertools
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

pytest.importorskip("deepagents")

from langgraph_temporal_exec import NodeExitError, RunCancelledError, TemporalSaver
from langgraph_temporal_exec._loops import LoopThread
from tests.faults.host import EXIT_CODE
from tests.faults.lab import HEARTBEAT_S, WAIT_S, Lab, Process
from tests.faults.leavers import HOOKS, KINDS, PLACES, graphs, innocent, leave
from tests.support.warm import WARM

pytestmark = pytest.mark.exhaustive

LEAVERS = "tests.faults.leavers:graphs"


ENDS = (NodeExitError, RuntimeError)
"""Python itself makes StopIteration a RuntimeError where a coroutine or a generator raises it."""


def _config(thread: str) -> Any:
    return {"configurable": {"thread_id": thread}}


@asynccontextmanager
async def _served(mode: str, lab: Lab) -> AsyncIterator[tuple[TemporalSaver, Process | None]]:
    client = await Client.connect(lab.address)
    saver = TemporalSaver(
        client, task_queue=lab.task_queue, id_prefix="langgraph", no_worker_timeout=WAIT
    )
    try:
        if mode == "embedded":
            async with saver.worker(graphs):
                yield saver, None
        else:
            yield saver, await lab.worker(LEAVERS)
    finally:
        saver.close()


WAIT = timedelta(seconds=WAIT_S)


def _check(exc: BaseException, kind: str) -> None:
    if kind == "StopIteration":
        assert "StopIteration" in f"{exc!r} {exc.__cause__!r}", repr(exc)
    else:
        assert isinstance(exc, NodeExitError), repr(exc)
        assert f"raised {kind}" in str(exc)
        assert "langgraph." not in str(exc)


async def _leaves_and_comes_back(
    lab: Lab, saver: TemporalSaver, graph: Any, place: str, kind: str
) -> None:
    thread = f"{lab.thread_id}-{place}-{kind}"
    async with lab.bounded(f"{kind} in {place} is told"):
        with pytest.raises(ENDS) as caught:
            await graph.ainvoke({"kind": kind}, _config(thread))
    _check(caught.value, kind)
    (run,) = [run async for run in saver.alist_runs(thread)]
    with pytest.raises(ENDS):
        await run.aresult()
    assert await run.astatus() == "error"
    async with lab.bounded(f"the thread is used after {kind} in {place}"):
        result = await graph.ainvoke({"kind": ""}, _config(thread))
    assert result["seen"][-1] == "fine", (place, kind)


@asynccontextmanager
async def _another_run(
    lab: Lab, saver: TemporalSaver, worker: Process | None
) -> AsyncIterator[None]:
    """A run that begins before what happens in the block and ends after it, in one attempt."""
    flag, thread = lab.folder / "flag", f"{lab.thread_id}-innocent"
    graph = innocent.with_config(checkpointer=saver)
    beside = asyncio.create_task(graph.ainvoke({"kind": str(flag)}, _config(thread)))
    await lab.until(Path(f"{flag}.begun").exists, "the run beside begins")
    yield
    flag.touch()
    assert (await beside)["seen"] == ["fine"]
    (run,) = [run async for run in saver.alist_runs(thread)]
    assert await _attempts(saver, run.run_id) == 1
    assert worker is None or worker.exit_code is None


async def _attempts(saver: TemporalSaver, run_id: str) -> int:
    handle = saver.client.get_workflow_handle(f"langgraph/run/{run_id}")
    scheduled = "activity_task_scheduled_event_attributes"
    return len([e async for e in handle.fetch_history_events() if e.HasField(scheduled)])


@pytest.mark.long
@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_code_that_leaves_ends_its_run_alone(lab: Lab, mode: str) -> None:
    async with _served(mode, lab) as (saver, worker), _another_run(lab, saver, worker):
        for place in PLACES:
            graph = graphs[place].with_config(checkpointer=saver)
            await asyncio.gather(
                *(_leaves_and_comes_back(lab, saver, graph, place, kind) for kind in KINDS)
            )


async def _call(graph: Any, how: str, input: Any, config: Any) -> Any:
    if how == "ainvoke":
        return await graph.ainvoke(input, config)
    return await asyncio.to_thread(graph.invoke, input, config)


async def _leaves_from_middleware(lab: Lab, graph: Any, hook: str, hows: Sequence[str]) -> None:
    """Every kind, one after the other: each run begins on the thread that the one before left."""
    where = _config(f"{lab.thread_id}-{graph.name}-{hook}")
    for kind, how in zip(KINDS, itertools.cycle(hows), strict=False):
        async with lab.bounded(f"{kind} in {hook} of {graph.name} is told to {how}"):
            with pytest.raises(ENDS) as caught:
                await _call(graph, how, {"messages": [("human", f"{hook} {kind}")]}, where)
        _check(caught.value, kind)
    async with lab.bounded(f"the thread is used after {hook} of {graph.name}"):
        result = await _call(graph, hows[0], {"messages": [("human", "nowhere -")]}, where)
    assert result["messages"][-1].text == "fine"


@pytest.mark.long
@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_middleware_that_leaves_ends_its_run_alone(lab: Lab, mode: str) -> None:
    # Hooks of async calls and of sync ones take turns, in the other order in the other mode.
    hows = ["ainvoke", "invoke"] if mode == "embedded" else ["invoke", "ainvoke"]
    async with _served(mode, lab) as (saver, worker), _another_run(lab, saver, worker):
        agent, deep_agent = (
            graphs[name].with_config(checkpointer=saver) for name in ("agent", "deep_agent")
        )
        await asyncio.gather(
            *(_leaves_from_middleware(lab, agent, hook, hows) for hook in HOOKS),
            _leaves_from_middleware(lab, deep_agent, "wrap_tool_call", hows),
        )


class _Left:
    """What a consumer raised in its loop, and what came out of that."""

    raised: BaseException | None = None
    came: BaseException | None = None

    def leave(self, kind: str) -> None:
        try:
            leave(kind)
        except BaseException as exc:
            self.raised = exc
            raise


async def _leave_astream(graph: Any, config: Any, kind: str) -> _Left:
    left = _Left()
    try:
        async for _ in graph.astream({"kind": "on"}, config):
            left.leave(kind)
    except BaseException as exc:
        left.came = exc
    return left


def _leave_stream(graph: Any, config: Any, kind: str) -> _Left:
    left = _Left()
    try:
        for _ in graph.stream({"kind": "on"}, config):
            left.leave(kind)
    except BaseException as exc:
        left.came = exc
    return left


async def _consumer_leaves(lab: Lab, saver: TemporalSaver, graph: Any, how: str, kind: str) -> None:
    thread = f"{lab.thread_id}-{how}-{kind}"
    where = {**_config(thread), "recursion_limit": 10_000}
    async with lab.bounded(f"{kind} of the consumer of {how} cancels the run"):
        if how == "astream":
            left = await _leave_astream(graph, where, kind)
        else:
            left = await asyncio.to_thread(_leave_stream, graph, where, kind)
        assert type(left.came).__name__ == kind
        assert left.came is left.raised
        (run,) = [run async for run in saver.alist_runs(thread)]
        with pytest.raises(RunCancelledError):
            await run.aresult()
    async with lab.bounded(f"the thread is used after {kind} of the consumer of {how}"):
        result = await graph.ainvoke({"kind": ""}, where)
    assert result["seen"][-1] == "tick"


async def _consumer_ends_its_program(lab: Lab, saver: TemporalSaver, graph: Any, kind: str) -> None:
    """Its event loop is torn down, as that of a process that ends: the run goes on elsewhere."""
    thread, flag = f"{lab.thread_id}-program-{kind}", lab.folder / f"flag-{kind}"

    async def consume() -> None:
        async for _ in graph.astream({"kind": str(flag)}, _config(thread), stream_mode="updates"):
            leave(kind)

    def program() -> str:
        try:
            asyncio.run(consume())
        except BaseException as exc:
            return repr(exc)
        return ""

    async with lab.bounded(f"{kind} of the consumer ends its program, and the run goes on"):
        # Where a coroutine raises StopIteration, Python makes it a RuntimeError.
        assert kind in await asyncio.to_thread(program)
        (run,) = [run async for run in saver.alist_runs(thread)]
        flag.touch()
        assert (await run.aresult())["seen"] == ["fine", "fine"]
        result = await graph.ainvoke({"kind": ""}, _config(thread))
    assert result["seen"] == ["fine"] * 4


@pytest.mark.long
@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_a_consumer_that_leaves_ends_its_run_alone(lab: Lab, mode: str) -> None:
    async with _served(mode, lab) as (saver, worker), _another_run(lab, saver, worker):
        ticks, then_waits = (
            graphs[name].with_config(checkpointer=saver) for name in ("ticks", "then_waits")
        )
        await asyncio.gather(
            *(
                _consumer_leaves(lab, saver, ticks, how, kind)
                for how in ("astream", "stream")
                for kind in KINDS
            ),
            *(_consumer_ends_its_program(lab, saver, then_waits, kind) for kind in KINDS),
        )


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_however_it_is_called(
    lab: Lab, mode: str, thread_id: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with _served(mode, lab) as (saver, worker):
        for place in ("sync_node", "async_tools", "reducer"):
            graph = graphs[place].with_config(checkpointer=saver)
            for kind in KINDS:
                where = _config(f"{thread_id}-{place}-{kind}")
                async with lab.bounded(f"{kind} in {place} is told"):
                    run = await saver.astart(graphs[place], {"kind": kind}, where)
                    with pytest.raises(ENDS) as caught:
                        await run.aresult()
                    _check(caught.value, kind)
                    if place == "async_tools":
                        # A sync call cannot await its tool.
                        continue
                    with pytest.raises(ENDS) as caught:
                        await asyncio.to_thread(graph.invoke, {"kind": kind}, where)
                    _check(caught.value, kind)
                    result = await asyncio.to_thread(graph.invoke, {"kind": ""}, where)
                    assert result["seen"][-1] == "fine"
        await asyncio.gather(*(_leaves_when_resumed(lab, saver, kind) for kind in KINDS))
        assert worker is None or worker.exit_code is None
        # The workflow of a thread starts the run that answers, and does not wait for its end.
        gc.collect()
        assert "never retrieved" not in (caplog.text if worker is None else worker.output)


async def _leaves_when_resumed(lab: Lab, saver: TemporalSaver, kind: str) -> None:
    graph = graphs["asked"].with_config(checkpointer=saver)
    thread = f"{lab.thread_id}-asked-{kind}"
    async with lab.bounded(f"{kind} after an answer is told"):
        await graph.ainvoke({"kind": ""}, _config(thread))
        run = await saver.aresume(thread, kind)
        with pytest.raises(ENDS) as caught:
            await run.aresult()
        _check(caught.value, kind)
        assert await run.astatus() == "error"
    async with lab.bounded(f"the thread is used after {kind} after an answer"):
        await graph.ainvoke({"kind": ""}, _config(thread))
        result = await (await saver.aresume(thread, "")).aresult()
    assert result["seen"] == ["fine"]


def test_a_sync_call_of_the_main_thread(lab: Lab, thread_id: str) -> None:
    """Where Python would raise KeyboardInterrupt for a Ctrl-C as well."""
    with TemporalSaver.local() as saver:
        graph = graphs["sync_node"].with_config(checkpointer=saver)
        for kind in KINDS:
            with pytest.raises(ENDS) as caught:
                graph.invoke({"kind": kind}, _config(kind))
            _check(caught.value, kind)
            assert graph.invoke({"kind": ""}, _config(kind))["seen"] == ["fine"]


@pytest.fixture
def collected_when_told() -> Iterator[None]:
    """No collection of garbage but those that a test asks for."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collected_when_told")
def test_a_stream_that_the_garbage_collector_closes_on_a_thread_of_ours() -> None:
    """Where closing it must not wait for what that very thread is to do."""

    async def collect() -> None:
        gc.collect()

    with TemporalSaver.local() as saver:
        graph = graphs["ticks"].with_config(checkpointer=saver)
        chunks = graph.stream({"kind": "on"}, _config("t"))
        next(chunks)
        # What an exception makes that is kept where it was caught.
        cycle: list[Any] = [chunks]
        cycle.append(cycle)
        del chunks, cycle
        loops = [found for found in gc.get_objects() if type(found) is LoopThread]
        for loop in loops:
            loop.submit(collect()).result(WAIT_S)
        (run,) = saver.list_runs("t")
        with pytest.raises(RunCancelledError):
            run.result()
        assert graph.invoke({"kind": ""}, _config("t"))["seen"][-1] == "tick"


async def test_a_program_that_exits_while_it_holds_a_stream(lab: Lab) -> None:
    command = [sys.executable, "-m", "tests.faults.leaving_program"]
    program = Process("program", command, lab.folder)
    try:
        await lab.until(lambda: program.exit_code is not None, "the program ends")
        assert program.exit_code == EXIT_CODE, program.report()
    finally:
        program.discard()


HOWS = ["exit", "signals", "stop", "close"]


@pytest.mark.long
@pytest.mark.parametrize("how", HOWS)
async def test_a_host_that_is_torn_down_loses_its_runs_to_another_worker(
    lab: Lab, how: str
) -> None:
    flag, trigger = lab.folder / "flag", lab.folder / "trigger"
    begun = Path(f"{flag}.begun")
    command = [WARM, "-m", "tests.faults.host", "--address", lab.address]
    command += ["--task-queue", lab.task_queue, "--heartbeat", str(HEARTBEAT_S)]
    host = Process(f"host-{how}", [*command, "--how", how, "--trigger", str(trigger)], lab.folder)
    saver = TemporalSaver(
        await Client.connect(lab.address),
        task_queue=lab.task_queue,
        heartbeat_timeout=timedelta(seconds=HEARTBEAT_S),
        no_worker_timeout=WAIT,
    )
    graph = innocent.with_config(checkpointer=saver)
    try:
        call = asyncio.create_task(graph.ainvoke({"kind": str(flag)}, lab.config))
        await lab.until(begun.exists, "the run begins")
        await asyncio.to_thread(begun.unlink)
        if how == "signals":
            host.send(signal.SIGINT)
            await asyncio.sleep(0.5)
            host.send(signal.SIGINT)
        else:
            trigger.touch()
        if how in ("exit", "signals"):
            await lab.until(lambda: host.exit_code is not None, "the host ends")
            assert how != "exit" or host.exit_code == EXIT_CODE, host.report()
            await lab.worker(LEAVERS)
        await lab.until(begun.exists, "the run goes on")
        flag.touch()
        async with lab.bounded(f"the run ends\n{host.report()}"):
            assert (await call)["seen"] == ["fine"]
        (run,) = [run async for run in saver.alist_runs(lab.thread_id)]
        handle = saver.client.get_workflow_handle(f"langgraph/run/{run.run_id}")
        assert (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED
    finally:
        host.discard()
        saver.close()
