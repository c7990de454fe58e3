"""The shapes of stream chunks: what is taken apart and built is what LangGraph itself yields."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Interrupt, interrupt

from langgraph_temporal_exec.seam import chunks
from langgraph_temporal_exec.seam.chunks import Form, Part, ResultChunks, ShownInterrupts

pytestmark = pytest.mark.compat

MODES = ("values", "updates", "custom", "messages", "tasks", "checkpoints", "debug")
ASKED = [*MODES, ["values"], ["updates"], ["values", "updates"], ["updates", "custom"], [*MODES]]


class State(TypedDict, total=False):
    x: Annotated[list[Any], operator.add]


def _work(state: State) -> State:
    get_stream_writer()({"type": "mine", "data": len(state["x"])})
    return {"x": [AIMessage("said", id="m")]}


def _ask(state: State) -> State:
    return {"x": [interrupt("sure?")]}


def _graph() -> Any:
    inner = StateGraph(State)
    inner.add_node("work", _work)
    inner.add_node("ask", _ask)
    inner.add_edge(START, "work")
    inner.add_edge("work", "ask")
    outer = StateGraph(State)
    outer.add_node("inner", inner.compile())
    outer.add_node("after", lambda state: {"x": ["after"]})
    outer.add_edge(START, "inner")
    outer.add_edge("inner", "after")
    return outer.compile(checkpointer=InMemorySaver())


def _calls() -> Iterator[dict[str, Any]]:
    for mode in [None, *ASKED]:
        for version in ("v1", "v2"):
            for subgraphs in (False, True):
                yield {"stream_mode": mode, "version": version, "subgraphs": subgraphs}


def _streamed(options: dict[str, Any]) -> tuple[Form, list[Any], list[Any]]:
    """The form of a call's chunks, those of a run that asks, and of the one that answers."""
    graph = _graph()
    config: Any = {"configurable": {"thread_id": "t"}}
    asks = list(graph.stream({"x": ["in"]}, config, **options))
    return Form.of(options, graph), asks, list(graph.stream(Command(resume=1), config, **options))


CALLS = list(_calls())
UNNAMED = [("values",), ("values", "updates"), MODES]
"""LangGraph takes any sequence of modes, but names them in the chunks of a list alone."""


@pytest.mark.parametrize("options", CALLS, ids=str)
def test_every_chunk_is_taken_apart_and_built_again(options: dict[str, Any]) -> None:
    form, *runs = _streamed(options)
    for chunk in (chunk for run in runs for chunk in run):
        part = form.take_apart(chunk)
        assert form.build(part) == chunk
        assert part.mode in form.modes
        assert part.ns == () or options["subgraphs"]
        assert chunks.is_typed(chunk) == (options["version"] == "v2")


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("subgraphs", [False, True])
@pytest.mark.parametrize("modes", UNNAMED, ids=str)
def test_modes_that_no_chunk_names(modes: Any, subgraphs: bool, version: str) -> None:
    form, asks, answers = _streamed(
        {"stream_mode": modes, "version": version, "subgraphs": subgraphs}
    )
    assert form.modes == modes
    for run, waits in ((asks, True), (answers, False)):
        result = ResultChunks(form)
        for chunk in run:
            assert form.build(form.take_apart(chunk)) == chunk
            result.note(chunk)
        questions = [q.value for c in result.all for q in form.take_apart(c).questions]
        assert {*questions} == ({"sure?"} if waits else set())
        # Others come behind the last values, and cannot be told from them.
        if modes != MODES:
            assert form.take_apart(result.all[-1]).payload["x"][0] == "in"


def test_all_forms_tell_the_same() -> None:
    def told(version: str, asked: Any) -> list[Any]:
        form, asks, answers = _streamed(
            {"stream_mode": asked, "version": version, "subgraphs": True}
        )
        parts = map(form.take_apart, (*asks, *answers))
        return [([level.split(":")[0] for level in part.ns], part.mode) for part in parts]

    everything = told("v1", [*MODES])
    assert {mode for _, mode in everything} == {*MODES}
    assert [] in [ns for ns, _ in everything]
    assert ["inner"] in [ns for ns, _ in everything]
    assert told("v2", [*MODES]) == everything
    for mode in MODES:
        for version in ("v1", "v2"):
            assert told(version, mode) == [part for part in everything if part[1] == mode]


@pytest.mark.parametrize("options", CALLS, ids=str)
def test_questions_are_found_where_they_are_shown(options: dict[str, Any]) -> None:
    form, asks, answers = _streamed(options)
    found = [form.take_apart(chunk).questions for chunk in asks]
    shown = {"values", "updates"} & {*form.modes}
    assert [[q.value for q in asked] for asked in found if asked] == [["sure?"]] * len(shown)
    assert not any(form.take_apart(chunk).questions for chunk in answers)


@pytest.mark.parametrize("options", CALLS, ids=str)
def test_of_the_result_there_are_the_questions_and_the_last_values(options: dict[str, Any]) -> None:
    form, asks, answers = _streamed(options)
    for run, waits in ((asks, True), (answers, False)):
        result = ResultChunks(form)
        for chunk in run:
            result.note(chunk)
        parts = [form.take_apart(chunk) for chunk in result.all]
        values = [part for part in map(form.take_apart, run) if part.mode == "values"]
        assert {part.mode for part in parts} <= {"values", "updates"}
        assert all(not part.ns for part in parts)
        assert any(part.questions for part in parts) == (
            waits and not {"values", "updates"}.isdisjoint(form.modes)
        )
        if values:
            assert parts[-1] == [part for part in values if not part.ns][-1]
        for chunk, part in zip(result.all, parts, strict=True):
            alone = chunks.of_result(chunk)
            assert (alone.mode, alone.payload) == (part.mode, part.payload)


@pytest.mark.parametrize("options", CALLS, ids=str)
def test_the_result_is_that_of_invoke(options: dict[str, Any]) -> None:
    form, *runs = _streamed(options)
    graph = _graph()
    config: Any = {"configurable": {"thread_id": "t"}}
    for run, input in zip(runs, ({"x": ["in"]}, Command(resume=1)), strict=True):
        result = ResultChunks(form)
        for chunk in run:
            result.note(chunk)
        expected = graph.invoke(input, config)
        values, asked = chunks.result_of(result.all)
        found = chunks.invoked(values, asked)
        if "values" in form.modes:
            assert found["x"] == expected["x"]
        if {"values", "updates"} & {*form.modes}:
            shown = [q.value for q in (found or {}).get("__interrupt__", ())]
            assert shown == [q.value for q in expected.get("__interrupt__", ())]


@pytest.mark.parametrize("options", CALLS, ids=str)
def test_what_a_run_ended_with_looks_as_its_last_chunk(options: dict[str, Any]) -> None:
    form, _, answers = _streamed(options)
    if "values" in form.modes:
        last = [c for c in answers if form.take_apart(c).mode == "values"][-1]
        (part,) = chunks.ended(form.take_apart(last).payload, ())
        assert form.build(part) == last


def test_what_a_run_asked_looks_as_the_chunk_that_asked() -> None:
    for version in ("v1", "v2"):
        form, asks, _ = _streamed(
            {"stream_mode": ["updates"], "version": version, "subgraphs": False}
        )
        question = form.take_apart(asks[-1]).questions
        part, _ = chunks.ended({}, question)
        assert form.build(part) == asks[-1]


def test_a_result_looks_as_that_of_invoke() -> None:
    graph = _graph()
    config: Any = {"configurable": {"thread_id": "t"}}
    asked = graph.invoke({"x": ["in"]}, config)
    values = {"x": asked["x"]}
    assert chunks.invoked(values, asked["__interrupt__"]) == asked
    assert chunks.invoked("no dict", asked["__interrupt__"]) == {
        "__interrupt__": asked["__interrupt__"]
    }
    done = graph.invoke(Command(resume=1), config)
    assert chunks.invoked(done, []) is done


def test_chunks_of_one_kind_have_the_same_head() -> None:
    for version in ("v1", "v2"):
        options = {"stream_mode": [*MODES], "version": version, "subgraphs": True}
        form, asks, answers = _streamed(options)
        parts = [(chunks.head_of(c), form.take_apart(c)) for c in (*asks, *answers)]
        by_head = {head: (part.ns, part.mode) for head, part in parts}
        assert all(by_head[head] == (part.ns, part.mode) for head, part in parts)
        assert len(by_head) == len({*by_head.values()})


def test_a_payload_is_changed_behind_its_mode() -> None:
    for subgraphs in (False, True):
        form, asks, _ = _streamed({"stream_mode": [*MODES], "subgraphs": subgraphs})
        for chunk in asks:
            made = chunks.changed(chunk, lambda mode, payload: (mode, "changed"))
            part = form.take_apart(made)
            assert part.payload == (part.mode, "changed")
            assert (part.ns, part.mode) == (form.take_apart(chunk).ns, form.take_apart(chunk).mode)
            assert chunks.changed(chunk, lambda mode, payload: payload) is chunk


def test_what_only_looks_like_questions_is_none() -> None:
    state = {"x": 1, "interrupts": [Interrupt(value="a value of the user's")]}
    assert Form(modes=("values",)).take_apart(state).questions == ()
    assert Part(mode="custom", payload={"__interrupt__": (Interrupt(value=1),)}).questions == ()
    assert Part(mode="updates", payload={"__interrupt__": "text"}).questions == ()


@pytest.mark.parametrize("options", CALLS, ids=str)
def test_a_question_that_comes_again_is_not_shown_again(options: dict[str, Any]) -> None:
    form, asks, _ = _streamed(options)
    shown = ShownInterrupts()
    assert [c for chunk in asks for c in shown.filter(1, chunk)] == asks
    again = [c for chunk in asks for c in shown.filter(2, chunk)]
    for part in map(form.take_apart, again):
        # Beside values of the first version it is part of them, as the result of `invoke`.
        assert not part.questions or (part.mode == "values" and not form.typed)
    kinds = [form.take_apart(chunk).mode for chunk in again]
    assert [mode for mode in kinds if mode != "updates"] == [
        mode for mode in (form.take_apart(c).mode for c in asks) if mode != "updates"
    ]
