"""What a thread is said to be, and whether it takes an answer, is what its state says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, StateUpdate, interrupt
from temporalio.client import Client

from langgraph_temporal_exec import NotWaitingError, TemporalSaver, UsageError
from langgraph_temporal_exec import interrupt_with_default as ask_within
from tests.support.graphs import State, config
from tests.support.reading import check_status, check_without_worker

pytestmark = pytest.mark.compat

WAIT_S = 60.0
"""Bound of every wait."""

Edit = Callable[[Any], Awaitable[Any]]


def _asks(**options: Any) -> Any:
    """first -> ask -> after; the answer is in the state."""

    async def first(state: State) -> State:
        return {"x": ["first"]}

    async def ask(state: State) -> State:
        return {"x": [f"answer {interrupt('sure?')}"]}

    async def after(state: State) -> State:
        return {"x": ["after"]}

    builder = StateGraph(State).add_sequence([first, ask, after]).add_edge(START, "first")
    return builder.compile(name="asks", **options)


def _stops() -> Any:
    """first -> | act -> after: a breakpoint before the second."""

    async def first(state: State) -> State:
        return {"x": ["first"]}

    async def act(state: State) -> State:
        return {"x": ["acted"]}

    async def after(state: State) -> State:
        return {"x": ["after"]}

    builder = StateGraph(State).add_sequence([first, act, after]).add_edge(START, "first")
    return builder.compile(name="stops", interrupt_before=["act"])


def _fans() -> Any:
    """Two tasks of one node ask at once."""

    async def ask(state: State) -> State:
        return {"x": [f"{state['x'][0]} {interrupt('sure?')}"]}

    builder = StateGraph(State).add_node("ask", ask)
    builder.add_conditional_edges(
        START, lambda _: [Send("ask", {"x": [n]}) for n in ("one", "two")], ["ask"]
    )
    return builder.compile(name="fans")


@entrypoint()
async def functional(state: dict[str, Any]) -> Any:
    """A question of the functional API."""
    return {"answer": interrupt("sure?"), "state": state}


@pytest.fixture
async def saver(client: Client, task_queue: str) -> AsyncIterator[TemporalSaver]:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker(_asks(), _stops(), _fans(), functional):
        yield saver
    saver.close()


async def _is(saver: TemporalSaver, graph: Any, status: str, thread_id: str = "t") -> None:
    """All who tell of a thread say the same, with and without a worker."""
    assert await check_status(saver, graph, thread_id) == status
    await check_without_worker(saver, thread_id)


def _run(run_id: str) -> Any:
    return {**config("t"), "metadata": {"run_id": run_id}}


async def _refused(saver: TemporalSaver, thread_id: str = "t") -> None:
    with pytest.raises(NotWaitingError, match="waits for nothing"):
        await saver.aresume(thread_id, "late")


CLOSING: dict[str, Edit] = {
    "as the node": lambda g: g.aupdate_state(config("t"), {"x": ["no"]}, as_node="ask"),
    "as a later node": lambda g: g.aupdate_state(config("t"), {"x": ["no"]}, as_node="after"),
    "clears": lambda g: g.aupdate_state(config("t"), None, as_node=END),
    "in bulk": lambda g: g.abulk_update_state(
        config("t"), [[StateUpdate({"x": [1]})], [StateUpdate({"x": [2]}, "ask")]]
    ),
}
OPEN: dict[str, Edit] = {
    "as nobody": lambda g: g.aupdate_state(config("t"), {"x": ["draft"]}),
    "as the node before": lambda g: g.aupdate_state(config("t"), {"x": ["d"]}, as_node="first"),
    "nothing": lambda g: g.aupdate_state(config("t"), None),
    "copies": lambda g: g.aupdate_state(config("t"), None, as_node="__copy__"),
    "in bulk": lambda g: g.abulk_update_state(
        config("t"), [[StateUpdate({"x": [1]})], [StateUpdate({"x": [2]}, "first")]]
    ),
}


@pytest.mark.parametrize("edit", CLOSING.values(), ids=CLOSING)
async def test_an_edit_that_closes_the_question(saver: TemporalSaver, edit: Edit) -> None:
    graph = _asks().with_config(checkpointer=saver)
    await graph.ainvoke({"x": []}, config("t"))
    await _is(saver, graph, "interrupted")
    await edit(graph)
    await _is(saver, graph, "idle")
    await _refused(saver)
    await graph.ainvoke({"x": []}, config("t"))
    await _is(saver, graph, "interrupted")


@pytest.mark.parametrize("edit", OPEN.values(), ids=OPEN)
async def test_an_edit_that_leaves_the_question_open(saver: TemporalSaver, edit: Edit) -> None:
    """LangGraph shows no question then, for the task has another id; it takes the answer."""
    graph = _asks().with_config(checkpointer=saver)
    await graph.ainvoke({"x": []}, config("t"))
    await edit(graph)
    assert (await graph.aget_state(config("t"))).next == ("ask",)
    await _is(saver, graph, "interrupted")
    result = await (await saver.aresume("t", "yes")).aresult()
    assert result["x"][-2:] == ["answer yes", "after"]
    await _is(saver, graph, "idle")
    await _refused(saver)


async def test_edited_twice_and_by_sync_code(saver: TemporalSaver) -> None:
    graph = _asks().with_config(checkpointer=saver)
    await graph.ainvoke({"x": []}, config("t"))
    for _ in range(2):
        await asyncio.to_thread(graph.update_state, config("t"), {"x": ["draft"]})
    await _is(saver, graph, "interrupted")
    await asyncio.to_thread(graph.update_state, config("t"), {"x": ["no"]}, "ask")
    await _is(saver, graph, "idle")
    await _refused(saver)


async def test_forks(saver: TemporalSaver) -> None:
    graph = _asks().with_config(checkpointer=saver)
    await graph.ainvoke({"x": ["in"]}, config("t"))
    states = [s async for s in graph.aget_state_history(config("t"))]
    # To before the question: nobody has asked there.
    await graph.aupdate_state(states[-1].config, {"x": ["fork"]})
    await _is(saver, graph, "idle")
    await _refused(saver)
    # To the question.
    await graph.aupdate_state(states[0].config, {"x": ["fork"]})
    await _is(saver, graph, "interrupted")
    await (await saver.aresume("t", "yes")).aresult()
    # To the question, which was answered on the other branch alone.
    await graph.aupdate_state(states[0].config, {"x": ["again"]})
    await _is(saver, graph, "interrupted")
    assert (await (await saver.aresume("t", 2)).aresult())["x"][-2:] == ["answer 2", "after"]
    # A run that starts from the question asks again.
    await graph.ainvoke(None, states[0].config)
    await _is(saver, graph, "interrupted")


async def test_breakpoints(saver: TemporalSaver) -> None:
    graph = _stops().with_config(checkpointer=saver)
    await graph.ainvoke({"x": []}, config("t"))
    await _is(saver, graph, "interrupted")
    await graph.aupdate_state(config("t"), {"x": ["draft"]}, as_node="first")
    await _is(saver, graph, "interrupted")
    await saver.acopy_thread("t", "copy")
    await _is(saver, graph, "interrupted", "copy")
    assert (await (await saver.aresume("copy", "go")).aresult())["x"][-2:] == ["acted", "after"]
    await graph.aupdate_state(config("t"), {"x": ["no"]}, as_node="act")
    await _is(saver, graph, "idle")
    await _refused(saver)
    await graph.ainvoke(None, config("t"))
    await _is(saver, graph, "idle")
    await graph.ainvoke({"x": []}, config("after"), interrupt_after=["first"])
    await _is(saver, graph, "interrupted", "after")


async def test_several_questions(saver: TemporalSaver) -> None:
    graph = _fans().with_config(checkpointer=saver)
    asked = (await graph.ainvoke({"x": []}, config("t")))["__interrupt__"]
    run = await saver.aresume("t", {asked[0].id: "yes"})
    await run.aresult()
    await _is(saver, graph, "interrupted")
    # Both are asked again: the edit sends to the node as the one before it did.
    await graph.aupdate_state(config("t"), {"x": ["draft"]}, as_node=START)
    await _is(saver, graph, "interrupted")
    await graph.aupdate_state(config("t"), {"x": ["no"]}, as_node="ask")
    await _is(saver, graph, "idle")
    await _refused(saver)


async def test_the_functional_api(saver: TemporalSaver) -> None:
    graph = functional.with_config(checkpointer=saver)
    await graph.ainvoke({"a": 1}, config("t"))
    await _is(saver, graph, "interrupted")
    await saver.acopy_thread("t", "copy")
    assert (await (await saver.aresume("copy", "yes")).aresult())["answer"] == "yes"
    await graph.aupdate_state(config("t"), None, as_node=END)
    await _is(saver, graph, "idle")
    await _refused(saver)


async def test_copies(saver: TemporalSaver) -> None:
    graph = _asks().with_config(checkpointer=saver)
    await graph.ainvoke({"x": []}, config("asked"))
    await graph.ainvoke({"x": []}, config("edited"))
    await graph.aupdate_state(config("edited"), {"x": ["draft"]})
    await graph.ainvoke({"x": []}, config("closed"))
    await graph.aupdate_state(config("closed"), {"x": ["no"]}, as_node="ask")
    for source, status in (("asked", "interrupted"), ("edited", "interrupted"), ("closed", "idle")):
        copy = f"copy of {source}"
        await saver.acopy_thread(source, copy)
        await _is(saver, graph, status, copy)
        info = await saver.aget_thread(copy)
        assert info is not None
        assert info.graph == "asks"
        if status == "idle":
            await _refused(saver, copy)
        else:
            result = await (await saver.aresume(copy, "yes")).aresult()
            assert result["x"][-2:] == ["answer yes", "after"]
    await _is(saver, graph, "interrupted", "asked")
    # Into a thread that is further already, whose latest checkpoint stays the latest.
    await graph.ainvoke({"x": []}, config("newer"))
    await (await saver.aresume("newer", "yes")).aresult()
    await saver.acopy_thread("asked", "newer")
    await _is(saver, graph, "idle", "newer")


async def test_imports(saver: TemporalSaver, client: Client, task_queue: str) -> None:
    memory = InMemorySaver()
    await _asks(checkpointer=memory).ainvoke({"x": []}, config("t"))

    async def imported(into: TemporalSaver, thread_id: str) -> None:
        for item in reversed([i async for i in memory.alist(config("t"))]):
            parent = (item.parent_config or {"configurable": {}})["configurable"]
            where = {"thread_id": thread_id, "checkpoint_ns": ""}
            at = {**where, "checkpoint_id": parent.get("checkpoint_id")}
            made = await into.aput(
                {"configurable": at},
                item.checkpoint,
                item.metadata,
                item.checkpoint["channel_versions"],
            )
            for task_id, channel, value in item.pending_writes or ():
                await into.aput_writes(made, [(channel, value)], task_id)

    graph = _asks().with_config(checkpointer=saver)
    await imported(saver, "t")
    await _is(saver, graph, "interrupted")
    with pytest.raises(UsageError, match="graph is to take it is not known"):
        await saver.aresume("t", "yes")
    assert (await graph.ainvoke(Command(resume="yes"), config("t")))["x"][-1] == "after"
    await _is(saver, graph, "idle")
    named = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue, graph="asks")
    await imported(named, "named")
    await _is(saver, graph, "interrupted", "named")
    assert (await (await saver.aresume("named", "yes")).aresult())["x"][-1] == "after"


async def test_dropped_runs(saver: TemporalSaver) -> None:
    graph = _asks().with_config(checkpointer=saver)
    await graph.ainvoke({"x": ["one"]}, _run("r0"))
    await graph.ainvoke({"x": ["two"]}, _run("r1"))
    # As the node that asked it would leave its writes at the question.
    await graph.aupdate_state(_run("r2"), {"x": ["no"]}, as_node="after")
    await _is(saver, graph, "idle")
    # Then the latest left is the question of the second run, then that of the first.
    for run_id in ("r2", "r1"):
        await saver.adelete_for_runs([run_id])
        await _is(saver, graph, "interrupted")
    assert (await (await saver.aresume("t", "yes")).aresult())["x"][0] == "one"
    await saver.aprune(["t"])
    await _is(saver, graph, "idle")


async def test_prune_and_the_end_of_a_question(saver: TemporalSaver) -> None:
    graph = _asks().with_config(checkpointer=saver)
    await graph.ainvoke({"x": []}, _run("r0"))
    await saver.aprune(["t"])
    await _is(saver, graph, "interrupted")
    await graph.ainvoke(Command(resume="yes"), _run("r1"))
    await _is(saver, graph, "idle")
    # What came after the question is gone; its answer is among the writes of its task.
    await saver.adelete_for_runs(["r1"])
    await _is(saver, graph, "idle")
    await _refused(saver)
    await saver.adelete_for_runs(["r0"])
    await _is(saver, graph, "idle")


async def test_rollback(saver: TemporalSaver) -> None:
    """A later run undoes the one that went on from the question, and asks for itself."""
    began = asyncio.Event()

    async def ask(state: State) -> State:
        return {"x": [interrupt("sure?")]}

    async def slow(state: State) -> State:
        if state["x"] == ["earlier"]:
            began.set()
            await asyncio.Event().wait()
        return {"x": [interrupt("really?")]}

    builder = StateGraph(State).add_sequence([ask, slow]).add_edge(START, "ask")
    graph = builder.compile(name="slow").with_config(checkpointer=saver)
    saver.serve("slow", graph)
    await graph.ainvoke({"x": []}, config("t"))
    earlier = await saver.aresume("t", "earlier")
    async with asyncio.timeout(WAIT_S):
        await began.wait()
        assert await check_status(saver, graph, "t") == "busy"
        strategy = {"configurable": {"thread_id": "t", "multitask_strategy": "rollback"}}
        later = await saver.astart(graph, {"x": ["later"]}, strategy)
        result = await later.aresult()
        while await earlier.astatus() != "cancelled":  # noqa: ASYNC110 - in Temporal
            await asyncio.sleep(0.05)
    assert (result["x"], [i.value for i in result["__interrupt__"]]) == (["later"], ["sure?"])
    await _is(saver, graph, "interrupted")


async def test_a_cancelled_answer_leaves_the_question(saver: TemporalSaver) -> None:
    """And the time after which it answers itself."""
    began = asyncio.Event()
    answers: list[Any] = []

    async def ask(state: State) -> State:
        answers.append(ask_within("sure?", within=timedelta(seconds=8), default="nobody"))
        if answers[-1] == "first":
            began.set()
            await asyncio.Event().wait()
        return {"x": [answers[-1]]}

    builder = StateGraph(State).add_node("ask", ask).add_edge(START, "ask")
    graph = builder.compile(name="slow").with_config(checkpointer=saver)
    saver.serve("slow", graph)
    await graph.ainvoke({"x": []}, config("t"))
    run = await saver.aresume("t", "first")
    async with asyncio.timeout(WAIT_S):
        await began.wait()
        await run.acancel()
        while await run.astatus() != "cancelled":  # noqa: ASYNC110 - in Temporal
            await asyncio.sleep(0.05)
        await _is(saver, graph, "interrupted")
        while (await graph.aget_state(config("t"))).next:  # noqa: ASYNC110 - in Temporal
            await asyncio.sleep(0.1)
    assert answers == ["first", "nobody"]
    await _is(saver, graph, "idle")


async def test_a_failure_beside_a_question(saver: TemporalSaver) -> None:
    fails = True

    async def ask(state: State) -> State:
        return {"x": [interrupt("sure?")]}

    async def boom(state: State) -> State:
        await asyncio.sleep(0.5)
        if fails:
            raise ValueError("boom")
        return {"x": ["fine"]}

    builder = StateGraph(State).add_node("ask", ask).add_node("boom", boom)
    builder.add_edge(START, "ask").add_edge(START, "boom")
    graph = builder.compile(name="both").with_config(checkpointer=saver)
    saver.serve("both", graph)
    with pytest.raises(ValueError, match="boom"):
        await graph.ainvoke({"x": []}, config("t"))
    await _is(saver, graph, "interrupted")
    await saver.acopy_thread("t", "copy")
    await _is(saver, graph, "interrupted", "copy")
    fails = False
    assert (await (await saver.aresume("t", "yes")).aresult())["x"] == ["yes", "fine"]
    await _is(saver, graph, "idle")


async def test_errors_end_with_the_state_they_are_of(saver: TemporalSaver) -> None:
    async def boom(state: State) -> State:
        raise ValueError("boom")

    builder = StateGraph(State).add_node("boom", boom).add_edge(START, "boom")
    graph = builder.compile(name="fails").with_config(checkpointer=saver)
    with pytest.raises(ValueError, match="boom"):
        await graph.ainvoke({"x": []}, _run("r0"))
    await _is(saver, graph, "error")
    await saver.acopy_thread("t", "copy")
    await _is(saver, graph, "error", "copy")
    await graph.aupdate_state(config("copy"), {"x": ["by hand"]}, as_node="boom")
    await _is(saver, graph, "idle", "copy")
    await saver.aprune(["t"])
    await _is(saver, graph, "error")
    await saver.adelete_for_runs(["r0"])
    await _is(saver, graph, "idle")
    await _refused(saver)


async def test_lists_say_it_too(saver: TemporalSaver) -> None:
    graph = _asks().with_config(checkpointer=saver)
    for thread_id in ("open", "closed"):
        await graph.ainvoke({"x": []}, config(thread_id))
    await graph.aupdate_state(config("closed"), {"x": ["no"]}, as_node="ask")
    async with asyncio.timeout(WAIT_S):
        while len([t async for t in saver.alist_threads()]) < 2:  # noqa: ASYNC110 # visibility lags
            await asyncio.sleep(0.1)
    found = {t.thread_id: t async for t in saver.alist_threads(status="interrupted")}
    assert found.keys() == {"open"}
    assert [i.value for i in found["open"].interrupts] == ["sure?"]
    assert {t.thread_id async for t in saver.alist_threads(status="idle")} == {"closed"}
