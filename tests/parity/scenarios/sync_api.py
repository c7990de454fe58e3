"""Scenarios: the sync API, from plain sync code, from threads, and beside a running event loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import operator
import threading
import time
from typing import Annotated, Any, TypedDict

from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, Send, StateUpdate, interrupt

from tests.parity.scenarios.fakes import Scripted
from tests.parity.stage import Stage, SyncStage, effect, scenario


class State(TypedDict, total=False):
    x: Annotated[list[Any], operator.add]


def _chain(checkpointer: Any) -> Any:
    def one(state: State) -> State:
        effect("one")
        get_stream_writer()("one writes")
        return {"x": ["one"]}

    def two(state: State) -> State:
        effect("two")
        return {"x": [f"two of {len(state['x'])}"]}

    builder = StateGraph(State).add_sequence([one, two]).add_edge(START, "one")
    return builder.compile(checkpointer=checkpointer)


@scenario(_chain, placeable=False)
def sync_invoke_and_stream(s: SyncStage) -> None:
    s.invoke({"x": ["in"]})
    s.invoke({"x": ["again"]}, version="v2")
    for mode in ("values", "updates", "custom", "tasks", "checkpoints", "debug", "messages"):
        s.stream({"x": ["in"]}, s.config(mode), stream_mode=mode)
    modes = ["values", "updates", "custom", "debug"]
    s.stream({"x": ["in"]}, s.config("all"), stream_mode=modes, subgraphs=True)
    s.stream({"x": ["in"]}, s.config("v2"), stream_mode=modes, version="v2")
    for durability in ("sync", "async", "exit"):
        s.invoke({"x": ["in"]}, s.config(durability), durability=durability)


@scenario(_chain)
def sync_state_and_history(s: SyncStage) -> None:
    s.state()
    s.history()
    s.update({"x": ["before all"]})
    s.invoke(None)
    s.invoke({"x": ["in"]})
    s.update({"x": ["by hand"]}, as_node="one")
    s.state()
    s.invoke(None)
    states = s.history()
    for state in (states[2], states[-2]):
        s.state(state.config)
        s.invoke(None, state.config)
    s.update({"x": ["fork"]}, states[3].config)
    updates = [[StateUpdate({"x": ["bulk"]}, "one")], [StateUpdate({"x": ["more"]}, "two")]]
    s.saw("bulk", s.graph.bulk_update_state(s.config(), updates))
    some = s.graph.get_state_history(s.config(), filter={"source": "update"}, limit=2)
    s.saw("some", list(some))
    s.saw("before", list(s.graph.get_state_history(s.config(), before=states[1].config)))


@tool
def look(topic: str) -> str:
    """Look it up."""
    effect("look")
    answer = interrupt({"look": topic})
    return f"{topic}: {answer}"


def _agent(checkpointer: Any) -> Any:
    turns = [("looking", [("look", {"topic": topic})]) for topic in ("rain", "snow")]
    model = Scripted(scripts={"weather": [*turns, "it is wet"]})

    def chat(state: MessagesState) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    inner = (
        StateGraph(MessagesState)
        .add_node("chat", chat)
        .add_node("tools", ToolNode([look]))
        .add_edge(START, "chat")
        .add_conditional_edges("chat", tools_condition)
        .add_edge("tools", "chat")
        .compile()
    )
    return (
        StateGraph(MessagesState)
        .add_node("agent", inner)
        .add_edge(START, "agent")
        .compile(checkpointer=checkpointer)
    )


@scenario(_agent)
def sync_agent_with_questions(s: SyncStage) -> None:
    modes = ["messages", "updates"]
    s.stream({"messages": [("human", "weather")]}, stream_mode=modes, subgraphs=True)
    s.state()
    s.stream(Command(resume="heavy"), stream_mode=modes, subgraphs=True)
    state = s.state()
    assert state is not None
    s.invoke(Command(resume={state.interrupts[0].id: "light"}))


def _parallel(checkpointer: Any) -> Any:
    def part(name: str, delay: float) -> Any:
        def node(state: State) -> State:
            time.sleep(delay)
            effect(name)
            get_stream_writer()(name)
            return {"x": [name]}

        return node

    def work(state: dict[str, int]) -> State:
        time.sleep(0.4 * state["i"])
        effect(f"work {state['i']}")
        return {"x": [10 * state["i"]]}

    def fan(state: State) -> Any:
        return [Send("work", {"i": i}) for i in range(3)]

    def decide(state: State) -> Command[Any]:
        if len(state["x"]) < 12:
            return Command(update={"x": [interrupt("again?")]}, goto=["a", "b"])
        return Command(goto=END)

    return (
        StateGraph(State)
        .add_node("a", part("a", 0.0))
        .add_node("b", part("b", 0.4))
        .add_node("work", work)
        .add_node("decide", decide, destinations=("a", "b", END))
        .add_edge(START, "a")
        .add_edge(START, "b")
        .add_conditional_edges("b", fan, ["work"])
        .add_edge("work", "decide")
        .compile(checkpointer=checkpointer)
    )


@scenario(_parallel)
def sync_parallel_nodes(s: SyncStage) -> None:
    s.stream({"x": ["in"]}, stream_mode=["updates", "custom", "values"])
    s.invoke(Command(resume="yes"))
    s.stream(Command(resume="still"), stream_mode=["updates", "tasks"])


def _functional(checkpointer: Any) -> Any:
    @task
    def square(n: int) -> int:
        count = effect(f"square {n}")
        time.sleep(0.3 * n)
        if n == 3 and count == 1:
            raise ValueError("not yet", n)
        return n * n

    @entrypoint(checkpointer=checkpointer)
    def sums(numbers: list[int], *, previous: int | None = None) -> int:
        futures = [square(n) for n in numbers]
        total = sum(f.result() for f in futures) + (previous or 0)
        return total + interrupt({"total": total})

    return sums


@scenario(_functional, placeable=False)
def sync_entrypoint(s: SyncStage) -> None:
    s.stream([1, 2, 3], stream_mode="updates")
    s.stream(None, stream_mode=["updates", "values"])
    s.invoke(Command(resume=100))
    s.invoke([2])
    s.invoke(Command(resume=1000))


def _failing(checkpointer: Any) -> Any:
    def good(state: State) -> State:
        effect("good")
        return {"x": ["good"]}

    def fails(state: State) -> State:
        time.sleep(0.4)
        count = effect("fails")
        if count < 3:
            raise OSError(count, "not yet", "file.txt")
        return {"x": [f"fails {count}"]}

    def deep(state: State) -> State:
        if effect("deep") == 1:
            raise LookupError("deep")
        return {"x": ["deep"]}

    inner = StateGraph(State).add_node(deep).add_edge(START, "deep").compile()
    return (
        StateGraph(State)
        .add_node(good)
        .add_node(fails)
        .add_node("inner", inner)
        .add_edge(START, "good")
        .add_edge(START, "fails")
        .add_edge(["good", "fails"], "inner")
        .compile(checkpointer=checkpointer)
    )


@scenario(_failing)
def sync_errors_then_resumed(s: SyncStage) -> None:
    s.invoke({"x": ["in"]})
    s.state()
    s.stream(None, stream_mode=["updates", "tasks"])
    s.stream(None, stream_mode=["updates", "values"], subgraphs=True)
    s.invoke(None)


@scenario(_chain)
def sync_calls_from_threads(s: SyncStage) -> None:
    configs = [s.config(f"t{i}") for i in range(6)]
    together = threading.Barrier(len(configs))

    def call(i: int) -> Any:
        together.wait()
        made = s.graph.invoke({"x": [i]}, configs[i])
        chunks = list(s.graph.stream({"x": ["more"]}, configs[i], stream_mode="updates"))
        return [made, chunks, s.graph.get_state(configs[i]).values]

    with concurrent.futures.ThreadPoolExecutor(len(configs)) as pool:
        s.saw("results", list(pool.map(call, range(len(configs)))))


@scenario(_chain)
def sync_streams_side_by_side(s: SyncStage) -> None:
    streams = [
        s.graph.stream({"x": [name]}, s.config(name), stream_mode=["values", "custom"])
        for name in ("one", "two")
    ]
    s.saw("in turns", list(zip(*streams, strict=True)))


def _stops(checkpointer: Any) -> Any:
    def before(state: State) -> State:
        effect("before")
        return {"x": ["before"]}

    def gate(state: State) -> State:
        get_stream_writer()("at the gate")
        # Longer than it takes until another process hears that the caller is gone.
        time.sleep(6)
        return {"x": [f"gate {effect('gate')}"]}

    def after(state: State) -> State:
        effect("after")
        return {"x": ["after"]}

    builder = StateGraph(State).add_sequence([before, gate, after]).add_edge(START, "before")
    return builder.compile(checkpointer=checkpointer)


@scenario(_stops)
def sync_stream_left_early_then_continued(s: SyncStage) -> None:
    stream = s.graph.stream({"x": ["in"]}, s.config(), stream_mode=["updates", "custom"])
    for chunk in stream:
        s.saw("chunk", chunk)
        if chunk == ("custom", "at the gate"):
            break
    stream.close()
    s.state()
    s.stream(None, stream_mode=["values", "updates", "custom"])


@scenario(_chain)
async def sync_calls_beside_a_running_loop(s: Stage) -> None:
    config = s.config()
    s.saw("invoke", await asyncio.to_thread(s.graph.invoke, {"x": ["in"]}, config))
    s.saw("state", await asyncio.to_thread(s.graph.get_state, config))
    chunks = await asyncio.to_thread(lambda: list(s.graph.stream({"x": ["more"]}, config)))
    s.saw("chunks", chunks)
    await asyncio.to_thread(s.graph.update_state, config, {"x": ["by hand"]}, "one")
    s.saw("history", await asyncio.to_thread(lambda: list(s.graph.get_state_history(config))))

    configs = [s.config(f"t{i}") for i in range(4)]
    calls = [asyncio.to_thread(s.graph.invoke, {"x": [i]}, c) for i, c in enumerate(configs)]
    async with asyncio.timeout(60):
        s.saw("at once", await asyncio.gather(*calls))


def _sync_nodes(checkpointer: Any) -> Any:
    def calls_another(state: State) -> State:
        effect("calls_another")
        return {"x": other.invoke({"x": []})["x"]}

    def leaf(state: State) -> State:
        effect("leaf")
        return {"x": [f"leaf {interrupt('from the leaf')}"]}

    other = StateGraph(State).add_node(leaf).add_edge(START, "leaf").compile()
    builder = StateGraph(State).add_node(calls_another).add_edge(START, "calls_another")
    return builder.compile(checkpointer=checkpointer)


@scenario(_sync_nodes)
async def sync_nodes_called_asynchronously(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates", "tasks"], subgraphs=True)
    await s.state()
    # Begun by one API, continued by the other.
    result = await asyncio.to_thread(s.graph.invoke, Command(resume="yes"), s.config())
    s.saw("result", result)


@scenario(_sync_nodes)
def sync_node_calls_a_graph(s: SyncStage) -> None:
    s.invoke({"x": ["in"]})
    s.stream(Command(resume="yes"), stream_mode=["updates", "values"], subgraphs=True)


@scenario(_chain)
async def sync_call_on_the_loop_itself(s: Stage) -> None:
    """It blocks the loop, as LangGraph's does; people do it in notebooks."""
    s.saw("invoke", s.graph.invoke({"x": ["in"]}, s.config()))
    s.saw("state", s.graph.get_state(s.config()).values)
