"""Scenarios: retries, timeouts, error handlers, caches, step limits, durability."""

from __future__ import annotations

import asyncio
import operator
from datetime import timedelta
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.cache.memory import InMemoryCache
from langgraph.errors import NodeError, NodeTimeoutError
from langgraph.graph import END, START, StateGraph
from langgraph.managed import IsLastStep, RemainingSteps
from langgraph.runtime import Runtime
from langgraph.types import CachePolicy, Command, RetryPolicy, Send, TimeoutPolicy, interrupt

from tests.parity.stage import Stage, SyncStage, effect, scenario

SOON = {"initial_interval": 0.01, "jitter": False}


class State(TypedDict, total=False):
    x: Annotated[list[Any], operator.add]


def says(name: str, delay: float = 0.0) -> Any:
    """A node that appends its name."""

    async def node(state: State) -> State:
        effect(name)
        await asyncio.sleep(delay)
        return {"x": [name]}

    return node


def fails(times: int, *errors: Exception) -> Any:
    """A node that fails the first times it is run in a thread, with the errors in turn."""

    async def flaky(state: State, runtime: Runtime) -> State:
        count = effect("flaky")
        if count <= times:
            error = errors[(count - 1) % len(errors)]
            raise type(error)(*error.args)
        assert runtime.execution_info is not None
        return {"x": [f"flaky {count}, attempt {runtime.execution_info.node_attempt}"]}

    return flaky


def _around(node: Any, checkpointer: Any, **options: Any) -> Any:
    """The node between two others."""
    return (
        StateGraph(State)
        .add_node("before", says("before"))
        .add_node("flaky", node, **options)
        .add_node("after", says("after"))
        .add_edge(START, "before")
        .add_edge("before", "flaky")
        .add_edge("flaky", "after")
        .compile(checkpointer=checkpointer)
    )


def _retried(checkpointer: Any) -> Any:
    policy = RetryPolicy(max_attempts=3, **SOON)
    return _around(fails(2, ConnectionError("down")), checkpointer, retry_policy=policy)


@scenario(_retried)
async def node_retried(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates", "tasks"])
    await s.invoke({"x": ["again"]})


def _exhausted(checkpointer: Any) -> Any:
    policy = RetryPolicy(max_attempts=2, retry_on=(KeyError, ValueError), **SOON)
    return _around(fails(3, ValueError("a"), KeyError("b")), checkpointer, retry_policy=policy)


@scenario(_exhausted)
async def retries_exhausted_then_resumed(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates", "tasks"])
    await s.state()
    await s.invoke(None)


@scenario(_exhausted)
def async_nodes_from_sync_code(s: SyncStage) -> None:
    s.invoke({"x": ["in"]})
    s.state()


def _sync_retried(checkpointer: Any) -> Any:
    def flaky(state: State) -> State:
        count = effect("flaky")
        if count < 4:
            raise ConnectionError(count)
        return {"x": [count]}

    policy = RetryPolicy(max_attempts=2, **SOON)
    builder = StateGraph(State).add_node("flaky", flaky, retry_policy=policy)
    return builder.add_edge(START, "flaky").compile(checkpointer=checkpointer)


@scenario(_sync_retried)
def retries_from_sync_code(s: SyncStage) -> None:
    s.stream({"x": ["in"]}, stream_mode=["updates", "tasks"])
    s.state()
    s.invoke(None)


def _predicate(checkpointer: Any) -> Any:
    def worth_it(exc: Exception) -> bool:
        return "again" in str(exc)

    errors = OSError("try again"), OSError("never")
    policy = RetryPolicy(max_attempts=5, retry_on=worth_it, **SOON)
    return _around(fails(2, *errors), checkpointer, retry_policy=policy)


@scenario(_predicate)
async def retry_decided_by_a_predicate(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke(None)


def _sequence(checkpointer: Any) -> Any:
    policies = [
        RetryPolicy(max_attempts=2, retry_on=KeyError, **SOON),
        RetryPolicy(max_attempts=4, retry_on=lambda e: isinstance(e, LookupError), **SOON),
    ]
    errors = IndexError("1"), IndexError("2"), KeyError("3")
    return _around(fails(3, *errors), checkpointer, retry_policy=policies)


@scenario(_sequence)
async def sequence_of_retry_policies(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke(None)


def _no_default_retry(checkpointer: Any) -> Any:
    builder = StateGraph(State).set_node_defaults(retry_policy=RetryPolicy(**SOON))
    builder.add_node("flaky", fails(2, ConnectionError("retried"), ValueError("not retried")))
    return builder.add_edge(START, "flaky").compile(checkpointer=checkpointer)


@scenario(_no_default_retry)
async def default_policy_retries_only_some_errors(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.state()
    await s.invoke(None)


def _retried_subgraph(checkpointer: Any) -> Any:
    inner = _around(fails(2, ConnectionError("inner")), None)
    return _around(inner, checkpointer, retry_policy=RetryPolicy(max_attempts=3, **SOON))


@scenario(_retried_subgraph)
async def retried_subgraph_goes_on(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode="updates", subgraphs=True)


def _retry_beside_others(checkpointer: Any) -> Any:
    def fan(state: State) -> list[Any]:
        return [Send("flaky", {}), Send("says", {})]

    return (
        StateGraph(State)
        .add_node(
            "flaky",
            fails(4, ConnectionError("beside")),
            retry_policy=RetryPolicy(max_attempts=3, initial_interval=0.1, jitter=False),
        )
        .add_node("says", says("says"))
        .add_conditional_edges(START, fan, ["flaky", "says"])
        .compile(checkpointer=checkpointer)
    )


@scenario(_retry_beside_others)
async def retries_beside_a_finished_task(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.state()
    await s.invoke(None)


async def slow_at_first(state: State, runtime: Runtime) -> State:
    """Takes for ever the first time it is run in a thread."""
    count = effect("slow")
    await asyncio.sleep(600 if count == 1 else 0)
    return {"x": [f"slow {count}"]}


def _timeout(checkpointer: Any) -> Any:
    return _around(slow_at_first, checkpointer, timeout=0.5)


@scenario(_timeout)
async def node_times_out(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.state()
    await s.invoke(None)


def _timeout_retried(checkpointer: Any) -> Any:
    policy = RetryPolicy(retry_on=NodeTimeoutError, **SOON)
    limit = timedelta(seconds=0.5)
    return _around(slow_at_first, checkpointer, timeout=limit, retry_policy=policy)


@scenario(_timeout_retried)
async def node_that_timed_out_is_retried(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates", "tasks"])


def _idle(checkpointer: Any) -> Any:
    async def beats(state: State, runtime: Runtime) -> State:
        beating = effect("beats") > 1
        for _ in range(8):
            await asyncio.sleep(0.1)
            if beating:
                runtime.heartbeat()
        return {"x": ["beats"]}

    limit = TimeoutPolicy(idle_timeout=0.5, refresh_on="heartbeat")
    return _around(beats, checkpointer, timeout=limit)


@scenario(_idle)
async def idle_node_times_out_unless_it_heartbeats(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke(None)


def _send_timeout(checkpointer: Any) -> Any:
    def fan(state: State) -> list[Any]:
        return [Send("slow", {}, timeout=0.5), Send("says", {})]

    return (
        StateGraph(State)
        .add_node("slow", slow_at_first, error_handler=recovers)
        .add_node("says", says("says"))
        .add_conditional_edges(START, fan, ["slow", "says"])
        .compile(checkpointer=checkpointer)
    )


@scenario(_send_timeout)
async def send_with_a_timeout(s: Stage) -> None:
    await s.invoke({"x": ["in"]})


async def recovers(state: State, error: NodeError) -> State:
    """An error handler."""
    effect(f"recovers from {type(error.error).__name__}")
    known = getattr(error.error, "args", ())
    args = () if isinstance(error.error, NodeTimeoutError) else known
    return {"x": [("recovered", error.node, type(error.error).__name__, args)]}


def _handled(checkpointer: Any) -> Any:
    policy = RetryPolicy(max_attempts=2, **SOON)
    node = fails(9, ConnectionError("down", 7))
    return _around(node, checkpointer, retry_policy=policy, error_handler=recovers)


@scenario(_handled)
async def error_handler_after_retries(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["values", "updates", "tasks"])


def _handler_jumps(checkpointer: Any) -> Any:
    async def jumps(state: State, error: NodeError) -> Command[Any]:
        return Command(update={"x": [f"{error.node}: {error.error!r}"]}, goto="elsewhere")

    return (
        StateGraph(State)
        .add_node("flaky", fails(1, ValueError("no")), error_handler=jumps)
        .add_node("beside", says("beside"))
        .add_node("next", says("next"))
        .add_node("elsewhere", says("elsewhere"))
        .add_edge(START, "flaky")
        .add_edge(START, "beside")
        .add_edge("flaky", "next")
        .compile(checkpointer=checkpointer)
    )


@scenario(_handler_jumps)
async def error_handler_jumps_elsewhere(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke({"x": ["again"]})


def _handler_fails(checkpointer: Any) -> Any:
    async def fails_once(state: State, error: NodeError) -> State:
        if effect("handler") == 1:
            raise RuntimeError("the handler") from error.error
        return {"x": [f"handled {error.error!r}"]}

    builder = StateGraph(State).set_node_defaults(error_handler=fails_once)
    builder.add_node("flaky", fails(9, ValueError("no")))
    return builder.add_edge(START, "flaky").compile(checkpointer=checkpointer)


@scenario(_handler_fails)
async def default_error_handler_fails_and_is_resumed(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.state()
    await s.invoke(None)


def _handler_asks(checkpointer: Any) -> Any:
    async def asks(state: State, error: NodeError) -> State:
        return {"x": [interrupt(f"{error.node} failed: {error.error!r}")]}

    return _around(fails(9, ValueError("no")), checkpointer, error_handler=asks)


@scenario(_handler_asks)
async def error_handler_interrupts(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.state()
    await s.invoke(Command(resume="skip it"))


def _cancels_itself(checkpointer: Any) -> Any:
    async def cancels(state: State) -> State:
        raise asyncio.CancelledError

    return _around(cancels, checkpointer)


@scenario(_cancels_itself)
async def node_raises_cancelled(s: Stage) -> None:
    await s.invoke({"x": ["in"]})


class Asked(TypedDict, total=False):
    n: int
    x: Annotated[list[Any], operator.add]


def _cached(checkpointer: Any) -> Any:
    async def expensive(state: Asked) -> Asked:
        return {"x": [("expensive", state["n"], effect("expensive"))]}

    by_parity = CachePolicy(key_func=lambda s: str(s["n"] % 2), ttl=600)

    async def by_key(state: Asked) -> Asked:
        return {"x": [("by key", state["n"], effect("by key"))]}

    return (
        StateGraph(Asked)
        .add_node("expensive", expensive, cache_policy=CachePolicy())
        .add_node("by_key", by_key, cache_policy=by_parity)
        .add_edge(START, "expensive")
        .add_edge("expensive", "by_key")
        .compile(checkpointer=checkpointer, cache=InMemoryCache())
    )


@scenario(_cached)
async def cached_nodes(s: Stage) -> None:
    for name, n in ("first", 1), ("second", 1), ("third", 3):
        config = s.config(name)
        await s.stream({"n": n, "x": ["in"]}, config, stream_mode=["updates", "tasks"])
    await s.invoke({"n": 1}, s.config("first"))


class Steps(TypedDict, total=False):
    x: Annotated[list[Any], operator.add]
    left: RemainingSteps
    last: IsLastStep


def _managed(checkpointer: Any) -> Any:
    async def counts(state: Steps, config: RunnableConfig) -> Steps:
        effect("counts")
        return {"x": [(state["left"], state["last"], config["recursion_limit"])]}

    def goes_on(state: Steps) -> str:
        return END if state["left"] <= 2 else "counts"

    return (
        StateGraph(Steps)
        .add_node("counts", counts)
        .add_edge(START, "counts")
        .add_conditional_edges("counts", goes_on, ["counts", END])
        .compile(checkpointer=checkpointer)
    )


@scenario(_managed)
async def remaining_steps(s: Stage) -> None:
    await s.invoke({"x": ["in"]}, {**s.config(), "recursion_limit": 5})
    await s.invoke({"x": ["again"]}, {**s.config(), "recursion_limit": 3})


def _endless(checkpointer: Any) -> Any:
    return (
        StateGraph(State)
        .add_node("turns", says("turns"))
        .add_edge(START, "turns")
        .add_edge("turns", "turns")
        .compile(checkpointer=checkpointer)
    )


@scenario(_endless)
async def recursion_limit_reached(s: Stage) -> None:
    limited = {**s.config(), "recursion_limit": 3}
    await s.stream({"x": ["in"]}, limited, stream_mode="updates")
    await s.state()
    await s.invoke(None, limited)
    await s.invoke({"x": ["again"]}, limited)


def _sync_endless(checkpointer: Any) -> Any:
    def turns(state: State) -> State:
        effect("turns")
        return {"x": [len(state["x"])]}

    builder = StateGraph(State).add_node("turns", turns).add_edge(START, "turns")
    return builder.add_edge("turns", "turns").compile(checkpointer=checkpointer)


@scenario(_sync_endless)
def recursion_limit_from_sync_code(s: SyncStage) -> None:
    s.invoke({"x": ["in"]}, {**s.config(), "recursion_limit": 2})
    s.state()


def _drained(checkpointer: Any) -> Any:
    async def drains(state: State, runtime: Runtime) -> State:
        assert runtime.control is not None
        runtime.control.request_drain("enough")
        return {"x": ["drains"]}

    return _around(drains, checkpointer)


@scenario(_drained)
async def node_requests_a_drain(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.state()
    await s.invoke(None)


def _durable(checkpointer: Any) -> Any:
    async def asks(state: State) -> State:
        effect("asks")
        return {"x": [interrupt("q")]}

    inner = _around(asks, None)
    return _around(inner, checkpointer)


@scenario(_durable, placeable=False)
async def every_durability(s: Stage) -> None:
    for durability in "sync", "async", "exit":
        config = s.config(durability)
        await s.stream({"x": ["in"]}, config, stream_mode="checkpoints", durability=durability)
        await s.state(config)
        await s.invoke(Command(resume="a"), config, durability=durability)
        await s.invoke({"x": ["again"]}, config, durability=durability)


@scenario(_exhausted, placeable=False)
async def failure_with_durability_exit(s: Stage) -> None:
    await s.invoke({"x": ["in"]}, durability="exit")
    await s.state()
    await s.invoke(None, durability="exit")
    await s.invoke({"x": ["again"]}, durability="exit")
