"""Scenarios: graphs inside graphs: as nodes, called by nodes, stateful, without a checkpointer."""

from __future__ import annotations

import asyncio
import operator
from typing import Annotated, Any, TypedDict

from langgraph.func import task
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from tests.parity.scenarios.control import State, appends
from tests.parity.scenarios.interrupts import asks
from tests.parity.stage import Stage, SyncStage, effect, scenario


def chain(*nodes: tuple[str, Any], checkpointer: Any = None, **options: Any) -> Any:
    """A graph that runs nodes one after the other."""
    builder = StateGraph(State).add_sequence(list(nodes)).add_edge(START, nodes[0][0])
    return builder.compile(checkpointer=checkpointer, **options)


def _namespaces(state: Any) -> list[str]:
    """Namespaces of the open subgraphs, outermost first, of a state read with subgraphs."""
    found = []
    while state is not None:
        inner = [t.state for t in state.tasks if t.state is not None]
        state = inner[0] if inner else None
        if state is not None:
            found.append(state.config["configurable"]["checkpoint_ns"])
    return found


def _levels(checkpointer: Any) -> Any:
    inner = chain(("i1", appends("i1")), ("ask", asks("ask", "inner?")), ("i2", appends("i2")))
    middle = chain(("m1", appends("m1")), ("inner", inner), ("m2", appends("m2")))
    return chain(
        ("o1", appends("o1")),
        ("middle", middle),
        ("o2", appends("o2")),
        checkpointer=checkpointer,
    )


@scenario(_levels)
async def three_levels(s: Stage) -> None:
    modes = ["values", "updates", "tasks", "checkpoints"]
    await s.stream({"x": ["in"]}, stream_mode=modes, subgraphs=True)
    state = await s.state()
    await s.state(subgraphs=False)
    for ns in _namespaces(state):
        await s.state(s.config(checkpoint_ns=ns))
        await s.history(s.config(checkpoint_ns=ns))
    await s.stream(Command(resume="yes"), stream_mode=modes, subgraphs=True)


@scenario(_levels)
async def update_of_an_interrupted_subgraph(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    middle, inner = _namespaces(await s.state())
    await s.update({"x": ["by hand"]}, s.config(checkpoint_ns=inner))
    await s.state()
    await s.invoke(Command(resume="yes"))
    # As if the subgraph had answered itself.
    await s.invoke({"x": ["again"]})
    middle, inner = _namespaces(await s.state())
    await s.update({"x": ["skipped"]}, s.config(checkpoint_ns=inner), as_node="ask")
    await s.update({"x": ["above"]}, s.config(checkpoint_ns=middle))
    await s.stream(None, stream_mode="updates", subgraphs=True)


@scenario(_levels)
async def subgraph_node_skipped_by_update(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.update({"x": ["instead"]}, as_node="middle")
    await s.state()
    await s.stream(None, stream_mode="updates", subgraphs=True)


@scenario(_levels, placeable=False)
async def interrupted_subgraph_with_durability_exit(s: Stage) -> None:
    await s.invoke({"x": ["in"]}, durability="exit")
    await s.state()
    await s.stream(Command(resume="yes"), stream_mode="updates", subgraphs=True, durability="exit")


def _sync_levels(checkpointer: Any) -> Any:
    def step(name: str) -> Any:
        def node(state: State) -> State:
            effect(name)
            return {"x": [interrupt(name) if name == "ask" else name]}

        return node

    inner = chain(("i1", step("i1")), ("ask", step("ask")))

    def calls(state: State) -> State:
        effect("calls")
        return {"x": [inner.invoke({"x": [n]})["x"] for n in range(2)]}

    return chain(("node", inner), ("calls", calls), ("end", step("end")), checkpointer=checkpointer)


@scenario(_sync_levels)
def subgraphs_from_sync_code(s: SyncStage) -> None:
    s.stream({"x": ["in"]}, stream_mode=["updates", "values"], subgraphs=True)
    s.state()
    for answer in ("one", "two"):
        s.invoke(Command(resume=answer))
    s.state()
    s.stream(Command(resume="three"), stream_mode=["updates", "tasks"], subgraphs=True)


def _parallel_subgraphs(checkpointer: Any) -> Any:
    def sub(name: str, delay: float) -> Any:
        return chain(
            ("wait", appends(name, delay)), ("ask", asks(f"ask {name}", f"{name}?", delay=delay))
        )

    return (
        StateGraph(State)
        .add_node("left", sub("left", 0.0))
        .add_node("right", sub("right", 0.4))
        .add_node("end", appends("end"))
        .add_edge(START, "left")
        .add_edge(START, "right")
        .add_edge(["left", "right"], "end")
        .compile(checkpointer=checkpointer)
    )


@scenario(_parallel_subgraphs)
async def parallel_subgraphs_interrupt(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode="updates", subgraphs=True)
    for answered in ("right?", "left?"):
        state = await s.state()
        assert state is not None
        answers = {i.id: f"to {i.value}" for i in state.interrupts if i.value == answered}
        await s.stream(Command(resume=answers), stream_mode="updates", subgraphs=True)


def _sent_subgraphs(checkpointer: Any) -> Any:
    class Piece(TypedDict, total=False):
        i: int
        x: Annotated[list[Any], operator.add]

    async def part(state: Piece) -> Piece:
        effect(f"part {state['i']}")
        await asyncio.sleep(0.2 * state["i"])
        return {"x": [(state["i"], interrupt({"part": state["i"]}))]}

    piece = StateGraph(Piece).add_node("part", part).add_edge(START, "part").compile()
    return (
        StateGraph(State)
        .add_node("piece", piece)
        .add_conditional_edges(START, lambda _: [Send("piece", {"i": i}) for i in range(3)])
        .add_edge("piece", END)
        .compile(checkpointer=checkpointer)
    )


@scenario(_sent_subgraphs)
async def sent_subgraphs_interrupt(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    state = await s.state()
    assert state is not None
    ids = {i.value["part"]: i.id for i in state.interrupts}
    await s.invoke(Command(resume={ids[1]: "one"}))
    await s.stream(Command(resume={ids[0]: "zero", ids[2]: "two"}), subgraphs=True)


class Inner(TypedDict, total=False):
    n: int
    steps: Annotated[list[str], operator.add]


def _counting(checkpointer: Any) -> Any:
    async def count(state: Inner) -> Inner:
        effect("count")
        return {"n": state.get("n", 0) + 1, "steps": ["count"]}

    async def check(state: Inner) -> Inner:
        if state["n"] % 2 == 0:
            return {"steps": [f"checked:{interrupt(state['n'])}"]}
        return {"steps": ["checked"]}

    builder = StateGraph(Inner).add_sequence([count, check]).add_edge(START, "count")
    return builder.compile(checkpointer=checkpointer)


def _calling(checkpointer: Any, inner: Any, inputs: Any, *, at_once: bool = False) -> Any:
    """A graph whose node calls another one, with each of some inputs."""

    async def calls(state: State) -> State:
        effect("calls")
        if at_once:
            found = await asyncio.gather(*(inner.ainvoke(i) for i in inputs))
        else:
            found = [await inner.ainvoke(i) for i in inputs]
        return {"x": list(found)}

    return chain(("calls", calls), ("end", appends("end")), checkpointer=checkpointer)


def _called(checkpointer: Any) -> Any:
    return _calling(checkpointer, _counting(None), [{"n": 1}])


@scenario(_called)
async def graph_called_by_a_node(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["values", "updates"], subgraphs=True)
    await s.state()
    await s.stream(Command(resume="good"), stream_mode=["values", "updates"], subgraphs=True)
    await s.invoke({"x": ["again"]})
    await s.invoke({"x": ["and again"]})


def _called_often(checkpointer: Any) -> Any:
    return _calling(checkpointer, _counting(None), [{"n": n} for n in range(4)])


@scenario(_called_often)
async def graph_called_in_a_loop(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode="updates", subgraphs=True)
    await s.state()
    await s.stream(Command(resume="first"), stream_mode="updates", subgraphs=True)
    await s.state()
    await s.stream(Command(resume="second"), stream_mode="updates", subgraphs=True)


def _called_at_once(checkpointer: Any) -> Any:
    async def wait(state: Inner) -> Inner:
        effect(f"wait {state['n']}")
        await asyncio.sleep(0.2 * state["n"])
        return {"steps": [f"waited {state['n']}"]}

    async def after(state: Inner) -> Inner:
        effect(f"after {state['n']}")
        return {"steps": ["after"]}

    builder = StateGraph(Inner).add_sequence([wait, after]).add_edge(START, "wait")
    inputs = [{"n": n, "steps": [f"in {n}"]} for n in range(3)]
    return _calling(checkpointer, builder.compile(), inputs, at_once=True)


@scenario(_called_at_once)
async def graph_called_in_parallel(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode="updates", subgraphs=True)
    await s.invoke({"x": ["again"]})


def _two_called(checkpointer: Any) -> Any:
    first = chain(("f1", appends("f1")), ("ask", asks("ask first", "first?")))
    second = chain(("s1", appends("s1")), ("ask", asks("ask second", "second?")))

    async def calls(state: State) -> State:
        effect("calls")
        one = await first.ainvoke({"x": ["one"]})
        two = await second.ainvoke(one)
        three = await first.ainvoke(two)
        return {"x": three["x"]}

    return chain(("calls", calls), checkpointer=checkpointer)


@scenario(_two_called)
async def several_graphs_called_by_one_node(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    for answer in ("a", "b"):
        await s.stream(Command(resume=answer), stream_mode="updates", subgraphs=True)
        await s.state()
    await s.invoke(Command(resume="c"))


def _called_by_tasks(checkpointer: Any) -> Any:
    counting = _counting(None)

    @task
    async def counts(n: int) -> Any:
        effect(f"counts {n}")
        await asyncio.sleep(0.3 * n)
        return await counting.ainvoke({"n": n})

    async def calls(state: State) -> State:
        effect("calls")
        return {"x": list(await asyncio.gather(*(counts(n) for n in range(2))))}

    return chain(("calls", calls), checkpointer=checkpointer)


@scenario(_called_by_tasks, placeable=False)
async def graph_called_by_tasks(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode="updates", subgraphs=True)
    await s.state()
    await s.stream(Command(resume="good"), stream_mode="updates", subgraphs=True)


def _stateful(checkpointer: Any) -> Any:
    return _calling(checkpointer, _counting(True), [{"steps": ["in"]}])


@scenario(_stateful)
async def stateful_subgraph(s: Stage) -> None:
    for turn in range(2):
        await s.stream({"x": [turn]}, stream_mode="updates", subgraphs=True)
    state = await s.state()
    for ns in _namespaces(state):
        await s.update({"steps": ["by hand"]}, s.config(checkpoint_ns=ns))
    await s.invoke(Command(resume="good"))
    await s.invoke({"x": ["third"]})
    await s.state(s.config(checkpoint_ns="calls"))
    await s.history(s.config(checkpoint_ns="calls"))
    await s.invoke({"x": ["elsewhere"]}, s.config("another"))


def _stateful_node(checkpointer: Any) -> Any:
    async def remember(state: Inner) -> Inner:
        return {"n": state.get("n", 0) + 1, "steps": [f"turn {effect('remember')}"]}

    class Outer(TypedDict, total=False):
        steps: Annotated[list[str], operator.add]

    inner = StateGraph(Inner).add_node("remember", remember).add_edge(START, "remember")
    return (
        StateGraph(Outer)
        .add_node("one", inner.compile(checkpointer=True))
        .add_node("two", inner.compile(checkpointer=True))
        .add_edge(START, "one")
        .add_edge("one", "two")
        .compile(checkpointer=checkpointer)
    )


@scenario(_stateful_node, placeable=False)
async def stateful_subgraphs_as_nodes(s: Stage) -> None:
    await s.stream({"steps": ["in"]}, stream_mode=["updates", "values"], subgraphs=True)
    await s.invoke({"steps": ["again"]}, durability="exit")
    await s.invoke({"steps": ["third"]}, durability="sync")
    for name in ("one", "two"):
        await s.history(s.config(checkpoint_ns=name))


def _stateless(checkpointer: Any) -> Any:
    plain = chain(("p1", appends("p1")), ("p2", appends("p2")), checkpointer=False)
    asking = chain(("p3", appends("p3")), ("ask", asks("ask", "really?")), checkpointer=False)
    return chain(
        ("plain", plain),
        ("ask", asks("outer ask", "go on?")),
        ("asking", asking),
        checkpointer=checkpointer,
    )


@scenario(_stateless, placeable=False)
async def subgraphs_without_a_checkpointer(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode="updates", subgraphs=True)
    await s.state()
    await s.stream(Command(resume="yes"), stream_mode="updates", subgraphs=True)
    await s.state()
    await s.stream(Command(resume="yes"), stream_mode="updates", subgraphs=True)


def _mapped_schema(checkpointer: Any) -> Any:
    class Query(TypedDict):
        text: str

    class Answer(TypedDict):
        found: list[str]

    class Work(Query, Answer, total=False):
        words: list[str]

    class Outer(TypedDict, total=False):
        text: str
        found: list[str]
        total: int

    async def split(state: Query) -> Work:
        effect("split")
        return {"words": state["text"].split()}

    async def pick(state: Work) -> Answer:
        effect("pick")
        return {"found": [w for w in state["words"] if w != interrupt(state["words"])]}

    async def total(state: Outer) -> Outer:
        return {"total": len(state["found"])}

    search = (
        StateGraph(Work, input_schema=Query, output_schema=Answer)
        .add_sequence([split, pick])
        .add_edge(START, "split")
        .compile()
    )
    return (
        StateGraph(Outer)
        .add_node("search", search)
        .add_node("total", total)
        .add_edge(START, "search")
        .add_edge("search", "total")
        .compile(checkpointer=checkpointer)
    )


@scenario(_mapped_schema)
async def subgraph_with_another_schema(s: Stage) -> None:
    await s.invoke({"text": "one two one"})
    await s.state()
    await s.stream(Command(resume="one"), stream_mode=["values", "updates"], subgraphs=True)


def _to_parent(checkpointer: Any) -> Any:
    async def leaves(state: State) -> Command[Any]:
        effect("leaves")
        sends = [Send("other", {"x": [i]}) for i in range(2)]
        return Command(graph=Command.PARENT, update={"x": ["left"]}, goto=["inner end", *sends])

    async def other(state: State) -> Command[Any]:
        effect("other")
        await asyncio.sleep(0.2 * state["x"][0])
        return Command(graph=Command.PARENT, update={"x": ["other"]}, goto="outer end")

    inner = chain(("i1", appends("i1")), ("leaves", leaves), ("i2", appends("i2")))
    middle = (
        StateGraph(State)
        .add_node("inner", inner)
        .add_node("other", other)
        .add_node("inner end", appends("inner end"))
        .add_edge(START, "inner")
        .compile()
    )
    return (
        StateGraph(State)
        .add_node("middle", middle)
        .add_node("outer end", appends("outer end"))
        .add_node("never", appends("never"))
        .add_edge(START, "middle")
        .add_edge("outer end", END)
        .compile(checkpointer=checkpointer)
    )


@scenario(_to_parent)
async def commands_to_the_parent(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates", "tasks"], subgraphs=True)
    await s.invoke({"x": ["again"]}, durability="sync")
