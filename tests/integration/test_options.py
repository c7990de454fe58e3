"""Options of nodes by their names, and for how long a run is driven again."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from langgraph.errors import NodeTimeoutError
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy
from temporalio import activity
from temporalio.client import Client
from temporalio.common import RetryPolicy as TemporalRetryPolicy
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from langgraph_temporal_exec import (
    NodeOptions,
    RunFailedError,
    SubagentOptions,
    TemporalSaver,
    UsageError,
)
from langgraph_temporal_exec.options import Options
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.worker.hosting import WorkerOptions
from langgraph_temporal_exec.workflow.run import RunWorkflow
from tests.support.graphs import State, config

pytestmark = pytest.mark.compat


def _graph(*, sync: bool = False) -> Any:
    async def slow(state: State) -> State:
        await asyncio.sleep(60)
        return {}

    def slow_sync(state: State) -> State:
        return {}

    async def quick(state: State) -> State:
        return {"x": ["quick"]}

    async def small(state: State) -> State:
        return {"x": ["small"]}

    builder = StateGraph(State).add_node("slow", slow_sync if sync else slow)
    builder.add_node("quick", quick).add_node("small", small)
    builder.add_edge(START, "quick").add_edge("quick", "small").add_edge("small", "slow")
    return builder.compile(name="slow")


NODES = {
    "slow": NodeOptions(timeout=timedelta(seconds=0.5)),
    "quick": NodeOptions(summary="the quick one", timeout=timedelta(seconds=60)),
    "small": NodeOptions(inline=True),
}


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_options_by_name(client: Client, task_queue: str, mode: str) -> None:
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue, nodes=NODES)
    caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    graph = _graph().with_config(checkpointer=host if mode == "embedded" else caller)
    async with host.worker(_graph()), asyncio.timeout(30):
        with pytest.raises(NodeTimeoutError, match="slow"):
            await graph.ainvoke({"x": []}, config("t"))
        assert (await graph.aget_state(config("t"))).values == {"x": ["quick", "small"]}
    summaries = {}
    thread = client.get_workflow_handle(f"{task_queue}/thread/t")
    async for event in thread.fetch_history_events():
        if event.HasField("activity_task_scheduled_event_attributes"):
            name = event.activity_task_scheduled_event_attributes.activity_type.name
            summaries[name] = json.loads(event.user_metadata.summary.data)
    assert summaries == {"quick": "the quick one · step 1", "slow": "step 3"}
    caller.close()


async def test_a_sync_node_has_no_timeout(client: Client, task_queue: str) -> None:
    """LangGraph refuses it where the node is added; the name is only known when it runs."""
    nodes = {"slow": NODES["slow"]}
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue, nodes=nodes)
    graph = _graph(sync=True).with_config(checkpointer=saver)
    async with saver.worker(_graph(sync=True)):
        with pytest.raises(ValueError, match=r"only supported for async nodes.*slow"):
            await graph.ainvoke({"x": []}, config("t"))


class Flaky(Exception):
    """Passes when it is tried again."""


class Fatal(Flaky):
    """Does not."""


POLICIES = {
    "langgraph": RetryPolicy(initial_interval=0.01, max_attempts=3, jitter=False, retry_on=Flaky),
    "several": (
        RetryPolicy(max_attempts=1, retry_on=Fatal),
        RetryPolicy(initial_interval=0.01, max_attempts=3, jitter=False),
    ),
    "temporal": TemporalRetryPolicy(
        initial_interval=timedelta(milliseconds=10),
        maximum_attempts=3,
        non_retryable_error_types=["Fatal"],
    ),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kind", ["async", "sync", "inline"])
async def test_a_node_is_tried_again_by_name(
    client: Client, task_queue: str, policy: str, kind: str
) -> None:
    tries: list[str] = []

    def attempt(state: State) -> State:
        tries.append("try")
        if state["x"] == ["fatal"] and policy != "langgraph":
            raise Fatal
        if len(tries) < 3 or state["x"] == ["hopeless"]:
            raise Flaky
        return {"x": ["passed"]}

    async def aattempt(state: State) -> State:
        return attempt(state)

    builder = StateGraph(State).add_node("flaky", attempt if kind == "sync" else aattempt)
    graph = builder.add_edge(START, "flaky").compile(name="flaky")
    nodes = {"flaky": NodeOptions(retry=POLICIES[policy], inline=kind == "inline")}
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue, nodes=nodes)
    async with saver.worker(), asyncio.timeout(60):
        durable = graph.with_config(checkpointer=saver)
        assert await durable.ainvoke({"x": []}, config("t")) == {"x": ["passed"]}
        assert len(tries) == 3
        tries.clear()
        with pytest.raises(Flaky):
            await durable.ainvoke({"x": ["hopeless"]}, config("hopeless"))
        assert len(tries) == 3
        if policy != "langgraph":
            tries.clear()
            with pytest.raises(Fatal):
                await durable.ainvoke({"x": ["fatal"]}, config("fatal"))
            assert len(tries) == 1


@activity.defn(name=names.DRIVE_ACTIVITY)
async def breaks(request: bytes) -> bytes:
    """What a process does that dies whenever it gets the run."""
    raise ApplicationError("broken")


@pytest.mark.parametrize("by", ["saver", "call"])
async def test_given_up_after_a_time(client: Client, task_queue: str, by: str) -> None:
    after = timedelta(seconds=0.5)
    given = {"saver": {"give_up_after": after}, "call": {}}[by]
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue, **given)
    graph = _graph().with_config(checkpointer=saver)
    per_call = {"give_up_after": after} if by == "call" else {}
    call = {"configurable": {**config("t")["configurable"], **per_call}}
    async with (
        Worker(client, task_queue=task_queue, workflows=[RunWorkflow], activities=[breaks]),
        asyncio.timeout(60),
    ):
        with pytest.raises(
            RunFailedError, match=r"lost by its worker for more than 0\.5 s"
        ) as told:
            await graph.ainvoke({"x": []}, call)
    # Types are for programs.
    assert "langgraph." not in str(told.value)
    saver.close()


@pytest.mark.parametrize("name", ["heartbeat_timeout", "no_worker_timeout"])
def test_seconds_are_no_timedelta(client: Client, name: str) -> None:
    given: Any = {name: 10}
    with pytest.raises(UsageError, match=f"{name} is 10; pass a timedelta"):
        TemporalSaver(client, **given)


async def test_a_status_that_does_not_exist(client: Client) -> None:
    status: Any = "intrupted"
    with pytest.raises(UsageError, match="'intrupted' of a thread; it is one of 'idle'"):
        _ = [t async for t in TemporalSaver(client).alist_threads(status=status)]


def test_bad_options(client: Client) -> None:
    with pytest.raises(UsageError, match="must be positive"):
        NodeOptions(timeout=timedelta(0))
    for retry in (3, "often", (), (3,)):
        with pytest.raises(UsageError, match=r"must be a langgraph\.types\.RetryPolicy"):
            NodeOptions(retry=retry)  # type: ignore[arg-type] # on purpose
    for wrong in (timedelta(0), 5):
        with pytest.raises(UsageError, match="positive timedelta"):
            TemporalSaver(client, give_up_after=wrong)  # type: ignore[arg-type] # on purpose


GPU = NodeOptions(task_queue="gpu")
SLOW = NodeOptions(summary="slow")
SUB = SubagentOptions()


@pytest.mark.parametrize(
    "given",
    [
        {"nodes": [1]},
        {"nodes": "x"},
        {"nodes": {"work": "gpu"}},
        {"nodes": {"work": None}},
        {"nodes": {"work": SUB}},
        {"nodes": {3: GPU}},
        {"tools": "x"},
        {"tools": {"a": "gpu"}},
        {"subagents": "x"},
        {"subagents": {"a": GPU}},
        {"subagents": {"a": None}},
        {"task_queue": 5},
        {"task_queue": ""},
        {"task_queue": "x" * 2_000},
        {"task_queue": "/_sys/x"},
        {"task_queue": "a\udc80"},
        {"task_queue": " a"},
        {"id_prefix": 5},
        {"id_prefix": "x" * 1_200},
        {"id_prefix": "a/b"},
        {"id_prefix": "a\nb"},
        {"graph": 5},
        {"max_lost_attempts": True},
        {"home_timeout": timedelta.max},
        {"heartbeat_timeout": timedelta.max},
        {"run_timeout": timedelta.max},
        {"give_up_after": timedelta.max},
        {"spread": "yes"},
    ],
    ids=repr,
)
def test_what_a_saver_cannot_be_given(client: Client, given: dict[str, Any]) -> None:
    """Before anything runs: some of it would fail workflow tasks, over and over."""
    (name,) = given
    with pytest.raises(UsageError, match=name):
        TemporalSaver(client, **given)


NOT_OF_TASKS: list[dict[str, Any]] = [
    {"task_queue": 5},
    {"task_queue": None},
    {"task_queue": "x" * 2_000},
    {"task_queue": "/_sys/x"},
    {"task_queue": "\udc80"},
    {"timeout": 5},
    {"timeout": timedelta.max},
]
NOT_OF_NODES: list[dict[str, Any]] = [{"inline": "yes"}, {"summary": 5}, {"summary": "\udc80"}]
NOT_OF_WORKERS: list[dict[str, Any]] = [
    {"max_concurrent_runs": True},
    {"max_concurrent_tasks": True},
    {"health_port": True},
    {"max_cached_workflows": -1},
    {"max_cached_workflows": "x"},
    {"workflow_cache_bytes": -1},
    {"tuner": 5},
    {"pollers": 5},
    {"deployment": 5},
    {"worker_queue_file": 5},
    {"worker_queue_file": ""},
]


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        *((NodeOptions, given) for given in [*NOT_OF_TASKS, *NOT_OF_NODES]),
        *((SubagentOptions, given) for given in NOT_OF_TASKS),
        *((WorkerOptions, given) for given in NOT_OF_WORKERS),
    ],
    ids=repr,
)
def test_what_options_cannot_be_given(kind: Any, given: dict[str, Any]) -> None:
    (name,) = given
    with pytest.raises(UsageError, match=name):
        kind(**given)


def test_a_cache_of_workflows_is_bounded_once() -> None:
    assert WorkerOptions().cached_workflows == 1_000
    assert WorkerOptions(max_cached_workflows=0).cached_workflows == 0
    assert WorkerOptions(workflow_cache_bytes=250_000_000).cached_workflows == 500
    assert WorkerOptions(workflow_cache_bytes=1).cached_workflows == 1
    with pytest.raises(UsageError, match="give one of them"):
        WorkerOptions(workflow_cache_bytes=1, max_cached_workflows=1)


@pytest.mark.parametrize(
    "given",
    [
        {"spread": "yes"},
        {"home_timeout": timedelta.max},
        {"fairness_key": "\udc80"},
        {"thread_id": "\udc80"},
    ],
    ids=repr,
)
async def test_what_a_call_cannot_be_given(
    client: Client, task_queue: str, given: dict[str, Any]
) -> None:
    """Refused where it is called, though no worker is there."""
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    (name,) = given
    with pytest.raises(UsageError, match=name):
        await (
            _graph()
            .with_config(checkpointer=saver)
            .ainvoke({"x": []}, {"configurable": {"thread_id": "t", **given}})
        )
    saver.close()


def test_options_of_all_other_nodes() -> None:
    options = Options(
        nodes={"*": GPU, "own": NodeOptions(), "graph:one": SLOW, "one": NodeOptions()}
    )
    assert options.node("any") is GPU
    assert options.node("own") == NodeOptions()
    assert (options.node("one", "graph"), options.node("one")) == (SLOW, NodeOptions())
    # What LangGraph adds runs where it must.
    assert options.node("__error_handler__any") == NodeOptions()
