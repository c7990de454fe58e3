"""Scenarios: supersteps, parallel nodes, Send, Command, conditional edges, loops."""

from __future__ import annotations

import asyncio
import operator
import time
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from tests.parity.stage import Stage, SyncStage, effect, scenario


class State(TypedDict, total=False):
    x: Annotated[list[Any], operator.add]


def appends(name: str, delay: float = 0.0) -> Any:
    """A node that appends its name; a delay gives parallel nodes an order."""

    async def node(state: State) -> State:
        effect(name)
        await asyncio.sleep(delay)
        return {"x": [name]}

    return node


def _single(checkpointer: Any) -> Any:
    builder = StateGraph(State).add_node("only", appends("only")).add_edge(START, "only")
    return builder.compile(checkpointer=checkpointer)


@scenario(_single)
async def single_node(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke({"x": ["again"]})
    await s.invoke(None)


def _parallel(checkpointer: Any) -> Any:
    async def ask(state: State) -> State:
        effect("ask")
        return {"x": [f"answer:{interrupt('question')}"]}

    return (
        StateGraph(State)
        .add_node("a", appends("a"))
        .add_node("b1", appends("b1", 0.0))
        .add_node("b2", appends("b2", 0.2))
        .add_node("ask", ask)
        .add_edge(START, "a")
        .add_edge("a", "b1")
        .add_edge("a", "b2")
        .add_edge(["b1", "b2"], "ask")
        .compile(checkpointer=checkpointer)
    )


@scenario(_parallel)
async def parallel_then_ask(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["values", "updates"])
    await s.state()
    await s.stream(Command(resume="yes"), stream_mode=["values", "updates", "tasks", "debug"])


def _wide(checkpointer: Any) -> Any:
    async def work(state: dict[str, int]) -> State:
        effect(f"work {state['i']}")
        return {"x": [state["i"]]}

    def fan(state: State) -> list[Send]:
        # With duplicates: the same node and the same argument twice.
        return [Send("work", {"i": i // 2}) for i in range(50)]

    return (
        StateGraph(State)
        .add_node("a", appends("a"))
        .add_node("work", work)
        .add_edge(START, "a")
        .add_conditional_edges("a", fan, ["work"])
        .add_edge("work", END)
        .compile(checkpointer=checkpointer)
    )


@scenario(_wide)
async def fifty_sends_with_duplicates(s: Stage) -> None:
    await s.invoke({"x": []})


def _failing(checkpointer: Any) -> Any:
    def first(state: State) -> State:
        return {"x": ["first"]}

    def fails(state: State) -> State:
        effect("fails")
        raise ValueError("no", 7)

    return (
        StateGraph(State)
        .add_node("a", first)
        .add_node("fails", fails)
        .add_edge(START, "a")
        .add_edge("a", "fails")
        .compile(checkpointer=checkpointer)
    )


@scenario(_failing)
def failing_from_sync_code(s: SyncStage) -> None:
    s.invoke({"x": ["in"]})
    s.state()
    s.stream(None, stream_mode=["updates", "tasks"])


def _one_of_two_fails(checkpointer: Any) -> Any:
    async def fails_twice(state: State) -> State:
        await asyncio.sleep(0.2)
        count = effect("fails_twice")
        if count < 3:
            raise RuntimeError(f"attempt {count}")
        return {"x": [f"fails_twice:{count}"]}

    return (
        StateGraph(State)
        .add_node("good", appends("good"))
        .add_node("fails_twice", fails_twice)
        .add_node("end", appends("end"))
        .add_edge(START, "good")
        .add_edge(START, "fails_twice")
        .add_edge(["good", "fails_twice"], "end")
        .compile(checkpointer=checkpointer)
    )


@scenario(_one_of_two_fails)
async def finished_sibling_of_a_failing_node(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates", "tasks"])
    await s.state()
    await s.invoke(None)
    await s.stream(None, stream_mode=["updates", "values"])


@scenario(_one_of_two_fails)
async def new_input_after_a_failure(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke({"x": ["other"]})
    await s.update({"x": ["by hand"]}, as_node="fails_twice")
    await s.invoke(None)


def _send_to_subgraph(checkpointer: Any) -> Any:
    class Piece(TypedDict, total=False):
        i: int
        x: Annotated[list[Any], operator.add]

    async def measure(state: Piece) -> Piece:
        effect(f"measure {state['i']}")
        await asyncio.sleep(0.15 * state["i"])
        return {"x": [10 * state["i"]]}

    async def label(state: Piece) -> Piece:
        effect(f"label {state['i']}")
        return {"x": [f"piece {state['i']}"]}

    piece = StateGraph(Piece).add_sequence([measure, label]).add_edge(START, "measure").compile()

    def fan(state: State) -> list[Send]:
        return [Send("piece", {"i": i}) for i in range(3)]

    return (
        StateGraph(State)
        .add_node("a", appends("a"))
        .add_node("piece", piece)
        .add_node("end", appends("end"))
        .add_edge(START, "a")
        .add_conditional_edges("a", fan, ["piece"])
        .add_edge("piece", "end")
        .compile(checkpointer=checkpointer)
    )


@scenario(_send_to_subgraph)
async def sends_to_a_subgraph(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode="updates", subgraphs=True, ordered=False)


def _commands(checkpointer: Any) -> Any:
    async def plan(state: State) -> Command[Any]:
        effect("plan")
        sends = [Send("work", {"i": i}) for i in (0, 1, 2)]
        return Command(update={"x": ["plan"]}, goto=[*sends, "note"])

    async def work(state: dict[str, int]) -> Command[Any]:
        effect(f"work {state['i']}")
        await asyncio.sleep(0.15 * (state["i"] + 1))
        return Command(update=[("x", [state["i"]])], goto="join")

    async def many(state: State) -> list[Any]:
        effect("many")
        return [Command(update={"x": ["many 1"]}, goto="last"), {"x": ["many 2"]}]

    async def join(state: State) -> Command[Any]:
        effect("join")
        return Command(goto="many" if len(state["x"]) < 8 else END)

    return (
        StateGraph(State)
        .add_node("plan", plan, destinations=("work", "note"))
        .add_node("work", work, destinations=("join",))
        .add_node("note", appends("note"))
        .add_node("join", join, destinations=("many", END))
        .add_node("many", many, destinations=("last",))
        .add_node("last", appends("last"))
        .add_edge(START, "plan")
        .compile(checkpointer=checkpointer)
    )


@scenario(_commands)
async def nodes_return_commands(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates", "values", "tasks"])
    await s.invoke({"x": ["again"]})


def _commanded(checkpointer: Any) -> Any:
    async def ask(state: State) -> State:
        effect("ask")
        return {"x": [f"answer:{interrupt('question')}"]}

    return (
        StateGraph(State)
        .add_node("a", appends("a"))
        .add_node("ask", ask)
        .add_node("elsewhere", appends("elsewhere"))
        .add_edge(START, "a")
        .add_edge("a", "ask")
        .compile(checkpointer=checkpointer)
    )


@scenario(_commanded)
async def command_as_input(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke(Command(resume="yes", update={"x": ["with the answer"]}))
    # On a thread that has nothing to do.
    await s.invoke(Command(update={"x": ["alone"]}))
    await s.stream(
        Command(update={"x": ["before"]}, goto="elsewhere"), stream_mode=["updates", "values"]
    )
    await s.invoke(Command(goto=[Send("elsewhere", {}), "a"]))
    # Away from a question that stays without an answer.
    await s.invoke(Command(goto="elsewhere"))
    await s.state()
    await s.invoke(Command(resume="late", goto="elsewhere"))


@scenario(_commanded)
async def command_as_first_input(s: Stage) -> None:
    await s.invoke(Command(update={"x": ["first"]}, goto="elsewhere"), s.config("goto"))
    await s.invoke(Command(update={"x": ["first"]}), s.config("update"))
    await s.invoke(Command(resume="early"), s.config("resume"))
    await s.invoke(Command(goto="nowhere"), s.config("nowhere"))
    await s.invoke(Command(), s.config("empty"))
    await s.invoke(Command(update={"x": []}, graph=Command.PARENT), s.config("parent"))


@scenario(_commanded)
async def command_as_input_with_pairs(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke(Command(resume="yes", update=[("x", ["one"]), ("x", ["two"])]))
    await s.invoke(Command(update=(("x", ["three"]),), goto="elsewhere"))


def _conditional(checkpointer: Any) -> Any:
    async def entry(state: State) -> str:
        return "left" if len(state["x"]) % 2 else "right"

    def by_path_map(state: State) -> bool:
        return len(state["x"]) > 4

    async def several(state: State) -> list[str]:
        await asyncio.sleep(0)
        return ["p", "q"] if len(state["x"]) < 6 else [END]

    return (
        StateGraph(State)
        .add_node("left", appends("left"))
        .add_node("right", appends("right"))
        .add_node("p", appends("p"))
        .add_node("q", appends("q", 0.2))
        .set_conditional_entry_point(entry, ["left", "right"])
        .add_conditional_edges("left", by_path_map, {True: END, False: "right"})
        .add_conditional_edges("right", several, ["p", "q", END])
        .add_conditional_edges("q", lambda state: END if len(state["x"]) > 7 else "left")
        .compile(checkpointer=checkpointer)
    )


@scenario(_conditional)
async def conditional_edges(s: Stage) -> None:
    await s.stream({"x": [1]}, stream_mode=["updates", "debug"])
    await s.invoke({"x": [2]}, s.config("right", user="u"))
    await s.invoke({"x": [1, 2]}, s.config("two"))


def _sync_conditional(checkpointer: Any) -> Any:
    def work(state: dict[str, int]) -> State:
        effect(f"work {state['i']}")
        time.sleep(0.1 * state["i"])
        return {"x": [state["i"]]}

    def step(state: State) -> Command[Any]:
        time.sleep(0.3)
        return Command(update={"x": ["step"]}, goto="step" if len(state["x"]) < 5 else END)

    def fan(state: State) -> list[Send | str]:
        return [Send("work", {"i": i}) for i in range(3)] + ["step"]

    return (
        StateGraph(State)
        .add_node("work", work)
        .add_node("step", step, destinations=("step", END))
        .add_conditional_edges(START, fan, ["work", "step"])
        .compile(checkpointer=checkpointer)
    )


@scenario(_sync_conditional)
def routing_from_sync_code(s: SyncStage) -> None:
    s.stream({"x": ["in"]}, stream_mode=["values", "debug"])
    s.invoke(Command(update={"x": ["cmd"]}, goto=[Send("work", {"i": 1}), "step"]))
    s.invoke({"x": ["again"]}, durability="sync")


def _loop(checkpointer: Any) -> Any:
    async def again(state: State) -> str:
        return "count" if len(state["x"]) < 30 else END

    async def count(state: State) -> State:
        return {"x": [effect("count")]}

    return (
        StateGraph(State)
        .add_node("count", count)
        .add_node("check", lambda state: None)
        .add_edge(START, "count")
        .add_edge("count", "check")
        .add_conditional_edges("check", again, ["count", END])
        .compile(checkpointer=checkpointer)
    )


@scenario(_loop)
async def long_loop(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke(None, {**s.config(), "recursion_limit": 100})


def _deferred(checkpointer: Any) -> Any:
    async def gate(state: State) -> State:
        effect("gate")
        return {"x": [interrupt(list(state["x"]))]}

    return (
        StateGraph(State)
        .add_node("a", appends("a"))
        .add_node("short", appends("short"))
        .add_node("long 1", appends("long 1", 0.2))
        .add_node("long 2", appends("long 2"))
        .add_node("gate", gate, defer=True)
        .add_node("last", appends("last"), defer=True)
        .add_edge(START, "a")
        .add_edge("a", "short")
        .add_edge("a", "long 1")
        .add_edge("long 1", "long 2")
        .add_edge("short", "gate")
        .add_edge("long 2", "gate")
        .add_edge("a", "last")
        .compile(checkpointer=checkpointer)
    )


@scenario(_deferred)
async def deferred_nodes(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates", "tasks"], ordered=False)
    await s.state()
    await s.invoke(Command(resume="open"))


def _barriers(checkpointer: Any) -> Any:
    async def fork(state: State) -> str:
        return "a" if len(state["x"]) < 12 else END

    return (
        StateGraph(State)
        .add_node("a", appends("a"))
        .add_node("b1", appends("b1"))
        .add_node("b2", appends("b2", 0.2))
        .add_node("c", appends("c"))
        .add_node("all", appends("all"))
        .add_edge(START, "a")
        .add_edge("a", "b1")
        .add_edge("a", "b2")
        .add_edge("b2", "c")
        .add_edge(["b1", "c"], "all")
        .add_conditional_edges("all", fork, ["a", END])
        .compile(checkpointer=checkpointer, interrupt_before=["c"])
    )


@scenario(_barriers)
async def barrier_in_a_loop(s: Stage) -> None:
    # It is stopped while the barrier is half full.
    await s.invoke({"x": ["in"]})
    await s.state()
    await s.invoke(None)
    await s.stream(None, stream_mode=["updates", "checkpoints"])
    await s.invoke(None)


def _invalid(checkpointer: Any) -> Any:
    class Single(TypedDict, total=False):
        kind: str
        one: int

    async def bad(state: Single) -> Any:
        effect("bad")
        match state["kind"]:
            case "no dict":
                return ["no dict"]
            case "unknown key":
                return {"unknown": 1}
            case "goto":
                return Command(goto="nowhere")
            case "send":
                return Command(goto=Send("nowhere", {}))
            case _:
                return {"one": 1}

    async def other(state: Single) -> Single:
        effect("other")
        await asyncio.sleep(0.2)
        return {"one": 2}

    return (
        StateGraph(Single)
        .add_node("bad", bad)
        .add_node("other", other)
        .add_edge(START, "bad")
        .add_conditional_edges(
            START, lambda state: "other" if state["kind"] == "both" else END, ["other", END]
        )
        .compile(checkpointer=checkpointer)
    )


@scenario(_invalid)
async def invalid_updates(s: Stage) -> None:
    for kind in ("no dict", "unknown key", "goto", "send", "both"):
        await s.invoke({"kind": kind}, s.config(kind))
        await s.invoke(None, s.config(kind))


@scenario(_invalid)
async def invalid_input(s: Stage) -> None:
    await s.invoke(None)
    await s.invoke({})
    await s.invoke({"unknown": 1})
    await s.invoke(["no dict"])
    await s.invoke({"kind": "good"})
    await s.invoke({})
    await s.invoke(Command(goto=END))
