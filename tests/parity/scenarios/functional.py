"""Scenarios: the functional API (``@entrypoint``, ``@task``), alone and inside graph nodes."""

from __future__ import annotations

import asyncio
import operator
import time
from typing import Annotated, Any, TypedDict

from langgraph.cache.memory import InMemoryCache
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.runtime import DEFAULT_RUNTIME, Runtime
from langgraph.store.memory import InMemoryStore
from langgraph.types import CachePolicy, Command, RetryPolicy, interrupt

from tests.parity.stage import Stage, SyncStage, effect, scenario

SOON = {"initial_interval": 0.01, "jitter": False}


@task
async def double(n: int) -> int:
    """Later for larger numbers, so that parallel calls finish in the order of their numbers."""
    count = effect(f"double {n}")
    await asyncio.sleep(0.15 * n)
    get_stream_writer()({"doubled": n, "count": count})
    return 2 * n


@task(name="slow square")
def square(n: int) -> int:
    effect(f"square {n}")
    time.sleep(0.15 * n)
    return n * n


@task
async def add_one(n: int) -> int:
    effect(f"add_one {n}")
    return n + 1


@task
async def double_plus_one(n: int) -> int:
    effect(f"double_plus_one {n}")
    return await add_one(await double(n))


def _previous(checkpointer: Any) -> Any:
    @entrypoint(checkpointer=checkpointer)
    async def total(n: int, *, previous: Any = None) -> dict[str, Any]:
        effect("total")
        return {"sum": n + (previous["sum"] if previous else 0), "previous": previous}

    return total


@scenario(_previous)
async def previous_of_an_entrypoint(s: Stage) -> None:
    await s.invoke(3)
    await s.stream(4, stream_mode=["values", "updates", "checkpoints"])
    await s.invoke(5, s.config("another"))
    await s.invoke(6)


def _final(checkpointer: Any) -> Any:
    @entrypoint(checkpointer=checkpointer)
    async def saves(n: int, *, previous: int | None = None) -> entrypoint.final[Any, Any]:
        return entrypoint.final(value=previous, save=(2 * n, {"n": n}) if n else None)

    return saves


@scenario(_final)
async def final_saves_another_value(s: Stage) -> None:
    for n in (3, 0, 4):
        await s.invoke(n)
        await s.state()
    await s.stream(5)


def _parallel_tasks(checkpointer: Any) -> Any:
    @entrypoint(checkpointer=checkpointer)
    async def doubles(numbers: list[int]) -> list[int]:
        return list(await asyncio.gather(*(double(n) for n in numbers)))

    return doubles


@scenario(_parallel_tasks, placeable=False)
async def tasks_in_parallel(s: Stage) -> None:
    await s.stream([1, 2, 3], stream_mode=["values", "updates", "custom", "tasks"])
    await s.invoke([2, 0])
    await s.invoke([])


def _nested_tasks(checkpointer: Any) -> Any:
    @entrypoint(checkpointer=checkpointer)
    async def nested(n: int) -> int:
        result: int = await double_plus_one(await double_plus_one(n))
        return result

    return nested


@scenario(_nested_tasks, placeable=False)
async def tasks_that_call_tasks(s: Stage) -> None:
    await s.stream(0, stream_mode=["updates", "tasks"])


def _sync_tasks(checkpointer: Any) -> Any:
    @entrypoint(checkpointer=checkpointer)
    def squares(numbers: list[int], *, previous: Any = None) -> dict[str, Any]:
        futures = [square(n) for n in numbers]
        found = [f.result() for f in futures]
        return {"squares": found, "keep": interrupt(found), "previous": previous}

    return squares


@scenario(_sync_tasks, placeable=False)
def functional_from_sync_code(s: SyncStage) -> None:
    s.stream([1, 2], stream_mode=["updates", "tasks"])
    s.state()
    s.invoke(Command(resume=True))
    s.invoke([2])
    s.invoke(Command(resume=False))


def _review(checkpointer: Any) -> Any:
    @entrypoint(checkpointer=checkpointer)
    async def review(topic: str) -> dict[str, Any]:
        effect("review")
        draft = await double(1)
        first = interrupt({"draft": draft, "topic": topic})
        better = await double_plus_one(first)
        second = interrupt({"better": better})
        return {"draft": draft, "better": better, "answers": [first, second]}

    return review


@scenario(_review, placeable=False)
async def interrupts_in_an_entrypoint(s: Stage) -> None:
    await s.invoke("tides")
    await s.state()
    await s.stream(Command(resume=0), stream_mode=["values", "updates", "tasks"])
    await s.state()
    await s.invoke(Command(resume="fine"))
    await s.invoke("moons")


def _asking_tasks(checkpointer: Any) -> Any:
    @task
    async def ask(name: str) -> str:
        effect(f"ask {name}")
        await asyncio.sleep(0.2 if name == "second" else 0)
        return f"{name}: {interrupt(f'{name}?')}"

    @entrypoint(checkpointer=checkpointer)
    async def asks(names: list[str]) -> list[str]:
        done = await add_one(0)
        answers = await asyncio.gather(*(ask(n) for n in names))
        return [str(done), *answers]

    return asks


@scenario(_asking_tasks, placeable=False)
async def interrupts_in_parallel_tasks(s: Stage) -> None:
    await s.invoke(["first", "second"])
    state = await s.state()
    assert state is not None
    waiting = [i for t in state.tasks for i in t.interrupts]
    answers = {i.id: f"yes, {i.value}" for i in waiting}
    await s.invoke(Command(resume=answers))


def _failing_task(checkpointer: Any) -> Any:
    @task
    async def flaky(n: int) -> int:
        count = effect(f"flaky {n}")
        if count < 3:
            raise ValueError("not yet", count)
        return n

    @entrypoint(checkpointer=checkpointer)
    async def steps(n: int) -> list[int]:
        effect("steps")
        before = await double(n)
        middle = await flaky(before)
        return [before, middle, await add_one(middle)]

    return steps


@scenario(_failing_task, placeable=False)
async def failed_task_resumed(s: Stage) -> None:
    await s.invoke(1)
    await s.state()
    await s.stream(None, stream_mode=["updates", "custom"])
    await s.invoke(None)
    await s.invoke(None)


@scenario(_failing_task, placeable=False)
async def failed_task_in_task_chunks(s: Stage) -> None:
    seen = []
    try:
        async for mode, chunk in s.graph.astream(1, s.config(), stream_mode=["updates", "tasks"]):
            # LangGraph goes on adding notes to the error while the chunk is under way.
            seen.append((mode, {**chunk, "error": repr(chunk.get("error"))}))
    except ValueError as exc:
        s.saw("raised", exc)
    s.saw("chunks", seen)


def _caught(checkpointer: Any) -> Any:
    @task
    async def fails(n: int) -> int:
        effect("fails")
        raise KeyError(n)

    @entrypoint(checkpointer=checkpointer)
    async def catches(n: int) -> dict[str, Any]:
        try:
            await fails(n)
        except KeyError as exc:
            return {"args": exc.args, "ok": await add_one(n), "asked": interrupt("go on?")}
        return {}

    return catches


@scenario(_caught, placeable=False)
async def error_of_a_task_caught(s: Stage) -> None:
    await s.invoke(7)
    await s.state()
    await s.invoke(Command(resume="yes"))


def _one_of_many_fails(checkpointer: Any) -> Any:
    @task
    async def third_fails(n: int) -> int:
        effect(f"third_fails {n}")
        await asyncio.sleep(0.15 * n)
        if n == 2:
            raise RuntimeError("the third")
        return n

    @entrypoint(checkpointer=checkpointer)
    async def gathers(numbers: list[int]) -> list[Any]:
        calls = [third_fails(n) for n in numbers]
        found = await asyncio.gather(*calls, return_exceptions=True)
        return [repr(f) for f in found]

    return gathers


@scenario(_one_of_many_fails, placeable=False)
async def gather_returns_exceptions(s: Stage) -> None:
    await s.invoke([0, 1, 2, 3])


def _retried_task(checkpointer: Any) -> Any:
    @task(retry_policy=RetryPolicy(max_attempts=3, retry_on=ValueError, **SOON))
    async def flaky(n: int) -> tuple[int, int]:
        count = effect("flaky")
        if count < n:
            raise ValueError(count)
        return n, count

    @entrypoint(checkpointer=checkpointer, retry_policy=RetryPolicy(max_attempts=2, **SOON))
    async def tries(n: int) -> Any:
        count = effect("tries")
        found = await flaky(n)
        if count == 1:
            raise ConnectionError("the entrypoint")
        return found

    return tries


@scenario(_retried_task, placeable=False)
async def retried_task_and_entrypoint(s: Stage) -> None:
    await s.invoke(3)
    await s.invoke(9, s.config("given_up"))


def _cached(checkpointer: Any) -> Any:
    @task(cache_policy=CachePolicy())
    async def expensive(n: int) -> dict[str, int]:
        return {"n": n, "count": effect(f"expensive {n}")}

    @entrypoint(checkpointer=checkpointer, cache=InMemoryCache())
    async def cached(numbers: list[int]) -> list[Any]:
        return [await expensive(n) for n in numbers]

    return cached


@scenario(_cached, placeable=False)
async def cached_task(s: Stage) -> None:
    await s.invoke([1, 2])
    await s.stream([2, 3, 1], stream_mode=["updates", "tasks"])


class Wish(TypedDict):
    user: str


def _injected(checkpointer: Any) -> Any:
    @task
    async def remember(fact: str, *, runtime: Runtime[Wish] = DEFAULT_RUNTIME) -> int:
        assert runtime.store is not None
        space = (runtime.context["user"], "facts")
        await runtime.store.aput(space, fact, {"fact": fact})
        return len(await runtime.store.asearch(space))

    @entrypoint(checkpointer=checkpointer, store=InMemoryStore(), context_schema=Wish)
    async def notes(fact: str, *, runtime: Runtime[Wish]) -> dict[str, Any]:
        get_stream_writer()(f"noting {fact}")
        return {
            "facts": await remember(fact),
            "previous": runtime.previous,
            "user": runtime.context["user"],
        }

    return notes


@scenario(_injected, placeable=False)
async def context_and_store_in_an_entrypoint(s: Stage) -> None:
    await s.invoke("sky is blue", context={"user": "ann"})
    await s.stream("sea is deep", context={"user": "ann"}, stream_mode=["custom", "values"])
    await s.invoke("sun is hot", s.config("bob"), context={"user": "bob"})


class Log(TypedDict, total=False):
    x: Annotated[list[Any], operator.add]


def _tasks_in_a_node(checkpointer: Any) -> Any:
    async def works(state: Log) -> Log:
        effect("works")
        pair = await asyncio.gather(double(1), double(2))
        answer = interrupt({"pair": pair})
        return {"x": [*pair, answer, await double_plus_one(0)]}

    def sync_works(state: Log) -> Log:
        effect("sync_works")
        return {"x": [square(3).result()]}

    return (
        StateGraph(Log)
        .add_node("works", works)
        .add_node("sync_works", sync_works)
        .add_edge(START, "works")
        .add_edge("works", "sync_works")
        .compile(checkpointer=checkpointer)
    )


@scenario(_tasks_in_a_node, placeable=False)
async def tasks_in_graph_nodes(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates", "tasks", "custom"])
    await s.state()
    await s.stream(Command(resume="yes"), stream_mode=["updates", "tasks", "custom"])
    await s.invoke({"x": ["again"]})


def _graph_in_an_entrypoint(checkpointer: Any) -> Any:
    async def ask(state: Log) -> Log:
        effect("ask")
        return {"x": [interrupt("inner?")]}

    async def before(state: Log) -> Log:
        effect("before")
        return {"x": ["before"]}

    inner = (
        StateGraph(Log)
        .add_node("before", before)
        .add_node("ask", ask)
        .add_edge(START, "before")
        .add_edge("before", "ask")
        .compile()
    )

    @entrypoint(checkpointer=checkpointer)
    async def outer(n: int) -> Any:
        effect("outer")
        first = await double(n)
        return [first, await inner.ainvoke({"x": [first]})]

    return outer


@scenario(_graph_in_an_entrypoint, placeable=False)
async def graph_called_by_an_entrypoint(s: Stage) -> None:
    await s.stream(1, stream_mode="updates", subgraphs=True)
    await s.state()
    await s.invoke(Command(resume="inner!"))


def _entrypoint_as_a_node(checkpointer: Any) -> Any:
    @entrypoint()
    async def inner(state: dict[str, Any]) -> dict[str, Any]:
        return {"x": [await double_plus_one(len(state["x"])), interrupt("ok?")]}

    return (
        StateGraph(Log)
        .add_node("inner", inner)
        .add_edge(START, "inner")
        .compile(checkpointer=checkpointer)
    )


@scenario(_entrypoint_as_a_node)
async def entrypoint_as_a_graph_node(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates", "tasks"], subgraphs=True)
    await s.state()
    await s.stream(Command(resume="ok"), stream_mode=["updates", "tasks"], subgraphs=True)
