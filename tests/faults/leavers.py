"""Graphs whose code raises what ends programs, each in another place of a graph."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, TypedDict

from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, AgentState
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import interrupt


class Own(BaseException):
    """An exception of the user's."""


KINDS = ("SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "Own")


def leave(kind: str) -> None:
    """Raise what is asked for; nothing for ""."""
    if kind == "SystemExit":
        sys.exit("usage: ...")
    if kind == "KeyboardInterrupt":
        raise KeyboardInterrupt
    if kind == "GeneratorExit":
        raise GeneratorExit("closed")
    if kind == "StopIteration":
        next(iter(()))
    if kind == "Own":
        raise Own("out")


def _reduced(left: list[str], right: list[str]) -> list[str]:
    for word in right:
        leave(word)
    return [*left, *right]


class State(TypedDict, total=False):
    kind: str
    seen: Annotated[list[str], _reduced]
    messages: list[Any]


def _sync(state: State) -> State:
    leave(state["kind"])
    return {"seen": ["fine"]}


async def _async(state: State) -> State:
    await asyncio.sleep(0)
    leave(state["kind"])
    return {"seen": ["fine"]}


async def _started(state: State) -> State:
    """In a task that the node has started."""

    async def beside() -> None:
        await asyncio.sleep(0)
        leave(state["kind"])

    await asyncio.gather(beside(), asyncio.sleep(0))
    return {"seen": ["fine"]}


async def _threaded(state: State) -> State:
    await asyncio.to_thread(leave, state["kind"])
    return {"seen": ["fine"]}


async def _awaited(state: State) -> State:
    """In a thread of the node's own, which hands it over in a future."""
    if state["kind"] == "StopIteration":  # which no future takes
        leave(state["kind"])
    with ThreadPoolExecutor(1) as pool:
        await asyncio.wrap_future(pool.submit(leave, state["kind"]))
    return {"seen": ["fine"]}


@tool
def sync_tool(kind: str) -> str:
    """Leaves."""
    leave(kind)
    return "fine"


@tool
async def async_tool(kind: str) -> str:
    """Leaves."""
    await asyncio.sleep(0)
    leave(kind)
    return "fine"


def _call(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "args": {"kind": kind}, "id": name, "type": "tool_call"}


def _asks(*names: str) -> Any:
    def ask(state: State) -> State:
        calls = [_call(name, state["kind"]) for name in names]
        return {"messages": [AIMessage("", tool_calls=calls)]}

    return ask


def _told(state: State) -> State:
    assert isinstance(state["messages"][-1], ToolMessage)
    return {"seen": [str(state["messages"][-1].content)]}


def _writes(state: State) -> State:
    return {"seen": [state["kind"] or "fine"]}


def _routes(state: State) -> str:
    leave(state["kind"])
    return END


def _one(node: Any) -> StateGraph[State]:
    return StateGraph(State).add_node("node", node).add_edge(START, "node")


def _tools(*tools: Any) -> StateGraph[State]:
    builder = StateGraph(State).add_node("ask", _asks(*(t.name for t in tools)))
    builder.add_node("tools", ToolNode(list(tools))).add_node("told", _told)
    return builder.add_edge(START, "ask").add_edge("ask", "tools").add_edge("tools", "told")


def _parallel() -> StateGraph[State]:
    builder = StateGraph(State).add_node("one", _async).add_node("other", _writes_fine)
    return builder.add_edge(START, "one").add_edge(START, "other")


def _writes_fine(state: State) -> State:
    return {"seen": ["fine"]}


def _one_that_routes() -> StateGraph[State]:
    return _one(_writes_fine).add_conditional_edges("node", _routes)


PLACES = {
    "sync_node": _one(_sync),
    "async_node": _one(_async),
    "one_of_two": _parallel(),
    "started_task": _one(_started),
    "thread": _one(_threaded),
    "awaited_future": _one(_awaited),
    "sync_tool": _tools(sync_tool),
    "async_tools": _tools(async_tool, sync_tool),
    "sub_graph": _one(_one(_async).compile()),
    "reducer": _one(_writes),
    "routing": _one_that_routes(),
    "sub_graph_reducer": _one(_one(_writes).compile()),
    "sub_graph_routing": _one(_one_that_routes().compile()),
}


def _asked(state: State) -> State:
    leave(interrupt("how?"))
    return {"seen": ["fine"]}


# -- agents -----------------------------------------------------------------------------------


HOOKS = ("before_model", "wrap_model_call", "wrap_tool_call")


class Leaves(AgentMiddleware[Any, Any, Any]):
    """Leaves in the hook that the human names, with what the human names: "<hook> <kind>"."""

    def before_model(self, state: AgentState[Any], runtime: Any) -> None:
        self._leave("before_model", state["messages"])

    async def abefore_model(self, state: AgentState[Any], runtime: Any) -> None:
        self._leave("before_model", state["messages"])

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        self._leave("wrap_model_call", request.messages)
        return handler(request)

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        self._leave("wrap_model_call", request.messages)
        return await handler(request)

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        self._leave("wrap_tool_call", request.state["messages"])
        return handler(request)

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        self._leave("wrap_tool_call", request.state["messages"])
        return await handler(request)

    @staticmethod
    def _leave(hook: str, messages: list[BaseMessage]) -> None:
        named, kind = _heard(messages).split()
        if named == hook:
            leave(kind)


def _heard(messages: list[BaseMessage]) -> str:
    return next(m.text for m in reversed(messages) if isinstance(m, HumanMessage))


class CallsOneTool(BaseChatModel):
    """Calls a tool, or has a sub-agent do what it heard, and is fine."""

    delegates: bool = False

    @property
    def _llm_type(self) -> str:
        return "calls-one-tool"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """It knows its tools."""
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        message = AIMessage("fine")
        if isinstance(messages[-1], HumanMessage):
            call = _call("sync_tool", "")
            if self.delegates:
                args_ = {"description": _heard(messages), "subagent_type": "helper"}
                call = {**call, "name": "task", "args": args_}
            message = AIMessage("", tool_calls=[{**call, "id": f"call-{len(messages)}"}])
        return ChatResult(generations=[ChatGeneration(message=message)])


def _agent() -> Any:
    return create_agent(CallsOneTool(), tools=[sync_tool], middleware=[Leaves()], name="agent")


def _deep_agent() -> Any:
    """Its sub-agent has the middleware."""
    helper: Any = {
        "name": "helper",
        "description": "Helps.",
        "system_prompt": "Help.",
        "model": CallsOneTool(),
        "tools": [sync_tool],
        "middleware": [Leaves()],
    }
    return create_deep_agent(CallsOneTool(delegates=True), subagents=[helper], name="deep_agent")


# -- runs that go on --------------------------------------------------------------------------


def touch(path: str) -> None:
    """Make a file."""
    Path(path).touch()


async def appears(path: str) -> None:
    """Wait for a file."""
    exists = Path(path).exists
    while True:
        if exists():
            return
        await asyncio.sleep(0.05)


async def _waits(state: State) -> State:
    # Another run on the same worker: it begins before the others leave, and ends after them.
    touch(state["kind"] + ".begun")
    await appears(state["kind"])
    return {"seen": ["fine"]}


async def _waits_if_told(state: State) -> State:
    return await _waits(state) if state["kind"] else {"seen": ["fine"]}


def _ticks(state: State) -> State:
    # So that a run that nobody cancels does not take the machine.
    time.sleep(0.2)
    return {"seen": ["tick"]}


def _ticks_if_told(state: State) -> str:
    return "node" if state["kind"] else END


graphs: dict[str, Any] = {name: builder.compile(name=name) for name, builder in PLACES.items()}
innocent = _one(_waits).compile(name="innocent")
graphs["innocent"] = innocent
graphs["asked"] = _one(_asked).compile(name="asked")
graphs["agent"] = _agent()
graphs["deep_agent"] = _deep_agent()
graphs["then_waits"] = (
    _one(_writes_fine)
    .add_node("then", _waits_if_told)
    .add_edge("node", "then")
    .compile(name="then_waits")
)
graphs["ticks"] = _one(_ticks).add_conditional_edges("node", _ticks_if_told).compile(name="ticks")
