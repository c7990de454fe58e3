"""An interrupt that answers itself if nobody does."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client

from langgraph_temporal_exec import NotWaitingError, TemporalSaver, UsageError
from langgraph_temporal_exec import interrupt_with_default as ask
from tests.support.graphs import State, config

pytestmark = pytest.mark.compat

SOON = timedelta(seconds=1)
NEVER = timedelta(days=3000)


def asking_graph(within: dict[str, timedelta]) -> Any:
    """Two questions at once, of a sync node and in a sub-graph, and what follows them."""

    def sync(state: State) -> State:
        return {"x": [f"sync {ask('sync?', within=within['sync'], default={'no': [1]})}"]}

    async def inner(state: State) -> State:
        return {"x": [f"inner {ask('inner?', within=within['inner'], default='no')}"]}

    async def last(state: State) -> State:
        return {"x": ["last"]}

    nested = StateGraph(State).add_node("inner", inner).add_edge(START, "inner").compile()
    builder = StateGraph(State).add_node("sync", sync).add_node("nested", nested)
    builder.add_node("last", last).add_edge(["sync", "nested"], "last")
    builder.add_edge(START, "sync").add_edge(START, "nested")
    return builder.compile(name="asking")


async def _until(saver: TemporalSaver, status: str) -> None:
    async with asyncio.timeout(60):
        while (info := await saver.aget_thread("t")) is None or info.status != status:  # noqa: ASYNC110 # no event to wait for
            await asyncio.sleep(0.1)


@pytest.fixture
def saver(client: Client, task_queue: str) -> TemporalSaver:
    """A saver whose worker each test starts itself."""
    return TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)


async def test_nobody_answers(saver: TemporalSaver) -> None:
    """Neither the caller nor a worker is there when the time has come."""
    asking = asking_graph({"sync": SOON, "inner": SOON})
    graph = asking.with_config(checkpointer=saver)
    async with saver.worker(asking):
        asked = await graph.ainvoke({"x": []}, config("t"))
        assert {i.value for i in asked["__interrupt__"]} == {"sync?", "inner?"}
    await asyncio.sleep(2 * SOON.total_seconds())
    async with saver.worker(asking):
        await _until(saver, "idle")
        values = (await graph.aget_state(config("t"))).values["x"]
    assert sorted(values[-3:-1]) == ["inner no", "sync {'no': [1]}"]
    assert values[-1] == "last"


async def test_somebody_answers_in_time(client: Client, saver: TemporalSaver) -> None:
    asking = asking_graph({"sync": NEVER, "inner": NEVER})
    graph = asking.with_config(checkpointer=saver)
    async with saver.worker(asking):
        asked = await graph.ainvoke({"x": []}, config("t"))
        thread = client.get_workflow_handle(f"{saver.options.id_prefix}/thread/t")
        details = await thread.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        assert "waits for an answer to: nested, sync" in details.current_details
        assert "answers itself at: 20" in details.current_details
        answers = {i.id: "yes" for i in asked["__interrupt__"]}
        assert (await graph.ainvoke(Command(resume=answers), config("t")))["x"][-1] == "last"
    events = (await thread.fetch_history()).events
    started = [e for e in events if e.HasField("timer_started_event_attributes")]
    stopped = [e for e in events if e.HasField("timer_canceled_event_attributes")]
    # No timer is left behind.
    assert len(started) == len(stopped) == 1


async def test_each_has_its_own_time(saver: TemporalSaver) -> None:
    asking = asking_graph({"sync": SOON, "inner": NEVER})
    graph = asking.with_config(checkpointer=saver)
    async with saver.worker(asking), asyncio.timeout(60):
        await graph.ainvoke({"x": []}, config("t"))
        while len(left := (await graph.aget_state(config("t"))).interrupts) != 1:  # noqa: ASYNC110 # no event to wait for
            await asyncio.sleep(0.1)
        assert left[0].value == "inner?"
        await _until(saver, "interrupted")
        after = await graph.ainvoke(Command(resume={left[0].id: "yes"}), config("t"))
        assert after["x"][-1] == "last"
        assert sorted(after["x"][-3:-1]) == ["inner yes", "sync {'no': [1]}"]


async def test_through_continue_as_new(client: Client, saver: TemporalSaver) -> None:
    saver._store.transport.roll_events = 10
    within = timedelta(seconds=4)
    asking = asking_graph({"sync": within, "inner": within})
    graph = asking.with_config(checkpointer=saver)
    async with saver.worker(asking):
        await graph.ainvoke({"x": []}, config("t"))
        await _until(saver, "idle")
        assert (await graph.aget_state(config("t"))).values["x"][-1] == "last"
    thread = client.get_workflow_handle(f"{saver.options.id_prefix}/thread/t")
    first = (await thread.fetch_history()).events[0].workflow_execution_started_event_attributes
    assert first.continued_execution_run_id


async def test_a_state_changed_by_hand_waits_for_its_person(saver: TemporalSaver) -> None:
    asking = asking_graph({"sync": SOON, "inner": SOON})
    graph = asking.with_config(checkpointer=saver)
    async with saver.worker(asking):
        await graph.ainvoke({"x": []}, config("t"))
        await graph.aupdate_state(config("t"), {"x": ["by hand"]}, as_node="__start__")
        await asyncio.sleep(3 * SOON.total_seconds())
        assert (await graph.aget_state(config("t"))).values["x"] == ["by hand"]
        assert [r async for r in saver.alist_runs("t")][1:] == []


async def test_an_answer_in_time_is_the_only_one(saver: TemporalSaver) -> None:
    asking = asking_graph({"sync": SOON, "inner": SOON})
    graph = asking.with_config(checkpointer=saver)
    async with saver.worker(asking):
        asked = await graph.ainvoke({"x": []}, config("t"))
        run = await saver.aresume("t", {i.id: "yes" for i in asked["__interrupt__"]})
        assert sorted((await run.aresult())["x"]) == ["inner yes", "last", "sync yes"]
        await asyncio.sleep(2 * SOON.total_seconds())
        with pytest.raises(NotWaitingError):
            await saver.aresume("t", "again")
        assert len([r async for r in saver.alist_runs("t")]) == 2


async def test_with_another_saver_it_is_a_plain_interrupt() -> None:
    graph = asking_graph({"sync": SOON, "inner": SOON})
    graph.checkpointer = InMemorySaver()
    asked = await graph.ainvoke({"x": []}, config("t"))
    answers = {i.id: "yes" for i in asked["__interrupt__"]}
    assert (await graph.ainvoke(Command(resume=answers), config("t")))["x"][-1] == "last"


@pytest.mark.parametrize(
    ("within", "default", "text"),
    [
        (timedelta(0), "no", "up to ten years"),
        (timedelta(days=4000), "no", "up to ten years"),
        (SOON, object(), "must be plain data"),
        (SOON, "x" * 100_001, "the limit is 100,000"),
        (SOON, 1 << 70, "must be plain data"),
    ],
)
def test_bad_deadlines(within: timedelta, default: object, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        ask("?", within=within, default=default)
