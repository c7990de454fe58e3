"""Scenarios: graphs inside graphs that hand over, fail, stop at breakpoints, or branch."""

from __future__ import annotations

from typing import Annotated, Any

from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, ToolNode, tools_condition
from langgraph.types import Command, interrupt

from tests.parity.scenarios.control import State, appends
from tests.parity.scenarios.interrupts import asks
from tests.parity.scenarios.subgraphs import chain
from tests.parity.stage import Stage, SyncStage, effect, scenario


def _to_root(checkpointer: Any) -> Any:
    async def asks_and_leaves(state: State) -> Command[Any]:
        effect("asks_and_leaves")
        target = interrupt("where to?")
        return Command(graph=Command.PARENT, update={"x": [f"to {target}"]}, goto=target)

    inner = chain(("i1", appends("i1")), ("leave", asks_and_leaves), ("i2", appends("i2")))
    return (
        StateGraph(State)
        .add_node("inner", inner)
        .add_node("here", appends("here"))
        .add_node("there", appends("there"))
        .add_edge(START, "inner")
        .add_edge("here", END)
        .compile(checkpointer=checkpointer)
    )


@scenario(_to_root)
async def command_to_the_parent_after_an_answer(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.stream(Command(resume="there"), stream_mode=["updates", "values"], subgraphs=True)
    await s.invoke({"x": ["again"]})
    await s.invoke(Command(resume="nowhere"))
    await s.invoke({"x": ["third"]})
    # Back into the subgraph, by its own name.
    await s.invoke(Command(resume="inner"))
    await s.state()


def _hand_off(checkpointer: Any) -> Any:
    """Two agents that hand over to each other."""

    def agent(name: str, other: str) -> Any:
        async def work(state: State) -> Command[Any] | State:
            count = effect(f"work of {name}")
            if count < 3:
                return Command(graph=Command.PARENT, goto=other, update={"x": [f"{name} {count}"]})
            return {"x": [f"{name} done"]}

        return chain(("prepare", appends(f"{name} prepares")), ("work", work))

    return (
        StateGraph(State)
        .add_node("alice", agent("alice", "bob"), destinations=("bob",))
        .add_node("bob", agent("bob", "alice"), destinations=("alice",))
        .add_edge(START, "alice")
        .compile(checkpointer=checkpointer)
    )


@scenario(_hand_off)
async def subgraphs_hand_over(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates"], subgraphs=True)
    await s.invoke({"x": ["again"]})


def _hand_off_tool(checkpointer: Any) -> Any:
    """Agents whose tools hand over to the other agent, in the parent graph."""

    def agent(name: str, other: str, turns: int) -> Any:
        @tool(f"transfer_to_{other}")
        async def transfer(
            state: Annotated[MessagesState, InjectedState],
            tool_call_id: Annotated[str, InjectedToolCallId],
        ) -> Command[Any]:
            """Hand over."""
            effect(f"transfer to {other}")
            done = ToolMessage("Handed over.", tool_call_id=tool_call_id, id=f"r-{tool_call_id}")
            messages = [*state["messages"], done]
            return Command(graph=Command.PARENT, goto=other, update={"messages": messages})

        async def model(state: MessagesState) -> Any:
            count = effect(f"model of {name}")
            call = {"name": f"transfer_to_{other}", "args": {}, "id": f"{name}{count}"}
            calls = [call] if count <= turns else []
            answer = "" if calls else f"{name} answers {interrupt(name)}"
            return {"messages": [AIMessage(answer, id=f"ai-{name}{count}", tool_calls=calls)]}

        return (
            StateGraph(MessagesState)
            .add_node("model", model)
            .add_node("tools", ToolNode([transfer]))
            .add_edge(START, "model")
            .add_conditional_edges("model", tools_condition)
            .add_edge("tools", "model")
            .compile()
        )

    return (
        StateGraph(MessagesState)
        .add_node("alice", agent("alice", "bob", 2), destinations=("bob",))
        .add_node("bob", agent("bob", "alice", 1), destinations=("alice",))
        .add_edge(START, "alice")
        .compile(checkpointer=checkpointer)
    )


@scenario(_hand_off_tool)
async def tools_hand_over(s: Stage) -> None:
    await s.stream({"messages": [("user", "Hi.")]}, stream_mode="updates", subgraphs=True)
    await s.state()
    await s.invoke(Command(resume="politely"))


def fails_at_first(name: str, times: int = 1) -> Any:
    """A node that fails a number of times."""

    async def node(state: State) -> State:
        count = effect(name)
        if count <= times:
            raise ValueError(f"{name} failed", count)
        return {"x": [f"{name} {count}"]}

    return node


def _failing(checkpointer: Any) -> Any:
    inner = chain(("i1", appends("i1")), ("fails", fails_at_first("fails", 2)))
    middle = chain(("m1", appends("m1")), ("inner", inner), ("m2", appends("m2")))
    return chain(("o1", appends("o1")), ("middle", middle), checkpointer=checkpointer)


@scenario(_failing)
async def failure_in_a_subgraph(s: Stage) -> None:
    # Without "tasks": in the same process its chunks hold the exception itself, which gets a
    # note on each level it passes later.
    await s.stream({"x": ["in"]}, stream_mode=["updates", "values"], subgraphs=True)
    await s.state()
    await s.invoke(None)
    await s.stream(None, stream_mode=["updates", "values"], subgraphs=True)


@scenario(_failing, placeable=False)
async def failed_subgraph_gets_new_input(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke({"x": ["other"]})
    await s.invoke({"x": ["third"]}, durability="exit")


def _failing_call(checkpointer: Any) -> Any:
    inner = chain(("i1", appends("i1")), ("fails", fails_at_first("fails")), ("i2", appends("i2")))
    remembering = chain(("r1", appends("r1")), ("fails", fails_at_first("r2")), checkpointer=True)

    async def calls(state: State) -> State:
        effect("calls")
        found = await inner.ainvoke({"x": ["call"]})
        again = await remembering.ainvoke({"x": ["call"]})
        return {"x": [found, again]}

    async def handles(state: State) -> State:
        failing = chain(("fails", fails_at_first("handled")))
        try:
            return await failing.ainvoke({"x": []})
        except ValueError as exc:
            return {"x": [str(exc)]}

    return chain(("handles", handles), ("calls", calls), checkpointer=checkpointer)


@scenario(_failing_call)
async def failure_in_a_called_graph(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.state()
    await s.stream(None, stream_mode="updates", subgraphs=True)
    await s.stream(None, stream_mode="updates", subgraphs=True)


def _endless(checkpointer: Any) -> Any:
    async def again(state: State) -> Command[Any]:
        effect("again")
        return Command(update={"x": ["again"]}, goto="again")

    inner = StateGraph(State).add_node("again", again).add_edge(START, "again").compile()

    async def calls(state: State) -> State:
        await inner.ainvoke({"x": []}, {"recursion_limit": 3})
        return {}

    return (
        StateGraph(State)
        .add_node("inner", inner)
        .add_node("calls", calls)
        .add_conditional_edges(START, lambda state: state["x"][-1], ["inner", "calls"])
        .compile(checkpointer=checkpointer)
    )


@scenario(_endless)
async def recursion_limit_in_a_subgraph(s: Stage) -> None:
    await s.invoke({"x": ["inner"]}, {**s.config(), "recursion_limit": 5})
    await s.state()
    await s.invoke(None, {**s.config(), "recursion_limit": 2})
    await s.invoke({"x": ["calls"]}, {**s.config("calls"), "recursion_limit": 7})


def _inner_breakpoints(checkpointer: Any) -> Any:
    inner = chain(
        ("i1", appends("i1")),
        ("i2", appends("i2")),
        ("i3", appends("i3")),
        interrupt_before=["i2"],
        interrupt_after=["i2"],
    )
    return chain(("o1", appends("o1")), ("inner", inner), checkpointer=checkpointer)


@scenario(_inner_breakpoints)
async def breakpoints_in_a_subgraph(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates", "values"], subgraphs=True)
    state = await s.state()
    assert state is not None
    (task,) = state.tasks
    await s.update({"x": ["by hand"]}, task.state.config)
    await s.stream(None, stream_mode=["updates", "values"], subgraphs=True)
    await s.state()
    await s.invoke(None)


def _travelled(checkpointer: Any) -> Any:
    inner = chain(("i1", appends("i1")), ("ask", asks("ask", "inner?")), ("i2", appends("i2")))
    return chain(
        ("o1", appends("o1")),
        ("inner", inner),
        ("o2", appends("o2")),
        checkpointer=checkpointer,
    )


@scenario(_travelled)
async def subgraph_asks_again_after_time_travel(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    state = await s.state()
    assert state is not None
    (task,) = state.tasks
    inner = task.state.config
    await s.invoke(Command(resume="yes"))
    # From where the subgraph asked: it asks again, on a branch of its own.
    await s.stream(None, inner, stream_mode="updates", subgraphs=True)
    await s.state()
    await s.invoke(Command(resume="no"))


@scenario(_travelled)
async def branches_before_a_subgraph(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke(Command(resume="yes"))
    states = await s.history()
    (before,) = [state for state in states if state.next == ("inner",)]
    await s.stream(None, before.config, stream_mode="updates", subgraphs=True)
    await s.invoke(Command(resume="no"))
    forked = await s.update({"x": ["forked"]}, before.config)
    await s.invoke(None, forked)
    await s.invoke(Command(resume="perhaps"))


def _sync_failing(checkpointer: Any) -> Any:
    def fails(state: State) -> State:
        if effect("fails") == 1:
            raise KeyError("no")
        return {"x": ["fine"]}

    def once(state: State) -> State:
        effect("once")
        return {"x": ["once"]}

    inner = chain(("once", once), ("fails", fails))

    def calls(state: State) -> State:
        effect("calls")
        return {"x": inner.invoke({"x": ["call"]})["x"]}

    return chain(("calls", calls), ("inner", inner), checkpointer=checkpointer)


@scenario(_sync_failing)
def failure_in_a_subgraph_from_sync_code(s: SyncStage) -> None:
    s.invoke({"x": ["in"]})
    s.state()
    s.stream(None, stream_mode=["updates", "values"], subgraphs=True)
