"""What Temporal's UI calls things: tool tasks by their tools, sub-agents by their names."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, create_react_agent, tools_condition
from langgraph.types import Send
from pydantic import BaseModel
from temporalio.client import Client
from typing_extensions import TypedDict

from langgraph_temporal_exec import NodeOptions, TemporalSaver
from langgraph_temporal_exec.protocol import names
from langgraph_temporal_exec.protocol.messages import ReadRequest
from tests.support.graphs import config

pytestmark = pytest.mark.compat


@tool
def price(item: str) -> str:
    """Price of something."""
    return "3"


@tool
def stock(item: str) -> str:
    """How much there is of something."""
    return "7"


def call(name: str, number: int = 1, **args: Any) -> dict[str, Any]:
    return {"name": name, "args": args or {"item": "tea"}, "id": str(number), "type": "tool_call"}


BOTH = [call("price", 1), call("stock", 2), call("price", 3)]
ASKED = {"messages": [("human", "go on")]}


class Model(BaseChatModel):
    """Asks for its calls first, then is done."""

    calls: list[dict[str, Any]]

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        done = messages[-1].type == "tool"
        message = AIMessage("done") if done else AIMessage("", tool_calls=self.calls)
        return ChatResult(generations=[ChatGeneration(message=message)])


def _agent() -> Any:
    agents = pytest.importorskip("langchain.agents")
    return agents.create_agent(Model(calls=BOTH), [price, stock], name="shop")


def _react(version: Any) -> Any:
    return create_react_agent(Model(calls=BOTH), [price, stock], version=version, name="shop")


class Conversation(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages]


class Talk(TypedDict):
    talk: Annotated[list[AnyMessage], add_messages]


def _by_edge(schema: Any, key: str, tools: Any) -> Any:
    def model(state: Any) -> dict[str, Any]:
        return {key: [AIMessage("", tool_calls=BOTH)]}

    builder = StateGraph(schema).add_node("model", model).add_node("tools", tools)
    return builder.add_edge(START, "model").add_edge("model", "tools").compile()


def _messages() -> Any:
    """The whole state is the list of messages."""

    def model(state: Any) -> Any:
        return [AIMessage("", tool_calls=BOTH)]

    builder = StateGraph(Annotated[list[AnyMessage], add_messages])
    builder.add_node("model", model).add_node("tools", ToolNode([price, stock]))
    builder.add_edge(START, "model").add_conditional_edges("model", tools_condition)
    return builder.compile()


def _sent(*values: Any) -> Any:
    def start(state: MessagesState) -> list[Send]:
        return [Send("tools", value) for value in values]

    def tools(value: Any) -> None: ...

    builder = StateGraph(MessagesState).add_node("tools", tools)
    return builder.add_conditional_edges(START, start, ["tools"]).compile()


def _functional() -> Any:
    @task
    def tools(user: int, *, tool_call: dict[str, Any]) -> str:
        return tool_call["name"]

    @task
    def model(user: int) -> str:
        return "done"

    @entrypoint()
    async def flow(value: Any) -> Any:
        done = [await tools(1, tool_call=c) for c in BOTH]
        return [*done, await model(1)]

    return flow


ONE_BY_ONE = ["price", "stock", "price"]
TOGETHER = ["price (x2), stock"]
MANY = [call(f"tool_{i:02}_{'x' * 40}", i) for i in range(30)]

SHAPES: dict[str, tuple[Callable[[], Any], Any, Sequence[str]]] = {
    "create_agent": (_agent, ASKED, ONE_BY_ONE),
    "react_v1": (lambda: _react("v1"), ASKED, TOGETHER),
    "react_v2": (lambda: _react("v2"), ASKED, ONE_BY_ONE),
    "state": (
        lambda: _by_edge(MessagesState, "messages", ToolNode([price, stock])),
        ASKED,
        TOGETHER,
    ),
    "pydantic": (
        lambda: _by_edge(Conversation, "messages", ToolNode([price, stock])),
        ASKED,
        TOGETHER,
    ),
    "key": (
        lambda: _by_edge(Talk, "talk", ToolNode([price, stock], messages_key="talk")),
        {"talk": [("human", "go on")]},
        TOGETHER,
    ),
    "bound": (
        lambda: _by_edge(
            MessagesState, "messages", ToolNode([price, stock]).with_config(tags=["x"])
        ),
        ASKED,
        TOGETHER,
    ),
    "messages": (_messages, ASKED["messages"], TOGETHER),
    "bare": (lambda: _sent(*BOTH), ASKED, ONE_BY_ONE),
    "list": (lambda: _sent(BOTH), ASKED, TOGETHER),
    "context": (
        lambda: _sent(
            *({"__type": "tool_call_with_context", "tool_call": c, "state": {}} for c in BOTH)
        ),
        ASKED,
        ONE_BY_ONE,
    ),
    "users": (lambda: _sent({"tool_call": BOTH[0], "user": "1"}), ASKED, ["price"]),
    "functional": (_functional, 1, ONE_BY_ONE),
    "many": (
        lambda: _sent(MANY),
        ASKED,
        [", ".join([*(c["name"] for c in MANY[:8]), "22 more"])[:140]],
    ),
    "none": (lambda: _sent({"messages": []}, [], [1, None], {"tool_call": 1}), ASKED, [""] * 4),
}


async def summaries(client: Client, workflow_id: str) -> list[tuple[str, str]]:
    """Activity type and summary of each task of a thread or namespace, in order."""
    found = []
    async for event in client.get_workflow_handle(workflow_id).fetch_history_events():
        if event.HasField("activity_task_scheduled_event_attributes"):
            name = event.activity_task_scheduled_event_attributes.activity_type.name
            found.append((name, json.loads(event.user_metadata.summary.data)))
    return found


@pytest.mark.parametrize("shape", SHAPES)
async def test_tool_tasks(client: Client, task_queue: str, shape: str) -> None:
    make, given, tools = SHAPES[shape]
    graph = make()
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker():
        await graph.with_config(checkpointer=saver).ainvoke(given, config("t"))
    found = await summaries(client, names.thread_workflow_id(task_queue, "t"))
    named = [text.rpartition("step ")[0].rstrip(" ·") for name, text in found if name == "tools"]
    assert named == tools
    assert {text.startswith("step ") for name, text in found if name != "tools"} <= {True}


async def test_the_tool_comes_before_the_options_summary(client: Client, task_queue: str) -> None:
    nodes = {"tools": NodeOptions(summary="of the shop")}
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue, nodes=nodes)
    async with saver.worker():
        await _sent(BOTH[0]).with_config(checkpointer=saver).ainvoke(ASKED, config("t"))
    found = await summaries(client, names.thread_workflow_id(task_queue, "t"))
    assert found == [("tools", "price · of the shop · step 1")]


def _named(name: str, **more: Any) -> Any:
    def work(state: MessagesState) -> MessagesState:
        return {"messages": [("ai", "done")]}  # type: ignore[list-item] # LangGraph takes it

    return (
        StateGraph(MessagesState)
        .add_node("work", work)
        .add_edge(START, "work")
        .compile(name=name, **more)
    )


def _with_nested() -> Any:
    """Nested graphs: as nodes with and without a name, and called from nodes."""
    called, renamed = _named("called"), _named("other").with_config(run_name="renamed")

    async def calls(state: MessagesState) -> MessagesState:
        await called.ainvoke(state)
        return {"messages": []}

    builder = StateGraph(MessagesState)
    builder.add_node("first", _named("researcher")).add_node("second", _named("LangGraph"))
    builder.add_node("third", calls).add_node("fourth", RunnableLambda(renamed.ainvoke))
    for before, after in (
        (START, "first"),
        ("first", "second"),
        ("second", "third"),
        ("third", "fourth"),
    ):
        builder.add_edge(before, after)
    return builder.compile(name="root")


async def children(saver: TemporalSaver) -> dict[str, tuple[str, str, str, bool]]:
    """By the node they belong to: namespace, summary and details of a thread's namespaces, and
    whether their workflow has continued as new."""
    found = {}
    thread = await saver._store.transport.read("t", "", ReadRequest())
    assert thread is not None
    for namespace in thread.namespaces:
        workflow_id = saver._store.transport.thread_workflow_id("t", namespace)
        handle = saver.client.get_workflow_handle(workflow_id)
        description = await handle.describe()
        summary = await description.static_summary()
        metadata = await handle.query("__temporal_workflow_metadata")
        rolled = description.run_id != description.raw_info.first_run_id
        node = namespace.partition(":")[0]
        found[node] = (namespace, str(summary), metadata.current_details, rolled)
    return found


@pytest.mark.parametrize("roll", [0, 12], ids=["", "rolling"])
async def test_nested_graphs(client: Client, task_queue: str, roll: int) -> None:
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    saver._store.transport.roll_events = roll
    async with saver.worker():
        graph = _with_nested().with_config(checkpointer=saver)
        await graph.ainvoke(ASKED, config("t"))
        found = await children(saver)
    called = {"first": "researcher", "second": "", "third": "called", "fourth": "renamed"}
    assert found.keys() == called.keys()
    for node, name in called.items():
        namespace, summary, details, rolled = found[node]
        assert rolled == bool(roll)
        # The server drops a workflow's summary when it continues as new, but not its details.
        assert rolled or summary == " · ".join(filter(None, [name, "t", namespace]))
        assert (f"graph: **{name}**" in details) == bool(name)
        if not roll:
            workflow_id = saver._store.transport.thread_workflow_id("t", namespace)
            ((_, text),) = await summaries(client, workflow_id)
            assert text == f"step 1 · {name or node}"


async def test_sub_agents(client: Client, task_queue: str) -> None:
    """Of deepagents: the task names the sub-agent, and so does the sub-agent's workflow."""
    deepagents = pytest.importorskip("deepagents")
    task = call("task", description="find out", subagent_type="researcher")
    agent = deepagents.create_deep_agent(
        model=Model(calls=[task]),
        tools=[],
        subagents=[
            {
                "name": "researcher",
                "description": "finds out",
                "system_prompt": "Be brief.",
                "tools": [price],
                "model": Model(calls=[call("price")]),
            }
        ],
        name="boss",
    )
    root = names.thread_workflow_id(task_queue, "t")
    saver = TemporalSaver(client, task_queue=task_queue, id_prefix=task_queue)
    async with saver.worker():
        await agent.with_config(checkpointer=saver).ainvoke(ASKED, config("t"))
        found = await children(saver)
    tools = [text for name, text in await summaries(client, root) if name == "tools"]
    assert [text.partition(" · ")[0] for text in tools] == ["task (researcher)"]
    namespace, summary, *_ = found["tools"]
    assert summary == f"researcher · t · {namespace}"
    workflow_id = saver._store.transport.thread_workflow_id("t", namespace)
    inner = [text for name, text in await summaries(client, workflow_id) if name == "tools"]
    assert [text.partition(" · ")[0] for text in inner] == ["price"]
    assert inner[0].endswith(" · researcher")
