"""Scenarios: editing state, forks, replays, time travel, history; chats over many turns."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.types import Command, Send, StateUpdate, interrupt

from tests.parity.stage import Stage, SyncStage, effect, scenario


class State(TypedDict, total=False):
    x: Annotated[list[Any], operator.add]
    last: str


def says(name: str) -> Any:
    """A node that appends its name, and how often it was run in the thread."""

    def node(state: State) -> State:
        return {"x": [f"{name}{effect(name)}"], "last": name}

    node.__name__ = name
    return node


def _three(checkpointer: Any) -> Any:
    builder = StateGraph(State).add_sequence([says("a"), says("b"), says("c")])
    return builder.add_edge(START, "a").compile(checkpointer=checkpointer)


@scenario(_three)
async def update_of_an_empty_thread(s: Stage) -> None:
    await s.state()
    await s.update({"x": ["by hand"]})
    await s.state()
    await s.invoke(None)
    await s.update({"x": ["input"]}, s.config("as input"), as_node=START)
    await s.invoke(None, s.config("as input"))
    await s.update(None, s.config("nothing"))
    await s.update({"unknown": 1}, s.config("nothing"), as_node="a")
    await s.update({"x": [1]}, s.config("nothing"), as_node="nobody")


@scenario(_three)
async def updates_as_nodes(s: Stage) -> None:
    await s.invoke({"x": ["in"]}, interrupt_after=["a"])
    await s.update({"x": ["instead of b"]}, as_node="b")
    await s.state()
    await s.invoke(None)
    await s.update({"x": ["back at a"]}, as_node="a")
    await s.stream(None, stream_mode=["updates", "checkpoints"])
    await s.update(None, as_node="a")
    await s.state()
    await s.update(None, as_node=END)
    await s.state()
    await s.update({"x": ["end"]}, as_node=END)
    await s.update(None, as_node="__copy__")
    await s.update("wrong")


@scenario(_three)
async def updates_while_interrupted(s: Stage) -> None:
    await s.invoke({"x": ["in"]}, interrupt_before=["b"])
    made = await s.update({"x": ["before b"], "last": "me"})
    await s.state()
    await s.state(made)
    await s.stream(None, made, stream_mode="updates", interrupt_before=["c"])
    await s.update(None)
    await s.invoke(None)


@scenario(_three)
async def bulk_updates(s: Stage) -> None:
    steps = [
        [StateUpdate({"x": ["in"]}, START)],
        [StateUpdate({"x": ["a"], "last": "a"}, "a"), StateUpdate({"x": ["b"]}, "b")],
        [StateUpdate({"x": ["b again"]}, as_node="b")],
    ]
    await s.bulk_update(steps)
    await s.state()
    await s.invoke(None)
    await s.bulk_update([])
    await s.bulk_update([[]])
    both = [StateUpdate({"last": "a"}, "a"), StateUpdate({"last": "b"}, "b")]
    await s.bulk_update([both])


def _copied(checkpointer: Any) -> Any:
    def fan(state: State) -> list[Send]:
        return [Send("work", {"x": [i]}) for i in range(3)]

    def work(state: State) -> State:
        effect("work")
        return {"x": [("worked on", *state["x"])]}

    builder = StateGraph(State).add_node("a", says("a")).add_node("work", work)
    builder.add_edge(START, "a").add_conditional_edges("a", fan, ["work"])
    return builder.compile(checkpointer=checkpointer)


@scenario(_copied)
async def copies_with_other_results(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    states = await s.history()
    fanned = states[1].config
    copied = await s.update([({"x": ["other"]}, "work"), ({"x": ["more"]}, "work")], fanned)
    copied = await s.update(
        [({"x": ["other"]}, "work"), ({"x": ["more"]}, "work")], fanned, as_node="__copy__"
    )
    await s.state(copied)
    await s.update(None, fanned, as_node="__copy__")
    await s.invoke(None)


@scenario(_three)
async def replay_of_old_checkpoints(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke({"x": ["more"]})
    states = await s.history()
    for old in states[2], states[5], states[-1], states[0]:
        await s.state(old.config)
        await s.stream(None, old.config, stream_mode=["values", "updates"])
    await s.state()


@scenario(_three)
async def forks_of_old_checkpoints(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    states = await s.history()
    fork = await s.update({"x": ["forked"]}, states[1].config)
    await s.state(fork)
    await s.invoke(None, fork)
    as_a = await s.update({"x": ["forked as a"]}, states[2].config, as_node="a")
    await s.invoke(None, as_a)
    # New input on an old checkpoint.
    await s.invoke({"x": ["new input"]}, states[2].config)
    await s.invoke({"x": ["newest"]})
    await s.history(states[1].config)


@scenario(_three)
def forks_from_sync_code(s: SyncStage) -> None:
    s.invoke({"x": ["in"]})
    states = s.history()
    fork = s.update({"x": ["forked"]}, states[2].config)
    s.invoke(None, fork)
    s.stream(None, states[1].config, stream_mode="updates")
    s.history(limit=3)
    s.history(filter={"source": "update"})


@scenario(_three)
async def filtered_history(s: Stage) -> None:
    await s.invoke({"x": ["in"]}, {**s.config(), "metadata": {"turn": 1, "who": "ann"}})
    await s.invoke({"x": ["more"]}, {**s.config(), "metadata": {"turn": 2, "who": "ann"}})
    await s.update({"x": ["by hand"]}, {**s.config(), "metadata": {"who": "bob"}})
    states = await s.history()
    await s.history(filter={"source": "input"})
    await s.history(filter={"turn": 2, "step": 6})
    await s.history(filter={"who": "bob"})
    await s.history(filter={"who": "nobody"})
    await s.history(limit=2)
    await s.history(limit=0)
    await s.history(before=states[3].config, limit=3)
    await s.history(before=states[3].config, filter={"source": "loop"}, limit=2)
    await s.history(states[4].config)
    await s.history(s.config("unknown"))


@scenario(_three)
async def checkpoints_that_do_not_exist(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    nowhere = s.config(checkpoint_id="1f000000-0000-6000-8000-000000000000")
    await s.state(nowhere)
    await s.history(nowhere)
    await s.invoke(None, nowhere)
    await s.invoke({"x": ["in"]}, nowhere)
    await s.update({"x": ["in"]}, nowhere)
    await s.state(s.config(checkpoint_ns="nobody"))
    await s.update({"x": []}, s.config(checkpoint_ns="nobody"))
    await s.invoke(None, s.config("empty"))
    await s.invoke({}, s.config("empty"))


def _asks(checkpointer: Any) -> Any:
    def asks(state: State) -> State:
        effect("asks")
        return {"x": [interrupt("first?"), interrupt("second?")]}

    builder = StateGraph(State).add_sequence([says("a"), asks, says("c")])
    return builder.add_edge(START, "a").compile(checkpointer=checkpointer)


@scenario(_asks)
async def interrupt_answered_again(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    asked = await s.state()
    assert asked is not None
    await s.invoke(Command(resume="one"))
    await s.invoke(Command(resume="two"))
    await s.invoke(None, asked.config)
    await s.state(asked.config)
    await s.invoke(Command(resume="another one"), asked.config)
    await s.invoke(Command(resume="another two"))
    fork = await s.update({"x": ["forked"]}, asked.config)
    await s.invoke(Command(resume="fork one"), fork)
    await s.invoke(Command(resume="fork two"))


@scenario(_asks)
async def interrupted_node_replaced_by_an_update(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.update({"x": ["edited"]})
    await s.state()
    await s.invoke(None)
    await s.update({"x": ["in place of asks"]}, as_node="asks")
    await s.invoke(None)
    await s.invoke(Command(update={"x": ["from a command"]}, goto="c"))


def _nested(checkpointer: Any, of_inner: Any = None) -> Any:
    def asks(state: State) -> State:
        effect("asks")
        return {"x": [interrupt("q")]}

    inner = StateGraph(State).add_sequence([says("i1"), says("i2"), asks]).add_edge(START, "i1")
    builder = StateGraph(State)
    builder.add_node("a", says("a")).add_node("sub", inner.compile(checkpointer=of_inner))
    builder.add_node("c", says("c")).add_edge(START, "a").add_edge("a", "sub")
    return builder.add_edge("sub", "c").compile(checkpointer=checkpointer)


def _inside(state: Any) -> Any:
    """The config of the subgraph a state is interrupted in."""
    return state.tasks[0].state.config


def _newest(config: Any) -> Any:
    """The config without its checkpoint."""
    keys = ("thread_id", "checkpoint_ns")
    return {"configurable": {k: v for k, v in config["configurable"].items() if k in keys}}


@scenario(_nested)
async def update_of_a_subgraph(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    config = _inside(await s.state())
    await s.state(config)
    await s.history(config)
    await s.history(_newest(config))
    made = await s.update({"x": ["edited inside"]}, config)
    await s.state()
    await s.state(made)
    await s.update({"x": ["as i2"]}, made, as_node="i2")
    await s.invoke(Command(resume="r"))
    await s.history(_newest(config))


@scenario(_nested)
async def update_of_a_subgraph_as_its_last_node(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    config = _inside(await s.state())
    await s.update({"x": ["instead of an answer"]}, config, as_node="asks")
    await s.state()
    await s.stream(None, stream_mode="updates", subgraphs=True)


@scenario(_nested)
async def time_travel_into_a_subgraph(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    interrupted = await s.state()
    inner = await s.history(_newest(_inside(interrupted)))
    await s.invoke(Command(resume="r"))
    # From before i2, and with an edit from before asks.
    await s.stream(None, inner[1].config, stream_mode="updates", subgraphs=True)
    await s.state()
    await s.invoke(Command(resume="other"))
    fork = await s.update({"x": ["edited inside"]}, inner[0].config)
    await s.stream(None, fork, stream_mode="updates", subgraphs=True)
    await s.invoke(Command(resume="fork"))
    assert interrupted is not None
    await s.stream(None, interrupted.config, stream_mode="updates", subgraphs=True)


def _remembering(checkpointer: Any) -> Any:
    return _nested(checkpointer, of_inner=True)


@scenario(_remembering)
async def subgraph_with_its_own_memory(s: Stage) -> None:
    for turn in range(2):
        await s.invoke({"x": [turn]})
        await s.state()
        await s.invoke(Command(resume=f"r{turn}"))
    await s.history(s.config(checkpoint_ns="sub"))
    await s.update({"x": ["edited"]}, s.config(checkpoint_ns="sub"))
    await s.invoke({"x": ["last"]})
    await s.state()


def _chat(checkpointer: Any) -> Any:
    async def answers(state: MessagesState) -> dict[str, Any]:
        said = f"You said {state['messages'][-1].text!r}, {len(state['messages'])} in all"
        model = GenericFakeChatModel(messages=iter([AIMessage(said)]))
        return {"messages": await model.ainvoke(state["messages"])}

    builder = StateGraph(MessagesState).add_node("answers", answers)
    return builder.add_edge(START, "answers").compile(checkpointer=checkpointer)


@scenario(_chat)
async def chat_of_many_turns(s: Stage) -> None:
    await s.invoke({"messages": "hello"})
    await s.state()
    await s.state()
    await s.invoke({"messages": [("user", "again"), HumanMessage("with an id", id="mine")]})
    await s.stream({"messages": {"role": "user", "content": "a dict"}}, stream_mode="values")
    await s.update({"messages": [HumanMessage("by hand"), AIMessage("answered by hand")]})
    await s.update({"messages": [HumanMessage("replaced", id="mine")]})
    await s.state()
    await s.invoke({"messages": [HumanMessage("last")]})


@scenario(_chat)
async def messages_removed(s: Stage) -> None:
    for text in "one", "two", "three":
        await s.invoke({"messages": text})
    state = await s.state()
    assert state is not None
    ids = [m.id for m in state.values["messages"]]
    await s.update({"messages": [RemoveMessage(i) for i in ids[:2]]})
    await s.update({"messages": [RemoveMessage("unknown")]})
    await s.state()
    await s.invoke({"messages": [RemoveMessage(ids[2]), HumanMessage("four")]})
    await s.invoke({"messages": [RemoveMessage(REMOVE_ALL_MESSAGES), HumanMessage("afresh")]})
    await s.update({"messages": [RemoveMessage(REMOVE_ALL_MESSAGES)]})
    await s.invoke({"messages": "last"})


class Talk(TypedDict, total=False):
    messages: Annotated[list[AnyMessage], add_messages]
    summary: str


def _summing(checkpointer: Any) -> Any:
    def talks(state: Talk) -> Talk:
        model = GenericFakeChatModel(messages=iter([AIMessage(f"turn {effect('talks')}")]))
        return {"messages": [model.invoke(state["messages"])]}

    def sums(state: Talk) -> Talk:
        older = state["messages"][:-2]
        summary = " ".join([state.get("summary", ""), *(m.text for m in older)])
        return {"summary": summary, "messages": [RemoveMessage(m.id) for m in older]}

    builder = StateGraph(Talk).add_sequence([talks, sums]).add_edge(START, "talks")
    return builder.compile(checkpointer=checkpointer)


@scenario(_summing)
def summed_up_chat_from_sync_code(s: SyncStage) -> None:
    for text in "a", "b", "c":
        s.invoke({"messages": [{"role": "user", "content": text}]})
        s.state()
