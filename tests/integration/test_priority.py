"""Who is first where runs wait: by priority, then in turns by fairness key."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt
from temporalio.client import Client
from temporalio.common import Priority

from langgraph_temporal_exec import TemporalSaver, UsageError
from langgraph_temporal_exec.protocol import names
from tests.support.graphs import State, config, countdown


class Line:
    """A graph that notes which of its runs are executed, in order; the first waits for the rest."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        async def note(state: State) -> State:
            self.order += state["x"]
            if state["x"] == ["first"]:
                loop.call_soon_threadsafe(self.begun.set)
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.go.wait(), loop))
            return {}

        builder = StateGraph(State).add_node("note", note).add_edge(START, "note")
        self.graph = builder.compile(name="line")

    async def run(
        self, saver: TemporalSaver, mode: str, waiting: dict[str, dict[str, Any]]
    ) -> list[str]:
        """The order in which runs are executed that wait for one that has the only slot."""
        graph = self.graph.with_config(checkpointer=saver)

        def begin(name: str, **more: Any) -> Any:
            call = {"configurable": {"thread_id": name, **more}}
            if mode == "embedded":
                return asyncio.create_task(graph.ainvoke({"x": [name]}, call))
            return saver.astart(graph, {"x": [name]}, call)

        ends = [begin("first")]
        if mode == "remote":
            ends = [(await ends[0]).aresult()]
        await self.begun.wait()
        for number, (name, more) in enumerate(waiting.items(), 1):
            begun = begin(name, **more)
            if mode == "embedded":
                host: Any = saver._caller.host
                while host.run_slots.waiting < number:  # noqa: ASYNC110 # of another loop
                    await asyncio.sleep(0.02)
                ends.append(begun)
                continue
            run = await begun
            while await run.astatus() != "running":  # noqa: ASYNC110 # it is asked
                await asyncio.sleep(0.02)
            ends.append(run.aresult())
        self.go.set()
        await asyncio.gather(*ends)
        assert self.order[0] == "first"
        return self.order[1:]


def savers(client: Client, task_queue: str, mode: str) -> tuple[TemporalSaver, TemporalSaver]:
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    if mode == "embedded":
        return host, host
    return host, TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_an_interactive_run_overtakes_a_batch(
    client: Client, task_queue: str, mode: str
) -> None:
    line = Line()
    host, caller = savers(client, task_queue, mode)
    waiting: dict[str, dict[str, Any]] = {f"batch {i}": {"priority": 5} for i in range(8)}
    waiting |= {"normal": {}, "interactive": {"priority": 1}}
    async with host.worker(line.graph, max_concurrent_runs=1), asyncio.timeout(100):
        order = await line.run(caller, mode, waiting)
    assert order[:2] == ["interactive", "normal"]
    assert len(order) == 10
    caller.close()


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_the_flood_of_one_tenant_does_not_starve_another(
    client: Client, task_queue: str, mode: str
) -> None:
    line = Line()
    host, caller = savers(client, task_queue, mode)
    waiting: dict[str, dict[str, Any]] = {
        f"flood {i}": {"fairness_key": "flood"} for i in range(10)
    }
    waiting |= {f"other {i}": {"fairness_key": "other"} for i in range(2)}
    async with host.worker(line.graph, max_concurrent_runs=1), asyncio.timeout(100):
        order = await line.run(caller, mode, waiting)
    # They came last, and have their turns among the first.
    assert {n for n in order[:6] if n.startswith("other")} == {"other 0", "other 1"}
    assert len(order) == 12
    caller.close()


async def _scheduled(client: Client, workflow_id: str) -> list[Any]:
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    return [
        e.activity_task_scheduled_event_attributes.priority
        for e in history.events
        if e.HasField("activity_task_scheduled_event_attributes")
    ]


async def test_runs_tasks_and_answers_have_the_priority(client: Client, task_queue: str) -> None:
    async def ask(state: State) -> State:
        return {"x": [interrupt("what?")]}

    graph = StateGraph(State).add_node("ask", ask).add_edge(START, "ask").compile(name="asking")
    host, caller = savers(client, task_queue, "remote")
    async with host.worker(graph), asyncio.timeout(60):
        call: Any = config("t")
        call["configurable"] |= {"priority": 2, "fairness_key": "tenant", "fairness_weight": 0.5}
        run = await caller.astart(graph, {"x": []}, call)
        await run.aresult()
        # A run that the thread starts itself: the same work goes on.
        answer = await caller.aresume("t", "this")
        assert (await answer.aresult())["x"] == ["this"]
        for run_id in (run.run_id, answer.run_id):
            handle = client.get_workflow_handle(names.run_workflow_id(task_queue, run_id))
            described = (await handle.describe()).raw_description.workflow_execution_info.priority
            assert (described.priority_key, described.fairness_key) == (2, "tenant")
            assert described.fairness_weight == 0.5
        (first, second) = await _scheduled(client, names.thread_workflow_id(task_queue, "t"))
        assert (first.priority_key, first.fairness_key) == (2, "tenant")
        assert second == first
        # They are ours: no metadata, and nodes do not see them.
        state = await host.aget_tuple(config("t"))
        assert state is not None
        assert not {"priority", "fairness_key"} & state.metadata.keys()
    assert Priority.default.priority_key is None
    caller.close()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"priority": 0}, "priority is 0"),
        ({"priority": 6}, "priority is 6"),
        ({"priority": "high"}, "priority is 'high'"),
        ({"fairness_key": ""}, "fairness_key is ''"),
        ({"fairness_key": "x" * 65}, "1 to 64 bytes"),
        ({"fairness_key": "x", "fairness_weight": 0}, "fairness_weight is 0"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    client: Client, task_queue: str, given: dict[str, Any], message: str
) -> None:
    saver = TemporalSaver(client, task_queue=task_queue)
    call = {"configurable": {"thread_id": "t", **given}}
    with pytest.raises(UsageError, match=message):
        await countdown().with_config(checkpointer=saver).ainvoke({"n": 1}, call)  # type: ignore[arg-type] # a config
