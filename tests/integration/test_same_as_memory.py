"""What a caller sees is what InMemorySaver would show, with the worker here or elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from temporalio.client import Client

from tests.support.graphs import all_graphs, config, durable

pytestmark = pytest.mark.compat

Scenario = Callable[[dict[str, Any]], Awaitable[Any]]


def plain(value: Any) -> Any:
    """Without ids: interrupts by value, snapshots by what they show."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        return tuple(plain(v) for v in value)
    if isinstance(value, list):
        return [plain(v) for v in value]
    if hasattr(value, "value") and hasattr(value, "id"):
        return ("interrupt", value.value)
    return value


async def states(graph: Any, thread_id: str) -> Any:
    return [
        (s.metadata["step"], s.metadata["source"], plain(s.values), s.next, len(s.tasks))
        async for s in graph.aget_state_history(config(thread_id))
    ]


async def interrupted_and_resumed(graphs: dict[str, Any]) -> Any:
    graph = graphs["parallel"]
    first = await graph.ainvoke({"x": ["in"]}, config("t"))
    waiting = await graph.aget_state(config("t"))
    second = await graph.ainvoke(Command(resume="yes"), config("t"))
    return plain([first, waiting.next, second, await states(graph, "t")])


async def nested_interrupt(graphs: dict[str, Any]) -> Any:
    graph = graphs["nested"]
    first = await graph.ainvoke({"x": ["in"]}, config("t"))
    inner = (await graph.aget_state(config("t"), subgraphs=True)).tasks[0].state
    second = await graph.ainvoke(Command(resume="yes"), config("t"))
    return plain([first, inner.values, inner.next, second, await states(graph, "t")])


async def fifty_at_once(graphs: dict[str, Any]) -> Any:
    graph = graphs["wide"]
    return [await graph.ainvoke({"x": []}, config("t")), await states(graph, "t")]


async def several_turns(graphs: dict[str, Any]) -> Any:
    graph = graphs["countdown"]
    results = [await graph.ainvoke({"n": n}, config("t")) for n in (2, 3, 1)]
    return [results, await states(graph, "t")]


async def streamed(graphs: dict[str, Any]) -> Any:
    graph = graphs["parallel"]
    chunks = [
        plain(c)
        async for c in graph.astream({"x": ["in"]}, config("t"), stream_mode=["values", "updates"])
    ]
    single = [
        plain(c)
        async for c in graphs["countdown"].astream({"n": 3}, config("u"), stream_mode="updates")
    ]
    return [sorted(map(repr, chunks)), single]


async def streamed_with_subgraphs(graphs: dict[str, Any]) -> Any:
    graph = graphs["nested"]
    chunks = [
        (tuple(part.split(":")[0] for part in ns), mode, plain(payload))
        async for ns, mode, payload in graph.astream(
            {"x": ["in"]}, config("t"), stream_mode=["values", "updates"], subgraphs=True
        )
    ]
    return sorted(map(repr, chunks))


async def failed(graphs: dict[str, Any]) -> Any:
    graph = graphs["failing"]
    try:
        await graph.ainvoke({"x": ["in"]}, config("t"))
    except Exception as exc:
        task_note = exc.__notes__[0].split(" and id ")[0]
        seen = [type(exc).__qualname__, str(exc), exc.args, getattr(exc, "code", None), task_note]
    state = await graph.aget_state(config("t"))
    return [seen, state.next, state.tasks[0].error, state.values]


async def edited_and_forked(graphs: dict[str, Any]) -> Any:
    graph = graphs["parallel"]
    await graph.ainvoke({"x": ["in"]}, config("t"))
    await graph.aupdate_state(config("t"), {"x": ["edited"]}, as_node="b1")
    history = [s async for s in graph.aget_state_history(config("t"))]
    past = next(s for s in history if s.next == ("b1", "b2"))
    forked = await graph.ainvoke(None, past.config)
    answered = await graph.ainvoke(Command(resume="yes"), config("t"))
    return plain([forked, answered, await states(graph, "t")])


async def functional_api(graphs: dict[str, Any]) -> Any:
    graph = graphs["functional"]
    first = await graph.ainvoke(3, config("t"))
    return plain([first, await graph.ainvoke(Command(resume="R"), config("t"))])


async def sync_calls(graphs: dict[str, Any]) -> Any:
    graph = graphs["sync_nodes"]

    def in_a_thread() -> Any:
        first = graph.invoke({"x": ["in"]}, config("t"))
        second = graph.invoke(Command(resume="yes"), config("t"))
        streamed = list(graph.stream({"x": ["s"]}, config("u"), stream_mode=["values", "updates"]))
        state = graph.get_state(config("t"))
        history = [s.next for s in graph.get_state_history(config("t"))]
        return plain([first, second, streamed, state.values, history])

    return await asyncio.to_thread(in_a_thread)


async def left_early(graphs: dict[str, Any]) -> Any:
    graph = graphs["parallel"]
    stream = graph.astream({"x": ["in"]}, config("t"), stream_mode="updates")
    first = await anext(stream)
    await stream.aclose()
    again = await graph.ainvoke(None, config("t"))
    return plain([first, again])


async def breakpoints(graphs: dict[str, Any]) -> Any:
    graph = graphs["parallel"]
    before = await graph.ainvoke({"x": ["in"]}, config("t"), interrupt_before=["b1"])
    paused = await graph.aget_state(config("t"))
    after = await graph.ainvoke(None, config("t"), interrupt_after=["b1"])
    return plain([before, paused.next, after, (await graph.aget_state(config("t"))).next])


async def durability_modes(graphs: dict[str, Any]) -> Any:
    graph = graphs["nested"]
    seen = []
    for mode in ("sync", "async", "exit"):
        first = await graph.ainvoke({"x": [mode]}, config(mode), durability=mode)
        second = await graph.ainvoke(Command(resume="yes"), config(mode), durability=mode)
        seen.append(plain([first, second, await states(graph, mode)]))
    return seen


async def out_of_steps(graphs: dict[str, Any]) -> Any:
    graph = graphs["countdown"]
    try:
        await graph.ainvoke({"n": 10}, {**config("t"), "recursion_limit": 3})
    except Exception as exc:
        return [type(exc).__name__, (await graph.aget_state(config("t"))).values]
    return "no error"


SCENARIOS = [
    interrupted_and_resumed,
    nested_interrupt,
    fifty_at_once,
    several_turns,
    streamed,
    streamed_with_subgraphs,
    failed,
    edited_and_forked,
    functional_api,
    sync_calls,
    left_early,
    breakpoints,
    durability_modes,
    out_of_steps,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_same_as_memory(
    client: Client, task_queue: str, mode: str, scenario: Scenario
) -> None:
    memory = InMemorySaver()
    expected = await scenario(
        {k: g.copy({"checkpointer": memory}) for k, g in all_graphs().items()}
    )
    async with durable(mode, client, task_queue) as saver:
        graphs = {k: _named(k, g.with_config(checkpointer=saver)) for k, g in all_graphs().items()}
        assert await scenario(graphs) == expected


def _named(name: str, graph: Any) -> Any:
    # An @entrypoint cannot be compiled under a name of its own.
    graph.name = name
    return graph
