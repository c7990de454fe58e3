"""Deploys: new graph code and new workers while threads are paused or under way."""

from __future__ import annotations

import asyncio
import operator
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import WorkerDeploymentConfig

from langgraph_temporal_exec import ImpossibleResumeError, TemporalSaver
from tests.support.graphs import State, config, parallel
from tests.support.warm import WARM


def _node(name: str, *, asks: bool = False) -> Any:
    async def node(state: Any) -> Any:
        return {"x": [f"{name}: {interrupt(name)}" if asks else name]}

    return node


def _line(*nodes: str, schema: Any = State) -> Any:
    """Nodes one after another; those that end in a question mark ask."""
    builder = StateGraph(schema)
    before = START
    for node in nodes:
        name = node.rstrip("?")
        builder.add_node(name, _node(name, asks=node != name))
        builder.add_edge(before, name)
        before = name
    return builder.compile(name="deployed")


@asynccontextmanager
async def _deployed(
    client: Client, task_queue: str, graph: Any, mode: str, **options: Any
) -> AsyncIterator[Any]:
    """The graph as its own worker serves it, for calls in that process or elsewhere."""
    host = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with host.worker(graph, **options), asyncio.timeout(60):
        if mode == "embedded":
            yield graph.with_config(checkpointer=host)
            return
        caller = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
        try:
            yield graph.with_config(checkpointer=caller)
        finally:
            caller.close()


def _sending(target: str) -> Any:
    async def fan(state: State) -> State:
        return {"x": ["fan"]}

    builder = StateGraph(State).add_node("fan", fan).add_node(target, _node(target, asks=True))
    builder.add_edge(START, "fan")
    builder.add_conditional_edges("fan", lambda _: [Send(target, {"x": []})], [target])
    return builder.compile(name="deployed")


def _joining(target: str) -> Any:
    builder = StateGraph(State).add_node("a", _node("a")).add_node("b", _node("b"))
    builder.add_node(target, _node(target, asks=True))
    builder.add_edge(START, "a").add_edge(START, "b").add_edge(["a", "b"], target)
    return builder.compile(name="deployed")


def _nested(target: str) -> Any:
    inner = _line(f"{target}?")
    builder = StateGraph(State).add_node("inner", inner).add_edge(START, "inner")
    return builder.compile(name="deployed")


def _straight(target: str) -> Any:
    return _line("before", f"{target}?", "after")


SHAPES: list[Callable[[str], Any]] = [_straight, _sending, _joining, _nested]


@pytest.mark.parametrize("mode", ["embedded", "remote"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_renamed_where_paused(
    client: Client, task_queue: str, mode: str, shape: Callable[[str], Any]
) -> None:
    async with _deployed(client, task_queue, shape("ask"), mode) as old:
        await old.ainvoke({"x": []}, config("t"))
    async with _deployed(client, task_queue, shape("question"), mode) as new:
        for again in (Command(resume="yes"), None):
            with pytest.raises(ImpossibleResumeError, match="paused in 'ask'"):
                await new.ainvoke(again, config("t"))
    async with _deployed(client, task_queue, shape("ask"), mode) as old:
        result = await old.ainvoke(Command(resume="yes"), config("t"))
        assert "ask: yes" in result["x"]


def _delegating(*agents: str, parallel: bool = False) -> Any:
    """A node that calls the agent of the state's choice, if there is one of that name."""

    async def work(state: State) -> State:
        return {"x": ["worked"]}

    def agent(name: str) -> Any:
        builder = StateGraph(State).add_node("work", work).add_node("ask", _node(name, asks=True))
        return builder.add_edge(START, "work").add_edge("work", "ask").compile()

    known = {name: agent(name) for name in agents}

    async def delegate(state: State) -> State:
        if "clerk" not in known:
            return {"x": ["there is no clerk"]}
        result = await known["clerk"].ainvoke({"x": []})
        return {"x": [result["x"][-1]]}

    builder = StateGraph(State).add_node("delegate", delegate).add_edge(START, "delegate")
    if parallel:
        builder.add_node("beside", _node("beside", asks=True)).add_edge(START, "beside")
    return builder.compile(name="deployed")


@pytest.mark.parametrize("mode", ["embedded", "remote"])
async def test_called_graph_is_gone(client: Client, task_queue: str, mode: str) -> None:
    """A node that finishes without the graph in which it waited has lost the answer."""
    async with _deployed(client, task_queue, _delegating("clerk"), mode) as old:
        await old.ainvoke({"x": []}, config("t"))
    async with _deployed(client, task_queue, _delegating("teller"), mode) as new:
        for again in (Command(resume="no"), None):
            with pytest.raises(ImpossibleResumeError, match="'delegate' had called"):
                await new.ainvoke(again, config("t"))
        info = await new.checkpointer.aget_thread("t")
        assert info.status == "interrupted"
        state = await new.aget_state(config("t"))
        assert state.next == ("delegate",)
        assert [(t.error, [i.value for i in t.interrupts]) for t in state.tasks] == [
            (None, ["clerk"])
        ]
    async with _deployed(client, task_queue, _delegating("clerk"), mode) as old:
        # The refused answer does not come back by itself.
        result = await old.ainvoke(None, config("t"))
        assert [i.value for i in result["__interrupt__"]] == ["clerk"]
        result = await old.ainvoke(Command(resume="yes"), config("t"))
        assert result["x"] == ["clerk: yes"]


async def test_called_graph_is_gone_beside_another_question(
    client: Client, task_queue: str
) -> None:
    async with _deployed(client, task_queue, _delegating("clerk", parallel=True), "remote") as old:
        asked = await old.ainvoke({"x": []}, config("t"))
        ids = {i.value: i.id for i in asked["__interrupt__"]}
    async with _deployed(client, task_queue, _delegating(parallel=True), "remote") as new:
        result = await new.ainvoke(Command(resume={ids["beside"]: "yes"}), config("t"))
        assert [i.value for i in result["__interrupt__"]] == ["clerk"]
        with pytest.raises(ImpossibleResumeError):
            await new.ainvoke(Command(resume={ids["clerk"]: "no"}), config("t"))
    async with _deployed(client, task_queue, _delegating("clerk", parallel=True), "remote") as old:
        result = await old.ainvoke(Command(resume={ids["clerk"]: "ok"}), config("t"))
        assert sorted(result["x"]) == ["beside: yes", "clerk: ok"]


async def test_langgraph_in_memory_loses_the_answer_to_a_called_graph() -> None:
    memory = InMemorySaver()
    old = _delegating("clerk").copy({"checkpointer": memory})
    await old.ainvoke({"x": []}, config("t"))
    new = _delegating().copy({"checkpointer": memory})
    assert await new.ainvoke(Command(resume="no"), config("t")) == {"x": ["there is no clerk"]}


@pytest.mark.parametrize("mode", ["embedded", "remote"])
@pytest.mark.parametrize("after", ["editor", None])
async def test_sub_agent_of_a_deep_agent_is_gone(
    client: Client,
    task_queue: str,
    mode: str,
    after: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deepagents = pytest.importorskip("deepagents")
    tools = pytest.importorskip("langchain_core.tools")
    from tests.parity.scenarios.fakes import Scripted  # needs LangChain

    # Where the scripted model counts its calls.
    monkeypatch.setenv("PARITY_LEDGER", str(tmp_path))

    def publish(topic: str) -> str:
        """Publishes."""
        return f"published {topic}"

    def agent(*names: str) -> Any:
        delegates = [("task", {"description": "publish rain", "subagent_type": "writer"})]
        scripts = {
            "go": [delegates, "all done"],
            "publish": [[("publish", {"topic": "rain"})], "published"],
        }
        model = Scripted(scripts=scripts)
        tool = tools.StructuredTool.from_function(publish)
        return deepagents.create_deep_agent(
            model=model,
            name="deployed",
            subagents=[
                {
                    "name": name,
                    "description": "Writes.",
                    "system_prompt": "Write.",
                    "model": model,
                    "tools": [tool],
                    "interrupt_on": {"publish": True},
                }
                for name in names
            ],
        )

    approved: Command[Any] = Command(resume={"decisions": [{"type": "approve"}]})
    async with _deployed(client, task_queue, agent("writer"), mode) as old:
        asked = await old.ainvoke({"messages": [("human", "go")]}, config("t"))
        assert len(asked["__interrupt__"]) == 1
    async with _deployed(client, task_queue, agent(*([after] if after else [])), mode) as new:
        for again in (approved, None):
            with pytest.raises(ImpossibleResumeError, match="sub-agent that was renamed"):
                await new.ainvoke(again, config("t"))
        assert (await new.checkpointer.aget_thread("t")).status == "interrupted"
    async with _deployed(client, task_queue, agent("writer"), mode) as old:
        result = await old.ainvoke(approved, config("t"))
        assert "__interrupt__" not in result
        assert [m.text for m in result["messages"]][-2:] == ["published", "all done"]


async def test_still_interrupted_after_an_impossible_resume(
    client: Client, task_queue: str
) -> None:
    async with _deployed(client, task_queue, _straight("ask"), "embedded") as old:
        await old.ainvoke({"x": []}, config("t"))
    async with _deployed(client, task_queue, _straight("question"), "embedded") as new:
        saver = new.checkpointer
        run = await saver.aresume("t", "yes")
        with pytest.raises(ImpossibleResumeError):
            await run.aresult()
        info = await saver.aget_thread("t")
        assert info.status == "interrupted"
    async with _deployed(client, task_queue, _straight("ask"), "embedded") as old:
        result = await (await old.checkpointer.aresume("t", "yes")).aresult()
        assert result["x"] == ["before", "ask: yes", "after"]


async def test_langgraph_in_memory_loses_the_answer() -> None:
    """What the error is there for."""
    memory = InMemorySaver()
    await _straight("ask").copy({"checkpointer": memory}).ainvoke({"x": []}, config("t"))
    new = _straight("question").copy({"checkpointer": memory})
    assert await new.ainvoke(Command(resume="yes"), config("t")) == {"x": ["before"]}


async def test_the_way_out_of_an_impossible_resume(client: Client, task_queue: str) -> None:
    async with _deployed(client, task_queue, _straight("ask"), "remote") as old:
        for thread in ("goto", "edited", "anew"):
            await old.ainvoke({"x": []}, config(thread))
    async with _deployed(client, task_queue, _straight("question"), "remote") as new:
        result = await new.ainvoke(Command(goto="question"), config("goto"))
        assert [i.value for i in result["__interrupt__"]] == ["question"]
        # LangGraph still counts the old question as pending, so the answer names its own.
        answer = {result["__interrupt__"][0].id: "yes"}
        result = await new.ainvoke(Command(resume=answer), config("goto"))
        assert result["x"] == ["before", "question: yes", "after"]
        await new.aupdate_state(config("edited"), {"x": ["by hand"]}, as_node="question")
        result = await new.ainvoke(None, config("edited"))
        assert result["x"] == ["before", "by hand", "after"]
        result = await new.ainvoke({"x": ["new"]}, config("anew"))
        assert [i.value for i in result["__interrupt__"]] == ["question"]
        result = await new.ainvoke(Command(resume="yes"), config("anew"))
        assert result["x"] == ["before", "new", "before", "question: yes", "after"]


class Wider(TypedDict, total=False):
    x: Annotated[list[Any], operator.add]
    more: Annotated[list[Any], operator.add]


def _newest_first(left: list[Any], right: list[Any]) -> list[Any]:
    return right + left


class Reversed(TypedDict):
    x: Annotated[list[Any], _newest_first]


SAFE = {
    "same": (_line("a", "ask?", "b"), ["a", "ask: yes", "b"]),
    "node added after": (_line("a", "ask?", "new", "b"), ["a", "ask: yes", "new", "b"]),
    "node added before": (_line("new", "a", "ask?", "b"), ["a", "ask: yes", "b"]),
    "node removed before": (_line("ask?", "b"), ["a", "ask: yes", "b"]),
    "node removed after": (_line("a", "ask?"), ["a", "ask: yes"]),
    "node renamed elsewhere": (_line("z", "ask?", "c"), ["a", "ask: yes", "c"]),
    "channel added": (_line("a", "ask?", "b", schema=Wider), ["a", "ask: yes", "b"]),
    "reducer changed": (_line("a", "ask?", "b", schema=Reversed), ["b", "ask: yes", "a"]),
}


@pytest.mark.parametrize("mode", ["embedded", "remote"])
@pytest.mark.parametrize("change", SAFE)
async def test_safe_changes(client: Client, task_queue: str, mode: str, change: str) -> None:
    graph, expected = SAFE[change]
    async with _deployed(client, task_queue, _line("a", "ask?", "b"), mode) as old:
        await old.ainvoke({"x": []}, config("t"))
    async with _deployed(client, task_queue, graph, mode) as new:
        assert (await new.ainvoke(Command(resume="yes"), config("t")))["x"] == expected


async def test_channel_removed(client: Client, task_queue: str) -> None:
    old_graph = _line("a", "ask?", schema=Wider)
    async with _deployed(client, task_queue, old_graph, "remote") as old:
        await old.ainvoke({"x": [], "more": ["kept"]}, config("t"))
    async with _deployed(client, task_queue, _line("a", "ask?"), "remote") as new:
        result = await new.ainvoke(Command(resume="yes"), config("t"))
        assert result == {"x": ["a", "ask: yes"]}


async def test_interrupts_in_another_order(client: Client, task_queue: str) -> None:
    """Answers belong to interrupts by their order in the node, not by their question."""

    def asking(first: str, second: str) -> Any:
        async def node(state: State) -> State:
            return {"x": [f"{first}={interrupt(first)}", f"{second}={interrupt(second)}"]}

        builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
        return builder.compile(name="deployed")

    async with _deployed(client, task_queue, asking("name", "age"), "remote") as old:
        await old.ainvoke({"x": []}, config("t"))
        await old.ainvoke(Command(resume="Ada"), config("t"))
    async with _deployed(client, task_queue, asking("age", "name"), "remote") as new:
        result = await new.ainvoke(Command(resume=36), config("t"))
        assert result["x"] == ["age=Ada", "name=36"]


# -- Worker Deployment Versioning -------------------------------------------------------------


def _version(
    name: str, build: str, behavior: VersioningBehavior = VersioningBehavior.UNSPECIFIED
) -> WorkerDeploymentConfig:
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=name, build_id=build),
        use_worker_versioning=True,
        default_versioning_behavior=behavior,
    )


async def _set_current(client: Client, name: str, build: str) -> None:
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace, deployment_name=name, build_id=build
    )
    async with asyncio.timeout(60):
        while True:
            # The server learns of a version from the first poll of a worker.
            try:
                await client.workflow_service.set_worker_deployment_current_version(request)
            except RPCError:
                await asyncio.sleep(0.2)
            else:
                return


async def _build_of(client: Client, workflow_id: str) -> str:
    described = await client.get_workflow_handle(workflow_id).describe()
    info = described.raw_description.workflow_execution_info.versioning_info
    return info.deployment_version.build_id


async def test_versioned_worker_from_the_shell(
    client: Client, temporal_server: Any, task_queue: str
) -> None:
    command = [WARM, "-m", "langgraph_temporal_exec.cli.main", "worker"]
    command += ["served=tests.support.served:graph", "--address", temporal_server.address]
    command += ["--task-queue", task_queue, "--deployment-name", task_queue]
    half = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    _, stderr = await half.communicate()
    assert (half.returncode, b"go together" in stderr) == (1, True)
    process = await asyncio.create_subprocess_exec(*command, "--build-id", "7")
    # The worker is still being started.
    wait = timedelta(seconds=90)
    saver = TemporalSaver(client, task_queue=task_queue, graph="served", no_worker_timeout=wait)
    try:
        await _set_current(client, task_queue, "7")
        async with asyncio.timeout(100):
            graph = parallel().with_config(checkpointer=saver)
            assert (await graph.ainvoke({"x": ["in"]}, config(task_queue)))["x"][0] == "in"
        assert await _build_of(client, f"langgraph/thread/{task_queue}") == "7"
    finally:
        saver.close()
        process.send_signal(signal.SIGTERM)
        await process.wait()


@pytest.mark.parametrize("behavior", [VersioningBehavior.UNSPECIFIED, VersioningBehavior.PINNED])
async def test_worker_deployment_versions(
    temporal_server: Any, task_queue: str, behavior: VersioningBehavior
) -> None:
    """A paused thread, a new version beside the old one, then the old one gone."""
    # One client serves a task queue once.
    one, two = [await Client.connect(temporal_server.address) for _ in range(2)]
    old = TemporalSaver(one, task_queue=task_queue, id_prefix=task_queue)
    new = TemporalSaver(two, task_queue=task_queue, id_prefix=task_queue)
    caller = TemporalSaver(one, task_queue=task_queue, id_prefix=task_queue)
    graph = _line("a", "ask?", "b")
    served = graph.with_config(checkpointer=caller)
    try:
        async with (
            asyncio.timeout(100),
            new.worker(_line("a", "ask?", "new"), deployment=_version(task_queue, "2", behavior)),
        ):
            async with old.worker(graph, deployment=_version(task_queue, "1", behavior)):
                await _set_current(one, task_queue, "1")
                await served.ainvoke({"x": []}, config("t"))
                thread = f"{task_queue}/thread/t"
                assert await _build_of(one, thread) == "1"
                await _set_current(one, task_queue, "2")
                # The state can be read at any time.
                assert (await served.aget_state(config("t"))).next == ("ask",)
                if behavior is VersioningBehavior.PINNED:
                    assert await _build_of(one, thread) == "1"
                # A run started now is one of the current version, whatever its thread is.
                result = await served.ainvoke(Command(resume="yes"), config("t"))
                assert result["x"] == ["a", "ask: yes", "new"]
                await served.ainvoke({"x": []}, config("u"))
                assert await _build_of(one, f"{task_queue}/thread/u") == "2"
                while await _build_of(one, thread) != "2":  # noqa: ASYNC110 # it continues as new
                    await asyncio.sleep(0.1)
            result = await served.ainvoke(Command(resume="ok"), config("u"))
            assert result["x"] == ["a", "ask: ok", "new"]
            result = await served.ainvoke({"x": ["again"]}, config("t"))
            assert result["x"][-2:] == ["again", "a"]
    finally:
        caller.close()


async def test_a_thread_that_is_parked_moves_to_the_current_version(
    temporal_server: Any, task_queue: str
) -> None:
    """One that is pinned, and that nobody uses."""
    one, two = [await Client.connect(temporal_server.address) for _ in range(2)]
    options: Any = {"task_queue": task_queue, "id_prefix": task_queue}
    old = TemporalSaver(one, park_after=timedelta(seconds=2), **options)
    new = TemporalSaver(two, **options)
    graph = _line("a", "ask?", "b")
    pinned = VersioningBehavior.PINNED
    async with (
        asyncio.timeout(100),
        new.worker(graph, deployment=_version(task_queue, "2", pinned)),
        old.worker(graph, deployment=_version(task_queue, "1", pinned)),
    ):
        await _set_current(one, task_queue, "1")
        await graph.with_config(checkpointer=old).ainvoke({"x": []}, config("t"))
        thread = f"{task_queue}/thread/t"
        assert await _build_of(one, thread) == "1"
        await _set_current(one, task_queue, "2")
        while await _build_of(one, thread) != "2":  # noqa: ASYNC110 # it continues as new
            await asyncio.sleep(0.1)
        events = (await one.get_workflow_handle(thread).fetch_history()).events
        updates = [e.workflow_execution_update_accepted_event_attributes for e in events]
        assert not any(u.protocol_instance_id for u in updates)
