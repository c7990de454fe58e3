"""Scenarios: ``interrupt()`` and how it is answered; breakpoints."""

from __future__ import annotations

import asyncio
import operator
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.func import task
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel

from tests.parity.scenarios.control import State, appends
from tests.parity.stage import Stage, SyncStage, effect, scenario


def asks(name: str, *questions: Any, delay: float = 0.0) -> Any:
    """A node that asks questions, one after the other; a delay gives parallel nodes an order."""

    async def node(state: State) -> State:
        effect(name)
        await asyncio.sleep(delay)
        return {"x": [name, *(interrupt(question) for question in questions)]}

    return node


def _several(checkpointer: Any) -> Any:
    return (
        StateGraph(State)
        .add_node("ask", asks("ask", "one", {"two": 2}, ["three"]))
        .add_node("end", appends("end"))
        .add_edge(START, "ask")
        .add_edge("ask", "end")
        .compile(checkpointer=checkpointer)
    )


@scenario(_several)
async def several_interrupts_in_one_node(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.stream(Command(resume=1), stream_mode=["values", "updates", "tasks"])
    await s.state()
    await s.invoke(Command(resume={"answer": 2}))
    await s.stream(Command(resume=["3"]), stream_mode=["values", "updates", "tasks"])


@scenario(_several)
async def falsy_answers(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke(Command(resume=None))
    for answer in (0, "", False):
        await s.invoke(Command(resume=answer))
    await s.invoke({"x": ["again"]}, s.config("another"))
    # Not {}: that is a map without an answer (see `consumed_answer`).
    for answer in ([], "last", "too many"):
        await s.invoke(Command(resume=answer), s.config("another"))


@scenario(_several)
async def new_input_instead_of_an_answer(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke(Command(resume=1))
    # The question starts over: the first answer was for another task.
    await s.invoke({"x": ["other"]})
    await s.state()
    for answer in (1, 2, 3):
        await s.invoke(Command(resume=answer))


def _sync_asks(checkpointer: Any) -> Any:
    def ask(state: State) -> State:
        effect("ask")
        return {"x": [interrupt("one"), interrupt("two")]}

    builder = StateGraph(State).add_node("ask", ask).add_edge(START, "ask")
    return builder.compile(checkpointer=checkpointer)


@scenario(_sync_asks)
def interrupts_of_a_sync_node(s: SyncStage) -> None:
    s.invoke({"x": ["in"]})
    s.stream(Command(resume=1), stream_mode=["values", "updates"])
    s.state()
    s.invoke(Command(resume=2), durability="sync")


@scenario(_sync_asks, placeable=False)
async def answers_with_durability_exit(s: Stage) -> None:
    await s.invoke({"x": ["in"]}, durability="exit")
    await s.state()
    await s.invoke(Command(resume=1), durability="exit")
    await s.invoke(Command(resume=2), durability="exit")


def _parallel_asks(checkpointer: Any) -> Any:
    return (
        StateGraph(State)
        .add_node("silent", appends("silent"))
        .add_node("first", asks("first", "first?", delay=0.2))
        .add_node("second", asks("second", "second?", "really?", delay=0.4))
        .add_node("end", appends("end"))
        .add_edge(START, "silent")
        .add_edge(START, "first")
        .add_edge(START, "second")
        .add_edge(["silent", "first", "second"], "end")
        .compile(checkpointer=checkpointer)
    )


async def _answer(s: Stage, answers: dict[str, Any], **options: Any) -> None:
    """Answer questions by the ids their interrupts have in the state."""
    state = await s.state()
    assert state is not None
    by_id = {i.id: answers[i.value] for i in state.interrupts if i.value in answers}
    assert len(by_id) == len(answers)
    await s.stream(Command(resume=by_id), stream_mode=["values", "updates"], **options)


def _questions(checkpointer: Any) -> Any:
    """Nodes and Sends that ask at once, with nothing but their order between them."""

    def asking(name: str) -> Any:
        async def node(state: State) -> State:
            return {"x": [f"{name}: {interrupt(f'{name}?')}"]}

        return node

    def fan_out(state: State) -> list[Send]:
        return [Send("sent", {"x": [word]}) for word in ("one", "two", "three")]

    async def sent(state: State) -> State:
        return {"x": [f"sent {interrupt(state['x'][0])}"]}

    builder = StateGraph(State).add_node("sent", sent)
    for name in ("d", "b", "a", "c"):
        builder.add_node(name, asking(name)).add_edge(START, name)
    builder.add_conditional_edges(START, fan_out, ["sent"])
    return builder.compile(checkpointer=checkpointer)


@scenario(_questions)
async def questions_of_parallel_tasks(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    state = await s.state()
    assert state is not None
    await s.invoke(Command(resume={i.id: f"{i.value} yes" for i in state.interrupts}))
    await s.invoke({"x": ["in"]}, s.config("v2"), version="v2")
    await s.stream({"x": ["in"]}, s.config("updates"), stream_mode="updates")
    await s.stream({"x": ["in"]}, s.config("values"), stream_mode="values")
    await s.stream({"x": ["in"]}, s.config("both"), stream_mode=["values", "updates"])


@scenario(_parallel_asks)
async def parallel_interrupts_answered_at_once(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["values", "updates", "tasks"])
    # An answer without an id is refused.
    await s.invoke(Command(resume="which?"))
    await _answer(s, {"first?": 1, "second?": 2})
    await s.invoke(Command(resume=3))


@scenario(_parallel_asks)
async def parallel_interrupts_answered_one_at_a_time(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await _answer(s, {"second?": 2})
    await _answer(s, {"first?": 1})
    await _answer(s, {"really?": 3}, durability="sync")


def _mapped(checkpointer: Any) -> Any:
    async def review(state: dict[str, int]) -> State:
        effect(f"review {state['i']}")
        await asyncio.sleep(0.15 * state["i"])
        verdict = interrupt(f"review {state['i']}") if state["i"] % 2 else "skipped"
        return {"x": [(state["i"], verdict)]}

    return (
        StateGraph(State)
        .add_node("a", appends("a"))
        .add_node("review", review)
        .add_edge(START, "a")
        .add_conditional_edges("a", lambda _: [Send("review", {"i": i}) for i in range(4)])
        .compile(checkpointer=checkpointer)
    )


@scenario(_mapped)
async def interrupts_of_sends(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates", "tasks"])
    await _answer(s, {"review 3": "good"})
    await s.state()
    await s.invoke(Command(resume="bad"))


def _validates(checkpointer: Any) -> Any:
    async def age(state: State) -> State:
        question, attempts = "How old?", 0
        while True:
            answer = interrupt(question)
            attempts += 1
            effect("age asked")
            if isinstance(answer, int) and answer > 0:
                return {"x": [answer, attempts]}
            question = f"{answer!r} is no age. How old?"

    builder = StateGraph(State).add_node("age", age).add_edge(START, "age")
    return builder.compile(checkpointer=checkpointer)


@scenario(_validates)
async def interrupt_until_the_answer_is_valid(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    for answer in ("old", -1, {"age": 7}, 7):
        await s.invoke(Command(resume=answer))


@dataclass
class Draft:
    text: str
    tags: tuple[str, ...] = ()


class Review(BaseModel):
    approved: bool
    note: str = ""


def _objects(checkpointer: Any) -> Any:
    async def ask(state: State) -> State:
        answer = interrupt(Draft("text", ("a", "b")))
        effect(f"{type(answer).__name__}")
        again = interrupt([Review(approved=False), HumanMessage("hm", id="h"), {1, 2}])
        return {"x": [answer, again]}

    builder = StateGraph(State).add_node("ask", ask).add_edge(START, "ask")
    return builder.compile(checkpointer=checkpointer)


@scenario(_objects)
async def objects_as_questions_and_answers(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.stream(Command(resume=Review(approved=True)), stream_mode=["updates", "tasks"])
    await s.state()
    await s.invoke(Command(resume=[Draft("new"), HumanMessage("yes", id="y"), b"\x00"]))


def _tuples(checkpointer: Any) -> Any:
    async def ask(state: State) -> State:
        answer = interrupt(("a", {"b": (1, 2)}))
        return {"x": [answer, interrupt({"answer": answer})]}

    async def end(state: dict[str, Any]) -> State:
        return {"x": [("end", repr(state["x"]))]}

    return (
        StateGraph(State)
        .add_node("ask", ask)
        .add_node("end", end)
        .add_edge(START, "ask")
        .add_edge("ask", "end")
        .compile(checkpointer=checkpointer)
    )


@scenario(_tuples, placeable=False)
async def tuples_as_questions_and_answers(s: Stage) -> None:
    await s.stream({"x": [("in", 1)]}, stream_mode=["values", "updates", "tasks"])
    await s.invoke(Command(resume=("an", "answer")))
    await s.stream(Command(resume={"x": (1, (2,))}), stream_mode=["values", "updates", "tasks"])
    await s.invoke(Command(goto=Send("end", {"x": (1, 2)}), update={"x": [("up", "date")]}))


def _task_asks(checkpointer: Any) -> Any:
    @task
    async def draft(n: int) -> str:
        effect(f"draft {n}")
        return f"draft {n}"

    @task
    async def approve(text: str) -> str:
        effect(f"approve {text}")
        return f"{text}: {interrupt(f'approve {text}?')}"

    async def write(state: State) -> State:
        effect("write")
        first = await approve(await draft(1))
        second = await approve(await draft(2))
        return {"x": [first, second, interrupt("and the node itself?")]}

    builder = StateGraph(State).add_node("write", write).add_edge(START, "write")
    return builder.compile(checkpointer=checkpointer)


@scenario(_task_asks, placeable=False)
async def interrupts_in_tasks_of_a_node(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["updates", "tasks"])
    await s.state()
    await s.stream(Command(resume="yes"), stream_mode=["updates", "tasks"])
    await s.invoke(Command(resume="no"))
    await s.invoke(Command(resume="done"))


def _tools(checkpointer: Any) -> Any:
    @tool
    async def send_mail(to: str) -> str:
        """Send a mail."""
        effect(f"send_mail {to}")
        await asyncio.sleep(0.1 * len(to))
        return f"to {to}: {interrupt({'send to': to})}"

    @tool
    def look_up(name: str) -> str:
        """Look a name up."""
        effect(f"look_up {name}")
        return f"{name}@example.com"

    async def model(state: MessagesState) -> Any:
        effect("model")
        if len(state["messages"]) > 1:
            return {"messages": [AIMessage("Done.", id="ai2")]}
        calls = [
            {"name": "look_up", "args": {"name": "eve"}, "id": "call0"},
            {"name": "send_mail", "args": {"to": "adam"}, "id": "call1"},
            {"name": "send_mail", "args": {"to": "eve"}, "id": "call2"},
        ]
        return {"messages": [AIMessage("", id="ai1", tool_calls=calls)]}

    return (
        StateGraph(MessagesState)
        .add_node("model", model)
        .add_node("tools", ToolNode([send_mail, look_up]))
        .add_edge(START, "model")
        .add_conditional_edges("model", tools_condition)
        .add_edge("tools", "model")
        .compile(checkpointer=checkpointer)
    )


@scenario(_tools, differs={"placed": "history"})
async def interrupts_in_tools(s: Stage) -> None:
    await s.invoke({"messages": [HumanMessage("Mail them.", id="h1")]})
    for answer in ("sent", "rejected"):
        await s.state()
        await s.stream(Command(resume=answer), stream_mode=["updates"])


def _half_failing(checkpointer: Any) -> Any:
    async def fails_once(state: State) -> State:
        await asyncio.sleep(0.3)
        if effect("fails_once") == 1:
            raise ValueError("once")
        return {"x": ["fails_once"]}

    return (
        StateGraph(State)
        .add_node("ask", asks("ask", "go on?"))
        .add_node("fails_once", fails_once)
        .add_node("end", appends("end"))
        .add_edge(START, "ask")
        .add_edge(START, "fails_once")
        .add_edge(["ask", "fails_once"], "end")
        .compile(checkpointer=checkpointer)
    )


@scenario(_half_failing)
async def interrupt_beside_a_failure(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.state()
    await s.invoke(Command(resume="yes"))


def _caught(checkpointer: Any) -> Any:
    async def catches(state: State) -> State:
        try:
            answer = interrupt("caught?")
        except Exception as exc:
            return {"x": [type(exc).__name__]}
        finally:
            effect("finally")
        return {"x": [answer]}

    builder = StateGraph(State).add_node("catches", catches).add_edge(START, "catches")
    return builder.compile(checkpointer=checkpointer)


@scenario(_caught)
async def interrupt_that_a_node_catches(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke(Command(resume="answer"))
    await s.invoke(Command(resume={"0" * 32: "unknown"}))


@scenario(_caught)
async def answers_nobody_waits_for(s: Stage) -> None:
    await s.invoke(Command(resume="early"))
    await s.invoke({"x": ["in"]})
    await s.invoke(Command(resume="late"))
    await s.invoke({"x": ["again"]})


def _steps(checkpointer: Any, **breakpoints: Any) -> Any:
    return (
        StateGraph(State)
        .add_sequence([("a", appends("a")), ("b", appends("b")), ("c", appends("c"))])
        .add_edge(START, "a")
        .add_conditional_edges("c", lambda state: "a" if len(state["x"]) < 6 else END, ["a", END])
        .compile(checkpointer=checkpointer, **breakpoints)
    )


def _breakpoints(checkpointer: Any) -> Any:
    return _steps(checkpointer, interrupt_before=["b"], interrupt_after=["c"])


@scenario(_breakpoints)
async def breakpoints_of_a_graph(s: Stage) -> None:
    await s.stream({"x": ["in"]}, stream_mode=["values", "updates", "tasks"])
    await s.state()
    await s.stream(None, stream_mode=["updates", "values"])
    await s.invoke(None, interrupt_before=["c"], interrupt_after=[])
    await s.invoke(None, interrupt_before=[])
    await s.invoke({"x": ["again"]})
    await s.invoke(Command(update={"x": ["by command"]}))
    await s.update({"x": ["by hand"]}, as_node="b")
    await s.invoke(None)


def _every(checkpointer: Any) -> Any:
    return _steps(checkpointer, interrupt_before="*")


@scenario(_every)
async def breakpoint_before_every_node(s: Stage) -> None:
    await s.stream({"x": ["in"]})
    for _ in range(3):
        await s.stream(None, stream_mode="updates")
    await s.invoke(None, interrupt_before=[], interrupt_after="*")


def _no_breakpoints(checkpointer: Any) -> Any:
    return _steps(checkpointer)


@scenario(_no_breakpoints, placeable=False)
async def breakpoints_of_a_call(s: Stage) -> None:
    await s.stream({"x": ["in"]}, interrupt_before=["b", "c"], stream_mode=["updates", "debug"])
    await s.update({"x": ["by hand"]})
    await s.stream(None, interrupt_after=["b"])
    await s.invoke(None, interrupt_after="*", durability="exit")
    await s.state()
    await s.invoke(None)
    await s.invoke({"x": []}, interrupt_before=["nowhere"])


def _sync_steps(checkpointer: Any) -> Any:
    def step(name: str) -> Any:
        def node(state: State) -> State:
            effect(name)
            return {"x": [name]}

        return node

    return (
        StateGraph(State)
        .add_sequence([("a", step("a")), ("b", step("b")), ("c", step("c"))])
        .add_edge(START, "a")
        .compile(checkpointer=checkpointer, interrupt_after=["a"])
    )


@scenario(_sync_steps)
def breakpoints_from_sync_code(s: SyncStage) -> None:
    s.invoke({"x": ["in"]}, durability="sync")
    s.stream(None, interrupt_after="*", stream_mode=["updates", "values"])
    s.state()
    s.invoke(None)


def _schema(checkpointer: Any) -> Any:
    async def ask(state: State) -> State:
        effect("ask")
        review = interrupt("approved?", response_schema=Review)
        return {"x": [review.approved, interrupt("why?", response_schema={"type": "string"})]}

    builder = StateGraph(State).add_node("ask", ask).add_edge(START, "ask")
    return builder.compile(checkpointer=checkpointer)


@scenario(_schema)
async def answers_with_a_schema(s: Stage) -> None:
    await s.invoke({"x": ["in"]})
    await s.invoke(Command(resume={"approved": "perhaps"}))
    await s.state()
    await s.invoke(Command(resume={"approved": True}))
    await s.stream(Command(resume=7), version="v2", stream_mode=["values", "updates"])


class Total(TypedDict, total=False):
    n: Annotated[int, operator.add]


def _lonely(checkpointer: Any) -> Any:
    async def add(state: Total) -> Total:
        return {"n": interrupt({"so far": state.get("n", 0)})}

    return (
        StateGraph(Total)
        .add_node("add", add)
        .add_edge(START, "add")
        .add_conditional_edges("add", lambda state: END if state["n"] > 8 else "add")
        .compile(checkpointer=checkpointer)
    )


@scenario(_lonely)
async def interrupt_in_every_round_of_a_loop(s: Stage) -> None:
    await s.stream({"n": 0}, version="v2", stream_mode=["updates", "values"])
    for n in (3, 0, 4):
        await s.stream(Command(resume=n), stream_mode=["updates", "values"])
    await s.invoke(Command(resume=2), version="v2")
