"""Scenarios: what reaches nodes besides the state: config, context, store, execution info."""

from __future__ import annotations

import asyncio
import dataclasses
import operator
import uuid
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_config, get_store, get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime, get_runtime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

from tests.parity.stage import Stage, SyncStage, effect, scenario


class State(TypedDict, total=False):
    x: Annotated[list[Any], operator.add]


def chain(checkpointer: Any, *nodes: Any, context: Any = None, store: Any = None) -> Any:
    """A graph of nodes one after the other."""
    builder = StateGraph(State, context_schema=context).add_sequence(nodes)
    builder.add_edge(START, nodes[0].__name__)
    return builder.compile(checkpointer=checkpointer, store=store)


@dataclasses.dataclass(frozen=True)
class Limits:
    most: int = 3
    pair: tuple[int, int] = (1, 2)


@dataclasses.dataclass
class Settings:
    user: str
    limits: Limits = dataclasses.field(default_factory=Limits)
    live: Any = None


class Profile(BaseModel):
    user: str
    scores: dict[str, float] = {}


class Names(TypedDict, total=False):
    user: str
    tags: tuple[str, ...]


def _context(schema: Any) -> Any:
    """A graph that tells its context, in a node, after an interrupt and in a subgraph."""

    async def tells(state: State, runtime: Runtime[Any]) -> State:
        return {"x": [("tells", repr(runtime.context))]}

    async def asks(state: State) -> State:
        return {"x": [("asks", interrupt("q"), repr(get_runtime().context))]}

    def build(checkpointer: Any) -> Any:
        async def inner(state: State, runtime: Runtime[Any]) -> State:
            return {"x": [("inner", repr(runtime.context))]}

        sub = chain(None, inner, context=schema)
        sub.name = "sub"
        builder = StateGraph(State, context_schema=schema)
        builder.add_node("tells", tells).add_node("asks", asks).add_node("sub", sub)
        builder.add_edge(START, "tells").add_edge("tells", "asks").add_edge("asks", "sub")
        return builder.compile(checkpointer=checkpointer)

    return build


@scenario(_context(Settings), differs={"placed": "invoke"})
async def context_of_a_dataclass(s: Stage) -> None:
    await s.invoke({}, context=Settings("ann", Limits(9)))
    await s.invoke(Command(resume="r"), context=Settings("bob"))
    await s.invoke({}, context={"user": "coerced", "limits": None})
    # None is given on resuming: nothing is remembered.
    await s.invoke(Command(resume="r"))
    await s.invoke({}, context={"nobody": 1})


@scenario(_context(Profile), differs={"placed": "stream"})
async def context_of_a_pydantic_model(s: Stage) -> None:
    await s.invoke({}, context=Profile(user="ann", scores={"a": 1.5}))
    await s.stream(Command(resume="r"), context={"user": "bob", "scores": {"b": "2"}})
    await s.invoke({}, context={"scores": 3})


@scenario(_context(Names), differs={"placed": "invoke"})
async def context_of_a_typed_dict(s: Stage) -> None:
    await s.invoke({}, context={"user": "ann", "tags": ("a", "b"), "more": {1, 2}})
    await s.invoke(Command(resume="r"), context={})


def _store(checkpointer: Any) -> Any:
    store = InMemoryStore()

    async def puts(state: State, runtime: Runtime, config: RunnableConfig) -> State:
        assert runtime.store is not None
        user = config["configurable"]["user"]
        for i, fact in enumerate(state["x"][-2:]):
            await runtime.store.aput(("facts", user), str(i), {"fact": fact})
        return {"x": [sorted(await runtime.store.alist_namespaces(prefix=("facts",)))]}

    def searches(state: State, *, store: BaseStore) -> State:
        found = store.search(("facts",), filter={"fact": "blue"})
        return {"x": [[(i.namespace, i.key, i.value) for i in found]]}

    async def gets(state: State) -> State:
        item = await get_store().aget(("facts", "ann"), "0")
        missing = await get_store().aget(("facts", "nobody"), "0")
        await get_store().adelete(("facts", "ann"), "0")
        return {"x": [item.value if item else None, missing]}

    async def inner(state: State, runtime: Runtime) -> State:
        assert runtime.store is not None
        return {"x": [len(await runtime.store.asearch(("facts",)))]}

    builder = StateGraph(State).add_sequence([puts, searches, gets])
    builder.add_node("sub", chain(None, inner)).add_edge("gets", "sub").add_edge(START, "puts")
    return builder.compile(checkpointer=checkpointer, store=store)


@scenario(_store, differs={"placed": "invoke"})
async def store_in_nodes(s: Stage) -> None:
    await s.invoke({"x": ["blue", "green"]}, s.config("ann", user="ann"))
    await s.invoke({"x": ["red", "blue"]}, s.config("bob", user="bob"))
    await s.invoke({"x": ["blue"]}, s.config("ann", user="ann"))


def _config(checkpointer: Any) -> Any:
    def seen(config: RunnableConfig) -> list[Any]:
        hidden = ("thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map")
        own = {
            k: v
            for k, v in config["configurable"].items()
            if not k.startswith("__") and k not in hidden
        }
        found = {k: v for k, v in config.items() if k not in ("configurable", "callbacks")}
        return [sorted(own.items()), sorted((k, repr(v)) for k, v in found.items())]

    async def first(state: State, config: RunnableConfig) -> State:
        return {"x": ["first", *seen(config)]}

    def second(state: State) -> State:
        return {"x": ["second", *seen(get_config())]}

    async def inner(state: State, config: RunnableConfig) -> State:
        return {"x": ["inner", *seen(config), interrupt("q")]}

    return (
        StateGraph(State)
        .add_node("first", first, metadata={"of": "the node"})
        .add_node("second", second)
        .add_node("sub", chain(None, inner))
        .add_edge(START, "first")
        .add_edge("first", "second")
        .add_edge("second", "sub")
        .compile(checkpointer=checkpointer)
    )


@scenario(_config)
async def config_in_nodes_and_history(s: Stage) -> None:
    config = {
        **s.config(user="ann", level=3, ratio=0.5, on=True, nested={"a": (1,)}, nothing=None),
        "metadata": {"source_of_call": "test", "n": 1, "deep": {"k": [1]}, "none": None},
        "tags": ["t1", "t2"],
        "run_name": "a run",
        "recursion_limit": 40,
    }
    await s.invoke({"x": []}, config)
    await s.state()
    await s.stream(Command(resume="r"), s.config(user="bob"), stream_mode=["updates", "debug"])


@scenario(_config)
async def config_with_a_run_id(s: Stage) -> None:
    config = {**s.config(), "run_id": uuid.UUID(int=5), "metadata": {"run": "with an id"}}
    await s.invoke({"x": []}, config)


def _bound(checkpointer: Any) -> Any:
    bound = {"metadata": {"bound": 1}, "tags": ["bound"], "configurable": {"user": "bound"}}
    return _config(checkpointer).with_config(bound)


@scenario(_bound)
async def config_bound_to_the_graph(s: Stage) -> None:
    await s.invoke({"x": []})
    call = {**s.config(user="call"), "metadata": {"call": 2}, "tags": ["call"]}
    await s.invoke(Command(resume="r"), call)


def _info(checkpointer: Any) -> Any:
    async def tells(state: State, runtime: Runtime) -> State:
        info = runtime.execution_info
        assert info is not None
        told = dataclasses.asdict(info)
        told["node_first_attempt_time"] = type(told["node_first_attempt_time"]).__name__
        return {"x": [told, get_config()["configurable"]["checkpoint_ns"]]}

    async def inner(state: State, runtime: Runtime) -> State:
        interrupt("q")
        return await tells(state, runtime)

    builder = StateGraph(State).add_node("tells", tells).add_node("sub", chain(None, inner))
    builder.add_edge(START, "tells").add_edge("tells", "sub")
    return builder.compile(checkpointer=checkpointer)


@scenario(_info)
async def execution_info_in_nodes(s: Stage) -> None:
    await s.invoke({"x": []})
    await s.invoke(Command(resume="r"))
    await s.invoke({"x": []}, {**s.config("other"), "run_id": uuid.UUID(int=9)})


def _wide(checkpointer: Any) -> Any:
    at_once = 0

    async def work(state: dict[str, int]) -> State:
        nonlocal at_once
        at_once += 1
        await asyncio.sleep(0.1)
        seen = at_once
        at_once -= 1
        return {"x": [seen == 1]}

    def fan(state: State) -> list[Send]:
        return [Send("work", {"i": i}) for i in range(4)]

    builder = StateGraph(State).add_node("work", work)
    builder.add_conditional_edges(START, fan, ["work"])
    return builder.compile(checkpointer=checkpointer)


@scenario(_wide)
async def max_concurrency(s: Stage) -> None:
    await s.invoke({"x": ["alone:"]}, {**s.config(), "max_concurrency": 1})


def _sync(checkpointer: Any) -> Any:
    def tells(state: State, runtime: Runtime[Settings], config: RunnableConfig) -> State:
        get_stream_writer()({"user": runtime.context.user})
        assert runtime.store is not None
        runtime.store.put(("n",), "k", {"n": effect("tells")})
        item = runtime.store.get(("n",), "k")
        return {"x": [runtime.context.user, config["tags"], item and item.value]}

    return chain(checkpointer, tells, context=Settings, store=InMemoryStore())


@scenario(_sync)
def settings_from_sync_code(s: SyncStage) -> None:
    config = {**s.config(), "tags": ["t"], "metadata": {"m": 1}}
    s.stream({"x": []}, config, context=Settings("ann"), stream_mode=["updates", "custom"])
    s.invoke({"x": []}, config, context={"user": "bob"})
    s.invoke({"x": []}, config)


def _limited_subgraph(checkpointer: Any) -> Any:
    async def turns(state: State) -> State:
        effect("turns")
        return {"x": [len(state["x"])]}

    inner = StateGraph(State).add_node("turns", turns)
    inner.add_edge(START, "turns").add_conditional_edges(
        "turns", lambda s: "turns" if len(s["x"]) < 9 else "__end__"
    )
    builder = StateGraph(State).add_node("sub", inner.compile().with_config(recursion_limit=4))
    return builder.add_edge(START, "sub").compile(checkpointer=checkpointer)


@scenario(_limited_subgraph)
async def limit_bound_to_a_subgraph(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke({"x": ["in"]}, {**s.config("own limit"), "recursion_limit": 20})
